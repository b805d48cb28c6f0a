//! Join tokens: how a node comes in for the first time.
//!
//! A token is 32 random bytes, good once, for one node, until it expires. At rest there is its hash
//! only. Consuming it and recording the node's key must be one transaction of the store: [`consume`]
//! says what that transaction writes.

use std::{fmt, time::Duration};

use rustls_pki_types::UnixTime;
use sha2::{Digest, Sha256};
use signet_crypto::random::Random;
use zeroize::Zeroizing;

use crate::{cluster::NodeUid, from_unix_ms, later, unix_ms};

/// What every token begins with, so that one found in a log or a repository is recognised.
const PREFIX: &str = "signet-join-";
/// Validity of a token unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// The longest validity.
pub const MAX_TTL: Duration = Duration::from_secs(86_400);
/// A used or expired token is remembered this long, so that whoever tries it hears what is wrong.
pub const MEMORY: Duration = Duration::from_secs(7 * 86_400);

/// A join token, secret until it is used.
pub struct JoinToken(Zeroizing<String>);

impl JoinToken {
    /// A fresh one.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut *bytes);
        Self(Zeroizing::new(format!("{PREFIX}{}", hex::encode(*bytes))))
    }

    /// A presented one; surrounding white space, as files have it, is ignored.
    ///
    /// # Errors
    /// When it is not of a token's form.
    pub fn parse(text: &str) -> Result<Self, TokenRefusal> {
        let text = text.trim();
        let fine = |hex: &str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !text.strip_prefix(PREFIX).is_some_and(fine) {
            return Err(TokenRefusal::Malformed);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The text to hand out, once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How it is known to the store. Looking a token up by its hash takes the same time whatever part
    /// of it was guessed.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

/// What the store keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// `metadata.name` of the only node that may use it.
    pub node: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// When it stops to be valid, Unix milliseconds.
    pub expires_ms: u64,
    /// Whether and by whom it was used.
    pub used: Option<Use>,
}

/// The one use of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// `metadata.uid` of the node.
    pub node: NodeUid,
}

impl TokenRecord {
    /// A record for a token made `now` for `node`, valid for `ttl`.
    ///
    /// # Errors
    /// When `ttl` is nothing or beyond [`MAX_TTL`].
    pub fn new(node: &str, now: UnixTime, ttl: Duration) -> Result<Self, TokenRefusal> {
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(TokenRefusal::Ttl {
                seconds: ttl.as_secs(),
            });
        }
        Ok(Self {
            node: node.to_owned(),
            created_ms: unix_ms(now),
            expires_ms: unix_ms(later(now, ttl)),
            used: None,
        })
    }

    /// Whether it still waits for its node.
    #[must_use]
    pub fn is_open(&self, now: UnixTime) -> bool {
        self.used.is_none() && unix_ms(now) < self.expires_ms
    }

    /// Whether nobody needs to hear of it any more.
    #[must_use]
    pub fn is_forgotten(&self, now: UnixTime) -> bool {
        later(from_unix_ms(self.expires_ms), MEMORY) < now
    }
}

/// What becomes of `record` when the node `name` with `uid` uses its token `now`.
///
/// # Errors
/// Why the token is refused. The record then stays as it is.
pub fn consume(
    record: Option<&TokenRecord>,
    name: &str,
    uid: &NodeUid,
    now: UnixTime,
) -> Result<TokenRecord, TokenRefusal> {
    let Some(record) = record else {
        return Err(TokenRefusal::Unknown);
    };
    // Before use and expiry: whoever holds a token of another node learns nothing more about it.
    if record.node != name {
        return Err(TokenRefusal::OtherNode {
            asked: name.to_owned(),
        });
    }
    if let Some(used) = &record.used {
        return Err(TokenRefusal::Used {
            node: name.to_owned(),
            at_ms: used.at_ms,
        });
    }
    if unix_ms(now) >= record.expires_ms {
        let seconds = (unix_ms(now) - record.expires_ms) / 1000;
        return Err(TokenRefusal::Expired {
            node: name.to_owned(),
            seconds,
        });
    }
    let used = Use {
        at_ms: unix_ms(now),
        node: uid.clone(),
    };
    Ok(TokenRecord {
        used: Some(used),
        ..record.clone()
    })
}

/// Why a token is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not of a token's form.
    #[error("join token is malformed; pass the whole line that `signetctl token create` printed")]
    Malformed,
    /// No such token.
    #[error("join token is not known here; make one with `signetctl token create --node NAME`")]
    Unknown,
    /// For another node.
    #[error(
        "join token is not for node {asked}; make one with `signetctl token create --node {asked}`"
    )]
    OtherNode {
        /// Who tried.
        asked: String,
    },
    /// Used before.
    #[error(
        "join token of node {node} was used before; make another with \
         `signetctl token create --node {node}`, and find out who used it if that was not you"
    )]
    Used {
        /// Whose it was.
        node: String,
        /// When it was used, Unix milliseconds.
        at_ms: u64,
    },
    /// Too late.
    #[error(
        "join token of node {node} expired {seconds} s ago; make another with \
         `signetctl token create --node {node}`"
    )]
    Expired {
        /// Whose it was.
        node: String,
        /// How long ago.
        seconds: u64,
    },
    /// A validity that is not allowed.
    #[error("a join token may be valid for 1 to 86400 seconds, not {seconds}")]
    Ttl {
        /// What was asked.
        seconds: u64,
    },
}

impl TokenRefusal {
    /// One word, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::OtherNode { .. } => "other_node",
            Self::Used { .. } => "used",
            Self::Expired { .. } => "expired",
            Self::Ttl { .. } => "ttl",
        }
    }
}
