//! From one table to the next without a window.
//!
//! Rows are written one at a time while packets are looked up. The order here makes every lookup
//! on the way see either what the old table said or what the new one says, never a third thing:
//! new rows go in from the most to the least specific, then the isolation flags of the endpoint
//! are set, then stale rows go out from the least to the most specific.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compile::PairPolicy;
use crate::model::{Direction, Verdict};

/// The key of one row of a pair's policy map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// Which of the pair's tables.
    pub direction: Direction,
    /// IP protocol number; 0 is any protocol.
    pub protocol: u8,
    /// Leading bits of `port` that count.
    pub bits: u8,
    /// Port, host byte order.
    pub port: u16,
}

/// What to do to a pair's rows, in order: all `upserts`, then (once this holds for every pair of
/// the endpoint) the endpoint's isolation flags, then all `deletes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows to insert or overwrite.
    pub upserts: Vec<(RowKey, Verdict)>,
    /// Rows to remove.
    pub deletes: Vec<RowKey>,
}

impl Changes {
    /// Whether nothing is to do.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

impl PairPolicy {
    /// All rows of both directions.
    pub fn rows(&self) -> impl Iterator<Item = (RowKey, Verdict)> {
        Direction::ALL.into_iter().flat_map(|direction| {
            self.of(direction)
                .to_prefixes()
                .into_iter()
                .map(move |row| {
                    let key = RowKey {
                        direction,
                        protocol: row.protocol,
                        bits: row.bits,
                        port: row.port,
                    };
                    (key, row.verdict)
                })
        })
    }
}

/// The changes that lead from `old` to `new`. For a pair that was not there, or will not be, pass
/// the empty policy.
pub fn changes(old: &PairPolicy, new: &PairPolicy) -> Changes {
    let old: BTreeMap<RowKey, Verdict> = old.rows().collect();
    let new: BTreeMap<RowKey, Verdict> = new.rows().collect();
    // Protocol 0 is the least specific of all: it is looked up last.
    let specificity = |key: &RowKey| (key.protocol != 0, key.bits);
    let mut upserts: Vec<(RowKey, Verdict)> = new
        .iter()
        .filter(|(key, verdict)| old.get(key) != Some(verdict))
        .map(|(key, verdict)| (*key, *verdict))
        .collect();
    upserts.sort_by_key(|(key, _)| std::cmp::Reverse(specificity(key)));
    let mut deletes: Vec<RowKey> = old
        .keys()
        .filter(|key| !new.contains_key(key))
        .copied()
        .collect();
    deletes.sort_by_key(specificity);
    Changes { upserts, deletes }
}
