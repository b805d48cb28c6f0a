//! One TCP or UDP flow while its packets are collected into a frame.

use std::net::IpAddr;

use crate::{
    checksum::{Sum, pseudo_header},
    packet::{Family, IPV6_MIN, Layout, TCP, addresses, read_u16, read_u32, write_u16},
    segment::checksum_offset,
    vnet::{Gso, PartialChecksum, VNET_LEN, VnetHeader},
};

use super::{AEAD_TAG, FRAME_CAPACITY, Frame, FrameSink, new_frame};

/// The longest packet a flow grows to. Below 65535, so that a header inserted later (a tag
/// taken off here may be put on again elsewhere) still fits its length field.
const MAX_PACKET: usize = 65_500;
/// The kernel takes at most 64 datagrams in one UDP super-packet (`UDP_MAX_SEGMENTS` before 6.9).
const MAX_DATAGRAMS: usize = 64;
/// Headers longer than this are not collected; the largest tagged ones have 60 + 60 (IPv4)
/// or 40 + 16 + 60 (IPv6) bytes.
const MAX_HEADERS: usize = 160;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const DONT_FRAGMENT: u8 = 0x40;

/// A packet that may be collected: plain data, intact, checksums verified.
pub(super) struct Candidate {
    layout: Layout,
    /// Payload bytes, never 0.
    payload: usize,
    /// TCP sequence number; 0 for UDP.
    sequence: u32,
    /// IPv4 identification; 0 for IPv6.
    id: u16,
    /// TCP asks for delivery: nothing may be appended.
    push: bool,
}

impl Candidate {
    #[inline]
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let layout = Layout::of(packet)?;
        let payload = packet.len() - layout.payload;
        if payload == 0 || layout.payload > MAX_HEADERS || packet.len() > MAX_PACKET {
            return None;
        }
        let mut id = 0;
        if layout.family == Family::V4 {
            id = read_u16(packet, 4);
            if !Sum::default().bytes(&packet[..layout.l4]).is_intact() {
                return None;
            }
        }
        let l4 = &packet[layout.l4..];
        let (mut sequence, mut push) = (0, false);
        if layout.protocol == TCP {
            sequence = read_u32(l4, 4);
            push = l4[13] & PSH != 0;
            if l4[13] & !(PSH | ECE) != ACK {
                return None;
            }
        } else if read_u16(l4, 6) == 0 || usize::from(read_u16(l4, 4)) != l4.len() {
            // Without a checksum, or with bytes behind the datagram: must stay as it is.
            return None;
        }
        pseudo_header(
            &packet[layout.family.addresses()],
            layout.protocol,
            l4.len(),
        )
        .bytes(l4)
        .is_intact()
        .then_some(Self {
            layout,
            payload,
            sequence,
            id,
            push,
        })
    }
}

/// What a flow collected so far. `count` 0 means empty.
pub(super) struct Flow {
    frame: Frame,
    /// Bytes of the packet in the frame, headers included, vnet header not.
    length: usize,
    layout: Layout,
    /// Payload of all packets but perhaps the last.
    gso_size: usize,
    count: usize,
    next_sequence: u32,
    first_id: u16,
    complete: bool,
    last_used: u64,
    /// What the packet being placed behind has overwritten.
    saved: [u8; MAX_HEADERS],
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            frame: new_frame(),
            length: 0,
            layout: Layout {
                family: Family::V4,
                protocol: 0,
                l4: 0,
                payload: 0,
            },
            gso_size: 0,
            count: 0,
            next_sequence: 0,
            first_id: 0,
            complete: false,
            last_used: 0,
            saved: [0; MAX_HEADERS],
        }
    }

    /// Whether a packet of `length` bytes with its AEAD tag can be placed behind.
    #[inline]
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.count > 0
            && length > self.layout.payload + AEAD_TAG
            && VNET_LEN + self.length - self.layout.payload + length <= FRAME_CAPACITY
    }

    /// The place that makes the payload of a packet with the same headers continue ours.
    #[inline]
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let headers = self.layout.payload;
        let start = VNET_LEN + self.length - headers;
        self.saved[..headers].copy_from_slice(&self.frame[start..start + headers]);
        &mut self.frame[start..start + length]
    }

    #[inline]
    pub(super) fn packet_behind(&self, length: usize) -> &[u8] {
        let start = VNET_LEN + self.length - self.layout.payload;
        &self.frame[start..start + length]
    }

    /// Puts back what the packet placed behind has overwritten.
    #[inline]
    pub(super) fn restore(&mut self) {
        let headers = self.layout.payload;
        let start = VNET_LEN + self.length - headers;
        self.frame[start..start + headers].copy_from_slice(&self.saved[..headers]);
    }

    /// Whether the packet placed behind continues the flow.
    #[inline]
    pub(super) fn accepts_behind(&self, candidate: &Candidate) -> bool {
        let headers = self.layout.payload;
        if self.length - headers >= headers {
            return self.continues(candidate, self.packet_behind(headers), self.headers());
        }
        // Less payload than headers so far: the packet lies over our own headers too.
        let mut own = [0; MAX_HEADERS];
        let own = &mut own[..headers];
        own.copy_from_slice(&self.frame[VNET_LEN..VNET_LEN + headers]);
        let kept = self.length - headers;
        own[kept..].copy_from_slice(&self.saved[..headers - kept]);
        self.continues(candidate, self.packet_behind(headers), own)
    }

    /// Takes the packet placed behind; [`Flow::accepts_behind`] said yes.
    #[inline]
    pub(super) fn take_behind(&mut self, candidate: &Candidate, now: u64) {
        self.restore();
        self.grow(candidate, now);
    }

    /// Whether the packet is of the same flow, mergeable or not.
    #[inline]
    pub(super) fn is_same(&self, candidate: &Candidate, packet: &[u8]) -> bool {
        let Layout {
            family,
            protocol,
            l4,
            ..
        } = candidate.layout;
        self.count > 0
            && (self.layout.family, self.layout.protocol) == (family, protocol)
            && self.headers()[family.addresses()] == packet[family.addresses()]
            && self.headers()[self.layout.l4..][..4] == packet[l4..l4 + 4]
    }

    /// Whether the packet, which lies elsewhere, continues the flow.
    #[inline]
    pub(super) fn accepts(&self, candidate: &Candidate, packet: &[u8]) -> bool {
        self.continues(candidate, packet, self.headers())
    }

    /// Copies the packet's payload behind ours; [`Flow::accepts`] said yes.
    pub(super) fn take(&mut self, candidate: &Candidate, packet: &[u8], now: u64) {
        let end = VNET_LEN + self.length;
        self.frame[end..end + candidate.payload]
            .copy_from_slice(&packet[candidate.layout.payload..]);
        self.grow(candidate, now);
    }

    /// Begins with the packet in `spare`, whose frame is exchanged for ours.
    pub(super) fn start(&mut self, spare: &mut Frame, first: &Candidate, length: usize, now: u64) {
        std::mem::swap(&mut self.frame, spare);
        self.length = length;
        self.layout = first.layout;
        self.gso_size = first.payload;
        self.count = 1;
        self.next_sequence = first.sequence.wrapping_add(first.payload as u32);
        self.first_id = first.id;
        self.complete = first.push;
        self.last_used = now;
    }

    /// Nothing can be appended any more.
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.count > 0 && self.complete
    }

    /// 0 if empty, else when the last packet came.
    pub(super) fn last_used(&self) -> u64 {
        if self.count == 0 { 0 } else { self.last_used }
    }

    /// Source and destination of what is collected.
    pub(super) fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        if self.count == 0 {
            return None;
        }
        addresses(&self.frame[VNET_LEN..VNET_LEN + self.length])
    }

    /// Writes out what is collected and is empty again.
    pub(super) fn flush(&mut self, sink: &mut impl FrameSink) {
        let header = match self.count {
            0 => return,
            1 => VnetHeader::PLAIN,
            _ => self.finish(),
        };
        self.frame[..VNET_LEN].copy_from_slice(&header.encode());
        sink.write(&self.frame[..VNET_LEN + self.length]);
        self.count = 0;
    }

    fn headers(&self) -> &[u8] {
        &self.frame[VNET_LEN..VNET_LEN + self.layout.payload]
    }

    fn continues(&self, candidate: &Candidate, theirs: &[u8], ours: &[u8]) -> bool {
        candidate.layout == self.layout
            && !self.complete
            && candidate.payload <= self.gso_size
            && self.length + candidate.payload <= MAX_PACKET
            && self.same_ip(candidate, theirs, ours)
            && self.same_l4(candidate, theirs, ours)
    }

    fn same_ip(&self, candidate: &Candidate, theirs: &[u8], ours: &[u8]) -> bool {
        let l4 = self.layout.l4;
        match self.layout.family {
            // All but length, id and checksum; options, that is the tag, included.
            Family::V4 => {
                let counted = self.first_id.wrapping_add(self.count as u16) == candidate.id;
                let fixed = ours[6] & DONT_FRAGMENT != 0 && candidate.id == self.first_id;
                (counted || fixed)
                    && ours[..2] == theirs[..2]
                    && ours[6..10] == theirs[6..10]
                    && ours[12..l4] == theirs[12..l4]
            }
            // All but the length; destination options, that is the tag, included.
            Family::V6 => ours[..4] == theirs[..4] && ours[6..l4] == theirs[6..l4],
        }
    }

    fn same_l4(&self, candidate: &Candidate, theirs: &[u8], ours: &[u8]) -> bool {
        let ours = &ours[self.layout.l4..];
        let theirs = &theirs[self.layout.l4..self.layout.payload];
        if self.layout.protocol != TCP {
            return self.count < MAX_DATAGRAMS && ours[..4] == theirs[..4];
        }
        // All but sequence number, PSH and checksum.
        candidate.sequence == self.next_sequence
            && ours[..4] == theirs[..4]
            && ours[8..13] == theirs[8..13]
            && (ours[13] ^ theirs[13]) & !PSH == 0
            && ours[14..16] == theirs[14..16]
            && ours[18..] == theirs[18..]
    }

    fn grow(&mut self, candidate: &Candidate, now: u64) {
        self.length += candidate.payload;
        self.count += 1;
        self.next_sequence = self.next_sequence.wrapping_add(candidate.payload as u32);
        self.complete = candidate.push || candidate.payload < self.gso_size;
        self.last_used = now;
        if candidate.push {
            self.frame[VNET_LEN + self.layout.l4 + 13] |= PSH;
        }
    }

    /// Fixes lengths and checksums of the headers, now that the super-packet is whole.
    fn finish(&mut self) -> VnetHeader {
        let Layout {
            family,
            protocol,
            l4,
            payload,
        } = self.layout;
        let packet = &mut self.frame[VNET_LEN..VNET_LEN + self.length];
        let addresses = family.addresses();
        let length = packet.len();
        let pseudo = pseudo_header(&packet[addresses], protocol, length - l4).folded();
        let (ip, segment) = packet.split_at_mut(l4);
        // `MAX_PACKET` keeps all lengths within 16 bits.
        match family {
            Family::V4 => {
                write_u16(ip, 2, length as u16);
                ip[10..12].fill(0);
                let sum = Sum::default().bytes(ip).checksum();
                ip[10..12].copy_from_slice(&sum);
            }
            Family::V6 => write_u16(ip, 4, (length - IPV6_MIN) as u16),
        }
        if protocol != TCP {
            let datagrams = segment.len() as u16;
            write_u16(segment, 4, datagrams);
        }
        let at = checksum_offset(protocol);
        segment[at..at + 2].copy_from_slice(&pseudo);
        VnetHeader {
            gso: match (protocol, family) {
                (TCP, Family::V4) => Gso::TcpV4,
                (TCP, Family::V6) => Gso::TcpV6,
                _ => Gso::Udp,
            },
            header_len: payload as u16,
            gso_size: self.gso_size as u16,
            checksum: Some(PartialChecksum {
                start: l4 as u16,
                offset: at as u16,
            }),
        }
    }
}
