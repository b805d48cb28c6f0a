//! Cuts a super-packet from the TUN into the packets it stands for, in place.
//!
//! The header of each segment is written over the end of the payload before it, which has
//! been handed out by then, so that no payload byte is moved.

use crate::{
    checksum::{Sum, pseudo_header},
    packet::{Family, IPV6_MIN, TCP, UDP, l4_header_len, read_u16, read_u32, write_u16},
    vnet::{Gso, VnetHeader},
};

/// All headers of one packet, IP options and extensions included. IPv4 has at most 60 + 60
/// bytes; IPv6 extensions beyond this are not segmented.
const MAX_HEADERS: usize = 512;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The vnet header and the packet behind it contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Hands every packet that `packet` stands for to `emit`, in order, checksums complete.
///
/// # Errors
/// If the headers make no sense; nothing was emitted then.
#[inline]
pub(crate) fn split(
    header: &VnetHeader,
    packet: &mut [u8],
    emit: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    match header.gso {
        Gso::None => whole(header, packet, emit),
        Gso::TcpV4 => cut(Family::V4, TCP, header, packet, emit),
        Gso::TcpV6 => cut(Family::V6, TCP, header, packet, emit),
        Gso::Udp => match packet.first().ok_or(Malformed)? >> 4 {
            4 => cut(Family::V4, UDP, header, packet, emit),
            6 => cut(Family::V6, UDP, header, packet, emit),
            _ => Err(Malformed),
        },
    }
}

fn whole(
    header: &VnetHeader,
    packet: &mut [u8],
    mut emit: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    if let Some(partial) = header.checksum {
        let start = usize::from(partial.start);
        let segment = packet.get_mut(start..).ok_or(Malformed)?;
        let at = usize::from(partial.offset);
        if at + 2 > segment.len() {
            return Err(Malformed);
        }
        // The field holds the pseudo-header's sum, so summing over it completes it.
        let sum = Sum::default().bytes(segment).checksum();
        segment[at..at + 2].copy_from_slice(&never_zero(sum));
    }
    emit(packet);
    Ok(())
}

#[inline]
fn cut(
    family: Family,
    protocol: u8,
    header: &VnetHeader,
    packet: &mut [u8],
    mut emit: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    let l4 = usize::from(header.checksum.ok_or(Malformed)?.start);
    let mss = usize::from(header.gso_size);
    let payload =
        l4 + l4_header_len(protocol, packet.get(l4..).ok_or(Malformed)?).ok_or(Malformed)?;
    let minimum = match family {
        Family::V4 => 20,
        Family::V6 => IPV6_MIN,
    };
    if mss == 0 || l4 < minimum || payload > MAX_HEADERS || payload >= packet.len() {
        return Err(Malformed);
    }
    let mut stored = [0; MAX_HEADERS];
    let template = &mut stored[..payload];
    template.copy_from_slice(&packet[..payload]);
    let mut headers = Headers::new(family, protocol, l4, template);

    let end = packet.len();
    let mut start = payload;
    while start < end {
        let length = mss.min(end - start);
        let segment = &mut packet[start - payload..start + length];
        headers.write(segment, start == payload, start + length == end);
        emit(segment);
        start += length;
    }
    Ok(())
}

/// The headers all segments share, with the sums over what does not change.
struct Headers<'a> {
    family: Family,
    protocol: u8,
    l4: usize,
    template: &'a [u8],
    /// Over the IPv4 header without length, id and checksum.
    ip: Sum,
    /// Over the pseudo-header without the length.
    pseudo: Sum,
    id: u16,
    sequence: u32,
}

impl<'a> Headers<'a> {
    fn new(family: Family, protocol: u8, l4: usize, template: &'a mut [u8]) -> Self {
        let mut id = 0;
        if family == Family::V4 {
            id = read_u16(template, 4);
            template[2..6].fill(0);
            template[10..12].fill(0);
        }
        let pseudo = pseudo_header(&template[family.addresses()], protocol, 0);
        let sequence = if protocol == TCP {
            read_u32(template, l4 + 4)
        } else {
            0
        };
        template[l4 + checksum_offset(protocol)..][..2].fill(0);
        Self {
            family,
            protocol,
            l4,
            ip: Sum::default().bytes(&template[..l4]),
            template,
            pseudo,
            id,
            sequence,
        }
    }

    #[inline]
    fn write(&mut self, segment: &mut [u8], first: bool, last: bool) {
        let length = segment.len();
        let headers = self.template.len();
        segment[..headers].copy_from_slice(self.template);
        let (ip, l4) = segment.split_at_mut(self.l4);
        // A segment is at most as long as the super-packet, which is shorter than 64 KiB.
        match self.family {
            Family::V4 => {
                write_u16(ip, 2, length as u16);
                write_u16(ip, 4, self.id);
                let sum = self.ip.word(length as u16).word(self.id);
                ip[10..12].copy_from_slice(&sum.checksum());
                self.id = self.id.wrapping_add(1);
            }
            Family::V6 => write_u16(ip, 4, (length - IPV6_MIN) as u16),
        }
        if self.protocol == TCP {
            l4[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            if !first {
                l4[13] &= !CWR;
            }
            if !last {
                l4[13] &= !(FIN | PSH);
            }
            self.sequence = self.sequence.wrapping_add((length - headers) as u32);
        } else {
            write_u16(l4, 4, l4.len() as u16);
        }
        let sum = self.pseudo.word(l4.len() as u16).bytes(l4).checksum();
        let at = checksum_offset(self.protocol);
        let sum = if self.protocol == UDP {
            never_zero(sum)
        } else {
            sum
        };
        l4[at..at + 2].copy_from_slice(&sum);
    }
}

/// Where the checksum is in a TCP or UDP header.
#[inline]
pub(crate) fn checksum_offset(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

/// UDP's checksum 0 means "none", so a computed 0 is sent as its other form (RFC 768); for
/// other protocols both forms are the same number.
fn never_zero(sum: [u8; 2]) -> [u8; 2] {
    if sum == [0, 0] { [0xff, 0xff] } else { sum }
}
