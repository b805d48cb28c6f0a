//! What survives a restart, in the data folder.
//!
//! Each file is replaced as a whole by rename, mode 0600. The node's key is in there, so that a
//! restarted agent needs no new token; nothing of the workloads is.

mod endpoints;
mod node;
mod schedule;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use endpoints::{EndpointRecord, EndpointStore, FoundBy};
pub(crate) use node::{StoredBundle, StoredNode};
pub(crate) use schedule::StoredSchedule;

/// The data folder, locked against a second agent.
pub(crate) struct DataDir {
    path: PathBuf,
    lock: Arc<File>,
}

/// Keeps a second agent out. Hold it until everything else of this one is given up: whoever gets
/// it next finds ports and devices free.
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Arc<File>);

/// Why there is no folder.
#[derive(Debug)]
pub(crate) enum NoDataDir {
    /// An agent runs there.
    InUse,
    /// One line that names the folder.
    Problem(String),
}

impl DataDir {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// One line that names the folder, or another agent runs there.
    pub(crate) fn open(path: &Path) -> Result<Self, NoDataDir> {
        let lock = Self::lock_file(path).map_err(NoDataDir::Problem)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock: Arc::new(lock),
            }),
            Err(fs::TryLockError::WouldBlock) => Err(NoDataDir::InUse),
            Err(fs::TryLockError::Error(error)) => Err(NoDataDir::Problem(format!(
                "data folder {} cannot be locked: {error}",
                path.display()
            ))),
        }
    }

    fn lock_file(path: &Path) -> Result<File, String> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| {
                format!("data folder {shown} cannot be made ({error}): see --data-dir")
            })?;
        let lock_path = path.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| {
                format!("data folder {shown} cannot be written ({error}): run as root")
            })
    }

    /// To be held on.
    pub(crate) fn lock(&self) -> Lock {
        Lock(Arc::clone(&self.lock))
    }

    /// Path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Replaces `path` by `bytes`: whole or not at all, readable by the owner only.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fail = |error: io::Error| {
        format!(
            "{} cannot be written ({error}): is the disk full?",
            path.display()
        )
    };
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)?;
    // The rename itself must survive a power cut too.
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fail)?;
    }
    Ok(())
}

/// The whole file, or `None` if it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folder_is_private_and_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let Err(error) = DataDir::open(&path) else {
            panic!("taken twice")
        };
        assert!(matches!(error, NoDataDir::InUse), "{error:?}");
        // Whoever comes next waits until the last of the one before is gone.
        let last = first.lock();
        drop(first);
        assert!(DataDir::open(&path).is_err());
        drop(last);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn replacing_keeps_the_file_private_and_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one, and longer").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "no temporary is left"
        );
    }
}
