//! Packets: nearly all of them nearly right.

use std::net::IpAddr;

use signet_loader::prog_test::frame::{Fragment, Frame, Transport, tag_extension, tag_option};

use crate::random::Random;

/// What a flow's packets carry, as its opener sends them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carries {
    Tcp(u16, u16),
    Udp(u16, u16),
    Sctp(u16, u16),
    Echo(u16),
    Other(u8),
}

impl Carries {
    pub(crate) fn any(random: &mut Random) -> Self {
        let sport = random.pick(&[40000, 40001, 80]);
        let dport = random.pick(&[80, 80, 443, 53, 8080, 65535]);
        match random.below(20) {
            0..=8 => Self::Tcp(sport, dport),
            9..=14 => Self::Udp(sport, dport),
            15 => Self::Sctp(sport, dport),
            16..=18 => Self::Echo(random.next() as u16 % 4),
            _ => Self::Other(random.pick(&[47, 50, 51, 59, 89])),
        }
    }

    fn turned(self) -> Self {
        match self {
            Self::Tcp(sport, dport) => Self::Tcp(dport, sport),
            Self::Udp(sport, dport) => Self::Udp(dport, sport),
            Self::Sctp(sport, dport) => Self::Sctp(dport, sport),
            Self::Echo(_) | Self::Other(_) => self,
        }
    }
}

/// Whose packet it is of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Opener,
    Answer,
}

/// A frame of the flow from `src` to `dst`.
pub(crate) fn of_flow(
    random: &mut Random,
    carries: Carries,
    way: Way,
    src: IpAddr,
    dst: IpAddr,
) -> Frame {
    let this_way = match way {
        Way::Opener => carries,
        Way::Answer => carries.turned(),
    };
    let mut frame = Frame::new(src, dst, transport(random, this_way, way, src));
    let most = if random.percent(3) { 1400 } else { 40 };
    let length = random.below(most);
    frame.payload = random.bytes(length);
    match this_way {
        Carries::Sctp(sport, dport) => {
            let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
            frame.payload.splice(0..0, [ports, vec![0; 8]].concat());
        }
        Carries::Tcp(..) | Carries::Udp(..) | Carries::Echo(_) | Carries::Other(_) => {}
    }
    if random.percent(9) {
        error_about(random, &mut frame, this_way.turned());
    }
    decorate(random, &mut frame);
    frame
}

fn transport(random: &mut Random, carries: Carries, way: Way, src: IpAddr) -> Transport {
    match carries {
        Carries::Tcp(sport, dport) => Transport::Tcp {
            sport,
            dport,
            flags: match (random.below(5), way) {
                (0 | 1, Way::Opener) => 0x02,
                (0 | 1, Way::Answer) => 0x12,
                (2, _) => 0x10,
                (3, _) => random.pick(&[0x11, 0x14, 0x04, 0x00, 0xc2]),
                _ => random.pick(&[0x02, 0x12, 0x18]),
            },
        },
        Carries::Udp(sport, dport) => Transport::Udp { sport, dport },
        Carries::Sctp(..) => Transport::Raw(132),
        Carries::Echo(id) => Transport::Icmp {
            kind: match (src, way) {
                (IpAddr::V4(_), Way::Opener) => 8,
                (IpAddr::V4(_), Way::Answer) => 0,
                (IpAddr::V6(_), Way::Opener) => 128,
                (IpAddr::V6(_), Way::Answer) => 129,
            },
            code: 0,
            word: u32::from(id) << 16 | 1,
        },
        Carries::Other(proto) => Transport::Raw(proto),
    }
}

/// Turns the frame into an ICMP error about a packet of the flow that went the other way.
fn error_about(random: &mut Random, frame: &mut Frame, carries: Carries) {
    let (mut to, mut from) = (frame.src, frame.dst);
    match random.below(12) {
        0 => std::mem::swap(&mut to, &mut from),
        // The destination was translated, or the error is from a router on the way.
        1 => {
            to = if to.is_ipv4() {
                [9, 9, 9, 9].into()
            } else {
                IpAddr::V6(9.into())
            }
        }
        _ => {}
    }
    let mut transport = transport(random, carries, Way::Opener, from);
    if random.percent(15) {
        transport = Transport::Icmp {
            kind: random.pick(&[0, 3, 8, 13, 1, 128, 129, 135]),
            code: 0,
            word: 0x0001_0001,
        };
    }
    let mut quoted = Frame::new(from, to, transport);
    if let Carries::Sctp(sport, dport) = carries {
        quoted.payload = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    }
    if random.percent(15) {
        decorate(random, &mut quoted);
    }
    let mut bytes = quoted.build_ip();
    if random.percent(10) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    if random.percent(4) && !bytes.is_empty() {
        bytes[0] ^= random.pick(&[0x10, 0x20, 0x01, 0x05]);
    }
    let kinds: &[u8] = if frame.src.is_ipv4() {
        &[3, 11, 12, 4, 5]
    } else {
        &[1, 2, 3, 4, 5, 0]
    };
    frame.transport = Transport::Icmp {
        kind: random.pick(kinds),
        code: random.pick(&[0, 4]),
        word: 1400,
    };
    frame.payload = bytes;
}

/// Options, extension headers, fragmentation.
fn decorate(random: &mut Random, frame: &mut Frame) {
    if random.percent(10) {
        for _ in 0..1 + random.below(3) {
            option(random, &mut frame.options);
        }
        frame.options.truncate(40);
        let padded = frame.options.len().next_multiple_of(4);
        frame.options.resize(padded, random.pick(&[0, 1]));
    }
    if random.percent(10) {
        let most = if random.percent(10) { 8 } else { 3 };
        for _ in 0..1 + random.below(most) {
            let header = extension(random);
            frame.extensions.push(header);
        }
    }
    if random.percent(14) {
        let later = random.percent(50);
        frame.fragment = Some(Fragment {
            id: random.pick(&[7, 7, 8, 0x1234_0007]),
            offset: if later {
                1 + random.below(5) as u16 * 100
            } else {
                0
            },
            more: random.percent(if later { 50 } else { 85 }),
        });
    }
}

fn option(random: &mut Random, options: &mut Vec<u8>) {
    match random.below(14) {
        0..=2 => options.push(1),
        3 => options.push(0),
        4..=6 => options.extend([0x94, 4, 0, 0]),
        7 => options.extend([0x44, 8, 5, 0, 0, 0, 0, 0]),
        8 => options.extend([random.pick(&[0x83, 0x89, 0x03, 0x09, 0xa3]), 4, 4, 0]),
        9 => options.extend([7, random.pick(&[0, 1, 2, 39, 40, 41, 255])]),
        10 => options.extend(tag_option(1, random.next() & 0xff_ffff_ffff)),
        11 => options.extend([0x9e, random.pick(&[8, 4, 2])]),
        _ => options.extend([0x88, 4, 1, 2]),
    }
}

fn extension(random: &mut Random) -> (u8, Vec<u8>) {
    match random.below(16) {
        0..=4 => (60, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        5 | 6 => (0, vec![0, 0, 5, 2, 0, 0, 1, 0]),
        7 => (60, vec![0, 1, 0, 0, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        8 => (43, vec![0; 8]),
        9 => (44, [vec![0, 0, 0, 0], random.bytes(4)].concat()),
        10 => (
            44,
            [vec![0, 0, 0, random.pick(&[1, 8, 9])], vec![0, 0, 0, 7]].concat(),
        ),
        11 => tag_extension(1, random.next() & 0xff_ffff_ffff),
        // An option that runs over, or leaves a byte.
        12 => (
            60,
            vec![
                0,
                0,
                1,
                random.pick(&[3, 5, 200]),
                0,
                0,
                0,
                random.pick(&[0, 1]),
            ],
        ),
        13 => {
            let units = random.pick(&[7, 8, 31, 255]);
            let mut header = vec![0; 8 * (units + 1)];
            header[1] = units as u8;
            header.truncate(300);
            (60, header)
        }
        14 => (60, vec![0, 0, 0x5e, 4, 0, 0, 0, 0]),
        _ => (60, vec![0; 8]),
    }
}

/// Puts a tag in first place.
pub(crate) fn tag(frame: &mut Frame, epoch: u8, label: u64) {
    frame.options.splice(0..0, tag_option(epoch, label));
    frame.options.truncate(40);
    frame.extensions.insert(0, tag_extension(epoch, label));
}

/// Now and then something no stack would send. The Ethernet addresses are left alone.
pub(crate) fn mangle(random: &mut Random, bytes: &mut Vec<u8>) {
    if !random.percent(8) {
        return;
    }
    match random.below(9) {
        0 | 1 => {
            let length = 15 + random.below(bytes.len() - 14);
            bytes.truncate(length);
        }
        2 | 3 => {
            let count = 1 + random.below(40);
            let more = random.bytes(count);
            bytes.extend(more);
        }
        4 => {
            // The length field of either family, by a little.
            let at = if bytes[12] == 8 { 17 } else { 19 };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(random.pick(&[1, 4, 8, 252, 248, 240]));
            }
        }
        5 => bytes[12..14].copy_from_slice(&random.pick(&[
            [0x08, 0x00],
            [0x86, 0xdd],
            [0x81, 0x00],
            [0x88, 0xcc],
            [0x08, 0x06],
        ])),
        _ => {
            let at = 14 + random.below((bytes.len() - 14).min(70));
            bytes[at] = random.next() as u8;
        }
    }
}

/// ARP from a pod, most fields right.
pub(crate) fn arp(random: &mut Random, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, random.pick(&[1, 1, 2, 3])];
    arp.extend(mac);
    arp.extend(sender);
    arp.extend([0; 6]);
    arp.extend(target);
    if random.percent(15) {
        let at = random.below(arp.len());
        arp[at] = random.next() as u8;
    }
    if random.percent(5) {
        arp.truncate(random.below(28));
    }
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6]);
    frame.extend(arp);
    frame.push(0);
    frame
}

/// Neighbour discovery from a pod, most fields right.
pub(crate) fn discovery(
    random: &mut Random,
    mac: [u8; 6],
    src: IpAddr,
    dst: IpAddr,
    target: IpAddr,
) -> Frame {
    let kind = random.pick(&[135, 135, 135, 136, 136, 133, 134, 137]);
    let transport = Transport::Icmp {
        kind,
        code: 0,
        word: 0,
    };
    let mut frame = Frame::new(src, dst, transport);
    frame.ttl = if random.percent(92) { 255 } else { 254 };
    frame.payload = match target {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    for _ in 0..random.pick(&[0, 1, 1, 1, 2, 4, 4, 5]) {
        let mut option = match random.below(4) {
            0 => vec![14, 1, 1, 2, 3, 4, 5, 6],
            1 => vec![2, 1],
            _ => vec![1, 1],
        };
        if option.len() == 2 {
            option.extend(mac);
        }
        if random.percent(15) {
            let at = random.below(8);
            option[at] = random.pick(&[0, 1, 2, 9]);
        }
        frame.payload.extend(option);
    }
    if random.percent(6) {
        let length = random.below(frame.payload.len() + 1);
        frame.payload.truncate(length);
    }
    frame
}

/// A packet inside another one.
pub(crate) fn inside(random: &mut Random, outer: (IpAddr, IpAddr), inner: &Frame) -> Frame {
    let ip = inner.build_ip();
    let (transport, payload) = match random.below(4) {
        0 | 1 => {
            let proto = if ip[0] >> 4 == 4 { 4 } else { 41 };
            (Transport::Raw(proto), ip)
        }
        _ => {
            let mut vxlan = vec![8, 0, 0, 0, 0, 0, 1, 0];
            vxlan.extend([0; 14]);
            vxlan.extend(ip);
            let udp = Transport::Udp {
                sport: 50000,
                dport: random.pick(&[4789, 8472, 4790]),
            };
            (udp, vxlan)
        }
    };
    let mut frame = Frame::new(outer.0, outer.1, transport);
    frame.payload = payload;
    if random.percent(10) {
        let length = random.below(frame.payload.len() + 1);
        frame.payload.truncate(length);
    }
    if random.percent(10) {
        decorate(random, &mut frame);
    }
    frame
}
