//! Verdicts by protocol and port, in the form the data path looks them up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::Verdict;

/// Ports `first..=last` of one protocol and their verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
    /// What holds for them.
    pub verdict: Verdict,
}

/// Verdicts of one direction of a pair.
///
/// A flow is looked up under its exact protocol, then under "any protocol" (number 0 in the policy
/// map). The map is flattened: the first hit is the whole answer. A miss means that no rule speaks
/// of the flow, and isolation and mode decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMap {
    /// For every protocol and port that `protocols` does not hold.
    any: Option<Verdict>,
    /// By IP protocol number: disjoint ranges, sorted, neighbours with equal verdicts merged.
    protocols: BTreeMap<u8, Vec<PortRange>>,
}

/// One row of a longest-prefix policy map: the `bits` leading bits of `port` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortPrefix {
    /// IP protocol number; 0 is any protocol.
    pub protocol: u8,
    /// Port, host byte order; bits behind `bits` are zero.
    pub port: u16,
    /// 0 (every port) to 16 (this port only).
    pub bits: u8,
    /// What holds for it.
    pub verdict: Verdict,
}

/// What one rule says about some ports; input to [`PortMap::flatten`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// 0 is any protocol; then the range is all ports.
    pub(crate) protocol: u8,
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) verdict: Verdict,
    /// The lowest wins.
    pub(crate) order: (u8, u32),
}

impl PortMap {
    /// The verdict for a flow; `None` if no rule speaks of it. Protocols without ports have port 0.
    pub fn lookup(&self, protocol: u8, port: u16) -> Option<Verdict> {
        let ranges = self.protocols.get(&protocol).map_or(&[][..], Vec::as_slice);
        let at = ranges.partition_point(|range| range.last < port);
        match ranges.get(at) {
            Some(range) if range.first <= port => Some(range.verdict),
            Some(_) | None => self.any,
        }
    }

    /// Whether no rule speaks of any flow.
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.protocols.is_empty()
    }

    /// The verdict of protocols that have no ranges of their own, ICMP among them.
    pub fn any_protocol(&self) -> Option<Verdict> {
        self.any
    }

    /// The ranges of each IP protocol number that rules with ports name.
    pub fn ranges(&self) -> impl Iterator<Item = (u8, &[PortRange])> {
        self.protocols
            .iter()
            .map(|(protocol, ranges)| (*protocol, ranges.as_slice()))
    }

    /// The rows of a longest-prefix map that gives the same answers: look up the exact protocol,
    /// then protocol 0.
    pub fn to_prefixes(&self) -> Vec<PortPrefix> {
        let mut rows = Vec::new();
        for (&protocol, ranges) in &self.protocols {
            for range in ranges {
                rows.extend(
                    decompose(range.first, range.last).map(|(port, bits)| PortPrefix {
                        protocol,
                        port,
                        bits,
                        verdict: range.verdict,
                    }),
                );
            }
        }
        rows.extend(self.any.map(|verdict| PortPrefix {
            protocol: 0,
            port: 0,
            bits: 0,
            verdict,
        }));
        rows
    }

    /// Flattens overlapping claims, so that each port keeps only the claim of lowest order.
    pub(crate) fn flatten(claims: &[Claim]) -> PortMap {
        let any = claims
            .iter()
            .filter(|claim| claim.protocol == 0)
            .min_by_key(|c| c.order);
        let exact: BTreeSet<u8> = claims
            .iter()
            .map(|c| c.protocol)
            .filter(|p| *p != 0)
            .collect();
        let mut protocols = BTreeMap::new();
        for protocol in exact {
            let of_protocol = claims.iter().filter(|claim| claim.protocol == protocol);
            let mut ranges = sweep(of_protocol.chain(any));
            // Rows that say what "any protocol" says would only fill the map.
            ranges.retain(|range| any.is_none_or(|any| any.verdict != range.verdict));
            if !ranges.is_empty() {
                protocols.insert(protocol, ranges);
            }
        }
        PortMap {
            any: any.map(|claim| claim.verdict),
            protocols,
        }
    }
}

/// Walks the ports upwards with the set of claims that hold there; the first of the set wins.
fn sweep<'a>(claims: impl Iterator<Item = &'a Claim>) -> Vec<PortRange> {
    let mut starts: BTreeMap<u32, Vec<&Claim>> = BTreeMap::new();
    let mut ends: BTreeMap<u32, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        starts
            .entry(u32::from(claim.first))
            .or_default()
            .push(claim);
        ends.entry(u32::from(claim.last) + 1)
            .or_default()
            .push(claim);
    }
    let cuts: BTreeSet<u32> = starts.keys().chain(ends.keys()).copied().collect();
    // Counted, because one rule may name a port twice.
    let mut active: BTreeMap<(u8, u32), (u32, Verdict)> = BTreeMap::new();
    let mut ranges: Vec<PortRange> = Vec::new();
    let mut cuts = cuts.into_iter().peekable();
    while let Some(cut) = cuts.next() {
        for claim in ends.get(&cut).into_iter().flatten() {
            if let Some((count, _)) = active.get_mut(&claim.order) {
                *count -= 1;
                if *count == 0 {
                    active.remove(&claim.order);
                }
            }
        }
        for claim in starts.get(&cut).into_iter().flatten() {
            active.entry(claim.order).or_insert((0, claim.verdict)).0 += 1;
        }
        let (Some(next), Some((_, &(_, verdict)))) = (cuts.peek(), active.first_key_value()) else {
            continue;
        };
        let (Ok(first), Ok(last)) = (u16::try_from(cut), u16::try_from(next - 1)) else {
            continue;
        };
        match ranges.last_mut() {
            Some(before) if before.verdict == verdict && u32::from(before.last) + 1 == cut => {
                before.last = last;
            }
            Some(_) | None => ranges.push(PortRange {
                first,
                last,
                verdict,
            }),
        }
    }
    ranges
}

/// Splits `first..=last` into the fewest aligned power-of-two blocks: (port, prefix bits).
pub(crate) fn decompose(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let mut next = u32::from(first);
    let end = u32::from(last) + 1;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let aligned = next.trailing_zeros().min(16);
        let fitting = (end - next).ilog2();
        let size = aligned.min(fitting);
        let block = (u16::try_from(next).ok()?, u8::try_from(16 - size).ok()?);
        next += 1 << size;
        Some(block)
    })
}
