//! The tag, 48 bits: `epoch:8 | label:40`. In IPv4 the first option, 8 bytes; in IPv6 a
//! Destination Options header of its own, 16 bytes, right behind the IPv6 header. Both are of
//! kinds that a host which does not know them must drop or cannot take for its own: an unaware
//! receiver fails closed.

use signet_abi::{DropReason, LABEL_BITS, TAG_LEN_V4, TAG_LEN_V6, TAG_OPTION_V4, TAG_OPTION_V6};

use crate::parse::{Family, IPV4_LEN, IPV6_LEN, Packet, be16};

const V4: usize = TAG_LEN_V4 as usize;
const V6: usize = TAG_LEN_V6 as usize;
const DESTINATION_OPTIONS: u8 = 60;
/// Largest number in either family's length field.
const MAX_LENGTH: usize = 65535;

/// Who speaks, by the receiver's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The epoch's low byte: it names the drop, the row's whole epoch decides.
    pub epoch: u8,
    /// The label, 40 bits.
    pub label: u64,
}

impl Tag {
    /// The tag of a row.
    pub(crate) fn new(epoch: u64, label: u64) -> Self {
        Self {
            epoch: epoch as u8,
            label: label & ((1 << LABEL_BITS) - 1),
        }
    }

    /// The tag in the option that `options` begin with, if that is the tag's.
    pub(crate) fn in_option(options: &[u8], head: [u8; 2]) -> Option<Self> {
        let option = options.get(..8)?;
        if option[..2] != head {
            return None;
        }
        let label = option[3..8]
            .iter()
            .fold(0u64, |label, byte| label << 8 | u64::from(*byte));
        Some(Self {
            epoch: option[2],
            label,
        })
    }

    fn option(self, head: [u8; 2]) -> [u8; 8] {
        let [_, _, _, l0, l1, l2, l3, l4] = self.label.to_be_bytes();
        [head[0], head[1], self.epoch, l0, l1, l2, l3, l4]
    }
}

/// The packet with a tag in first place. `bytes` begin with the IP header `packet` was read from;
/// what lies behind the packet's own length stays there.
pub(crate) fn add(packet: &Packet, bytes: &[u8], tag: Tag) -> Result<Vec<u8>, DropReason> {
    let mut out = bytes.to_vec();
    match packet.family {
        Family::V4 => {
            if packet.length + V4 > MAX_LENGTH {
                return Err(DropReason::PacketTooLarge);
            }
            // The header's length counts words in four bits: 13 + 2 is the most.
            if bytes[0] & 15 > 13 {
                return Err(DropReason::TagFailed);
            }
            let option = tag.option([TAG_OPTION_V4, TAG_LEN_V4 as u8]);
            out.splice(IPV4_LEN..IPV4_LEN, option);
            out[0] += 2;
            set_be16(&mut out, 2, packet.length + V4);
            carry_checksum(bytes, &mut out);
        }
        Family::V6 => {
            let payload = packet.length - IPV6_LEN + V6;
            if payload > MAX_LENGTH {
                return Err(DropReason::PacketTooLarge);
            }
            let mut header = vec![bytes[6], 1];
            header.extend(tag.option([TAG_OPTION_V6, 6]));
            // PadN, four bytes of zeroes: the header's length is a multiple of eight.
            header.extend([1, 4, 0, 0, 0, 0]);
            out.splice(IPV6_LEN..IPV6_LEN, header);
            out[6] = DESTINATION_OPTIONS;
            set_be16(&mut out, 4, payload);
        }
    }
    Ok(out)
}

/// The packet without the tag that [`Packet::tag`] says is there.
pub(crate) fn strip(packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match packet.family {
        Family::V4 => {
            out.drain(IPV4_LEN..IPV4_LEN + V4);
            out[0] -= 2;
            set_be16(&mut out, 2, packet.length - V4);
            carry_checksum(bytes, &mut out);
        }
        Family::V6 => {
            out[6] = bytes[IPV6_LEN];
            out.drain(IPV6_LEN..IPV6_LEN + V6);
            set_be16(&mut out, 4, packet.length - IPV6_LEN - V6);
        }
    }
    out
}

/// Gives the changed header the checksum that is as right or as wrong as the old one was: a
/// damaged packet must not be blessed on its way.
fn carry_checksum(before: &[u8], after: &mut [u8]) {
    let want = header_sum(before);
    set_be16(after, 10, 0);
    let have = header_sum(after);
    // One's complement: arithmetic modulo 65535.
    set_be16(after, 10, ((want + 65535 - have) % 65535) as usize);
}

/// The sum of the IPv4 header's words, modulo 65535: 0 for a right header.
fn header_sum(bytes: &[u8]) -> u32 {
    let header_len = usize::from(bytes[0] & 15) * 4;
    bytes[..header_len]
        .chunks_exact(2)
        .map(|word| u32::from(be16(word, 0)))
        .sum::<u32>()
        % 65535
}

fn set_be16(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}
