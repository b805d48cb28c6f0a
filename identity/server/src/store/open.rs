//! Opening the store without harming it: it is checked in a copy in memory before it is touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    panic,
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    backends::{FileBackend, InMemoryBackend},
};
use rustls_pki_types::UnixTime;
use signet_crypto::spiffe_id::TrustDomain;
use signet_identity_core::authority::Authorities;
use zeroize::Zeroizing;

use super::{
    NODES, Store, StoreError, TOKENS,
    commits::Commits,
    rows::{self, NUMBERS, TEXTS, VERSION},
};

/// Name of the store in the data folder.
const FILE: &str = "identity.redb";
/// What the store's own cache may take, in bytes.
const CACHE: usize = 16 << 20;

/// An open store and what it held.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) authorities: Authorities,
    /// How many times the service has been started with this store, this time included.
    pub(crate) run: u32,
    /// Whether the store was made just now.
    pub(crate) fresh: bool,
}

/// Opens the store in `dir`, or makes a new one there.
pub(crate) fn open(
    dir: &Path,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Opened, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StoreError::Io {
            path: dir.to_path_buf(),
            source,
            fix: "check --data-dir and its permissions",
        })?;
    let commits = Commits::open(dir)?;
    let path = dir.join(FILE);
    let fresh = !path.exists();
    if fresh {
        create(&path, trust_domain, now)?;
    }
    check_mode(&path)?;
    let (authorities, seen) = examine(&path, trust_domain)?;
    commits.check(&path, seen)?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .open(&path)
        .map_err(|error| damaged(&path, error))?;
    let store = Store {
        path,
        database,
        commits,
    };
    let run = store.count_run()?;
    Ok(Opened {
        store,
        authorities,
        run,
        fresh,
    })
}

/// Makes a store beside its place and renames it there, so that a crash in between leaves none.
fn create(path: &Path, trust_domain: &TrustDomain, now: UnixTime) -> Result<(), StoreError> {
    let beside = path.with_extension("redb.new");
    let io = |source| StoreError::Io {
        path: beside.clone(),
        source,
        fix: "check --data-dir, its permissions and the space on its disk",
    };
    let authorities = Authorities::generate(trust_domain, now)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io)?;
    let fill = || -> Result<(), redb::Error> {
        let backend = FileBackend::new(file)?;
        let database = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(backend)?;
        let txn = database.begin_write()?;
        txn.open_table(TEXTS)?
            .insert("trust_domain", trust_domain.as_str())?;
        txn.open_table(NUMBERS)?.insert("version", VERSION)?;
        txn.open_table(TOKENS)?;
        txn.open_table(NODES)?;
        rows::put_authorities(&txn, &authorities)?;
        txn.commit()?;
        Ok(())
    };
    fill().map_err(|error| StoreError::Failed {
        path: beside.clone(),
        what: error.to_string(),
    })?;
    fs::rename(&beside, path).map_err(io)?;
    // The rename itself must last, or a token could be consumed in a store that is then gone.
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

fn check_mode(path: &Path) -> Result<(), StoreError> {
    let data = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let mode = data.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Mode {
            path: path.to_path_buf(),
            mode,
        });
    }
    Ok(())
}

/// Reads everything in a copy of the store: opening the file itself may write to it.
fn examine(path: &Path, trust_domain: &TrustDomain) -> Result<(Authorities, u64), StoreError> {
    let bytes = Zeroizing::new(fs::read(path).map_err(|source| unreadable(path, source))?);
    let _guard = PanicGuard::new(path);
    let look = || -> Result<Result<(Authorities, u64), StoreError>, redb::Error> {
        let copy = InMemoryBackend::new();
        copy.set_len(bytes.len() as u64).map_err(redb::Error::Io)?;
        copy.write(0, &bytes).map_err(redb::Error::Io)?;
        let mut database = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(copy)?;
        // Walks every page and checks its sum. False says that something was mended, as after a
        // process that was killed.
        database.check_integrity()?;
        read_all(path, &database, trust_domain)
    };
    if bytes.is_empty() {
        return Err(damaged(path, "it is empty"));
    }
    look().map_err(|error| damaged(path, error))?
}

fn read_all(
    path: &Path,
    database: &Database,
    trust_domain: &TrustDomain,
) -> Result<Result<(Authorities, u64), StoreError>, redb::Error> {
    let path = path.to_path_buf();
    let txn = database.begin_read()?;
    let numbers = txn.open_table(NUMBERS)?;
    let number = |name: &str| Ok::<_, redb::Error>(numbers.get(name)?.map(|row| row.value()));
    let found = number("version")?.unwrap_or_default();
    if found != VERSION {
        return Ok(Err(StoreError::Version {
            path,
            found,
            known: VERSION,
        }));
    }
    let texts = txn.open_table(TEXTS)?;
    let found = texts
        .get("trust_domain")?
        .map(|row| row.value().to_owned())
        .unwrap_or_default();
    if found != trust_domain.as_str() {
        let wanted = trust_domain.to_string();
        return Ok(Err(StoreError::TrustDomain {
            path,
            found,
            wanted,
        }));
    }
    for row in txn.open_table(TOKENS)?.iter()? {
        rows::token(row?.1.value());
    }
    for row in txn.open_table(NODES)?.iter()? {
        rows::node(row?.1.value());
    }
    let sequence = number("bundle_sequence")?.unwrap_or_default();
    let Some(records) = rows::authorities(&txn)? else {
        return Ok(Err(damaged(
            &path,
            "an authority has an unknown role or state",
        )));
    };
    let restored = Authorities::restore(trust_domain, records, sequence);
    let commits = number("commits")?.unwrap_or_default();
    Ok(restored
        .map(|it| (it, commits))
        .map_err(|error| damaged(&path, error)))
}

impl Store {
    fn count_run(&self) -> Result<u32, StoreError> {
        let mut run = 0;
        self.write(|txn| {
            let mut numbers = txn.open_table(NUMBERS)?;
            run = numbers.get("runs")?.map_or(0, |row| row.value()) + 1;
            numbers.insert("runs", run)?;
            Ok(())
        })?;
        Ok(u32::try_from(run).unwrap_or(u32::MAX))
    }
}

fn unreadable(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_path_buf(),
        source,
        fix: "check its permissions",
    }
}

fn damaged(path: &Path, what: impl ToString) -> StoreError {
    StoreError::Damaged {
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

/// The database library panics on some damage, and a panic is no message for an operator. While this
/// is alive, a panic says what is wrong in one line and ends the process.
struct PanicGuard;

impl PanicGuard {
    fn new(path: &Path) -> Self {
        let path = PathBuf::from(path);
        panic::set_hook(Box::new(move |_| {
            let line = damaged(&path, "its pages contradict each other");
            let _ = writeln!(io::stderr(), "signet-identity: error: {line}");
            std::process::exit(1);
        }));
        Self
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        let _ = panic::take_hook();
    }
}
