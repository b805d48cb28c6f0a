//! A pod's network: namespace, veth, addresses, routes; what a plain ptp CNI plug-in would do.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::cni;
use super::fabric::MTU;
use super::interrupt::{Attempt, wait_until};
use super::link;
use super::netns;
use super::plan::{gateway, host_prefix};
use super::process::{self, Spawn};
use super::state::{Lab, Node, Pod, Process};

/// How long the agent may take to learn of a pod and enforce it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the pod's network and returns once the agent enforces it. Nothing runs in it yet.
pub(crate) fn build(lab: &Lab, pod: &Pod) -> Result<()> {
    let node = node_of(lab, pod)?;
    fs::create_dir_all(&pod.dir).with_context(|| format!("create {}", pod.dir.display()))?;
    netns::create(&pod.netns)?;
    link::batch(&node.netns, &veth(pod))?;
    link::sysctls(&node.netns, &veth_settings(pod))?;
    link::batch(
        &node.netns,
        &[format!("link set {} up", pod.host_interface)],
    )?;
    link::batch(&pod.netns, &inside(node, pod))?;
    link::batch(&node.netns, &outside(node, pod))?;
    enroll(lab, node, pod)
}

/// Starts the commands of the pod's containers.
pub(crate) fn run(lab: &Lab, pod: &Pod) -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for container in &pod.containers {
        let mut env = vec![
            ("POD_NAME".to_owned(), pod.name.clone()),
            ("POD_NAMESPACE".to_owned(), pod.namespace.clone()),
            ("NODE_NAME".to_owned(), pod.node.clone()),
            ("SIGNET_LAB".to_owned(), lab.name.clone()),
        ];
        env.extend(container.env.iter().cloned());
        let spawned = process::spawn(Spawn {
            name: &container.name,
            netns: &pod.netns,
            command: container.command.clone(),
            env,
            log: pod.dir.join(format!("{}.log", container.name)),
            dir: Some(&pod.dir),
        });
        processes.push(spawned.with_context(|| format!("pod {}", pod.key()))?);
    }
    Ok(processes)
}

/// Takes the pod's processes and its enrolment away; its namespace is left for [`remove`].
pub(crate) fn stop(lab: &Lab, pod: &Pod) -> Result<()> {
    for process in &pod.processes {
        process.signal(Signal::SIGTERM);
    }
    process::stop(
        &netns::processes_in(std::slice::from_ref(&pod.netns)),
        Duration::from_secs(2),
    );
    // With the agent down, the veth's end is how it learns of it when it is back.
    cni::del(lab, node_of(lab, pod)?, pod)
}

/// Removes the pod's namespace, and its veth and directory with it.
pub(crate) fn remove(lab: &Lab, pod: &Pod) -> Result<()> {
    let node = node_of(lab, pod)?;
    // Deleting the namespace alone would remove the veth too, but only some time later.
    let _ = link::batch(&node.netns, &[format!("link del {}", pod.host_interface)]);
    netns::delete(&pod.netns)?;
    let _ = fs::remove_dir_all(&pod.dir);
    Ok(())
}

fn enroll(lab: &Lab, node: &Node, pod: &Pod) -> Result<()> {
    // The agent reads the same manifests, but a little later.
    let what = format!("pod {} enrolled by the agent on {}:", pod.key(), node.name);
    wait_until(&what, PATIENCE, || {
        Ok(match cni::add(lab, node, pod)? {
            Ok(()) => Attempt::Done(()),
            Err(refusal) => Attempt::NotYet(refusal),
        })
    })
}

fn veth(pod: &Pod) -> Vec<String> {
    let (host, inner) = (&pod.host_interface, &pod.interface);
    vec![format!(
        "link add {host} mtu {MTU} type veth peer name {inner} mtu {MTU} netns {}",
        pod.netns
    )]
}

fn veth_settings(pod: &Pod) -> Vec<(String, &'static str)> {
    let host = &pod.host_interface;
    vec![
        (format!("net/ipv4/conf/{host}/forwarding"), "1"),
        (format!("net/ipv6/conf/{host}/forwarding"), "1"),
        (format!("net/ipv4/conf/{host}/rp_filter"), "0"),
        // The node needs its link-local address there at once: without one the kernel asks no
        // neighbour for a packet that it only forwards.
        (format!("net/ipv6/conf/{host}/accept_dad"), "0"),
    ]
}

fn inside(node: &Node, pod: &Pod) -> Vec<String> {
    let dev = &pod.interface;
    // No address of its own making: a pod has those that its status names, and no others.
    let mut commands = vec![
        "link set lo up".to_owned(),
        format!("link set {dev} addrgenmode none"),
        format!("link set {dev} up"),
    ];
    for address in &pod.addresses {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        commands.push(format!(
            "addr add {address}/{} dev {dev}{nodad}",
            host_prefix(address)
        ));
    }
    for gateway in gateways(node, pod) {
        commands.push(format!(
            "route add {gateway}/{} dev {dev}",
            host_prefix(&gateway)
        ));
        let family = if gateway.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        commands.push(format!("route add {family} via {gateway} dev {dev}"));
    }
    commands
}

fn outside(node: &Node, pod: &Pod) -> Vec<String> {
    let dev = &pod.host_interface;
    let mut commands = Vec::new();
    for gateway in gateways(node, pod) {
        let nodad = if gateway.is_ipv6() { " nodad" } else { "" };
        commands.push(format!(
            "addr add {gateway}/{} dev {dev}{nodad}",
            host_prefix(&gateway)
        ));
    }
    for address in &pod.addresses {
        commands.push(format!(
            "route add {address}/{} dev {dev}",
            host_prefix(address)
        ));
    }
    commands
}

/// One gateway for each family the pod has an address of.
fn gateways(node: &Node, pod: &Pod) -> Vec<std::net::IpAddr> {
    node.pod_cidrs
        .iter()
        .map(gateway)
        .filter(|gateway| {
            pod.addresses
                .iter()
                .any(|own| own.is_ipv4() == gateway.is_ipv4())
        })
        .collect()
}

fn node_of<'a>(lab: &'a Lab, pod: &Pod) -> Result<&'a Node> {
    lab.nodes
        .get(&pod.node)
        .with_context(|| format!("pod {} is on unknown node {}", pod.key(), pod.node))
}
