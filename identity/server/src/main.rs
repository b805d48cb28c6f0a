//! `signet-identity`: says who is who.
//!
//! This crate is the shell around `signet-identity-core`: TLS and gRPC, the store, the manifests, the
//! clock. What it answers is decided there.
#![forbid(unsafe_code)]

mod bundle_file;
mod cli;
mod clock;
mod grpc;
mod hub;
mod listen;
mod manifests;
mod metrics;
mod run;
mod service;
mod store;
mod upkeep;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Metrics => print_metrics(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line per problem, whatever the logs look like. If standard error is closed there is
            // nobody to tell.
            for line in run::problem_lines(&error) {
                let _ = writeln!(io::stderr(), "signet-identity: error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn print_metrics() -> anyhow::Result<()> {
    let (_, catalog) = metrics::Metrics::register();
    serde_json::to_writer_pretty(io::stdout().lock(), catalog.docs())?;
    writeln!(io::stdout())?;
    Ok(())
}
