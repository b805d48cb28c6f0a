//! `signetctl audit`: who talks with whom now, and the signed log of who did.

mod export;
mod files;
mod peers;
mod tail;
mod verify;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::agent::Agent;
use crate::output::Format;

/// Options of `audit`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Authenticated pairs of a local and a remote pod
    Peers,
    /// Records of the audit log, each shown once it is signed; nothing is checked, see verify
    Tail(tail::Options),
    /// Check an audit log: every hash, every signature, and whose they are
    ///
    /// Exit status 1 if anything is wrong; the first broken place is named. What lies behind the
    /// last checkpoint can be cut off without a trace.
    Verify(verify::Options),
    /// Print the audit log as one stream of JSON lines, to be kept and verified elsewhere
    Export(export::Options),
}

/// Does it.
pub(crate) fn run(agent: &Agent, options: &Options, format: Format) -> Result<u8> {
    match &options.what {
        What::Peers => peers::run(agent, format),
        What::Tail(options) => tail::run(agent, options, format),
        What::Verify(options) => verify::run(agent, options, format),
        What::Export(options) => export::run(agent, options, format),
    }
}
