//! How many drops of one kind are worth being told: a pod that scans must not keep the agent busy with saying so.

use std::collections::BTreeMap;

use signet_abi::{Event, EventKind};

/// Drops of one endpoint that are alike, at once.
const BURST: u64 = 256;
/// The same, per second.
const RATE: u64 = 100;
/// Kinds remembered; beyond that, those that were quiet are forgotten.
const REMEMBERED: usize = 4096;
const SECOND: u64 = 1_000_000_000;

/// What makes two events alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    endpoint: u16,
    kind: u8,
    hook: u8,
    reason: u16,
}

#[derive(Debug)]
struct Bucket {
    /// Nanoseconds' worth of events.
    level: u64,
    at: u64,
    left_out: u32,
}

/// A token bucket for each kind.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    buckets: BTreeMap<Kind, Bucket>,
}

impl Limiter {
    /// The event, with those in it that were left out before it, or nothing.
    pub(super) fn admit(&mut self, mut event: Event) -> Option<Event> {
        match event.event_kind() {
            Some(EventKind::Drop | EventKind::Miss) => {}
            // These are not only told: the core acts on them, or keeps account of each.
            Some(EventKind::Stale | EventKind::NewFlow | EventKind::TakenUp) | None => {
                return Some(event);
            }
        }
        let full = BURST * SECOND;
        let now = event.time;
        if self.buckets.len() >= REMEMBERED {
            self.buckets.retain(|_, bucket| bucket.filled(now) < full);
        }
        let kind = Kind {
            endpoint: event.endpoint,
            kind: event.kind,
            hook: event.hook,
            reason: event.reason,
        };
        let bucket = self.buckets.entry(kind).or_insert(Bucket {
            level: full,
            at: now,
            left_out: 0,
        });
        bucket.level = bucket.filled(now);
        bucket.at = bucket.at.max(now);
        let alike = event.suppressed.saturating_add(1);
        if bucket.level < SECOND {
            bucket.left_out = bucket.left_out.saturating_add(alike);
            return None;
        }
        bucket.level -= SECOND;
        let left_out = std::mem::take(&mut bucket.left_out);
        event.suppressed = event.suppressed.saturating_add(left_out);
        Some(event)
    }
}

impl Bucket {
    fn filled(&self, now: u64) -> u64 {
        let gained = now.saturating_sub(self.at).saturating_mul(RATE);
        self.level.saturating_add(gained).min(BURST * SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(endpoint: u16, kind: EventKind, time: u64) -> Event {
        Event {
            time,
            kind: kind as u8,
            endpoint,
            reason: 39,
            ..Event::default()
        }
    }

    #[test]
    fn one_who_scans_is_told_of_some_times_and_counted() {
        let mut limiter = Limiter::default();
        let mut told = 0;
        for n in 0..10_000 {
            told += u64::from(limiter.admit(event(1, EventKind::Drop, n)).is_some());
        }
        assert_eq!(told, BURST);
        let other = limiter.admit(event(2, EventKind::Drop, 10_000));
        assert_eq!(other.unwrap().suppressed, 0, "others are told of");
        let next = limiter.admit(event(1, EventKind::Drop, SECOND / RATE + 10_000));
        assert_eq!(u64::from(next.unwrap().suppressed), 10_000 - BURST);
    }

    #[test]
    fn what_is_acted_on_always_arrives() {
        let mut limiter = Limiter::default();
        for kind in [EventKind::Stale, EventKind::NewFlow, EventKind::TakenUp] {
            for n in 0..10_000 {
                assert!(limiter.admit(event(1, kind, n)).is_some());
            }
        }
    }
}
