//! Where a log stands, and its next line.
//!
//! A [`Chain`] only makes lines. Whoever writes them to a file and fails goes back to the last
//! [`Position`] that is known to be there, so that the log has no hole.

use signet_crypto::{
    spiffe_id::SpiffeId,
    svid::{SvidError, X509Svid},
};

use crate::{
    key::SigningKey,
    line::{Batch, Certificate, Checkpoint, Hash, Header, Hex, Line, Record, VERSION, signed_part},
    record::Facts,
};

/// For what use a node's SVID signs the header of a segment.
pub const HEADER_CONTEXT: &str = "Signet audit log key";

/// A moment on both clocks, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Unix time.
    pub wall_ms: u64,
    /// Since boot.
    pub boot_ms: u64,
}

/// Whose log it is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The node.
    pub node: SpiffeId,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// A place in the log, after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the last line; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Number of its segment; 0 before the first.
    pub segment: u64,
    /// Lines after the last signature.
    pub unsigned: u64,
    /// Headers and records after the last checkpoint.
    pub unmarked: u64,
}

impl Position {
    /// Before the first line.
    pub const START: Self = Self {
        seq: 0,
        hash: Hash::NONE,
        segment: 0,
        unsigned: 0,
        unmarked: 0,
    };

    /// After `line`, whose bytes are `text`.
    #[must_use]
    pub fn after(self, line: &Line, text: &[u8]) -> Self {
        let moved = Self {
            seq: line.seq(),
            hash: Hash::of(text),
            ..self
        };
        match line {
            Line::Header(header) => Self {
                segment: header.segment,
                unsigned: self.unsigned + 1,
                unmarked: self.unmarked + 1,
                ..moved
            },
            Line::Record(_) => Self {
                unsigned: self.unsigned + 1,
                unmarked: self.unmarked + 1,
                ..moved
            },
            Line::Batch(_) => Self {
                unsigned: 0,
                ..moved
            },
            Line::Checkpoint(_) => Self {
                unsigned: 0,
                unmarked: 0,
                ..moved
            },
        }
    }
}

/// Makes the lines of one node's log.
#[derive(Debug)]
pub struct Chain {
    key: SigningKey,
    owner: Owner,
    at: Position,
}

impl Chain {
    /// Goes on at `at`.
    #[must_use]
    pub fn new(key: SigningKey, owner: Owner, at: Position) -> Self {
        Self { key, owner, at }
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// Takes back what was made after `at`, because it was not written.
    pub fn rewind(&mut self, at: Position) {
        self.at = at;
    }

    /// The first line of the next segment, line feed included.
    ///
    /// # Errors
    /// When AWS-LC cannot sign with the SVID's key.
    pub fn header(&mut self, now: Moment, svid: &X509Svid) -> Result<Vec<u8>, SvidError> {
        let certificates = svid.chain().iter();
        let mut header = Header {
            seq: self.at.seq + 1,
            prev: self.at.hash,
            wall_ms: now.wall_ms,
            boot_ms: now.boot_ms,
            version: VERSION,
            segment: self.at.segment + 1,
            node: self.owner.node.clone(),
            boot_id: self.owner.boot_id.clone(),
            key: self.key.public(),
            certificates: certificates.map(|der| Certificate(der.to_vec())).collect(),
            signature: Vec::new(),
        };
        let unsigned = Line::Header(Box::new(header.clone())).encode();
        let signed = signed_part(&unsigned).unwrap_or_default();
        header.signature = svid.key().sign_statement(HEADER_CONTEXT, signed)?;
        Ok(self.push(&Line::Header(Box::new(header))))
    }

    /// A record of what happened at `at`, line feed included.
    pub fn record(&mut self, at: Moment, facts: Facts) -> Vec<u8> {
        let record = Record {
            seq: self.at.seq + 1,
            prev: self.at.hash,
            wall_ms: at.wall_ms,
            boot_ms: at.boot_ms,
            node: self.owner.node.clone(),
            boot_id: self.owner.boot_id.clone(),
            facts,
        };
        self.push(&Line::Record(Box::new(record)))
    }

    /// A signature over all lines so far, line feed included; `None` if there is nothing to sign.
    pub fn batch(&mut self, now: Moment) -> Option<Vec<u8>> {
        if self.at.unsigned == 0 {
            return None;
        }
        let mut batch = Batch {
            seq: self.at.seq + 1,
            prev: self.at.hash,
            wall_ms: now.wall_ms,
            boot_ms: now.boot_ms,
            signature: Hex([0; 64]),
        };
        batch.signature = self.sign(&Line::Batch(batch.clone()));
        Some(self.push(&Line::Batch(batch)))
    }

    /// A checkpoint, line feed included; `None` if nothing happened since the last one.
    pub fn checkpoint(&mut self, now: Moment) -> Option<Vec<u8>> {
        if self.at.unmarked == 0 {
            return None;
        }
        let mut checkpoint = Checkpoint {
            seq: self.at.seq + 1,
            prev: self.at.hash,
            wall_ms: now.wall_ms,
            boot_ms: now.boot_ms,
            node: self.owner.node.clone(),
            key: self.key.public(),
            signature: Hex([0; 64]),
        };
        checkpoint.signature = self.sign(&Line::Checkpoint(Box::new(checkpoint.clone())));
        Some(self.push(&Line::Checkpoint(Box::new(checkpoint))))
    }

    fn sign(&self, line: &Line) -> Hex<64> {
        let text = line.encode();
        self.key.sign(signed_part(&text).unwrap_or_default())
    }

    fn push(&mut self, line: &Line) -> Vec<u8> {
        let mut text = line.encode();
        self.at = self.at.after(line, &text);
        text.push(b'\n');
        text
    }
}
