//! The header the kernel puts before each packet of a TUN opened with `IFF_VNET_HDR`
//! (virtio 1.2, section 5.1.6; fields in the machine's byte order for TUN).

/// Bytes before each packet, read and written.
pub(crate) const VNET_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

/// What kind of super-packet follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gso {
    /// One plain packet.
    None,
    /// TCP over IPv4, to be cut to segments.
    TcpV4,
    /// TCP over IPv6, to be cut to segments.
    TcpV6,
    /// UDP datagrams of one size behind a common header, either family.
    Udp,
}

/// A checksum that still has to be computed: the field holds the pseudo-header's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartialChecksum {
    /// Where summing starts: the L4 header.
    pub(crate) start: u16,
    /// Where the field is, counted from `start`.
    pub(crate) offset: u16,
}

/// The header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    pub(crate) gso: Gso,
    /// IP and L4 headers together; a hint of the kernel's, exact when we write it.
    pub(crate) header_len: u16,
    /// Payload bytes per segment.
    pub(crate) gso_size: u16,
    pub(crate) checksum: Option<PartialChecksum>,
}

impl VnetHeader {
    /// A plain packet whose checksums are complete.
    pub(crate) const PLAIN: Self = Self {
        gso: Gso::None,
        header_len: 0,
        gso_size: 0,
        checksum: None,
    };

    /// `None` for a super-packet of a kind we never asked the kernel for.
    pub(crate) fn decode(bytes: &[u8; VNET_LEN]) -> Option<Self> {
        let [flags, gso_type, header @ ..] = *bytes;
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let gso = match gso_type {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::TcpV4,
            GSO_TCPV6 => Gso::TcpV6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return None,
        };
        let checksum = (flags & NEEDS_CSUM != 0).then(|| PartialChecksum {
            start: word(4),
            offset: word(6),
        });
        Some(Self {
            gso,
            header_len: word(0),
            gso_size: word(2),
            checksum,
        })
    }

    pub(crate) fn encode(&self) -> [u8; VNET_LEN] {
        let mut bytes = [0; VNET_LEN];
        bytes[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        if let Some(partial) = self.checksum {
            bytes[0] = NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&partial.start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&partial.offset.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_encoding() {
        for gso in [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::Udp] {
            for checksum in [
                None,
                Some(PartialChecksum {
                    start: 28,
                    offset: 16,
                }),
            ] {
                let header = VnetHeader {
                    gso,
                    header_len: 60,
                    gso_size: 1380,
                    checksum,
                };
                assert_eq!(VnetHeader::decode(&header.encode()), Some(header));
            }
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        // 3 is UDP fragmentation offload, 0x80 the ECN bit: neither is offered to the kernel.
        for kind in [2, 3, 6, 0x80, 0x81] {
            let mut bytes = VnetHeader::PLAIN.encode();
            bytes[1] = kind;
            assert_eq!(VnetHeader::decode(&bytes), None, "kind {kind:#x}");
        }
    }
}
