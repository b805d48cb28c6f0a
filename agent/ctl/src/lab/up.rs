//! `lab up`: from nothing to pods that talk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::Uid;

use super::apply;
use super::blueprint::{self, Wish};
use super::daemons;
use super::down;
use super::fabric;
use super::interrupt;
use super::manifests;
use super::materialise::Materialised;
use super::names;
use super::process;
use super::progress::Progress;
use super::state::{self, Backend, Family, Lab, Phase};
use super::status;
use crate::output::Format;

/// Options of `lab up`.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Name of the lab, 1 to 12 of a-z and 0-9
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    pub(crate) name: String,
    /// Number of nodes, unless the manifests have Node objects
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) nodes: u8,
    /// Directory of Kubernetes YAML: pods, service accounts, policies
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// What runs WireGuard
    #[arg(long, value_enum, default_value = "userspace")]
    pub(crate) backend: Backend,
    /// Let nodes talk over IPv6
    #[arg(long)]
    pub(crate) ipv6_underlay: bool,
    /// Validity of SVIDs, such as 30s, to watch renewals [default: the service's own]
    #[arg(long, value_name = "DURATION")]
    pub(crate) svid_ttl: Option<String>,
    /// How long keys between nodes are used, such as 3s, to watch switches [default: the service's
    /// own]
    #[arg(long, value_name = "DURATION")]
    pub(crate) epoch_length: Option<String>,
    /// Leave everything as it is if something fails, to look into it
    #[arg(long)]
    pub(crate) keep_on_failure: bool,
}

/// Brings a lab up and describes it.
pub(crate) fn run(options: &Up, format: Format) -> Result<u8> {
    let progress = Progress::new();
    let lab = up(options, &progress)?;
    progress.finish();
    status::describe(&lab, format)?;
    Ok(0)
}

/// Brings a lab up. If that fails, nothing of it is left, unless it shall be kept.
pub(crate) fn up(options: &Up, progress: &Progress) -> Result<Lab> {
    require_root()?;
    require_userspace(options.backend)?;
    let lock = state::lock(&options.name)?;
    if !leftovers(&options.name).is_empty() {
        bail!(
            "lab {name:?} is there already; see it with `signetctl lab status --name {name}`, change it with `signetctl lab apply --name {name}`, remove it with `signetctl lab down --name {name}`",
            name = options.name
        );
    }
    interrupt::watch()?;
    let (mut lab, wanted) = match draw(options) {
        Ok(drawn) => drawn,
        Err(error) => {
            lock.retire();
            return Err(error);
        }
    };
    let made = build(&mut lab, wanted, progress);
    let Err(error) = made else { return Ok(lab) };
    interrupt::clear();
    if options.keep_on_failure {
        return Err(error.context(format!(
            "lab {name:?} did not come up and is kept as it is; `signetctl lab down --name {name}` removes it",
            name = options.name
        )));
    }
    progress.step("cleaning up");
    match down::remove(&options.name) {
        Ok(()) => lock.retire(),
        Err(rest) => progress.say(format!("cleaning up: {rest:#}")),
    }
    Err(error.context(format!(
        "lab {:?} did not come up, and nothing of it is left",
        options.name
    )))
}

/// Everything that can be found wrong before anything is made.
fn draw(options: &Up) -> Result<(Lab, Materialised)> {
    let source = options.manifests.as_deref().map(absolute).transpose()?;
    let objects = source
        .as_deref()
        .map(manifests::read_directory)
        .transpose()?
        .unwrap_or_default();
    let underlay = if options.ipv6_underlay {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let wish = Wish {
        name: &options.name,
        nodes: options.nodes,
        backend: options.backend,
        underlay,
        source: source.as_deref(),
    };
    let mut lab = blueprint::draw(&wish, &objects)?;
    lab.identity.svid_ttl = options.svid_ttl.clone();
    lab.identity.epoch_length = options.epoch_length.clone();
    let wanted = apply::check(&mut lab, objects)?;
    for program in ["signet-identity", "signet-agent", "signet-tunnel"] {
        process::program(program)?;
    }
    Ok((lab, wanted))
}

fn build(lab: &mut Lab, wanted: Materialised, progress: &Progress) -> Result<()> {
    fs::create_dir_all(&lab.manifests_dir)
        .with_context(|| format!("create {}", lab.manifests_dir.display()))?;
    lab.save()?;

    progress.step(format!("connecting {} nodes", lab.nodes.len()));
    fabric::build(lab)?;
    apply::write_cluster(lab, &wanted)?;

    progress.step("starting the identity service");
    lab.identity.process = Some(daemons::start_identity(lab)?);
    lab.save()?;
    daemons::await_identity(lab)?;

    progress.step("starting tunnels and agents");
    for name in lab.nodes.keys().cloned().collect::<Vec<_>>() {
        start_node(lab, &name)?;
    }
    for node in lab.nodes.values() {
        progress.step(format!("waiting for the agent of {}", node.name));
        daemons::await_agent(node)?;
    }

    let diff = apply::difference(lab, &wanted)?;
    apply::carry_out(lab, wanted, &diff, progress)?;
    lab.phase = Phase::Ready;
    lab.save()
}

fn start_node(lab: &mut Lab, name: &str) -> Result<()> {
    let node = lab
        .nodes
        .get(name)
        .with_context(|| format!("no node {name}"))?
        .clone();
    daemons::invite(lab, &node)?;
    let tunnel = daemons::start_tunnel(lab, &node)?;
    let node = record(lab, name, |node| node.tunnel = Some(tunnel))?;
    daemons::await_tunnel(&node)?;
    let agent = daemons::start_agent(lab, &node)?;
    record(lab, name, |node| node.agent = Some(agent)).map(|_| ())
}

/// Changes a node's record and saves it.
pub(crate) fn record(
    lab: &mut Lab,
    name: &str,
    change: impl FnOnce(&mut state::Node),
) -> Result<state::Node> {
    let node = lab
        .nodes
        .get_mut(name)
        .with_context(|| format!("no node {name}"))?;
    change(node);
    let node = node.clone();
    lab.save()?;
    Ok(node)
}

/// Anything that says that a lab of that name is or was there.
pub(crate) fn leftovers(name: &str) -> Vec<String> {
    let mut found = super::netns::list(&names::netns_prefix(name));
    let dir = names::state_dir(name);
    if dir.exists() {
        found.push(dir.display().to_string());
    }
    found
}

/// Fails unless run as root, with the fix.
pub(crate) fn require_root() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("a lab makes network namespaces and loads BPF programs: run it as root (sudo)");
    }
    Ok(())
}

fn require_userspace(backend: Backend) -> Result<()> {
    match backend {
        Backend::Userspace => Ok(()),
        Backend::Kernel => bail!(
            "the kernel backend is not there yet{}; use --backend userspace",
            if Path::new("/sys/module/wireguard").exists() {
                ""
            } else {
                ", and this kernel has no WireGuard"
            }
        ),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("manifests directory {}", path.display()))
}
