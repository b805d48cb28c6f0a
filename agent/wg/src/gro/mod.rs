//! Puts received TCP segments and UDP datagrams back into super-packets for the TUN.
//!
//! A packet is decrypted straight behind the flow it most likely continues: [`Coalescer::room`]
//! gives the place, [`Coalescer::commit`] looks at what arrived there. If the guess was right,
//! only the header's worth of bytes it overwrote is put back and no payload is moved.
//!
//! Two packets are merged only if every byte before the payload that the kernel would not
//! compute again is the same: addresses, options with the tag, ports, window, TCP options.
//! Checksums are verified before, because a merged packet gets a new one.

mod flow;

use crate::{
    packet::addresses,
    vnet::{VNET_LEN, VnetHeader},
};

use flow::{Candidate, Flow};

/// Where whole packets go: the TUN.
pub(crate) trait FrameSink {
    /// Writes one frame: vnet header and packet.
    fn write(&mut self, frame: &[u8]);
}

/// Flows collected at the same time. More are rare within one batch of a socket.
const FLOWS: usize = 8;
/// The AEAD tag is decrypted along with the packet and lies behind it for a moment.
const AEAD_TAG: usize = 16;
/// A frame with the largest packet there is, and what lies behind it while decrypting.
pub(crate) const FRAME_CAPACITY: usize = VNET_LEN + 65535 + AEAD_TAG;

pub(crate) type Frame = Box<[u8]>;

/// An empty frame of [`FRAME_CAPACITY`] bytes.
pub(crate) fn new_frame() -> Frame {
    vec![0; FRAME_CAPACITY].into_boxed_slice()
}

/// Where the packet in flight was placed by [`Coalescer::room`].
enum Place {
    /// Behind a flow, over the last bytes of it.
    Behind(usize),
    /// In the spare frame.
    Spare,
}

/// Collects packets into super-packets. Nothing stays in it past [`Coalescer::flush`].
pub(crate) struct Coalescer {
    flows: [Flow; FLOWS],
    spare: Frame,
    place: Place,
    /// The flow the last packet joined.
    recent: usize,
    /// Counts packets, to find the flow that waited longest.
    clock: u64,
}

impl Coalescer {
    pub(crate) fn new() -> Self {
        Self {
            flows: std::array::from_fn(|_| Flow::new()),
            spare: new_frame(),
            place: Place::Spare,
            recent: 0,
            clock: 0,
        }
    }

    /// Room for the next packet with its AEAD tag, `length` bytes together; `None` if no
    /// packet is that long. Call [`Coalescer::commit`] or [`Coalescer::abort`] next.
    #[inline]
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if self.flows[self.recent].has_room(length) {
            self.place = Place::Behind(self.recent);
            return Some(self.flows[self.recent].room(length));
        }
        self.place = Place::Spare;
        self.spare.get_mut(VNET_LEN..VNET_LEN + length)
    }

    /// The packet that was just written to [`Coalescer::room`].
    pub(crate) fn packet(&self, length: usize) -> &[u8] {
        match self.place {
            Place::Behind(at) => self.flows[at].packet_behind(length),
            Place::Spare => &self.spare[VNET_LEN..VNET_LEN + length],
        }
    }

    /// Nothing usable was written to the room: decryption failed, or the packet is not
    /// allowed.
    #[inline]
    pub(crate) fn abort(&mut self) {
        if let Place::Behind(at) = self.place {
            self.flows[at].restore();
        }
        self.place = Place::Spare;
    }

    /// The room now begins with a packet of `length` bytes, which is to reach `sink`.
    #[inline]
    pub(crate) fn commit(&mut self, length: usize, sink: &mut impl FrameSink) {
        self.clock += 1;
        if let Place::Behind(at) = self.place {
            let flow = &mut self.flows[at];
            if let Some(candidate) = Candidate::of(flow.packet_behind(length))
                && flow.accepts_behind(&candidate)
            {
                flow.take_behind(&candidate, self.clock);
                if flow.is_complete() {
                    flow.flush(sink);
                }
                return;
            }
            self.spare[VNET_LEN..VNET_LEN + length].copy_from_slice(flow.packet_behind(length));
            flow.restore();
            self.place = Place::Spare;
        }
        self.place_spare(length, sink);
    }

    /// Writes out everything collected.
    #[inline]
    pub(crate) fn flush(&mut self, sink: &mut impl FrameSink) {
        for flow in &mut self.flows {
            flow.flush(sink);
        }
    }

    /// Finds the right flow for the packet in the spare frame, or writes it out alone.
    fn place_spare(&mut self, length: usize, sink: &mut impl FrameSink) {
        let packet = &self.spare[VNET_LEN..VNET_LEN + length];
        let Some(candidate) = Candidate::of(packet) else {
            // It may belong to a collected flow (an ACK, a FIN, a fragment) and must not
            // overtake it.
            let between = addresses(packet);
            for flow in &mut self.flows {
                if flow.addresses() == between {
                    flow.flush(sink);
                }
            }
            self.spare[..VNET_LEN].copy_from_slice(&VnetHeader::PLAIN.encode());
            sink.write(&self.spare[..VNET_LEN + length]);
            return;
        };
        let known = self
            .flows
            .iter()
            .position(|flow| flow.is_same(&candidate, packet));
        let at = known.unwrap_or_else(|| self.free_flow());
        let flow = &mut self.flows[at];
        if known.is_some() && flow.accepts(&candidate, packet) {
            flow.take(&candidate, packet, self.clock);
        } else {
            flow.flush(sink);
            flow.start(&mut self.spare, &candidate, length, self.clock);
        }
        self.recent = at;
        if flow.is_complete() {
            flow.flush(sink);
        }
    }

    /// An empty flow, or the one that waited longest.
    fn free_flow(&self) -> usize {
        let waited = |at: &usize| self.flows[*at].last_used();
        (0..FLOWS).min_by_key(waited).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
