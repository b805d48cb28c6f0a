//! Which flows were seen: what is asked when somebody wants to know what a policy would change.

use std::{collections::BTreeMap, net::IpAddr};

/// Different flows that are remembered. Their number is that of who talks with whom on what port.
const REMEMBERED: usize = 16_384;

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// `namespace/name`.
    Pod(String),
    Address(IpAddr),
}

/// Flows that are alike: who opens them, to whom, and what for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) source: Who,
    pub(crate) destination: Who,
    pub(crate) protocol: u8,
    /// Of the destination; 0 where the protocol has none.
    pub(crate) port: u16,
    /// Whether the source's side is this node's to judge.
    pub(crate) egress: bool,
    /// Whether the destination's is.
    pub(crate) ingress: bool,
}

/// How many, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) flows: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

/// The flows of this run of the agent.
pub(crate) struct Flows {
    /// Seconds of Unix time.
    pub(crate) since: u64,
    seen: BTreeMap<Flow, Times>,
    pub(crate) forgotten: u64,
}

impl Flows {
    pub(crate) fn new(since: u64) -> Self {
        Self {
            since,
            seen: BTreeMap::new(),
            forgotten: 0,
        }
    }

    pub(crate) fn note(&mut self, flow: Flow, flows: u64, now_ms: u64) {
        if self.seen.len() >= REMEMBERED && !self.seen.contains_key(&flow) {
            self.forget();
        }
        let times = self.seen.entry(flow).or_insert(Times {
            flows: 0,
            first_ms: now_ms,
            last_ms: now_ms,
        });
        times.flows = times.flows.saturating_add(flows);
        times.last_ms = times.last_ms.max(now_ms);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Flow, &Times)> {
        self.seen.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Makes room: the least recent quarter goes, so that this is seldom done.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.seen.values().map(|times| times.last_ms).collect();
        ages.sort_unstable();
        let Some(limit) = ages.get(ages.len() / 4).copied() else {
            return;
        };
        let before = self.seen.len();
        let mut spare = before / 4;
        self.seen.retain(|_, times| {
            let goes = times.last_ms <= limit && spare > 0;
            spare -= usize::from(goes);
            !goes
        });
        self.forgotten += (before - self.seen.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow {
            source: Who::Pod("shop/web".into()),
            destination: Who::Pod("shop/db".into()),
            protocol: 6,
            port,
            egress: true,
            ingress: false,
        }
    }

    #[test]
    fn equal_flows_are_counted_and_keep_their_first_time() {
        let mut flows = Flows::new(1);
        flows.note(flow(80), 1, 1000);
        flows.note(flow(80), 4, 3000);
        flows.note(flow(81), 1, 2000);
        let seen: Vec<_> = flows
            .iter()
            .map(|(flow, times)| (flow.port, *times))
            .collect();
        let times = |flows, first_ms, last_ms| Times {
            flows,
            first_ms,
            last_ms,
        };
        assert_eq!(
            seen,
            [(80, times(5, 1000, 3000)), (81, times(1, 2000, 2000))]
        );
    }

    #[test]
    fn the_least_recent_are_forgotten_and_it_is_said() {
        let mut flows = Flows::new(1);
        // All at one time, so that age alone does not tell which go.
        for port in 0..REMEMBERED as u16 {
            flows.note(flow(port), 1, 5);
        }
        flows.note(flow(u16::MAX), 1, 9);
        assert_eq!(flows.forgotten as usize, REMEMBERED / 4);
        assert_eq!(flows.len(), REMEMBERED - REMEMBERED / 4 + 1);
        assert!(flows.iter().any(|(flow, _)| flow.port == u16::MAX));
    }
}
