//! The Internet checksum (RFC 1071), fast enough to run over every byte twice.
//!
//! A ones-complement sum does not care about byte order as long as words are read and the
//! result is written in the same one, so everything here is in the machine's own order.

/// A running ones-complement sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset of what is summed.
    #[inline]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut lanes = [0u64; 4];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                *lane = add(*lane, u64::from_ne_bytes(*word));
            }
        }
        let mut sum = self.0;
        for lane in lanes {
            sum = add(sum, lane);
        }
        let (words, rest) = blocks.remainder().as_chunks::<8>();
        for word in words {
            sum = add(sum, u64::from_ne_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        Self(add(sum, u64::from_ne_bytes(last)))
    }

    /// Adds one 16-bit number that the packet carries in network order.
    #[inline]
    pub(crate) fn word(self, word: u16) -> Self {
        Self(add(self.0, u64::from(word.to_be())))
    }

    /// The sum folded to 16 bits, as the two bytes that go into the packet.
    #[inline]
    pub(crate) fn folded(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub(crate) fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// Whether the summed bytes, checksum field included, are intact.
    #[inline]
    pub(crate) fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }

    #[inline]
    fn fold(self) -> u16 {
        let mut sum = self.0;
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        // Two folds of a 32-bit number leave at most 0x1_0000, the third at most 0xffff.
        sum as u16
    }
}

/// The sum over the pseudo-header of TCP and UDP; `addresses` are source and destination as
/// they stand in the IP header of either family.
#[inline]
pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    // An L4 segment inside an IP packet is shorter than 64 KiB; IPv6 jumbograms are refused
    // by the parser.
    Sum::default()
        .bytes(addresses)
        .word(u16::from(protocol))
        .word(length as u16)
}

/// Adds with the carry fed back in: 2^64 is 1 in ones-complement arithmetic of any width
/// that divides 64.
#[inline]
fn add(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + u64::from(carry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, section 4.1, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).folded(), [0xdd, 0xf2]);
    }

    #[test]
    fn all_ones_do_not_overflow() {
        let bytes = vec![0xff; 65536];
        assert_eq!(Sum::default().bytes(&bytes).folded(), [0xff, 0xff]);
        assert!(Sum::default().bytes(&bytes).word(0xffff).is_intact());
    }

    proptest! {
        #[test]
        fn fast_equals_slow(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), slow(&bytes).to_be_bytes());
        }

        #[test]
        fn parts_and_words_add_up(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            word in any::<u16>(),
            cut in 0usize..150,
        ) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let mut whole = word.to_be_bytes().to_vec();
            whole.extend_from_slice(&bytes);
            let parts = Sum::default().bytes(&bytes[..cut]).word(word).bytes(&bytes[cut..]);
            prop_assert_eq!(parts.folded(), Sum::default().bytes(&whole).folded());
        }
    }
}
