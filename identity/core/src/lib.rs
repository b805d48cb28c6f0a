//! What the identity service decides, without clock, network, disk or threads.
//!
//! - [`authority`]: one root, an issuing authority under it, leaves below that.
//! - [`token`] and [`registry`]: who may become a node. A join token is good once, for one node; after
//!   that the node's key is its ticket, as long as its Node object is there.
//! - [`directory`]: which pod runs where, who listens for which, and what they must hear.
//! - [`issue`]: whose CSR is signed as what. A workload's, only for the node on which the directory
//!   has the pod.
//! - [`ledger`]: the latest SVID of everybody.
//!
//! Time comes in as an argument; randomness comes in as [`signet_crypto::random::Random`], except for
//! key pairs, which AWS-LC makes.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod authority;
pub mod cluster;
pub mod directory;
pub mod issue;
pub mod ledger;
pub mod registry;
pub mod token;

use std::time::Duration;

use rustls_pki_types::UnixTime;

/// `time` in Unix milliseconds.
#[must_use]
pub fn unix_ms(time: UnixTime) -> u64 {
    time.as_secs().saturating_mul(1000)
}

/// Unix milliseconds as time, to the second.
#[must_use]
pub fn from_unix_ms(ms: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(ms))
}

pub(crate) fn later(time: UnixTime, by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs()).saturating_add(by))
}

pub(crate) fn earlier(time: UnixTime, by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs()).saturating_sub(by))
}
