//! The lab as it will be: names, addresses and places of everything that `lab up` makes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::manifests::Object;
use super::materialise::given_cidrs;
use super::names;
use super::plan;
use super::state::{Backend, Family, Identity, Lab, Node, Phase};

/// The trust domain of every lab.
const TRUST_DOMAIN: &str = "lab.signet.dev";

/// What a user asks for.
pub(crate) struct Wish<'a> {
    pub(crate) name: &'a str,
    pub(crate) nodes: u8,
    pub(crate) backend: Backend,
    pub(crate) underlay: Family,
    pub(crate) source: Option<&'a Path>,
}

/// Draws the lab. Node objects among `objects`, if any, say which nodes there are.
///
/// # Errors
/// For too many nodes or names that cannot be namespaces.
pub(crate) fn draw(wish: &Wish<'_>, objects: &[Object]) -> Result<Lab> {
    names::check_lab_name(wish.name)?;
    let state_dir = names::state_dir(wish.name);
    let mut lab = Lab {
        version: Lab::VERSION,
        name: wish.name.to_owned(),
        phase: Phase::Building,
        trust_domain: TRUST_DOMAIN.to_owned(),
        backend: wish.backend,
        underlay: wish.underlay,
        manifests_dir: state_dir.join("manifests"),
        source_dir: wish.source.map(Path::to_owned),
        identity: identity(wish, &state_dir),
        nodes: BTreeMap::new(),
        pods: BTreeMap::new(),
        objects: BTreeMap::new(),
        placed: 0,
        state_dir,
    };
    let given: Vec<&Object> = objects
        .iter()
        .filter(|object| object.kind == "Node")
        .collect();
    if given.is_empty() {
        for index in 1..=wish.nodes {
            add_node(&mut lab, &format!("node{index}"), None)?;
        }
    }
    for object in given {
        add_node(&mut lab, &object.name, Some(object))?;
    }
    if lab.nodes.is_empty() {
        bail!("a lab needs at least one node");
    }
    Ok(lab)
}

fn add_node(lab: &mut Lab, name: &str, given: Option<&Object>) -> Result<()> {
    check_node_name(name)?;
    let index = u8::try_from(lab.nodes.len() + 1).unwrap_or(u8::MAX);
    if index > plan::MAX_NODES {
        bail!("a lab has at most {} nodes", plan::MAX_NODES);
    }
    let config_dir = lab.state_dir.join("nodes").join(name);
    let own_cidrs = given.map(given_cidrs).transpose()?.unwrap_or_default();
    let node = Node {
        uid: String::new(),
        index,
        netns: names::node_netns(&lab.name, name),
        underlay_interface: plan::UNDERLAY.to_owned(),
        underlay_addresses: plan::node_addresses(lab.underlay, index),
        pod_cidrs: if own_cidrs.is_empty() {
            plan::pod_cidrs(index)?
        } else {
            own_cidrs
        },
        status_socket: config_dir.join("agent.sock"),
        tunnel_socket: config_dir.join("tunnel.sock"),
        bpf_root: names::bpf_dir(&lab.name).join(name),
        metrics: plan::local(plan::METRICS_PORT),
        tunnel_metrics: plan::local(plan::TUNNEL_METRICS_PORT),
        agent: None,
        tunnel: None,
        last_host: 1,
        config_dir,
        name: name.to_owned(),
    };
    lab.nodes.insert(name.to_owned(), node);
    Ok(())
}

fn identity(wish: &Wish<'_>, state_dir: &Path) -> Identity {
    let dir: PathBuf = state_dir.join(names::IDENTITY);
    let addresses = plan::identity_addresses(wish.underlay);
    let address = addresses
        .first()
        .copied()
        .unwrap_or_else(|| plan::local(0).ip());
    Identity {
        netns: names::node_netns(wish.name, names::IDENTITY),
        underlay_interface: plan::UNDERLAY.to_owned(),
        address: SocketAddr::new(address, plan::IDENTITY_PORT),
        underlay_addresses: addresses,
        admin_socket: dir.join("admin.sock"),
        data_dir: dir.join("data"),
        trust_bundle: dir.join("data").join("bundle.pem"),
        metrics: plan::local(plan::METRICS_PORT),
        svid_ttl: None,
        epoch_length: None,
        process: None,
    }
}

/// Node names become parts of namespace names and directories.
fn check_node_name(name: &str) -> Result<()> {
    let fine = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    if !fine || name.is_empty() || name.len() > 63 || name.starts_with('.') {
        bail!("node name {name:?}: use at most 63 of a-z, 0-9, dot and dash");
    }
    if name == names::IDENTITY {
        bail!("node name {name:?} is the lab's word for the identity service; choose another");
    }
    Ok(())
}

/// The address that a family of the underlay has, for routes.
pub(crate) fn underlay_of(node: &Node, ipv4: bool) -> Result<std::net::IpAddr> {
    let mut addresses = node.underlay_addresses.iter();
    addresses
        .find(|address| address.is_ipv4() == ipv4)
        .copied()
        .context("the node has no underlay address")
}
