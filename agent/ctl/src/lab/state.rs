//! What a lab is made of, written down before it is made.
//!
//! The file is at the same time the description that `lab up -o json` prints. It is replaced
//! atomically, so that a crash at any point leaves a state that `lab down` can clean up from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::names;

const VERSION: u32 = 1;

/// A lab: its places, processes and pods.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lab {
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) phase: Phase,
    pub(crate) trust_domain: String,
    pub(crate) backend: Backend,
    pub(crate) underlay: Family,
    pub(crate) state_dir: PathBuf,
    /// What the processes read: the user's objects with UIDs, nodes and addresses filled in.
    pub(crate) manifests_dir: PathBuf,
    /// The user's own directory, if one was given.
    pub(crate) source_dir: Option<PathBuf>,
    pub(crate) identity: Identity,
    pub(crate) nodes: BTreeMap<String, Node>,
    /// By `namespace/name`.
    pub(crate) pods: BTreeMap<String, Pod>,
    /// Every object the lab has ever had, by `Kind/namespace/name`.
    pub(crate) objects: BTreeMap<String, ObjectRecord>,
    /// How many pods were placed without a node of their own choice.
    pub(crate) placed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Building,
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Userspace,
    Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// The identity service and its namespace, which holds the underlay's bridge too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) netns: String,
    pub(crate) underlay_interface: String,
    pub(crate) underlay_addresses: Vec<IpAddr>,
    pub(crate) address: SocketAddr,
    pub(crate) admin_socket: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) trust_bundle: PathBuf,
    pub(crate) metrics: SocketAddr,
    /// `--svid-ttl` of the service, if the user chose one.
    #[serde(default)]
    pub(crate) svid_ttl: Option<String>,
    /// `--epoch-length` of the service, if the user chose one.
    #[serde(default)]
    pub(crate) epoch_length: Option<String>,
    pub(crate) process: Option<Process>,
}

/// A node: one namespace with an agent and a tunnel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// 1.., names its addresses.
    pub(crate) index: u8,
    pub(crate) netns: String,
    pub(crate) underlay_interface: String,
    /// The one in use first.
    pub(crate) underlay_addresses: Vec<IpAddr>,
    pub(crate) pod_cidrs: Vec<IpNet>,
    pub(crate) config_dir: PathBuf,
    pub(crate) status_socket: PathBuf,
    pub(crate) tunnel_socket: PathBuf,
    pub(crate) bpf_root: PathBuf,
    pub(crate) metrics: SocketAddr,
    pub(crate) tunnel_metrics: SocketAddr,
    pub(crate) agent: Option<Process>,
    pub(crate) tunnel: Option<Process>,
    /// Number of the host address given out last, so that a freed one is not handed on at once.
    pub(crate) last_host: u32,
}

/// A pod: one namespace and the commands of its containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) service_account: String,
    pub(crate) phase: PodPhase,
    pub(crate) netns: String,
    pub(crate) interface: String,
    pub(crate) host_interface: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) dir: PathBuf,
    pub(crate) containers: Vec<Container>,
    pub(crate) processes: Vec<Process>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodPhase {
    Starting,
    Running,
    Stopping,
}

/// What a container of a pod runs. Images are ignored: the command is one of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

/// A process that the lab started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot (proc_pid_stat(5), field 22): tells a reused pid apart.
    pub(crate) started: u64,
    pub(crate) log: PathBuf,
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRecord {
    /// How often it was created; a deleted and re-created object is another one.
    pub(crate) creation: u64,
    pub(crate) present: bool,
}

impl Lab {
    pub(crate) const VERSION: u32 = VERSION;

    /// Reads the state of a lab.
    ///
    /// # Errors
    /// If there is no such lab, or its state is from another version or damaged; each names the way out.
    pub(crate) fn load(name: &str) -> Result<Self> {
        match Self::find(name)? {
            Some(lab) => Ok(lab),
            None => bail!(
                "there is no lab {name:?}{}; start one with `signetctl lab up --name {name}`",
                others(name)
            ),
        }
    }

    /// Like [`Lab::load`], but `None` if there is no such lab.
    pub(crate) fn find(name: &str) -> Result<Option<Self>> {
        names::check_lab_name(name)?;
        let path = state_file(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let lab: Self = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; `signetctl lab down --name {name}` removes that lab",
                path.display()
            )
        })?;
        if lab.version != VERSION {
            bail!(
                "lab {name:?} is of another version of signetctl; remove it with `signetctl lab down --name {name}`"
            );
        }
        Ok(Some(lab))
    }

    /// Writes the state, replacing the old one in one step.
    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("encode the lab's state")?;
        write_atomically(&state_file(&self.name), &text)
    }

    /// The pod of that name: `namespace/name`, or the name alone if only one pod has it.
    pub(crate) fn pod(&self, wanted: &str) -> Result<&Pod> {
        if let Some(pod) = self.pods.get(wanted) {
            return Ok(pod);
        }
        let mut found = self.pods.values().filter(|pod| pod.name == wanted);
        match (found.next(), found.next()) {
            (Some(pod), None) => Ok(pod),
            (Some(one), Some(other)) => bail!(
                "{wanted:?} is ambiguous: {}/{wanted} and {}/{wanted}; say which namespace",
                one.namespace,
                other.namespace
            ),
            (None, _) => bail!(
                "lab {:?} has no pod or node {wanted:?}; it has {}",
                self.name,
                self.places().join(", ")
            ),
        }
    }

    /// Every name that `lab exec` accepts.
    pub(crate) fn places(&self) -> Vec<String> {
        let mut places = vec![names::IDENTITY.to_owned()];
        places.extend(self.nodes.keys().cloned());
        places.extend(self.pods.keys().cloned());
        places
    }
}

impl Pod {
    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Keeps two commands from changing one lab at the same time. Dropped: released.
pub(crate) struct Lock {
    path: PathBuf,
    #[expect(dead_code, reason = "held, not read")]
    file: Flock<File>,
}

impl Lock {
    /// Removes the lock's file too: the lab is gone.
    pub(crate) fn retire(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock of a lab that is there.
///
/// # Errors
/// As [`lock`] and [`Lab::load`]; no lock stays behind where there is no lab.
pub(crate) fn lock_lab(name: &str) -> Result<(Lock, Lab)> {
    let lock = lock(name)?;
    match Lab::load(name) {
        Ok(lab) => Ok((lock, lab)),
        Err(error) => {
            if !names::state_dir(name).exists() {
                lock.retire();
            }
            Err(error)
        }
    }
}

/// Takes the lab's lock.
///
/// # Errors
/// If another command holds it, or the directory cannot be made (not root).
pub(crate) fn lock(name: &str) -> Result<Lock> {
    names::check_lab_name(name)?;
    fs::create_dir_all(names::LABS).with_context(|| format!("create {}", names::LABS))?;
    let path = Path::new(names::LABS).join(format!("{name}.lock"));
    loop {
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!(
                    "another signetctl is changing lab {name:?} right now; try again when it is done"
                )
            }
            Err((_, error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        };
        // Whoever held it before may have retired the file that was just locked.
        let held = file.metadata().map(|meta| meta.ino()).ok();
        if held.is_some() && held == fs::metadata(&path).map(|meta| meta.ino()).ok() {
            return Ok(Lock { path, file });
        }
    }
}

/// Names of all labs of this machine.
pub(crate) fn list() -> Vec<String> {
    let Ok(entries) = fs::read_dir(names::LABS) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort();
    found
}

/// Writes a file beside its place and renames it there, so that a reader sees the old or the new one.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn state_file(name: &str) -> PathBuf {
    names::state_dir(name).join("state.json")
}

fn others(name: &str) -> String {
    let others: Vec<String> = list().into_iter().filter(|other| other != name).collect();
    if others.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", others.join(", "))
    }
}
