//! What the verifier found.

use std::collections::BTreeMap;

use serde::Serialize;
use signet_crypto::spiffe_id::SpiffeId;

use super::MAX_PAIRS;
use crate::line::{Hash, Hex, Line, Record};

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whose log it is.
    pub node: Option<SpiffeId>,
    /// The key that signs its end.
    pub key: Option<Hex<32>>,
    /// Who vouches for the key, one entry for each SVID in turn.
    pub vouchers: Vec<Voucher>,
    /// Segments seen.
    pub segments: u64,
    /// Lines that were found good.
    pub lines: u64,
    /// Records among them, by event.
    pub records: BTreeMap<&'static str, u64>,
    /// Batch signatures among them.
    pub batches: u64,
    /// Checkpoints among them.
    pub checkpoints: u64,
    /// Times of the first and the last good line, Unix milliseconds.
    pub from_ms: u64,
    /// See [`Report::from_ms`].
    pub to_ms: u64,
    /// Number of the last good line.
    pub last: u64,
    /// Number of the last good line that is signed: what comes after proves nothing.
    pub proven: u64,
    /// Lines after the last signature.
    pub unsigned: u64,
    /// Bytes after the last line feed.
    pub torn_bytes: u64,
    /// Lines before the first one that were removed to keep the log within its size.
    pub pruned: u64,
    /// The last checkpoint in the log.
    pub mark: Option<Marked>,
    /// Lines after it: they could be cut off without a trace.
    pub after_mark: u64,
    /// Checkpoints kept elsewhere that the log agrees with.
    pub checkpoints_known: u64,
    /// Checkpoints kept elsewhere whose line is no longer in the log.
    pub checkpoints_too_old: u64,
    /// Who talked with whom.
    pub pairs: Vec<Pair>,
    /// Records of pairs beyond [`MAX_PAIRS`].
    pub pairs_left_off: u64,
    /// The first place that is wrong.
    pub broken: Option<Break>,
}

/// Why the log's key is believed to be the node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Voucher {
    /// The first segment that it vouches for.
    pub segment: u64,
    /// SHA-256 of the node's certificate.
    pub certificate: Hash,
    /// Whether it was checked against a trust bundle.
    pub checked: bool,
}

/// A checkpoint's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Marked {
    /// Number of its line.
    pub seq: u64,
    /// Its time, Unix milliseconds.
    pub wall_ms: u64,
}

/// Two identities with records of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The local one.
    pub local: Option<SpiffeId>,
    /// The remote one.
    pub remote: Option<SpiffeId>,
    /// Records about them, by event.
    pub records: BTreeMap<&'static str, u64>,
}

/// The first place that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// Name of the file, or of what is wrong as a whole.
    pub segment: String,
    /// Line in the file, from 1; 0 if it is about no single line.
    pub line: u64,
    /// Number of the line that should be there.
    pub seq: u64,
    /// What is wrong, one line.
    pub what: String,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every line follows the one before, and all are signed.
    Whole,
    /// As far as it is signed it is good; at its end are lines without a signature.
    Unsigned,
    /// Something is wrong.
    Broken,
}

impl Report {
    /// In one word.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.broken.is_some() {
            Verdict::Broken
        } else if self.unsigned > 0 || self.torn_bytes > 0 {
            Verdict::Unsigned
        } else {
            Verdict::Whole
        }
    }

    pub(super) fn count(&mut self, line: &Line) {
        if self.lines == 0 {
            self.from_ms = line.wall_ms();
        }
        self.to_ms = line.wall_ms();
        self.lines += 1;
        match line {
            Line::Header(_) => self.segments += 1,
            Line::Record(record) => self.count_record(record),
            Line::Batch(_) => self.batches += 1,
            Line::Checkpoint(_) => self.checkpoints += 1,
        }
    }

    fn count_record(&mut self, record: &Record) {
        let facts = &record.facts;
        let event = facts.event.as_str();
        *self.records.entry(event).or_default() += 1;
        if facts.local_id.is_none() && facts.remote_id.is_none() {
            return;
        }
        let key = (&facts.local_id, &facts.remote_id);
        let place = self
            .pairs
            .binary_search_by(|pair| (&pair.local, &pair.remote).cmp(&key));
        let at = match place {
            Ok(at) => at,
            Err(_) if self.pairs.len() >= MAX_PAIRS => {
                self.pairs_left_off += 1;
                return;
            }
            Err(at) => {
                let pair = Pair {
                    local: facts.local_id.clone(),
                    remote: facts.remote_id.clone(),
                    records: BTreeMap::new(),
                };
                self.pairs.insert(at, pair);
                at
            }
        };
        if let Some(pair) = self.pairs.get_mut(at) {
            *pair.records.entry(event).or_default() += 1;
        }
    }
}
