//! `signetctl lab`: a mesh in network namespaces of this machine, with the real programs.
//!
//! It plays what is around Signet: the cluster that places pods, the CNI that gives them
//! interfaces, the underlay between the nodes. A test tool, for people and for tests.

mod apply;
mod ask;
mod blueprint;
mod capture;
mod cni;
mod daemons;
mod demo;
mod diff;
mod dns;
mod down;
mod exec;
mod fabric;
mod interrupt;
mod link;
mod manifests;
mod materialise;
mod names;
mod netns;
mod pcap;
mod plan;
mod process;
mod progress;
mod restart;
mod sandbox;
mod serve;
mod state;
mod status;
mod traffic;
mod up;
mod validate;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::output::Format;

/// Options of `lab`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring a lab up, and describe it
    Up(up::Up),
    /// Bring a running lab in line with a changed directory
    Apply(apply::Apply),
    /// Remove a lab, also after a crash
    Down(down::Down),
    /// What runs and what does not; 1 if something is down
    Status(status::Status),
    /// The labs of this machine
    List,
    /// Run a command in a pod, on a node or at the identity service
    Exec(exec::Exec),
    /// Write a pcap file of every underlay interface
    Capture(capture::Capture),
    /// Start what is down, or stop and start one program
    Restart(restart::Restart),
    /// A shop over three nodes: who reaches whom, who does not, and why
    Demo(demo::Demo),
    /// Small servers for pods
    #[command(hide = true)]
    Serve(serve::Serve),
    /// One question to such a server
    #[command(hide = true)]
    Ask(ask::Ask),
    /// Numbered packets, to count what is lost
    #[command(hide = true)]
    Traffic(traffic::Traffic),
}

/// Runs one of the lab's commands.
pub(crate) fn run(options: Options, format: Format) -> Result<u8> {
    match options.command {
        Command::Up(options) => up::run(&options, format),
        Command::Apply(options) => apply::run(&options, format),
        Command::Down(options) => down::run(&options),
        Command::Status(options) => status::run(&options, format),
        Command::List => status::list(format),
        Command::Exec(options) => exec::run(&options),
        Command::Capture(options) => capture::run(&options, format),
        Command::Restart(options) => restart::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Serve(options) => serve::run(options),
        Command::Ask(options) => ask::run(&options),
        Command::Traffic(options) => traffic::run(&options),
    }
}
