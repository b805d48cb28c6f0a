//! How many changes the store has seen, written down a second time outside of it.
//!
//! The database keeps its last two states, and takes the older one if the newer looks torn. After a
//! crash that is right: nobody was told of the newer one. After damage, or with an old backup in its
//! place, it would silently make used join tokens good again. This number tells the two apart.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::StoreError;

/// The file that is locked by the running service, and holds the number as decimal text.
pub(super) struct Commits {
    path: PathBuf,
    file: File,
    noted: Mutex<u64>,
}

impl Commits {
    /// Locks the data folder: two services on one store would each consume the same token.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("identity.lock");
        let io = |source| StoreError::Io {
            path: path.clone(),
            source,
            fix: "check --data-dir and its permissions",
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: dir.to_path_buf(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut text = [0; WIDTH];
        let length = read_up_to(&file, &mut text).map_err(io)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let noted = match text.trim() {
            // Made, and nothing written yet: as if it was not there.
            "" => 0,
            number => number
                .parse()
                .map_err(|_| StoreError::Uncounted { lock: path.clone() })?,
        };
        Ok(Self {
            path,
            file,
            noted: Mutex::new(noted),
        })
    }

    /// Whether a store that has seen `commits` changes has all that it ever had.
    pub(super) fn check(&self, store: &Path, commits: u64) -> Result<(), StoreError> {
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.checked_sub(commits) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(StoreError::Behind {
                path: store.to_path_buf(),
                lock: self.path.clone(),
                missing,
            }),
        }
    }

    /// Writes down that the store has seen `commits` changes. Calls may come out of order.
    pub(super) fn note(&self, commits: u64) -> io::Result<()> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if commits > *noted {
            // One write of fixed length within one sector: it is there or not.
            let text = format!("{commits:0width$}\n", width = WIDTH - 1);
            self.file.write_all_at(text.as_bytes(), 0)?;
            self.file.sync_data()?;
            *noted = commits;
        }
        Ok(())
    }
}

/// Digits of the largest number, and a line feed.
const WIDTH: usize = 21;

fn read_up_to(file: &File, out: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < out.len() {
        match file.read_at(&mut out[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}
