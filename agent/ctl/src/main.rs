//! `signetctl`: what an operator sees of Signet, and the lab.
//!
//! Data goes to the standard output, messages to the standard error stream. Exit status: 0 fine,
//! 1 a problem was found, 2 the command was not understood.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program's purpose is to talk to people"
)]

mod agent;
mod commands;
mod human;
mod identity;
mod lab;
mod output;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::agent::Agent;
use crate::commands::{audit, endpoints, observe, peers, policy, status, token, version};
use crate::identity::Admin;
use crate::output::Format;

/// Shows and tests Signet: identities, node channels, policy, and labs on this machine
#[derive(Parser, Debug)]
#[command(
    name = "signetctl",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    /// Form of the data
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        global = true,
        env = "SIGNET_OUTPUT",
        hide_env = true
    )]
    output: Format,
    /// Status socket of the agent to ask
    #[arg(long, value_name = "PATH", default_value = agent::DEFAULT_SOCKET, global = true, env = "SIGNET_SOCKET", hide_env_values = true)]
    socket: PathBuf,
    /// Admin socket of the identity service
    #[arg(long, value_name = "PATH", default_value = identity::DEFAULT_ADMIN_SOCKET, global = true, env = "SIGNET_ADMIN_SOCKET", hide_env_values = true)]
    admin_socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// How this node's agent is
    Status(status::Options),
    /// Remote nodes, like `wg show`
    Peers,
    /// Pods of this node
    Endpoints,
    /// What became of packets, and why
    Observe(observe::Options),
    /// What policy thinks of a flow
    Policy(policy::Options),
    /// Who talks with whom, and the signed log of who did
    Audit(audit::Options),
    /// Join tokens for new nodes
    Token(token::Options),
    /// A whole mesh in network namespaces of this machine, no Kubernetes
    Lab(lab::Options),
    /// Completions for a shell: source them, or put them where it looks for them
    Completion { shell: clap_complete::Shell },
    /// Versions of this program and of the agent
    Version,
}

fn main() -> ExitCode {
    end_quietly_without_reader();
    let cli = Cli::parse();
    match run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("signetctl: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// `signetctl ... | head` ends as other programs do: Rust would panic at the next line instead.
#[expect(unsafe_code, reason = "setting a signal's disposition")]
fn end_quietly_without_reader() {
    // SAFETY: no handler is installed, and no other thread runs yet.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

fn run(cli: Cli) -> Result<u8> {
    let agent = Agent::new(&cli.socket);
    let format = cli.output;
    match cli.command {
        Command::Status(options) => status::run(&agent, &options, format),
        Command::Peers => peers::run(&agent, format),
        Command::Endpoints => endpoints::run(&agent, format),
        Command::Observe(options) => observe::run(&agent, options, format),
        Command::Policy(options) => policy::run(&agent, options, format),
        Command::Audit(options) => audit::run(&agent, &options, format),
        Command::Token(options) => token::run(&Admin::new(&cli.admin_socket), &options, format),
        Command::Lab(options) => lab::run(options, format),
        Command::Version => version::run(&agent, format),
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "signetctl",
                &mut std::io::stdout(),
            );
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
