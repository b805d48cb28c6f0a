//! What a slot did so far, for metrics. Only ever grows, also when peers go.

use std::sync::atomic::{AtomicU64, Ordering};

use signet_abi::DropReason;

/// Why the engine drops packets.
pub const REASONS: [DropReason; 8] = [
    DropReason::WgReplay,
    DropReason::WgInvalid,
    DropReason::WgUnknownPeer,
    DropReason::WgSourceNotAllowed,
    DropReason::WgNoSession,
    DropReason::WgMalformed,
    DropReason::WgNoPeer,
    DropReason::PacketTooLarge,
];

/// A number that several threads add to and metrics read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// Inner bytes and packets, segments counted each, keepalives not.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Handed to the underlay.
    pub tx_bytes: Counter,
    /// Handed to the underlay.
    pub tx_packets: Counter,
    /// Accepted from the underlay.
    pub rx_bytes: Counter,
    /// Accepted from the underlay.
    pub rx_packets: Counter,
}

impl Traffic {
    #[inline]
    pub(crate) fn add_tx(&self, packets: u64, bytes: u64) {
        self.tx_packets.add(packets);
        self.tx_bytes.add(bytes);
    }

    #[inline]
    pub(crate) fn add_rx(&self, packets: u64, bytes: u64) {
        self.rx_packets.add(packets);
        self.rx_bytes.add(bytes);
    }
}

/// Counters of one slot.
#[derive(Debug, Default)]
pub struct SlotCounters {
    /// Of all peers, also of those that are gone.
    pub traffic: Traffic,
    /// Sessions established or renewed.
    pub handshakes: Counter,
    /// Frames the TUN device refused, for example while it was down.
    pub tun_refused: Counter,
    /// Datagrams the underlay refused, for example without a route.
    pub underlay_refused: Counter,
    drops: [Counter; REASONS.len()],
}

impl SlotCounters {
    /// Packets dropped for `reason`; 0 if it is none of [`REASONS`].
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.of(reason).map_or(0, Counter::value)
    }

    pub(crate) fn count_drop(&self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.of(reason) {
            counter.add(packets);
        }
    }

    fn of(&self, reason: DropReason) -> Option<&Counter> {
        let at = REASONS.iter().position(|known| *known == reason)?;
        self.drops.get(at)
    }
}
