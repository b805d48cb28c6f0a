//! `lab down`: removes everything a lab made, also after a crash or a half-finished `up`.
//!
//! Nothing here relies on the state file alone: processes are found by pid, by command line and by
//! namespace; namespaces by prefix.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::names;
use super::netns;
use super::process;
use super::progress::Progress;
use super::state::{self, Lab, Process};
use super::up;

/// Options of `lab down`.
#[derive(Args, Debug)]
pub(crate) struct Down {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    name: String,
    /// Remove all labs of this machine
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Removes a lab; fine if there is none.
pub(crate) fn run(options: &Down) -> Result<u8> {
    up::require_root()?;
    let wanted = if options.all {
        state::list()
    } else {
        vec![options.name.clone()]
    };
    let progress = Progress::new();
    for name in wanted {
        let lock = state::lock(&name)?;
        if up::leftovers(&name).is_empty() {
            progress.say(format!("there is no lab {name:?}; nothing to do"));
            lock.retire();
            continue;
        }
        progress.step(format!("removing lab {name:?}"));
        remove(&name)?;
        lock.retire();
        progress.say(format!("lab {name:?} is gone"));
    }
    Ok(0)
}

/// Removes everything that bears the lab's name.
pub(crate) fn remove(name: &str) -> Result<()> {
    names::check_lab_name(name)?;
    let state_dir = names::state_dir(name);
    let namespaces = netns::list(&names::netns_prefix(name));
    stop_processes(name, &namespaces);

    let mut problems = Vec::new();
    let mut attempt = |result: Result<()>| {
        if let Err(error) = result {
            problems.push(format!("{error:#}"));
        }
    };
    // Pinned links go before their interfaces, so that no program outlives what it was attached to.
    attempt(remove_tree(&names::bpf_dir(name)));
    for namespace in &namespaces {
        attempt(netns::delete(namespace));
    }
    attempt(remove_tree(&state_dir));
    let _ = fs::remove_dir(names::BPF_LABS);
    if !problems.is_empty() {
        bail!(
            "lab {name:?} is not gone completely: {}; run `lab down` again",
            problems.join("; ")
        );
    }
    Ok(())
}

fn stop_processes(name: &str, namespaces: &[String]) {
    let recorded = match Lab::find(name) {
        Ok(Some(lab)) => recorded_pids(&lab),
        // Damaged or of another version: what the kernel knows is enough.
        Ok(None) | Err(_) => Vec::new(),
    };
    let mut pids = recorded;
    pids.extend(process::daemons_of(&names::state_dir(name)));
    pids.extend(netns::processes_in(namespaces));
    process::stop(&without_own_line(pids), Duration::from_secs(3));
    // Whatever was started in between, such as a child of a pod's shell.
    process::stop(
        &without_own_line(netns::processes_in(namespaces)),
        Duration::from_secs(1),
    );
}

fn recorded_pids(lab: &Lab) -> Vec<i32> {
    let daemons = lab
        .nodes
        .values()
        .flat_map(|node| node.agent.iter().chain(&node.tunnel));
    let pods = lab.pods.values().flat_map(|pod| &pod.processes);
    lab.identity
        .process
        .iter()
        .chain(daemons)
        .chain(pods)
        .filter(|process| Process::alive(process))
        .map(|process| process.pid)
        .collect()
}

/// Never this process, nor the shells above it: `lab down` may be called from within a lab's namespace.
fn without_own_line(mut pids: Vec<i32>) -> Vec<i32> {
    let own = process::ancestry();
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| !own.contains(pid));
    pids
}

fn remove_tree(path: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
