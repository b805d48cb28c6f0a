//! Network namespaces under `/run/netns`, as `ip netns` keeps them.
//!
//! Only the network namespace is changed, never the mount namespace: pinned BPF objects stay visible.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

const DIRECTORY: &str = "/run/netns";

/// Path of a named namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes a named namespace.
///
/// # Errors
/// If it exists already or the caller may not (not root).
pub(crate) fn create(name: &str) -> Result<()> {
    share_directory()?;
    let target = path(name);
    File::create_new(&target).with_context(|| format!("create namespace {name}"))?;
    let made = on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
        let none: Option<&str> = None;
        mount(
            Some("/proc/thread-self/ns/net"),
            &target,
            none,
            MsFlags::MS_BIND,
            none,
        )
        .context("bind the namespace to its name")
    });
    if made.is_err() {
        let _ = fs::remove_file(&target);
    }
    made.with_context(|| format!("create namespace {name}"))
}

/// Removes a named namespace; fine if it is gone already.
pub(crate) fn delete(name: &str) -> Result<()> {
    let target = path(name);
    if !target.exists() {
        return Ok(());
    }
    // A half-made one is a plain file: then there is nothing to unmount.
    let _ = umount2(&target, MntFlags::MNT_DETACH);
    fs::remove_file(&target).with_context(|| format!("remove namespace {name}"))
}

/// Names of all namespaces that begin with `prefix`.
pub(crate) fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    found.sort();
    found
}

/// Opens a namespace, to enter it later.
pub(crate) fn open(name: &str) -> Result<File> {
    File::open(path(name)).with_context(|| format!("open namespace {name}; is the lab still up?"))
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &File) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}

/// Runs `work` on a thread inside the namespace. Sockets it makes stay in there.
pub(crate) fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = open(name)?;
    on_own_thread(move || {
        enter(&namespace).with_context(|| format!("enter namespace {name}"))?;
        work()
    })
}

/// Processes that live in one of these namespaces, this one excepted.
pub(crate) fn processes_in(names: &[String]) -> Vec<i32> {
    let inodes: BTreeSet<(u64, u64)> = names
        .iter()
        .filter_map(|name| fs::metadata(path(name)).ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    let own = std::process::id().cast_signed();
    super::process::all_pids()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|meta| inodes.contains(&(meta.dev(), meta.ino())))
        })
        .collect()
}

/// Writes a kernel setting (`net/...`) of the namespace the calling thread is in.
pub(crate) fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    fs::write(&path, value).with_context(|| format!("set {} to {value}", path.display()))
}

/// As `ip netns` does it: a shared mount, so that names made here are seen in other mount namespaces.
fn share_directory() -> Result<()> {
    let none: Option<&str> = None;
    fs::create_dir_all(DIRECTORY).with_context(|| format!("create {DIRECTORY}"))?;
    let share = || {
        mount(
            none,
            DIRECTORY,
            none,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            none,
        )
    };
    if share().is_ok() {
        return Ok(());
    }
    mount(
        Some(DIRECTORY),
        DIRECTORY,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
    .and_then(|()| share())
    .with_context(|| format!("make {DIRECTORY} a shared mount"))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(anyhow!("the namespace thread failed")))
}
