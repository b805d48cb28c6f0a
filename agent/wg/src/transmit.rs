//! From the TUN to the underlay: one frame becomes sealed datagrams in the batch.

use std::net::IpAddr;

use signet_abi::DropReason;

use crate::{
    batch::{Batch, DatagramSink, MAX_MESSAGE},
    drops::Dropped,
    packet::addresses,
    peers::Sealed,
    segment::split,
    slot::Slot,
    vnet::{VNET_LEN, VnetHeader},
};

/// What WireGuard adds to a packet: 16 bytes before, 16 behind.
const OVERHEAD: usize = 32;
/// The longest handshake message, which may take a packet's place.
const MIN_ROOM: usize = 148;

/// Seals frames and collects the datagrams.
pub(crate) struct Transmitter {
    batch: Batch,
}

impl Transmitter {
    pub(crate) fn new() -> Self {
        Self {
            batch: Batch::new(),
        }
    }

    /// Takes one frame as read from the TUN; its bytes are overwritten. Call
    /// [`Transmitter::flush`] when no frame follows at once.
    pub(crate) fn frame(&mut self, slot: &Slot, frame: &mut [u8], underlay: &impl DatagramSink) {
        let Some((header, packet)) = frame.split_first_chunk_mut::<VNET_LEN>() else {
            return drop_frame(slot, DropReason::WgMalformed, None);
        };
        let between = addresses(packet);
        let (Some(header), Some((_, to))) = (VnetHeader::decode(header), between) else {
            return drop_frame(slot, DropReason::WgMalformed, between);
        };
        let table = slot.table();
        let Some(peer) = table.owner(to) else {
            if to.is_multicast() {
                // The kernel's own multicast on every device; nobody misses it.
                return slot.dropped_silently(DropReason::WgNoPeer, 1);
            }
            return drop_frame(slot, DropReason::WgNoPeer, between);
        };

        let mut session = peer.session();
        let (mut packets, mut bytes) = (0, 0);
        let result = split(&header, packet, |segment| {
            let failed = |reason| {
                slot.dropped(&Dropped {
                    reason,
                    peer: Some(peer.key),
                    underlay: None,
                    inner: between,
                });
            };
            let length = segment.len() + OVERHEAD;
            if length > MAX_MESSAGE {
                return failed(DropReason::PacketTooLarge);
            }
            let needed = length.max(MIN_ROOM);
            if self.batch.room(needed).is_none() {
                slot.counters
                    .underlay_refused
                    .add(underlay.send(&mut self.batch));
            }
            let Some(room) = self.batch.room(needed) else {
                return failed(DropReason::PacketTooLarge);
            };
            match session.seal(segment, room) {
                Sealed::Data(length) => {
                    self.batch.push(session.underlay, length);
                    packets += 1;
                    bytes += segment.len() as u64;
                }
                Sealed::Handshake(length) => self.batch.push(session.underlay, length),
                Sealed::Waits => {}
                Sealed::Dropped => failed(DropReason::WgNoSession),
            }
        });
        drop(session);
        peer.traffic.add_tx(packets, bytes);
        slot.counters.traffic.add_tx(packets, bytes);
        if result.is_err() {
            drop_frame(slot, DropReason::WgMalformed, between);
        }
        drop(table);
        if self.batch.is_worth_sending() {
            self.flush(slot, underlay);
        }
    }

    /// Sends what is collected.
    pub(crate) fn flush(&mut self, slot: &Slot, underlay: &impl DatagramSink) {
        if !self.batch.is_empty() {
            slot.counters
                .underlay_refused
                .add(underlay.send(&mut self.batch));
        }
    }
}

#[cold]
fn drop_frame(slot: &Slot, reason: DropReason, inner: Option<(IpAddr, IpAddr)>) {
    slot.dropped(&Dropped {
        reason,
        peer: None,
        underlay: None,
        inner,
    });
}
