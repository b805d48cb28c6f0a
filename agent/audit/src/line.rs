//! The lines of a log: four kinds, one encoding.
//!
//! A line is a JSON object (RFC 8259) and a line feed. It is canonical: the fields in the order of
//! the types below, no white space, what is absent left out, and no escapes but those that JSON
//! demands. Whoever parses a line and writes it again has the same bytes, or it was no line.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use signet_crypto::spiffe_id::SpiffeId;

use crate::record::Facts;

/// The version of the format in headers.
pub const VERSION: u32 = 1;
/// The longest line, in bytes, its line feed included.
pub const MAX_LINE: usize = 64 << 10;

/// Bytes that are written as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A SHA-256.
pub type Hash = Hex<32>;

impl Hash {
    /// What the first line of a log names as the line before it.
    pub const NONE: Self = Hex([0; 32]);

    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Hex(hash)
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| D::Error::custom(format!("not {N} bytes in hex")))?;
        Ok(Self(bytes))
    }
}

/// A DER certificate that is written as base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate(pub Vec<u8>);

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Certificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let der = STANDARD
            .decode(text)
            .map_err(|_| D::Error::custom("no base64"))?;
        Ok(Self(der))
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// The first line of a segment: whose log it is, and whose key signs it.
    Header(Box<Header>),
    /// Something happened.
    Record(Box<Record>),
    /// A signature over everything before.
    Batch(Batch),
    /// A signature that makes sense on its own, to be kept where the log's keeper cannot reach.
    Checkpoint(Box<Checkpoint>),
}

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Number of the line in the log, from 1.
    pub seq: u64,
    /// SHA-256 of the line before, without its line feed. In a header that is the last line of the
    /// former segment.
    pub prev: Hash,
    /// Wall time, Unix milliseconds, anchored to the identity service.
    pub wall_ms: u64,
    /// Milliseconds since the node booted, suspend included.
    pub boot_ms: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Number of the segment, from 1.
    pub segment: u64,
    /// SPIFFE ID of the node.
    pub node: SpiffeId,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The Ed25519 key that signs this segment.
    pub key: Hex<32>,
    /// The node's SVID, leaf first, DER in base64.
    pub certificates: Vec<Certificate>,
    /// By the SVID's key, over the line up to this field.
    #[serde(with = "hex_bytes")]
    pub signature: Vec<u8>,
}

/// A record: its place, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the line in the log.
    pub seq: u64,
    /// SHA-256 of the line before.
    pub prev: Hash,
    /// Wall time of the event, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot time of the event, milliseconds.
    pub boot_ms: u64,
    /// SPIFFE ID of the node.
    pub node: SpiffeId,
    /// The kernel's boot id.
    pub boot_id: String,
    /// What happened.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A signature over all lines up to the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Number of the line in the log.
    pub seq: u64,
    /// SHA-256 of the line before, and so of everything before.
    pub prev: Hash,
    /// Wall time of the signature, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot time of the signature, milliseconds.
    pub boot_ms: u64,
    /// By the log's key, over the line up to this field.
    pub signature: Hex<64>,
}

/// As [`Batch`], with what it takes to be understood away from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Number of the line in the log.
    pub seq: u64,
    /// SHA-256 of the line before, and so of everything before.
    pub prev: Hash,
    /// Wall time of the signature, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot time of the signature, milliseconds.
    pub boot_ms: u64,
    /// SPIFFE ID of the node.
    pub node: SpiffeId,
    /// The log's key.
    pub key: Hex<32>,
    /// By the log's key, over the line up to this field.
    pub signature: Hex<64>,
}

/// Why some bytes are no line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    /// Not JSON, or not of one of the four kinds.
    #[error("it is no line of an audit log: {0}")]
    Malformed(String),
    /// It says the same as a line would, but in other bytes.
    #[error("it is not in canonical form")]
    NotCanonical,
}

impl Line {
    /// The line without its line feed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Nothing in these types fails to be written; an empty line would be refused by whoever reads.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A line without its line feed, read.
    ///
    /// # Errors
    /// When it is not exactly what [`Line::encode`] would write.
    pub fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        if bytes.len() >= MAX_LINE {
            return Err(LineError::TooLong);
        }
        let line: Self = serde_json::from_slice(bytes)
            .map_err(|error| LineError::Malformed(error.to_string()))?;
        if line.encode() == bytes {
            Ok(line)
        } else {
            Err(LineError::NotCanonical)
        }
    }

    /// Number of the line in the log.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Header(header) => header.seq,
            Self::Record(record) => record.seq,
            Self::Batch(batch) => batch.seq,
            Self::Checkpoint(checkpoint) => checkpoint.seq,
        }
    }

    /// The hash of the line before.
    #[must_use]
    pub fn prev(&self) -> Hash {
        match self {
            Self::Header(header) => header.prev,
            Self::Record(record) => record.prev,
            Self::Batch(batch) => batch.prev,
            Self::Checkpoint(checkpoint) => checkpoint.prev,
        }
    }

    /// When it was made, Unix milliseconds.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        match self {
            Self::Header(header) => header.wall_ms,
            Self::Record(record) => record.wall_ms,
            Self::Batch(batch) => batch.wall_ms,
            Self::Checkpoint(checkpoint) => checkpoint.wall_ms,
        }
    }
}

/// What a signature is over: the line before its last field. `None` if the line has no signature.
#[must_use]
pub fn signed_part(line: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b",\"signature\":\"";
    let at = line
        .windows(MARK.len())
        .rposition(|window| window == MARK)?;
    line.get(..at)
}

mod hex_bytes {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(|_| D::Error::custom("no hex"))
    }
}
