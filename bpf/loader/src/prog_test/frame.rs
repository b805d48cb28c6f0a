//! Builds Ethernet frames for tests, right down to the checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame carries above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP without options.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Flag bits: FIN 1, SYN 2, RST 4, ACK 16.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP or ICMPv6, by the family of the addresses.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The second word: identifier and sequence, unused, or MTU.
        word: u32,
    },
    /// Any protocol, header included in the payload.
    Raw(u8),
}

/// A fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// More follow.
    pub more: bool,
}

/// A frame to be built; start from [`Frame::new`] and change what the test is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source; its family is the frame's.
    pub src: IpAddr,
    /// Destination, of the same family.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4: option bytes, a multiple of four.
    pub options: Vec<u8>,
    /// IPv6: (number, bytes) of the extension headers; the first byte is set to the next number.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Set for a fragment.
    pub fragment: Option<Fragment>,
    /// What is above IP.
    pub transport: Transport,
    /// What is above that.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame with no options and a short payload.
    pub fn new(src: IpAddr, dst: IpAddr, transport: Transport) -> Self {
        Self {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            src,
            dst,
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            transport,
            payload: b"payload!".to_vec(),
        }
    }

    /// The bytes. Families that don't match give an IPv6 frame of mapped addresses.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.dst_mac);
        frame.extend(self.src_mac);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ipv4(src, dst));
            }
            (src, dst) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(v6(src), v6(dst)));
            }
        }
        frame
    }

    /// The IP packet without the Ethernet header.
    pub fn build_ip(&self) -> Vec<u8> {
        self.build().split_off(14)
    }

    fn ipv4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
        let mut pseudo = Vec::new();
        pseudo.extend(src.octets());
        pseudo.extend(dst.octets());
        let body = self.body(&pseudo, false);
        let header_len = 20 + self.options.len();
        let mut ip = vec![0x40 | (header_len / 4) as u8, 0];
        ip.extend(((header_len + body.len()) as u16).to_be_bytes());
        let (id, place) = match self.fragment {
            Some(f) => (f.id as u16, f.offset | u16::from(f.more) << 13),
            None => (1, 0x4000),
        };
        // Kept as the programs see them: the identification is not byte-swapped there.
        ip.extend(id.to_ne_bytes());
        ip.extend(place.to_be_bytes());
        ip.extend([self.ttl, self.proto(false), 0, 0]);
        ip.extend(src.octets());
        ip.extend(dst.octets());
        ip.extend(&self.options);
        let check = checksum(&[&ip]);
        ip.splice(10..12, check.to_be_bytes());
        ip.extend(body);
        ip
    }

    fn ipv6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
        let mut pseudo = Vec::new();
        pseudo.extend(src.octets());
        pseudo.extend(dst.octets());
        let body = self.body(&pseudo, true);
        let mut chain = self.extensions.clone();
        if let Some(f) = self.fragment {
            let place = f.offset << 3 | u16::from(f.more);
            let mut header = vec![0, 0];
            header.extend(place.to_be_bytes());
            header.extend(f.id.to_ne_bytes());
            chain.push((44, header));
        }
        let mut extensions = Vec::new();
        for (i, (_, bytes)) in chain.iter().enumerate() {
            let next = chain
                .get(i + 1)
                .map_or(self.proto(true), |(number, _)| *number);
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut() {
                *first = next;
            }
            extensions.extend(bytes);
        }
        let first = chain
            .first()
            .map_or(self.proto(true), |(number, _)| *number);
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(((extensions.len() + body.len()) as u16).to_be_bytes());
        ip.extend([first, self.ttl]);
        ip.extend(src.octets());
        ip.extend(dst.octets());
        ip.extend(extensions);
        ip.extend(body);
        ip
    }

    fn proto(&self, ipv6: bool) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Icmp { .. } if ipv6 => 58,
            Transport::Icmp { .. } => 1,
            Transport::Raw(proto) => proto,
        }
    }

    fn body(&self, addresses: &[u8], ipv6: bool) -> Vec<u8> {
        // A later fragment has no transport header.
        if self.fragment.is_some_and(|f| f.offset > 0) {
            return self.payload.clone();
        }
        let mut body = Vec::new();
        let (check_at, pseudo) = match self.transport {
            Transport::Tcp {
                sport,
                dport,
                flags,
            } => {
                body.extend(sport.to_be_bytes());
                body.extend(dport.to_be_bytes());
                body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (16, true)
            }
            Transport::Udp { sport, dport } => {
                body.extend(sport.to_be_bytes());
                body.extend(dport.to_be_bytes());
                body.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                body.extend([0, 0]);
                (6, true)
            }
            Transport::Icmp { kind, code, word } => {
                body.extend([kind, code, 0, 0]);
                body.extend(word.to_be_bytes());
                (2, ipv6)
            }
            Transport::Raw(_) => return self.payload.clone(),
        };
        body.extend(&self.payload);
        let mut tail = Vec::new();
        if pseudo {
            tail.extend((body.len() as u32).to_be_bytes());
            tail.extend([0, 0, 0, self.proto(ipv6)]);
        }
        let check = if pseudo {
            checksum(&[addresses, &tail, &body])
        } else {
            checksum(&[&body])
        };
        body.splice(check_at..check_at + 2, check.to_be_bytes());
        body
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The Internet checksum (RFC 1071) of parts of even length (the last may be odd).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let word = match *pair {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            sum += u32::from(word);
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The IPv4 option that carries a tag.
pub fn tag_option(epoch: u8, label: u64) -> Vec<u8> {
    let mut option = vec![signet_abi::TAG_OPTION_V4, 8, epoch];
    option.extend(label.to_be_bytes().into_iter().skip(3));
    option
}

/// The IPv6 Destination Options header that carries a tag, as an extension of [`Frame`].
pub fn tag_extension(epoch: u8, label: u64) -> (u8, Vec<u8>) {
    let mut header = vec![0, 1, signet_abi::TAG_OPTION_V6, 6, epoch];
    header.extend(label.to_be_bytes().into_iter().skip(3));
    header.extend([1, 4, 0, 0, 0, 0]);
    (60, header)
}
