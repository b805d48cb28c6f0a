//! `lab traffic`: numbered packets, to see what is lost, reordered or doubled.

mod icmp;
mod send;
mod tally;
mod udp;

pub(crate) use send::{Options as SendOptions, Probe, Protocol};
pub(crate) use tally::Report;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Options of `lab traffic`.
#[derive(Args, Debug)]
pub(crate) struct Traffic {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Sends numbered packets at a steady rate, and says in JSON what came back
    Send(SendOptions),
    /// Sends every UDP datagram back
    Echo {
        /// UDP port, IPv4 and IPv6
        #[arg(long)]
        port: u16,
    },
}

/// Sends or echoes; 1 if anything was lost.
pub(crate) fn run(options: &Traffic) -> Result<u8> {
    match &options.what {
        What::Echo { port } => udp::echo(*port),
        What::Send(options) => {
            let report = Probe::open(options)?.run(super::interrupt::happened)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(u8::from(report.lost > 0 || report.received == 0))
        }
    }
}
