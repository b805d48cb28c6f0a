//! `lab exec`: runs a command where a pod, a node or the identity service is.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use super::names;
use super::netns;
use super::process;
use super::state::Lab;
use super::up;

/// Options of `lab exec`.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    name: String,
    /// A pod (NAME or NAMESPACE/NAME), a node, or `identity`
    place: String,
    /// The command and its arguments; a shell if left out
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Becomes the command: its exit status is ours, and so are its terminal and signals.
pub(crate) fn run(options: &Exec) -> Result<u8> {
    up::require_root()?;
    let lab = Lab::load(&options.name)?;
    let place = find(&lab, &options.place)?;
    let shell = vec![std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let command = if options.command.is_empty() {
        &shell
    } else {
        &options.command
    };
    let Some((program, arguments)) = command.split_first() else {
        return Ok(2);
    };
    netns::enter(&netns::open(place.netns)?).with_context(|| format!("enter {}", place.netns))?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", process::search_path());
    command
        .env("SIGNET_LAB", &lab.name)
        .env("SIGNET_ADMIN_SOCKET", &lab.identity.admin_socket);
    if let Some(socket) = place.socket {
        command.env("SIGNET_SOCKET", socket);
    }
    let error = command.exec();
    // As a shell has it: 127 if there is no such program, 126 if it cannot be run.
    let status = if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    eprintln!("signetctl: run {program:?}: {error}");
    Ok(status)
}

/// Where a command runs.
pub(crate) struct Place<'a> {
    pub(crate) netns: &'a str,
    /// The agent that is asked from there.
    pub(crate) socket: Option<&'a Path>,
}

/// A node, the identity service or a pod, by its name.
pub(crate) fn find<'a>(lab: &'a Lab, name: &str) -> Result<Place<'a>> {
    if name == names::IDENTITY {
        return Ok(Place {
            netns: &lab.identity.netns,
            socket: None,
        });
    }
    if let Some(node) = lab.nodes.get(name) {
        return Ok(Place {
            netns: &node.netns,
            socket: Some(&node.status_socket),
        });
    }
    let pod = lab.pod(name)?;
    let socket = lab
        .nodes
        .get(&pod.node)
        .map(|node| node.status_socket.as_path());
    Ok(Place {
        netns: &pod.netns,
        socket,
    })
}
