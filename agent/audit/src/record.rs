//! What a record says.
//!
//! Never keys, preshared keys or labels: of WireGuard's public keys there is a SHA-256, of a
//! channel the session id, which is a hash of its exporter.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use signet_crypto::spiffe_id::SpiffeId;

use crate::line::Hash;

/// The longest text in a record, in bytes.
pub const MAX_TEXT: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Both ends of a pair are proven, and both directions are granted.
    Opened,
    /// The grant goes on: renewed certificates, or another channel.
    Renewed,
    /// The pair is over.
    Closed,
    /// A destination was refused to a local pod.
    Refused,
    /// A question of another node about a pair was refused.
    RequestRefused,
    /// A proof that another node brought was not believed.
    ProofRejected,
    /// The agent started, or could write again.
    Started,
    /// The agent stopped when it was told to.
    Stopped,
    /// After a crash: what was not signed yet was cut off.
    Recovered,
    /// What is in the log at the start is not what the agent had written.
    Damaged,
    /// Records that could not be written.
    Lost,
    /// Refusals beyond the rate that is recorded.
    Suppressed,
    /// The oldest segments were removed to keep the log within its size.
    Pruned,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Opened,
        Self::Renewed,
        Self::Closed,
        Self::Refused,
        Self::RequestRefused,
        Self::ProofRejected,
        Self::Started,
        Self::Stopped,
        Self::Recovered,
        Self::Damaged,
        Self::Lost,
        Self::Suppressed,
        Self::Pruned,
    ];

    /// As it stands in a record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Renewed => "renewed",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::RequestRefused => "request_refused",
            Self::ProofRejected => "proof_rejected",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Recovered => "recovered",
            Self::Damaged => "damaged",
            Self::Lost => "lost",
            Self::Suppressed => "suppressed",
            Self::Pruned => "pruned",
        }
    }

    /// What it means, for the documents.
    #[must_use]
    pub fn explain(self) -> &'static str {
        match self {
            Self::Opened => "both ends of a pair are proven, and both directions are granted",
            Self::Renewed => "the grant goes on: renewed certificates, or another channel or epoch",
            Self::Closed => "the pair is over; `reason` says why",
            Self::Refused => "a destination was refused to a local pod for a while",
            Self::RequestRefused => "a question of another node about a pair was refused",
            Self::ProofRejected => "a proof that another node brought was not believed",
            Self::Started => "the agent started",
            Self::Stopped => "the agent stopped when it was told to",
            Self::Recovered => {
                "after a crash, lines that were not signed yet were cut off; `count` says how many"
            }
            Self::Damaged => {
                "the agent found at its start that the log was not what it had written; it left it so and began a new segment"
            }
            Self::Lost => "`count` records could not be written, for example to a full disk",
            Self::Suppressed => "`count` refusals came faster than they are recorded",
            Self::Pruned => {
                "segments up to line `through` were removed to keep the log within its size"
            }
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They may talk.
    Allowed,
    /// They may not.
    Refused,
    /// They may no longer.
    Ended,
}

impl Verdict {
    /// As it stands in a record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

/// This node's side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It dialled.
    Client,
    /// It accepted.
    Server,
}

/// One end of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// SPIFFE ID.
    pub id: Option<SpiffeId>,
    /// Pod UID.
    pub pod: String,
    /// SHA-256 of the leaf certificate.
    pub certificate: Option<Hash>,
    /// SHA-256 of the node's WireGuard public key.
    pub wireguard: Option<Hash>,
}

/// What a record says beside its place; what is absent is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What happened.
    pub event: Event,
    /// Session id of the node channel: the same in the logs of both nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Hash>,
    /// This node's side of that channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// SPIFFE ID of the local workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_id: Option<SpiffeId>,
    /// UID of the local pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub local_pod: String,
    /// SHA-256 of the certificate that proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_certificate: Option<Hash>,
    /// SPIFFE ID of the remote workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<SpiffeId>,
    /// UID of the remote pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_pod: String,
    /// SHA-256 of the certificate that proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_certificate: Option<Hash>,
    /// SPIFFE ID of the remote node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_node: Option<SpiffeId>,
    /// The address that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<IpAddr>,
    /// Key exchange of the channel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_exchange: String,
    /// Cipher suite of the channel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cipher: String,
    /// Epoch of the WireGuard keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// SHA-256 of the local node's WireGuard public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_wireguard: Option<Hash>,
    /// SHA-256 of the remote node's WireGuard public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_wireguard: Option<Hash>,
    /// End of the grant, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why, one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Lines cut off, records lost, refusals suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The last line that was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
}

impl Facts {
    /// An event and nothing else.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self {
            event,
            session_id: None,
            role: None,
            local_id: None,
            local_pod: String::new(),
            local_certificate: None,
            remote_id: None,
            remote_pod: String::new(),
            remote_certificate: None,
            remote_node: None,
            remote_address: None,
            key_exchange: String::new(),
            cipher: String::new(),
            epoch: None,
            local_wireguard: None,
            remote_wireguard: None,
            not_after: None,
            verdict: None,
            reason: String::new(),
            count: None,
            through: None,
        }
    }

    /// As [`Facts::new`], with a count and a reason.
    #[must_use]
    pub fn counted(event: Event, count: u64, reason: &str) -> Self {
        Self {
            count: Some(count),
            reason: one_line(reason),
            ..Self::new(event)
        }
    }

    /// Sets the local end.
    #[must_use]
    pub fn local(self, end: End) -> Self {
        Self {
            local_id: end.id,
            local_pod: one_line(&end.pod),
            local_certificate: end.certificate,
            local_wireguard: end.wireguard,
            ..self
        }
    }

    /// Sets the remote end.
    #[must_use]
    pub fn remote(self, end: End) -> Self {
        Self {
            remote_id: end.id,
            remote_pod: one_line(&end.pod),
            remote_certificate: end.certificate,
            remote_wireguard: end.wireguard,
            ..self
        }
    }

    /// Sets the verdict and its reason.
    #[must_use]
    pub fn decided(self, verdict: Verdict, reason: &str) -> Self {
        Self {
            verdict: Some(verdict),
            reason: one_line(reason),
            ..self
        }
    }
}

/// Text as it may stand in a record: printable, and at most [`MAX_TEXT`] bytes.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        let character = if character.is_control() {
            ' '
        } else {
            character
        };
        if line.len() + character.len_utf8() > MAX_TEXT {
            break;
        }
        line.push(character);
    }
    line
}
