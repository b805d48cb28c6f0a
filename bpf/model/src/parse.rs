//! Reading a packet: everything the verdicts ask about, and nothing they could be fooled by.
//!
//! What counts is what the IP header says is there. Bytes behind the packet's own length (padding
//! of the link, or put there on purpose) are never read: the stack would cut them off after the
//! verdict and deliver something else than was judged.

use signet_abi::{
    Addr, DropReason, MAX_EXTENSION_HEADERS, TAG_LEN_V4, TAG_LEN_V6, TAG_OPTION_V4, TAG_OPTION_V6,
};

use crate::address;
use crate::quote::{self, Quote};
use crate::tag::Tag;

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;
pub(crate) const IPIP: u8 = 4;
pub(crate) const IPV6_IN_IP: u8 = 41;
pub(crate) const ICMP_V4: u8 = 1;
pub(crate) const ICMP_V6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(crate) const IPV4_LEN: usize = 20;
pub(crate) const IPV6_LEN: usize = 40;
/// Longest IPv6 options header that is searched; a longer one is refused unread, because the
/// programs' work per packet must be bounded.
const MAX_OPTIONS_HEADER: usize = 64;

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Version of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Protocol number of the family's ICMP.
    pub fn icmp(self) -> u8 {
        match self {
            Self::V4 => ICMP_V4,
            Self::V6 => ICMP_V6,
        }
    }

    /// An echo request or reply: both ends know the flow by its identifier.
    pub(crate) fn is_echo(self, icmp_type: u8) -> bool {
        match self {
            Self::V4 => matches!(icmp_type, 0 | 8),
            Self::V6 => matches!(icmp_type, 128 | 129),
        }
    }

    /// A message about another packet, which it quotes.
    pub(crate) fn is_error(self, icmp_type: u8) -> bool {
        match self {
            Self::V4 => matches!(icmp_type, 3 | 11 | 12),
            Self::V6 => matches!(icmp_type, 1..=4),
        }
    }
}

/// Which part of a datagram a packet carries. The identification is the header's bytes as they
/// lie in memory, as in [`signet_abi::FragKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The part with the transport header.
    First {
        /// Identification.
        id: u32,
    },
    /// A part without.
    Later {
        /// Identification.
        id: u32,
    },
}

/// A packet that may be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Version of the IP header.
    pub family: Family,
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Protocol behind the IP header and its extensions.
    pub proto: u8,
    /// Source port, or the identifier of an echo; 0 for others, and for later fragments until
    /// they are looked up.
    pub sport: u16,
    /// Destination port, or the identifier of an echo.
    pub dport: u16,
    /// Flags of a TCP segment that shows its header.
    pub tcp_flags: u8,
    /// Type of an ICMP message of the packet's family.
    pub icmp_type: Option<u8>,
    /// What an ICMP error is about.
    pub quote: Option<Quote>,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Our tag, in first position.
    pub tag: Option<Tag>,
    /// Length by the IP header's own word, header included.
    pub length: usize,
    /// Where the transport header begins, from the start of the IP header.
    pub transport: usize,
    /// Neighbour or router discovery from this very link.
    pub neighbour: bool,
}

impl Packet {
    pub(crate) fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Fragment::Later { .. })
    }

    /// Opens a TCP connection: only a rule for its own direction can admit it.
    pub(crate) fn is_opening(&self) -> bool {
        self.proto == TCP
            && !self.is_later_fragment()
            && self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// A TCP segment that may belong to a connection nobody remembers. Not so the second of a
    /// handshake: whoever asked for it will ask again.
    pub(crate) fn is_midstream(&self) -> bool {
        self.proto == TCP && self.tcp_flags & TCP_SYN == 0
    }
}

/// What is known of a packet, judged fit or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// By the EtherType; `None` if it is not IP.
    pub family: Option<Family>,
    /// Source and destination if the header is long enough to have them, even if the rest is
    /// rubbish: the guard of the underlay asks.
    pub addresses: Option<(Addr, Addr)>,
    /// The packet, or why it is none.
    pub packet: Result<Packet, DropReason>,
}

/// Reads the IP packet that `bytes` begin with; `protocol` is its EtherType.
pub fn parse(protocol: u16, bytes: &[u8]) -> Parsed {
    let (family, addresses_at, packet) = match protocol {
        ETHERTYPE_IPV4 => (Family::V4, 12..IPV4_LEN, parse_v4(bytes)),
        ETHERTYPE_IPV6 => (Family::V6, 8..IPV6_LEN, parse_v6(bytes)),
        _ => {
            return Parsed {
                family: None,
                addresses: None,
                packet: Err(DropReason::NotIp),
            };
        }
    };
    Parsed {
        family: Some(family),
        addresses: bytes
            .get(addresses_at)
            .and_then(|bytes| address::pair(family, bytes)),
        packet,
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Packet, DropReason> {
    let header = bytes.get(..IPV4_LEN).ok_or(DropReason::Malformed)?;
    let header_len = usize::from(header[0] & 15) * 4;
    let length = usize::from(be16(header, 2));
    if header[0] >> 4 != 4 || header_len < IPV4_LEN || length < header_len || length > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let ip = &bytes[..length];
    let (src, dst) = address::pair(Family::V4, &ip[12..20]).ok_or(DropReason::Malformed)?;

    let mut options = &ip[IPV4_LEN..header_len];
    let tag = Tag::in_option(options, [TAG_OPTION_V4, TAG_LEN_V4 as u8]);
    if tag.is_some() {
        options = &options[TAG_LEN_V4 as usize..];
    }
    check_options_v4(options)?;

    let id = u32::from(u16::from_ne_bytes([ip[4], ip[5]]));
    let offset_and_flags = be16(ip, 6);
    let fragment = if offset_and_flags & 0x1fff != 0 {
        Fragment::Later { id }
    } else if offset_and_flags & 0x2000 != 0 {
        Fragment::First { id }
    } else {
        Fragment::Whole
    };
    let mut packet = Packet {
        family: Family::V4,
        src,
        dst,
        proto: ip[9],
        sport: 0,
        dport: 0,
        tcp_flags: 0,
        icmp_type: None,
        quote: None,
        fragment,
        tag,
        length,
        transport: header_len,
        neighbour: false,
    };
    parse_transport(&mut packet, ip)?;
    Ok(packet)
}

/// No second tag, no source route, nothing that runs over the header's end.
fn check_options_v4(mut options: &[u8]) -> Result<(), DropReason> {
    loop {
        options = match options {
            // The end, by length or by the option of that name.
            [] | [0, ..] => return Ok(()),
            [1, rest @ ..] => rest,
            [TAG_OPTION_V4, ..] => return Err(DropReason::ForeignTag),
            // Loose and strict source route, with or without the copied flag.
            [kind, ..] if matches!(kind & 0x7f, 3 | 9) => return Err(DropReason::SourceRouted),
            [_, size, ..] if *size >= 2 => options
                .get(usize::from(*size)..)
                .ok_or(DropReason::Malformed)?,
            _ => return Err(DropReason::Malformed),
        };
    }
}

fn parse_v6(bytes: &[u8]) -> Result<Packet, DropReason> {
    let header = bytes.get(..IPV6_LEN).ok_or(DropReason::Malformed)?;
    let payload = usize::from(be16(header, 4));
    let length = IPV6_LEN + payload;
    // Length 0 is a jumbogram: neither needed nor carried.
    if header[0] >> 4 != 6 || payload == 0 || length > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let ip = &bytes[..length];
    let (src, dst) = address::pair(Family::V6, &ip[8..40]).ok_or(DropReason::Malformed)?;
    if address::is_mapped(&src) || address::is_mapped(&dst) {
        return Err(DropReason::Malformed);
    }

    let mut packet = Packet {
        family: Family::V6,
        src,
        dst,
        proto: 0,
        sport: 0,
        dport: 0,
        tcp_flags: 0,
        icmp_type: None,
        quote: None,
        fragment: Fragment::Whole,
        tag: None,
        length,
        transport: IPV6_LEN,
        neighbour: false,
    };
    walk_extensions(&mut packet, ip)?;
    parse_transport(&mut packet, ip)?;
    if packet.proto == ICMP_V6 && matches!(packet.icmp_type, Some(133..=137)) {
        // Routers never forward these (RFC 4861, 6.1), so any other hop limit is from afar; and
        // nobody fragments them (RFC 6980).
        if ip[7] != 255 || packet.fragment != Fragment::Whole {
            return Err(DropReason::Malformed);
        }
        packet.neighbour = true;
    }
    Ok(packet)
}

/// Finds the transport protocol behind the extension headers, and the tag before them.
fn walk_extensions(packet: &mut Packet, ip: &[u8]) -> Result<(), DropReason> {
    let mut next = ip[6];
    let mut own = 0;
    loop {
        match next {
            ROUTING => return Err(DropReason::SourceRouted),
            HOP_BY_HOP | DESTINATION_OPTIONS | FRAGMENT => {}
            _ => break,
        }
        let header = ip.get(packet.transport..).ok_or(DropReason::Malformed)?;
        let first = packet.transport == IPV6_LEN;
        let tag = (first && next == DESTINATION_OPTIONS)
            .then(|| tag_header(header))
            .flatten();
        // The tag is ours and not counted, or a packet that was fit to send would not be to
        // receive.
        own += u32::from(tag.is_none());
        if own > MAX_EXTENSION_HEADERS {
            return Err(DropReason::Malformed);
        }
        let used = if next == FRAGMENT {
            if packet.fragment != Fragment::Whole {
                return Err(DropReason::Malformed);
            }
            packet.fragment = fragment_header(header)?;
            8
        } else {
            packet.tag = packet.tag.or(tag);
            check_options_header(header, tag.is_some())?
        };
        packet.transport += used;
        next = header[0];
        if packet.is_later_fragment() {
            break;
        }
    }
    packet.proto = next;
    Ok(())
}

/// The tag, if this header is the one it travels in: 16 bytes, the option first.
fn tag_header(header: &[u8]) -> Option<Tag> {
    let header = header.get(..TAG_LEN_V6 as usize)?;
    if header[1] != 1 {
        return None;
    }
    Tag::in_option(&header[2..], [TAG_OPTION_V6, 6])
}

/// What a fragment header says. An "atomic" fragment is a whole packet (RFC 6946).
fn fragment_header(header: &[u8]) -> Result<Fragment, DropReason> {
    let header = header.get(..8).ok_or(DropReason::Malformed)?;
    let offset_and_flags = be16(header, 2);
    let id = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    Ok(if offset_and_flags & 0xfff8 != 0 {
        Fragment::Later { id }
    } else if offset_and_flags & 1 != 0 {
        Fragment::First { id }
    } else {
        Fragment::Whole
    })
}

/// Length of an options header in which nothing is wrong.
fn check_options_header(header: &[u8], tagged: bool) -> Result<usize, DropReason> {
    let [_, units, ..] = header else {
        return Err(DropReason::Malformed);
    };
    let length = (usize::from(*units) + 1) * 8;
    if length > MAX_OPTIONS_HEADER {
        return Err(DropReason::Malformed);
    }
    // Behind the two bytes of the header itself, and the eight of the tag's option.
    let from = if tagged { 10 } else { 2 };
    let mut options = header.get(from..length).ok_or(DropReason::Malformed)?;
    loop {
        options = match options {
            [] => return Ok(length),
            [0, rest @ ..] => rest,
            [TAG_OPTION_V6, ..] => return Err(DropReason::ForeignTag),
            [_, size, rest @ ..] => rest
                .get(usize::from(*size)..)
                .ok_or(DropReason::Malformed)?,
            [_] => return Err(DropReason::Malformed),
        };
    }
}

/// Reads what the transport header says, unless it is in another fragment.
fn parse_transport(packet: &mut Packet, ip: &[u8]) -> Result<(), DropReason> {
    if packet.is_later_fragment() {
        return Ok(());
    }
    let transport = ip.get(packet.transport..).ok_or(DropReason::Malformed)?;
    match packet.proto {
        TCP | UDP | SCTP => {
            let ports = transport.get(..4).ok_or(DropReason::Malformed)?;
            packet.sport = be16(ports, 0);
            packet.dport = be16(ports, 2);
            if packet.proto == TCP {
                packet.tcp_flags = *transport.get(13).ok_or(DropReason::Malformed)?;
            }
        }
        proto if proto == packet.family.icmp() => {
            let icmp = transport.get(..8).ok_or(DropReason::Malformed)?;
            packet.icmp_type = Some(icmp[0]);
            if packet.family.is_echo(icmp[0]) {
                packet.sport = be16(icmp, 4);
                packet.dport = packet.sport;
            } else if packet.family.is_error(icmp[0]) {
                packet.quote = quote::read(packet.family, &transport[8..]);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The 16-bit number at `at`, network order. The caller has checked that it is there.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
