//! What is remembered of nodes that came in.

use rustls_pki_types::UnixTime;

use crate::{cluster::NodeUid, unix_ms};

/// A node that attested, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// `metadata.name` when it last came.
    pub name: String,
    /// SHA-256 of the key it was certified with last.
    pub key: [u8; 32],
    /// The one before, in case the answer with the last certificate never arrived.
    pub previous_key: Option<[u8; 32]>,
    /// When it first came in with a token, Unix milliseconds.
    pub attested_ms: u64,
    /// When its latest SVID was issued, Unix milliseconds.
    pub issued_ms: u64,
    /// End of validity of that SVID, Unix milliseconds.
    pub not_after_ms: u64,
}

impl NodeRecord {
    /// A node that came in by a token. What was known of its earlier keys is void.
    #[must_use]
    pub fn attested(name: &str, key: [u8; 32], now: UnixTime, not_after: UnixTime) -> Self {
        Self {
            name: name.to_owned(),
            key,
            previous_key: None,
            attested_ms: unix_ms(now),
            issued_ms: unix_ms(now),
            not_after_ms: unix_ms(not_after),
        }
    }

    /// The same node with a new SVID, and perhaps a new key.
    #[must_use]
    pub fn renewed(&self, name: &str, key: [u8; 32], now: UnixTime, not_after: UnixTime) -> Self {
        let previous_key = if key == self.key {
            self.previous_key
        } else {
            Some(self.key)
        };
        Self {
            name: name.to_owned(),
            key,
            previous_key,
            attested_ms: self.attested_ms,
            issued_ms: unix_ms(now),
            not_after_ms: unix_ms(not_after),
        }
    }

    /// Whether this node was certified with `key`. A CSR shows that its sender holds the key, and what
    /// is signed for it is of no use to anybody else.
    #[must_use]
    pub fn knows(&self, key: &[u8; 32]) -> bool {
        self.key == *key || self.previous_key.as_ref() == Some(key)
    }
}

/// Why a node may not come in, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeRefusal {
    /// No Node object of that name.
    #[error("node {name} is not in the manifests; add its Node object")]
    UnknownName {
        /// As it was asked.
        name: String,
    },
    /// No Node object of that UID (any more).
    #[error("node {uid} is not in the manifests any more; add its Node object, or stop its agent")]
    Gone {
        /// Whose certificate it is.
        uid: NodeUid,
    },
    /// It never came in with a token.
    #[error(
        "node {name} has not joined yet; make a token with `signetctl token create --node {name}`"
    )]
    NeverJoined {
        /// As it was asked.
        name: String,
    },
    /// It came in with another key.
    #[error(
        "node {name} joined with another key than this; if its data directory was lost, make a \
         token with `signetctl token create --node {name}`"
    )]
    OtherKey {
        /// As it was asked.
        name: String,
    },
}

impl NodeRefusal {
    /// One word, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownName { .. } => "unknown_node",
            Self::Gone { .. } => "node_gone",
            Self::NeverJoined { .. } => "never_joined",
            Self::OtherKey { .. } => "other_key",
        }
    }
}

/// Whether the node `name` may come back with `key` alone.
///
/// # Errors
/// Why not.
pub fn readmit<'a>(
    record: Option<&'a NodeRecord>,
    name: &str,
    key: &[u8; 32],
) -> Result<&'a NodeRecord, NodeRefusal> {
    let name = name.to_owned();
    match record {
        None => Err(NodeRefusal::NeverJoined { name }),
        Some(record) if record.knows(key) => Ok(record),
        Some(_) => Err(NodeRefusal::OtherKey { name }),
    }
}
