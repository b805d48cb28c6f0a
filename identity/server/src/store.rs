//! What outlives the process: authorities, join tokens, nodes. One `redb` file with mode 0600.

mod commits;
mod open;
mod rows;

use std::{collections::BTreeMap, path::PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, WriteTransaction};
use rustls_pki_types::UnixTime;
use signet_identity_core::{
    authority::Authorities,
    cluster::NodeUid,
    registry::NodeRecord,
    token::{TokenHash, TokenRecord},
};

use self::{
    commits::Commits,
    rows::{NODES, TOKENS},
};

pub(crate) use open::{Opened, open};

/// The open store.
pub(crate) struct Store {
    path: PathBuf,
    database: Database,
    commits: Commits,
}

/// Why the store cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The folder or a file in it.
    #[error("{path}: {source}; {fix}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
        fix: &'static str,
    },
    #[error(
        "data folder {path} is in use by another signet-identity; stop that, or use another \
         --data-dir",
        path = path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "store {path} has mode {mode:04o}, but it holds the authorities' keys; find out who read \
         it, then chmod 600 {path}",
        path = path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "store {path} is damaged ({what}) and was left as it is; put a backup in its place, or move \
         it away to start with new authorities, which every node must then join anew",
        path = path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "store {path} lacks its last {missing} changes, so it is damaged or a backup, and was left as \
         it is; put a newer backup in its place, or remove {lock} to go on without them: join tokens \
         used since then would be good again",
        path = path.display(),
        lock = lock.display()
    )]
    Behind {
        path: PathBuf,
        lock: PathBuf,
        missing: u64,
    },
    #[error(
        "{lock} is damaged (it holds no number of changes), so nobody can tell whether the store \
         beside it is a backup; if it is not, remove {lock}",
        lock = lock.display()
    )]
    Uncounted { lock: PathBuf },
    #[error(
        "store {path} has format {found}, and this program knows format {known} only; run the \
         version that wrote it",
        path = path.display()
    )]
    Version {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    #[error(
        "store {path} is of trust domain {found}, not {wanted}; correct --trust-domain, or use \
         another --data-dir",
        path = path.display()
    )]
    TrustDomain {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    /// At run time: the disk, mostly.
    #[error("store {path} cannot be used: {what}; check the disk", path = path.display())]
    Failed { path: PathBuf, what: String },
    #[error("authorities cannot be made: {0}")]
    Authority(#[from] signet_identity_core::authority::AuthorityError),
}

impl Store {
    /// Puts `authorities` in place of those stored.
    pub(crate) fn save_authorities(&self, authorities: &Authorities) -> Result<(), StoreError> {
        self.write(|txn| {
            rows::put_authorities(txn, authorities)?;
            Ok(())
        })
    }

    /// Keeps a new token.
    pub(crate) fn add_token(
        &self,
        hash: TokenHash,
        record: &TokenRecord,
    ) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.open_table(TOKENS)?
                .insert(&hash.0, rows::token_row(record))?;
            Ok(())
        })
    }

    /// What is known of a token.
    pub(crate) fn token(&self, hash: TokenHash) -> Result<Option<TokenRecord>, StoreError> {
        self.read(|txn| {
            Ok(txn
                .open_table(TOKENS)?
                .get(&hash.0)?
                .map(|row| rows::token(row.value())))
        })
    }

    /// Consumes a token and records the node that used it, both or neither: `decide` sees the token
    /// as no other transaction can change it meanwhile, and says what becomes of both.
    pub(crate) fn join<T, E>(
        &self,
        hash: TokenHash,
        node: &NodeUid,
        decide: impl FnOnce(Option<&TokenRecord>) -> Result<(TokenRecord, NodeRecord, T), E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.decide(|txn| {
            let mut tokens = txn.open_table(TOKENS)?;
            let record = tokens.get(&hash.0)?.map(|row| rows::token(row.value()));
            let (token, record, value) = match decide(record.as_ref()) {
                Ok(decided) => decided,
                Err(refusal) => return Ok(Err(refusal)),
            };
            tokens.insert(&hash.0, rows::token_row(&token))?;
            txn.open_table(NODES)?
                .insert(&*node.0, rows::node_row(&record))?;
            Ok(Ok(value))
        })
    }

    /// Changes what is known of a node, in one transaction.
    pub(crate) fn update_node<T, E>(
        &self,
        node: &NodeUid,
        decide: impl FnOnce(Option<&NodeRecord>) -> Result<(NodeRecord, T), E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.decide(|txn| {
            let mut nodes = txn.open_table(NODES)?;
            let record = nodes.get(&*node.0)?.map(|row| rows::node(row.value()));
            let (record, value) = match decide(record.as_ref()) {
                Ok(decided) => decided,
                Err(refusal) => return Ok(Err(refusal)),
            };
            nodes.insert(&*node.0, rows::node_row(&record))?;
            Ok(Ok(value))
        })
    }

    /// Every node that ever joined.
    pub(crate) fn nodes(&self) -> Result<BTreeMap<NodeUid, NodeRecord>, StoreError> {
        self.read(|txn| {
            let mut nodes = BTreeMap::new();
            for row in txn.open_table(NODES)?.iter()? {
                let (uid, record) = row?;
                nodes.insert(NodeUid::from(uid.value()), rows::node(record.value()));
            }
            Ok(nodes)
        })
    }

    /// How many tokens wait for each node, by name.
    pub(crate) fn open_tokens(&self, now: UnixTime) -> Result<BTreeMap<String, u32>, StoreError> {
        self.read(|txn| {
            let mut open = BTreeMap::new();
            for row in txn.open_table(TOKENS)?.iter()? {
                let record = rows::token(row?.1.value());
                if record.is_open(now) {
                    *open.entry(record.node).or_insert(0) += 1;
                }
            }
            Ok(open)
        })
    }

    /// Forgets tokens that nobody needs to hear of any more.
    pub(crate) fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.open_table(TOKENS)?
                .retain(|_, row| !rows::token(row).is_forgotten(now))?;
            Ok(())
        })
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let begin = self.database.begin_read().map_err(redb::Error::from);
        begin
            .and_then(|txn| look(&txn))
            .map_err(|error| self.failed(&error))
    }

    fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        match self.decide(|txn| change(txn).map(Ok::<(), std::convert::Infallible>))? {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        }
    }

    /// A transaction that is committed only if `change` neither fails nor refuses.
    fn decide<T, E>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<Result<T, E>, redb::Error>,
    ) -> Result<Result<T, E>, StoreError> {
        let run = || -> Result<Result<T, E>, redb::Error> {
            let txn = self.database.begin_write()?;
            match change(&txn)? {
                Ok(value) => {
                    let number = rows::count_commit(&txn)?;
                    txn.commit()?;
                    // Before anybody hears of it: what was said to be done must not get lost unseen.
                    self.commits.note(number)?;
                    Ok(Ok(value))
                }
                Err(refusal) => {
                    txn.abort()?;
                    Ok(Err(refusal))
                }
            }
        };
        run().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &redb::Error) -> StoreError {
        StoreError::Failed {
            path: self.path.clone(),
            what: error.to_string(),
        }
    }
}
