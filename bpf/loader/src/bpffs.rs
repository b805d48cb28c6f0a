//! The directories pins live in.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::LoaderError;

const USUAL: &str = "/sys/fs/bpf";

/// Makes `root` a directory on a bpffs, mounting one if there is none.
pub(crate) fn ensure(root: &Path) -> Result<(), LoaderError> {
    let mut existing = root;
    while !existing.exists() {
        existing = existing.parent().unwrap_or(Path::new("/"));
    }
    if !is_bpffs(existing)? {
        let at = if root.starts_with(USUAL) {
            Path::new(USUAL)
        } else {
            root
        };
        create_dir(at)?;
        mount(
            Some("bpf"),
            at,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .map_err(|errno| LoaderError::Pin {
            operation: "mount a bpf file system at",
            path: at.to_owned(),
            source: errno.into(),
        })?;
    }
    create_dir(root)
}

fn is_bpffs(path: &Path) -> Result<bool, LoaderError> {
    let found = statfs(path).map_err(|errno| LoaderError::Pin {
        operation: "look at",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

pub(crate) fn create_dir(path: &Path) -> Result<(), LoaderError> {
    fs::create_dir_all(path).map_err(|source| LoaderError::Pin {
        operation: "create directory",
        path: path.to_owned(),
        source,
    })
}

/// The names in a directory, sorted; empty if there is no such directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, LoaderError> {
    let failed = |source| LoaderError::Pin {
        operation: "list",
        path: path.to_owned(),
        source,
    };
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.push(
            entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Removes a pin; fine if it is gone already.
pub(crate) fn remove_pin(path: PathBuf) -> Result<(), LoaderError> {
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LoaderError::Pin {
            operation: "remove",
            path,
            source,
        }),
    }
}
