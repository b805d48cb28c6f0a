//! Packets for tests: built field by field, checked by the slow and obvious way.

use proptest::prelude::*;

use crate::{
    packet::{Family, TCP, UDP},
    vnet::{Gso, PartialChecksum, VNET_LEN, VnetHeader},
};

/// A TCP or UDP packet, to be built with any payload.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    /// The tag, or none: an IPv4 option of type 158 or an IPv6 destination option.
    pub(crate) tag: Option<[u8; 6]>,
    /// Last byte of both addresses and low byte of both ports.
    pub(crate) flow: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// TCP options, a multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
}

impl Spec {
    pub(crate) fn l4(&self) -> usize {
        match (self.family, self.tag) {
            (Family::V4, None) => 20,
            (Family::V4, Some(_)) => 28,
            (Family::V6, None) => 40,
            (Family::V6, Some(_)) => 56,
        }
    }

    pub(crate) fn headers(&self) -> usize {
        let l4 = if self.protocol == TCP {
            20 + self.options.len()
        } else {
            8
        };
        self.l4() + l4
    }

    /// One whole packet, checksums complete.
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.unsummed(payload);
        let l4 = self.l4();
        let sum = !slow_l4_sum(&packet, l4, self.protocol);
        let sum = if sum == 0 && self.protocol == UDP {
            0xffff
        } else {
            sum
        };
        let at = l4 + if self.protocol == TCP { 16 } else { 6 };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// A frame with a super-packet, as the kernel gives it: the checksum field holds the
    /// pseudo-header's sum.
    pub(crate) fn super_packet(&self, payload: &[u8], gso_size: u16) -> Vec<u8> {
        let mut packet = self.unsummed(payload);
        let l4 = self.l4();
        let offset = if self.protocol == TCP { 16 } else { 6 };
        let pseudo = slow_pseudo(&packet, packet.len() - l4, self.protocol);
        packet[l4 + offset..][..2].copy_from_slice(&fold(pseudo).to_be_bytes());
        let header = VnetHeader {
            gso: match (self.protocol, self.family) {
                (TCP, Family::V4) => Gso::TcpV4,
                (TCP, Family::V6) => Gso::TcpV6,
                _ => Gso::Udp,
            },
            header_len: self.headers() as u16,
            gso_size,
            checksum: Some(PartialChecksum {
                start: l4 as u16,
                offset: offset as u16,
            }),
        };
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(&packet);
        frame
    }

    /// All but the L4 checksum.
    fn unsummed(&self, payload: &[u8]) -> Vec<u8> {
        let length = self.headers() + payload.len();
        let mut packet = match self.family {
            Family::V4 => self.ipv4(length as u16),
            Family::V6 => self.ipv6((length - 40) as u16),
        };
        packet.extend_from_slice(&[0x30, self.flow, 0x40, self.flow]);
        if self.protocol == TCP {
            packet.extend_from_slice(&self.sequence.to_be_bytes());
            packet.extend_from_slice(&77u32.to_be_bytes());
            packet.push(((20 + self.options.len()) as u8 / 4) << 4);
            packet.push(self.flags);
            packet.extend_from_slice(&self.window.to_be_bytes());
            packet.extend_from_slice(&[0; 4]);
            packet.extend_from_slice(&self.options);
        } else {
            packet.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
            packet.extend_from_slice(&[0; 2]);
        }
        packet.extend_from_slice(payload);
        packet
    }

    fn ipv4(&self, length: u16) -> Vec<u8> {
        let mut header = vec![0x45, 0];
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&self.id.to_be_bytes());
        header.extend_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0]);
        header.extend_from_slice(&[64, self.protocol, 0, 0]);
        header.extend_from_slice(&[10, 1, 0, self.flow, 10, 2, 0, self.flow]);
        if let Some(tag) = self.tag {
            header[0] = 0x47;
            header.extend_from_slice(&[158, 8]);
            header.extend_from_slice(&tag);
        }
        let sum = !fold(slow_sum(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ipv6(&self, length: u16) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 5];
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&[self.protocol, 64]);
        for side in 1..3 {
            let mut address = [0; 16];
            (address[0], address[1], address[7], address[15]) = (0xfd, 0, side, self.flow);
            header.extend_from_slice(&address);
        }
        if let Some(tag) = self.tag {
            header[6] = 60;
            header.extend_from_slice(&[self.protocol, 1, 0x5e, 6]);
            header.extend_from_slice(&tag);
            header.extend_from_slice(&[1, 4, 0, 0, 0, 0]);
        }
        header
    }
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let ip = (
        any::<bool>(),
        prop::option::of(any::<[u8; 6]>()),
        any::<u16>(),
        any::<bool>(),
    );
    let tcp = (any::<u32>(), any::<u16>(), 0usize..10, any::<bool>());
    (ip, any::<bool>(), 0u8..3, tcp).prop_map(
        |((v6, tag, id, dont_fragment), udp, flow, (sequence, window, options, push))| Spec {
            family: if v6 { Family::V6 } else { Family::V4 },
            protocol: if udp { UDP } else { TCP },
            tag,
            flow,
            id,
            dont_fragment,
            sequence,
            flags: if push { 0x18 } else { 0x10 },
            window,
            options: (0..options * 4).map(|at| at as u8 + 1).collect(),
        },
    )
}

/// Length fields and checksums are those of a packet that stands alone.
pub(crate) fn assert_valid(packet: &[u8]) {
    let (l4, protocol) = match packet[0] >> 4 {
        4 => {
            let l4 = usize::from(packet[0] & 15) * 4;
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                packet.len()
            );
            assert_eq!(
                fold(slow_sum(&packet[..l4])),
                0xffff,
                "IPv4 header checksum"
            );
            (l4, packet[9])
        }
        6 => {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40,
                packet.len()
            );
            if packet[6] == 60 {
                (56, packet[40])
            } else {
                (40, packet[6])
            }
        }
        other => panic!("IP version {other}"),
    };
    if protocol == UDP {
        let length = u16::from_be_bytes([packet[l4 + 4], packet[l4 + 5]]);
        assert_eq!(usize::from(length), packet.len() - l4, "UDP length");
    }
    assert_eq!(slow_l4_sum(packet, l4, protocol), 0xffff, "L4 checksum");
}

/// A frame as [`crate::gro::FrameSink`] gets it, cut to packets.
pub(crate) fn packets_of(frame: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = frame.split_first_chunk::<VNET_LEN>().unwrap();
    let header = VnetHeader::decode(header).unwrap();
    let mut packets = Vec::new();
    crate::segment::split(&header, &mut packet.to_vec(), |segment| {
        packets.push(segment.to_vec())
    })
    .unwrap();
    packets
}

fn slow_l4_sum(packet: &[u8], l4: usize, protocol: u8) -> u16 {
    let pseudo = slow_pseudo(packet, packet.len() - l4, protocol);
    fold(pseudo + slow_sum(&packet[l4..]))
}

fn slow_pseudo(packet: &[u8], length: usize, protocol: u8) -> u32 {
    let addresses = if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    slow_sum(addresses) + u32::from(protocol) + length as u32
}

fn slow_sum(bytes: &[u8]) -> u32 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(pair).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
