//! `lab restart`: starts what is down, or stops and starts what is named.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::daemons;
use super::interrupt;
use super::names;
use super::process;
use super::progress::Progress;
use super::sandbox;
use super::state::{self, Lab, Phase, Process};
use super::up::{self, record};

/// Options of `lab restart`.
#[derive(Args, Debug)]
pub(crate) struct Restart {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    name: String,
    /// A node, or `identity`; everything that is down if left out
    place: Option<String>,
    /// Which of the node's programs; the agent if left out
    #[arg(value_enum, requires = "place")]
    program: Option<Program>,
}

/// A program of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    Agent,
    Tunnel,
}

/// Restarts, and waits until it is ready.
pub(crate) fn run(options: &Restart) -> Result<u8> {
    up::require_root()?;
    interrupt::watch()?;
    let (_lock, mut lab) = state::lock_lab(&options.name)?;
    if lab.phase != Phase::Ready {
        let name = &options.name;
        bail!(
            "lab {name:?} was not brought up completely; `signetctl lab down --name {name}` removes it"
        );
    }
    let progress = Progress::new();
    match options.place.as_deref() {
        None => all(&mut lab, &progress)?,
        Some(names::IDENTITY) if options.program.is_some() => {
            bail!("{} is one program; name nothing behind it", names::IDENTITY);
        }
        Some(names::IDENTITY) => identity(&mut lab, &progress)?,
        Some(node) if !lab.nodes.contains_key(node) => {
            let nodes: Vec<&str> = lab.nodes.keys().map(String::as_str).collect();
            bail!(
                "{node:?} is no node of the lab; it has {} and {}",
                nodes.join(", "),
                names::IDENTITY
            );
        }
        Some(node) => match options.program {
            None | Some(Program::Agent) => agent(&mut lab, node, &progress)?,
            Some(Program::Tunnel) => tunnel(&mut lab, node, &progress)?,
        },
    }
    Ok(0)
}

fn all(lab: &mut Lab, progress: &Progress) -> Result<()> {
    let down = |process: Option<&Process>| !process.is_some_and(Process::alive);
    if down(lab.identity.process.as_ref()) {
        identity(lab, progress)?;
    }
    for name in lab.nodes.keys().cloned().collect::<Vec<_>>() {
        if lab
            .nodes
            .get(&name)
            .is_some_and(|node| down(node.tunnel.as_ref()))
        {
            tunnel(lab, &name, progress)?;
        }
        if lab
            .nodes
            .get(&name)
            .is_some_and(|node| down(node.agent.as_ref()))
        {
            agent(lab, &name, progress)?;
        }
    }
    for key in lab.pods.keys().cloned().collect::<Vec<_>>() {
        let Some(pod) = lab.pods.get(&key).cloned() else {
            continue;
        };
        if pod.processes.iter().any(|process| !process.alive()) {
            progress.step(format!("starting the commands of {key}"));
            stop(pod.processes.iter());
            let processes = sandbox::run(lab, &pod)?;
            if let Some(pod) = lab.pods.get_mut(&key) {
                pod.processes = processes;
            }
            lab.save()?;
        }
    }
    Ok(())
}

fn identity(lab: &mut Lab, progress: &Progress) -> Result<()> {
    progress.step("restarting the identity service");
    stop(lab.identity.process.iter());
    lab.identity.process = Some(daemons::start_identity(lab)?);
    lab.save()?;
    daemons::await_identity(lab)
}

/// Restarts a node's tunnel; its agent stays.
fn tunnel(lab: &mut Lab, name: &str, progress: &Progress) -> Result<()> {
    progress.step(format!("restarting the tunnel of {name}"));
    let node = lab
        .nodes
        .get(name)
        .with_context(|| format!("no node {name}"))?
        .clone();
    stop(node.tunnel.iter());
    let process = daemons::start_tunnel(lab, &node)?;
    let node = record(lab, name, |node| node.tunnel = Some(process))?;
    daemons::await_tunnel(&node)?;
    // The agent comes back to it by itself.
    if node.agent.as_ref().is_some_and(Process::alive) {
        daemons::await_agent(&node)?;
    }
    Ok(())
}

/// Restarts a node's agent; its tunnel and its pods stay.
pub(crate) fn agent(lab: &mut Lab, name: &str, progress: &Progress) -> Result<()> {
    progress.step(format!("restarting the agent of {name}"));
    let node = lab
        .nodes
        .get(name)
        .with_context(|| format!("no node {name}"))?
        .clone();
    stop(node.agent.iter());
    let process = daemons::start_agent(lab, &node)?;
    let node = record(lab, name, |node| node.agent = Some(process))?;
    daemons::await_agent(&node)?;
    daemons::reenroll(lab, &node)?;
    daemons::await_endpoints(lab, &node)
}

fn stop<'a>(processes: impl Iterator<Item = &'a Process>) {
    let pids: Vec<i32> = processes
        .filter(|process| process.alive())
        .map(|process| process.pid)
        .collect();
    process::stop(&pids, Duration::from_secs(5));
}
