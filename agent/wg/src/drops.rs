//! Dropped packets: every one counted, some of them told to the agent.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use signet_abi::DropReason;
use signet_crypto::wg::PublicKey;

use crate::{control::Event, counters::SlotCounters};

/// Takes events towards the agent. Called from the data path: it must not block, and may lose
/// events.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// At most one event per peer and reason in this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Peers come and go; their entries are thrown away together once there are this many.
const MAX_ENTRIES: usize = 4096;

/// What is known about a dropped packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) reason: DropReason,
    pub(crate) peer: Option<PublicKey>,
    pub(crate) underlay: Option<SocketAddr>,
    pub(crate) inner: Option<(IpAddr, IpAddr)>,
}

/// Counts and reports the drops of one slot.
pub(crate) struct Reporter {
    slot: u8,
    events: EventSink,
    recent: Mutex<BTreeMap<(Option<PublicKey>, DropReason), Recent>>,
}

struct Recent {
    reported: Instant,
    suppressed: u32,
}

impl Reporter {
    pub(crate) fn new(slot: u8, events: EventSink) -> Self {
        Self {
            slot,
            events,
            recent: Mutex::default(),
        }
    }

    /// Counts the drop and tells the agent, unless it was told of the same kind just now.
    #[cold]
    pub(crate) fn dropped(&self, counters: &SlotCounters, drop: &Dropped) {
        counters.count_drop(drop.reason, 1);
        let Some(suppressed) = self.take_turn(drop, Instant::now()) else {
            return;
        };
        (self.events)(Event::Dropped {
            slot: self.slot,
            peer: drop.peer,
            reason: drop.reason,
            underlay: drop.underlay,
            inner: drop.inner,
            suppressed,
        });
    }

    pub(crate) fn handshake(&self, peer: PublicKey) {
        (self.events)(Event::Handshake {
            slot: self.slot,
            peer,
        });
    }

    /// How many were suppressed since the last event, if it is time for one.
    fn take_turn(&self, drop: &Dropped, now: Instant) -> Option<u32> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (drop.peer, drop.reason);
        if let Some(known) = recent.get_mut(&key)
            && now.duration_since(known.reported) < INTERVAL
        {
            known.suppressed = known.suppressed.saturating_add(1);
            return None;
        }
        if recent.len() >= MAX_ENTRIES {
            recent.clear();
        }
        let fresh = Recent {
            reported: now,
            suppressed: 0,
        };
        Some(
            recent
                .insert(key, fresh)
                .map_or(0, |before| before.suppressed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop_of(reason: DropReason, peer: Option<PublicKey>) -> Dropped {
        Dropped {
            reason,
            peer,
            underlay: None,
            inner: None,
        }
    }

    #[test]
    fn one_event_per_second_peer_and_reason() {
        let reporter = Reporter::new(0, Arc::new(|_| {}));
        let start = Instant::now();
        let replay = drop_of(DropReason::WgReplay, None);
        assert_eq!(reporter.take_turn(&replay, start), Some(0));
        assert_eq!(reporter.take_turn(&replay, start), None);
        assert_eq!(reporter.take_turn(&replay, start + INTERVAL / 2), None);
        assert_eq!(reporter.take_turn(&replay, start + INTERVAL), Some(2));
        assert_eq!(reporter.take_turn(&replay, start + INTERVAL * 2), Some(0));

        let other_peer = drop_of(DropReason::WgReplay, Some(PublicKey([1; 32])));
        assert_eq!(reporter.take_turn(&other_peer, start), Some(0));
        let other_reason = drop_of(DropReason::WgInvalid, None);
        assert_eq!(reporter.take_turn(&other_reason, start), Some(0));
    }

    #[test]
    fn every_drop_is_counted() {
        let reporter = Reporter::new(0, Arc::new(|_| {}));
        let counters = SlotCounters::default();
        for _ in 0..5 {
            reporter.dropped(&counters, &drop_of(DropReason::WgNoPeer, None));
        }
        assert_eq!(counters.dropped(DropReason::WgNoPeer), 5);
        assert_eq!(counters.dropped(DropReason::WgReplay), 0);
    }
}
