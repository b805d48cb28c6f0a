//! Just enough of IP, TCP and UDP to cut super-packets and to put them together again.
//!
//! The tag (an IPv4 option, or an IPv6 destination option) is never interpreted here: it is
//! part of the bytes before L4 and is carried and compared as such.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

const IPV4_MIN: usize = 20;
pub(crate) const IPV6_MIN: usize = 40;
const TCP_MIN: usize = 20;
pub(crate) const UDP_LEN: usize = 8;

const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers before L4 that are looked through; the tag is one of them.
const MAX_EXTENSIONS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where the layers of an unfragmented TCP or UDP packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    /// [`TCP`] or [`UDP`].
    pub(crate) protocol: u8,
    /// Offset of the L4 header: all of IP with options and extensions before it.
    pub(crate) l4: usize,
    /// Offset of the payload: all headers before it.
    pub(crate) payload: usize,
}

impl Layout {
    /// Reads the layout of a whole packet; `None` for fragments, other protocols, and
    /// packets whose lengths contradict each other.
    #[inline]
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let (family, protocol, l4) = match packet.first()? >> 4 {
            4 => {
                let l4 = ipv4_l4(packet)?;
                (Family::V4, packet[9], l4)
            }
            6 => {
                let (protocol, l4) = ipv6_l4(packet)?;
                (Family::V6, protocol, l4)
            }
            _ => return None,
        };
        let payload = l4 + l4_header_len(protocol, packet.get(l4..)?)?;
        (payload <= packet.len()).then_some(Self {
            family,
            protocol,
            l4,
            payload,
        })
    }
}

impl Family {
    /// The part of an IP header that holds source and destination address.
    pub(crate) fn addresses(self) -> std::ops::Range<usize> {
        match self {
            Self::V4 => 12..20,
            Self::V6 => 8..40,
        }
    }
}

/// Length of the TCP or UDP header at the start of `segment`.
#[inline]
pub(crate) fn l4_header_len(protocol: u8, segment: &[u8]) -> Option<usize> {
    match protocol {
        TCP => {
            let length = usize::from(segment.get(12)? >> 4) * 4;
            (length >= TCP_MIN && length <= segment.len()).then_some(length)
        }
        UDP => (segment.len() >= UDP_LEN).then_some(UDP_LEN),
        _ => None,
    }
}

/// Inner source and destination; `None` if it is no IP packet.
#[inline]
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((
                Ipv4Addr::from(source).into(),
                Ipv4Addr::from(destination).into(),
            ))
        }
        6 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((
                Ipv6Addr::from(source).into(),
                Ipv6Addr::from(destination).into(),
            ))
        }
        _ => None,
    }
}

#[inline]
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(crate) fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn ipv4_l4(packet: &[u8]) -> Option<usize> {
    if packet.len() < IPV4_MIN || usize::from(read_u16(packet, 2)) != packet.len() {
        return None;
    }
    let l4 = usize::from(packet[0] & 0x0f) * 4;
    let fragmented = read_u16(packet, 6) & 0x3fff != 0;
    (l4 >= IPV4_MIN && l4 <= packet.len() && !fragmented).then_some(l4)
}

#[inline]
fn ipv6_l4(packet: &[u8]) -> Option<(u8, usize)> {
    if packet.len() < IPV6_MIN || usize::from(read_u16(packet, 4)) + IPV6_MIN != packet.len() {
        return None;
    }
    let mut next = packet[6];
    let mut at = IPV6_MIN;
    for _ in 0..MAX_EXTENSIONS {
        if next != HOP_BY_HOP && next != DESTINATION_OPTIONS {
            break;
        }
        let extension = packet.get(at..at + 8)?;
        next = extension[0];
        at += (usize::from(extension[1]) + 1) * 8;
    }
    (at <= packet.len()).then_some((next, at))
}
