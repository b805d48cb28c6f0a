//! Packets made by hand, for workloads and wires that do not play by the rules.

use std::net::IpAddr;

/// A UDP packet in the making; what is not said is as an honest pod would send it.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Destination and source MAC.
    pub ethernet: ([u8; 6], [u8; 6]),
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// IPv4 options, padded to a multiple of 4.
    pub options: Vec<u8>,
    /// IPv6 extension header: its number and its bytes, whose first is overwritten with UDP's.
    pub extension: Option<(u8, Vec<u8>)>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Udp {
    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let (to, from) = self.ethernet;
        let kind: [u8; 2] = if self.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        };
        [&to[..], &from[..], &kind[..], &self.packet()].concat()
    }

    /// The IP packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let udp = self.udp();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = 20 + self.options.len();
                let total = u16::try_from(header_len + udp.len()).unwrap_or(u16::MAX);
                let mut header = vec![0x40 | (header_len / 4) as u8, 0];
                header.extend(total.to_be_bytes());
                header.extend([0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                [header, udp].concat()
            }
            (source, destination) => {
                let (next, extension) = match &self.extension {
                    Some((number, bytes)) => {
                        let mut bytes = bytes.clone();
                        bytes[0] = 17;
                        (*number, bytes)
                    }
                    None => (17, Vec::new()),
                };
                let length = u16::try_from(extension.len() + udp.len()).unwrap_or(u16::MAX);
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                header.extend([next, 64]);
                header.extend(octets(source));
                header.extend(octets(destination));
                [header, extension, udp].concat()
            }
        }
    }

    fn udp(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).unwrap_or(u16::MAX);
        let mut udp = Vec::new();
        udp.extend(self.ports.0.to_be_bytes());
        udp.extend(self.ports.1.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let mut pseudo = octets(self.source);
        pseudo.extend(octets(self.destination));
        pseudo.extend([0, 17]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&udp);
        let sum = match checksum(&pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        udp
    }
}

/// The tag of an IPv4 packet: option 158, eight bytes, `epoch:8 | label:40`.
#[must_use]
pub fn tag4(epoch: u8, label: u64) -> Vec<u8> {
    let label = label.to_be_bytes();
    vec![
        0x9e, 8, epoch, label[3], label[4], label[5], label[6], label[7],
    ]
}

/// The tag of an IPv6 packet: a destination options header of 16 bytes, option 0x5e.
#[must_use]
pub fn tag6(epoch: u8, label: u64) -> (u8, Vec<u8>) {
    let mut header = vec![0, 1, 0x5e, 6];
    header.push(epoch);
    header.extend(&label.to_be_bytes()[3..]);
    header.extend([1, 4, 0, 0, 0, 0]);
    (60, header)
}

/// The Internet checksum (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The bytes of an address.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
