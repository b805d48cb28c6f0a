//! The real programs of a lab: one identity service, and a tunnel and an agent per node.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signet_agent_core::status::{Endpoints, Request, Status};

use super::cni;
use super::interrupt::{Attempt, wait_until};
use super::plan;
use super::process::{self, Spawn};
use super::state::{Lab, Node, Process};
use crate::agent::Agent;
use crate::identity::Admin;

/// How long a service may take to come up. Generous: a loaded machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lifetime of the lab's join tokens: long enough for a slow machine.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// Slot devices and their ports, in every node's namespace.
const SLOT_NAMES: &str = "sgslot0,sgslot1";
const SLOT_PORTS: &str = "51830,51831";

/// Starts the identity service.
pub(crate) fn start_identity(lab: &Lab) -> Result<Process> {
    let identity = &lab.identity;
    private_directory(&identity.data_dir)?;
    let mut command = vec![
        process::program("signet-identity")?,
        "run".to_owned(),
        flag("--data-dir", identity.data_dir.display()),
        flag("--manifests", lab.manifests_dir.display()),
        flag("--trust-domain", &lab.trust_domain),
        flag("--listen", identity.address),
        flag("--admin-socket", identity.admin_socket.display()),
        flag("--metrics", identity.metrics),
    ];
    command.extend(
        identity
            .svid_ttl
            .as_ref()
            .map(|ttl| flag("--svid-ttl", ttl)),
    );
    let epoch = identity.epoch_length.as_ref();
    command.extend(epoch.map(|length| flag("--epoch-length", length)));
    spawn(
        lab,
        "signet-identity",
        &identity.netns,
        command,
        lab.state_dir.join("identity").join("identity.log"),
    )
}

/// Waits until the identity service answers and its trust bundle is there.
pub(crate) fn await_identity(lab: &Lab) -> Result<()> {
    let identity = &lab.identity;
    wait_until("identity service ready", PATIENCE, || {
        still_there(identity.process.as_ref())?;
        match Admin::new(&identity.admin_socket).reachable() {
            Ok(()) if identity.trust_bundle.is_file() => Ok(Attempt::Done(())),
            Ok(()) => Ok(Attempt::NotYet(format!(
                "no {}",
                identity.trust_bundle.display()
            ))),
            Err(error) => Ok(Attempt::NotYet(format!("{error:#}"))),
        }
    })
}

/// Has a join token made for a node and leaves it where its agent finds it.
pub(crate) fn invite(lab: &Lab, node: &Node) -> Result<()> {
    private_directory(&node.config_dir)?;
    let token = Admin::new(&lab.identity.admin_socket).create_token(&node.name, TOKEN_TTL)?;
    let path = token_file(node);
    fs::write(&path, token.token).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", path.display()))
}

/// Starts a node's tunnel.
pub(crate) fn start_tunnel(lab: &Lab, node: &Node) -> Result<Process> {
    private_directory(&node.config_dir)?;
    let command = vec![
        process::program("signet-tunnel")?,
        flag("--control-socket", node.tunnel_socket.display()),
        flag("--slot-ports", SLOT_PORTS),
        flag("--slot-names", SLOT_NAMES),
        flag("--metrics", node.tunnel_metrics),
    ];
    spawn(
        lab,
        "signet-tunnel",
        &node.netns,
        command,
        node.config_dir.join("tunnel.log"),
    )
}

/// Waits until a node's tunnel listens for its agent.
pub(crate) fn await_tunnel(node: &Node) -> Result<()> {
    wait_until(&format!("tunnel of {} ready", node.name), PATIENCE, || {
        still_there(node.tunnel.as_ref())?;
        if node.tunnel_socket.exists() {
            Ok(Attempt::Done(()))
        } else {
            Ok(Attempt::NotYet(format!(
                "no {}",
                node.tunnel_socket.display()
            )))
        }
    })
}

/// Starts a node's agent.
pub(crate) fn start_agent(lab: &Lab, node: &Node) -> Result<Process> {
    let data_dir = node.config_dir.join("data");
    private_directory(&data_dir)?;
    let underlay = node
        .underlay_addresses
        .first()
        .context("the node has no underlay address")?;
    let command = vec![
        process::program("signet-agent")?,
        "run".to_owned(),
        flag("--node-name", &node.name),
        flag("--identity", lab.identity.address),
        flag("--trust-bundle", lab.identity.trust_bundle.display()),
        flag("--join-token-file", token_file(node).display()),
        flag("--data-dir", data_dir.display()),
        flag("--manifests", lab.manifests_dir.display()),
        flag("--underlay-dev", &node.underlay_interface),
        flag("--underlay-ip", underlay),
        flag("--channel-port", plan::CHANNEL_PORT),
        flag("--tunnel-socket", node.tunnel_socket.display()),
        flag("--status-socket", node.status_socket.display()),
        flag("--bpf-root", node.bpf_root.display()),
        flag("--metrics", node.metrics),
    ];
    spawn(
        lab,
        "signet-agent",
        &node.netns,
        command,
        node.config_dir.join("agent.log"),
    )
}

/// Waits until a node's agent says that all it needs is there.
pub(crate) fn await_agent(node: &Node) -> Result<()> {
    let agent = Agent::new(&node.status_socket);
    wait_until(&format!("agent of {} ready", node.name), PATIENCE, || {
        still_there(node.agent.as_ref())?;
        Ok(match agent.ask::<Status>(&Request::Status) {
            Err(error) => Attempt::NotYet(format!("{error:#}")),
            Ok(status) => match missing(&status) {
                None => Attempt::Done(()),
                Some(why) => Attempt::NotYet(why),
            },
        })
    })
}

/// Waits until every pod of a node is enforced and has its SVID.
pub(crate) fn await_endpoints(lab: &Lab, node: &Node) -> Result<()> {
    let wanted: BTreeSet<&str> = pods_on(lab, node).map(|pod| pod.uid.as_str()).collect();
    let agent = Agent::new(&node.status_socket);
    wait_until(&format!("pods of {} ready", node.name), PATIENCE, || {
        still_there(node.agent.as_ref())?;
        let mut missing = wanted.clone();
        let known: Endpoints = match agent.ask(&Request::Endpoints) {
            Ok(known) => known,
            Err(error) => return Ok(Attempt::NotYet(format!("{error:#}"))),
        };
        for endpoint in &known.endpoints {
            if endpoint.is_ready() {
                missing.remove(endpoint.pod_uid.as_str());
            } else if missing.contains(endpoint.pod_uid.as_str()) {
                let pending = endpoint.pending.join(", ");
                return Ok(Attempt::NotYet(format!(
                    "{}/{}: {pending}",
                    endpoint.namespace, endpoint.name
                )));
            }
        }
        Ok(match missing.first() {
            None => Attempt::Done(()),
            Some(uid) => Attempt::NotYet(format!("the agent does not know pod {uid}")),
        })
    })
}

/// Enrols the pods that a restarted agent does not know; those it took over are left alone.
pub(crate) fn reenroll(lab: &Lab, node: &Node) -> Result<()> {
    let agent = Agent::new(&node.status_socket);
    let known: Endpoints = agent.ask(&Request::Endpoints)?;
    for pod in pods_on(lab, node) {
        let is_known = known
            .endpoints
            .iter()
            .any(|endpoint| endpoint.pod_uid == pod.uid);
        if is_known {
            continue;
        }
        if let Err(refusal) = cni::add(lab, node, pod)? {
            bail!("enrol pod {}: {refusal}", pod.key());
        }
    }
    Ok(())
}

/// The first thing that an agent says it is missing.
pub(crate) fn missing(status: &Status) -> Option<String> {
    let check = status.checks.iter().find(|check| !check.ok)?;
    let hint = check
        .hint
        .as_deref()
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default();
    Some(format!("{}: {}{hint}", check.name, check.detail))
}

fn pods_on<'a>(lab: &'a Lab, node: &'a Node) -> impl Iterator<Item = &'a super::state::Pod> {
    lab.pods.values().filter(|pod| pod.node == node.name)
}

fn token_file(node: &Node) -> std::path::PathBuf {
    node.config_dir.join("join-token")
}

/// A process that ended on its own will not become ready: say what it said.
fn still_there(process: Option<&Process>) -> Result<()> {
    match process {
        Some(process) if !process.alive() => {
            bail!("{} stopped{}", process.name, process.log_tail())
        }
        Some(_) | None => Ok(()),
    }
}

fn spawn(
    lab: &Lab,
    name: &str,
    netns: &str,
    command: Vec<String>,
    log: std::path::PathBuf,
) -> Result<Process> {
    let env = vec![
        ("SIGNET_LAB".to_owned(), lab.name.clone()),
        ("NO_COLOR".to_owned(), "1".to_owned()),
        ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
    ];
    process::spawn(Spawn {
        name,
        netns,
        command,
        env,
        log,
        dir: Some(&lab.state_dir),
    })
}

/// `--flag=value`: one word, so that a command line can be searched for a path.
fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}={value}")
}

fn private_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("protect {}", path.display()))
}
