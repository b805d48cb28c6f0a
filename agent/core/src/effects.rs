//! What every machine is handed: the moment, randomness, and where to put what it wants done.

use std::{collections::VecDeque, time::Duration};

use signet_crypto::{random::Random, time::Now};

use crate::{
    event::Event,
    ids::ConnId,
    io::{Output, Reason, Timeout},
    rows::MapOp,
    wire::Message,
};

/// Counts since the start of the agent; for metrics. Queue lengths and the like are in
/// [`crate::snapshot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Channels on which both sides said HELLO.
    pub channels_opened: u64,
    /// Channels closed after that.
    pub channels_closed: u64,
    /// Channels closed because their peer broke the protocol.
    pub channel_violations: u64,
    /// Dials started.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Slots that became ready.
    pub slots_ready: u64,
    /// Switches to the next epoch's keys under a pair's traffic.
    pub epoch_switches: u64,
    /// Switches that did not come about and are tried again.
    pub epoch_failures: u64,
    /// Proofs made.
    pub proofs_made: u64,
    /// Proofs believed.
    pub proofs_accepted: u64,
    /// Proofs not believed.
    pub proofs_rejected: u64,
    /// PROOF_REQ received.
    pub requests: u64,
    /// PROOF_REQ refused, for any reason.
    pub requests_refused: u64,
    /// PROOF_REQ refused because the peer asks too often.
    pub requests_limited: u64,
    /// Labels granted to peers.
    pub labels_granted: u64,
    /// Labels received from peers.
    pub labels_received: u64,
    /// Grants taken back.
    pub labels_revoked: u64,
    /// Pairs opened.
    pub pairs_opened: u64,
    /// Pairs ended, for any reason.
    pub pairs_closed: u64,
    /// Destinations refused.
    pub pairs_refused: u64,
    /// Pairs not started because their pod starts too many.
    pub pairs_limited: u64,
    /// Packets held.
    pub held: u64,
    /// Held packets released.
    pub released: u64,
    /// Held packets dropped.
    pub held_dropped: u64,
    /// Directory look-ups.
    pub lookups: u64,
    /// STALE received.
    pub stale_received: u64,
    /// STALE sent.
    pub stale_sent: u64,
}

/// One call of the agent.
pub(crate) struct Ctx<'a> {
    pub(crate) now: Now,
    pub(crate) random: &'a mut dyn Random,
    pub(crate) out: VecDeque<Output>,
    pub(crate) counters: Counters,
}

impl Ctx<'_> {
    pub(crate) fn push(&mut self, output: Output) {
        self.out.push_back(output);
    }

    pub(crate) fn bpf(&mut self, op: MapOp) {
        self.push(Output::Bpf(op));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn send(&mut self, conn: ConnId, message: &Message) {
        let (kind, payload) = message.encode();
        self.push(Output::SendFrame {
            conn,
            kind,
            payload,
        });
    }

    pub(crate) fn boot(&self) -> Duration {
        self.now.boot
    }

    /// A number below `bound`, which must not be 0. The bias for bounds far below 2^64 is nil.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_be_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }

    /// `span` +- 20 %, so that many agents that failed together don't come back together.
    pub(crate) fn jitter(&mut self, span: Duration) -> Duration {
        let permille = 800 + self.below(401);
        span.saturating_mul(u32::try_from(permille).unwrap_or(1000)) / 1000
    }

    /// The delay after `failures` failures in a row.
    pub(crate) fn backoff(&mut self, range: (Duration, Duration), failures: u32) -> Duration {
        let doubled = range
            .0
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.jitter(doubled.min(range.1))
    }
}

/// Allows `burst` at once and `rate` per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Thousandths of a token.
    level: u64,
    burst: u32,
    rate: u32,
    at: Duration,
}

impl Bucket {
    pub(crate) fn new(burst: u32, rate: u32, now: Duration) -> Self {
        Self {
            level: u64::from(burst) * 1000,
            burst,
            rate,
            at: now,
        }
    }

    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_millis().min(1 << 32);
        self.at = self.at.max(now);
        let gained = u64::try_from(passed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.rate));
        self.level = self
            .level
            .saturating_add(gained)
            .min(u64::from(self.burst) * 1000);
        let enough = self.level >= 1000;
        if enough {
            self.level -= 1000;
        }
        enough
    }
}

/// The earliest of several timeouts.
#[derive(Default)]
pub(crate) struct Earliest(pub(crate) Option<Timeout>);

impl Earliest {
    pub(crate) fn add(&mut self, at: Option<Duration>, reason: Reason) {
        if let Some(at) = at
            && self.0.is_none_or(|(known, _)| at < known)
        {
            self.0 = Some((at, reason));
        }
    }
}
