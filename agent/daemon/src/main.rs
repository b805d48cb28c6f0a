//! `signet-agent`: one node's agent.
//!
//! The decisions are in `signet-agent-core`; this program gives it a clock, sockets, maps and files,
//! and does what it says, in order ([`executor`]). Whatever waits for somebody else has a task of
//! its own and answers by the executor's inbox.

#![deny(unsafe_code)]

mod audit;
mod channel;
mod cli;
mod clock;
mod dataplane;
mod discover;
mod executor;
mod fair;
mod flows;
mod health;
mod hold;
mod host;
mod identity;
mod metrics;
mod names;
mod observe;
mod run;
mod sources;
mod state;
mod status;
mod tunnel;
mod watched;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use cli::{CleanupArgs, Cli, Command};
use signet_telemetry::{Catalog, LogFormat, init_logging};

fn main() -> ExitCode {
    // Usage errors end here, with code 2.
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => {
            init_logging(args.log);
            // The lock goes last: by then every port and device is given up.
            runtime()
                .and_then(|runtime| runtime.block_on(run::run(*args)))
                .map(drop)
        }
        Command::Cleanup(args) => {
            init_logging(LogFormat::Text);
            runtime().and_then(|runtime| runtime.block_on(clean_up(args)))
        }
        Command::Metrics => print_metrics(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // One line per problem, whatever the logs look like. If standard error is closed there
            // is nobody to tell.
            for line in problem.lines().filter(|line| !line.trim().is_empty()) {
                let _ = writeln!(io::stderr(), "signet-agent: error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("threads cannot be started: {error}"))
}

async fn clean_up(args: CleanupArgs) -> Result<(), String> {
    run::require_root()?;
    if tokio::net::UnixStream::connect(&args.status_socket)
        .await
        .is_ok()
    {
        return Err(format!(
            "an agent answers on {}: stop it first",
            args.status_socket.display()
        ));
    }
    let netlink = host::Netlink::connect()?;
    let mut removed = dataplane::clean_up(&args.bpf_root)?;
    removed.extend(host::clean_up(&netlink).await?);
    for what in &removed {
        tracing::info!("{what} removed");
    }
    if removed.is_empty() {
        tracing::info!("nothing of the agent was there");
    }
    Ok(())
}

/// Writes the list of metrics as JSON, for the documents.
fn print_metrics() -> Result<(), String> {
    let mut catalog = Catalog::default();
    metrics::Metrics::new(&mut catalog);
    let text = serde_json::to_string_pretty(catalog.docs())
        .map_err(|error| format!("metrics cannot be listed: {error}"))?;
    writeln!(io::stdout(), "{text}").map_err(|error| format!("output is closed: {error}"))
}
