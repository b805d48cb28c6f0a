//! `signet-cni`: the last plug-in of a CNI chain.
//!
//! The plug-ins before it make the pod's network; this one hands the host side of the pod's veth to
//! the agent, and returns once the programs and the source pin are on it. A runtime starts nothing
//! in a pod before the chain is through, so no packet of the pod is ever sent unenforced. The words
//! spoken with the runtime are those of the CNI specification, 0.4.0 to 1.1.0.

mod agent;
mod call;
mod config;
mod failure;
mod kernel;
mod previous;
mod verbs;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use call::{Call, Command};
use config::Config;
use failure::{Code, Failure};

/// A configuration with a result is a few kilobytes.
const MAX_CONFIG: u64 = 4 << 20;

const USAGE: &str = "\
Chained CNI plug-in: a pod's network is ready once the agent enforces it

It is run by a container runtime (CNI 0.4.0, 1.0.0 and 1.1.0), not by hand: CNI_COMMAND says what to
do (ADD, DEL, CHECK, GC, STATUS or VERSION), standard input has the configuration. Install it beside
the other plug-ins (/opt/cni/bin) and make it the last of a .conflist:

  { \"cniVersion\": \"1.0.0\", \"name\": \"pods\", \"plugins\": [
      { \"type\": \"ptp\", \"ipam\": { ... } },
      { \"type\": \"signet-cni\" } ] }

Its own fields, all of them optional:
  statusSocket    Status socket of the agent [default: /run/signet/agent.sock]
  timeoutSeconds  How long the agent may take, 1 to 600 [default: 30]
  mode            strict: without an agent no pod starts [default: strict]

Options:
  -h, --help     Print help
  -V, --version  Print version
";

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(command) = variable("CNI_COMMAND") else {
        return by_hand(std::env::args().nth(1).as_deref());
    };
    let mut input = Vec::new();
    let read = io::stdin().take(MAX_CONFIG).read_to_end(&mut input);
    let version = config::version(&input);
    let answer = read
        .map_err(|error| Failure::new(Code::Io, "standard input cannot be read", error.to_string()))
        .and_then(|_| {
            let command = Command::parse(&command)?;
            if command == Command::Version {
                return Ok(config::supported(&input));
            }
            let config = Config::parse(&input)?;
            let call = Call::read(command, variable)?;
            verbs::run(&call, &config, &kernel::Kernel)
        });
    match answer {
        Ok(text) => say(&text, ExitCode::SUCCESS),
        Err(failure) => say(&failure.object(&version), ExitCode::FAILURE),
    }
}

/// Runtimes read standard output, whatever happened.
fn say(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout();
    let nothing = text.is_empty();
    let said = if nothing {
        Ok(())
    } else {
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
    };
    if said.is_ok() {
        code
    } else {
        ExitCode::FAILURE
    }
}

fn by_hand(argument: Option<&str>) -> ExitCode {
    match argument {
        Some("-h" | "--help") => say(USAGE.trim_end(), ExitCode::SUCCESS),
        Some("-V" | "--version") => say(
            concat!("signet-cni ", env!("CARGO_PKG_VERSION")),
            ExitCode::SUCCESS,
        ),
        Some(_) | None => {
            // A person typed this: there is nobody else to tell.
            let _ = io::stderr().write_all(USAGE.as_bytes());
            ExitCode::from(2)
        }
    }
}
