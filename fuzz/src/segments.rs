//! Super-packets: cut on the way out, collected on the way in. Whatever goes through both is the
//! same packets, byte for byte, in order within each flow.

use signet_wg::test_util::{collect, cut, flow_of};

use crate::reader::{Reader, part};

/// The longest packet there is.
const LONGEST: usize = 65_535;
/// Before each frame of a TUN.
const VNET: usize = 10;

/// First byte even: a frame of the TUN, vnet header and packet, to be cut. Odd: packets to be
/// collected, each behind its length; the rest of the byte says how often all are written out.
pub fn run(data: &[u8]) {
    let mut reader = Reader(data);
    let mode = reader.byte();
    let flush_each = usize::from(mode >> 1) + 1;
    if mode & 1 == 0 {
        let frame = &reader.0[..reader.0.len().min(VNET + LONGEST)];
        match cut(frame) {
            Ok(packets) => {
                assert!(!packets.is_empty());
                let longest = frame.len() - VNET;
                assert!(packets.iter().all(|packet| packet.len() <= longest));
                // Each packet has some payload of its own.
                assert!(packets.len() <= longest.max(1));
                survive(&packets, flush_each);
            }
            Err(emitted) => assert_eq!(emitted, 0, "cut, and then refused"),
        }
        return;
    }
    let mut packets = Vec::new();
    while !reader.is_empty() && packets.len() < 64 {
        packets.push(reader.part().to_vec());
    }
    survive(&packets, flush_each);
}

fn survive(packets: &[Vec<u8>], flush_each: usize) {
    let packets: Vec<Vec<u8>> = packets
        .iter()
        .filter(|packet| !packet.is_empty())
        .cloned()
        .collect();
    let frames = collect(&packets, flush_each);
    assert!(frames.len() <= packets.len(), "frames out of nothing");
    let mut out = Vec::new();
    for frame in &frames {
        out.extend(cut(frame).expect("our own frame is cut"));
    }
    assert_eq!(out.len(), packets.len());
    let mut flows: Vec<_> = packets.iter().map(|packet| flow_of(packet)).collect();
    flows.sort();
    flows.dedup();
    for flow in flows {
        let of = |list: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let mine = list.iter().filter(|packet| flow_of(packet) == flow);
            mine.cloned().map(without_id).collect()
        };
        assert!(of(&out) == of(&packets), "flow {flow:?} is another");
    }
}

/// With "don't fragment" the identification means nothing (RFC 6864) and may be counted anew.
fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Flows that can be collected and some that cannot, tagged and not; super-packets of each kind.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let kinds = [
        ("tcp4", false, false, false),
        ("udp4", true, false, false),
        ("tcp6", false, true, false),
        ("udp6", true, true, false),
        ("tcp4-tagged", false, false, true),
        ("udp6-tagged", true, true, true),
    ];
    for (name, udp, v6, tagged) in kinds {
        let mut input = vec![0xff];
        for number in 0..4u8 {
            input.extend(part(&packet(udp, v6, tagged, number, &[number; 60])));
        }
        seeds.push((name, input));
    }
    for (name, udp, v6, gso) in [
        ("super-tcp4", false, false, 1),
        ("super-tcp6", false, true, 4),
        ("super-udp4", true, false, 5),
        ("super-udp6", true, true, 5),
    ] {
        let packet = packet(udp, v6, true, 0, &[7; 250]);
        let l4: u16 = if v6 { 56 } else { 28 };
        let offset: u16 = if udp { 6 } else { 16 };
        let header_len = l4 + if udp { 8 } else { 20 };
        let mut input = vec![0xfe, 1, gso];
        for word in [header_len, 100, l4, offset] {
            input.extend(word.to_ne_bytes());
        }
        input.extend(packet);
        seeds.push((name, input));
    }
    let plain = packet(true, false, false, 0, b"alone");
    seeds.push(("plain", [[0xfe].as_slice(), &[0; VNET], &plain].concat()));
    seeds
}

fn packet(udp: bool, v6: bool, tagged: bool, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut l4 = vec![0x30, 1, 0x40, 1];
    if udp {
        l4.extend((8 + payload.len() as u16).to_be_bytes());
        l4.extend([0, 0]);
    } else {
        let sequence = 1000 + u32::from(number) * payload.len() as u32;
        l4.extend(sequence.to_be_bytes());
        l4.extend([0, 0, 0, 77, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    }
    l4.extend(payload);
    let protocol = if udp { 17 } else { 6 };
    let mut packet = if v6 {
        ip6(protocol, tagged, l4.len())
    } else {
        ip4(protocol, tagged, number, l4.len())
    };
    let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
    let pseudo = sum(addresses) + u32::from(protocol) + l4.len() as u32;
    let at = if udp { 6 } else { 16 };
    let checksum = !fold(pseudo + sum(&l4));
    l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(l4);
    packet
}

fn ip4(protocol: u8, tagged: bool, id: u8, payload: usize) -> Vec<u8> {
    let length = payload + if tagged { 28 } else { 20 };
    let mut header = vec![if tagged { 0x47 } else { 0x45 }, 0];
    header.extend((length as u16).to_be_bytes());
    header.extend([0, id, 0x40, 0, 64, protocol, 0, 0]);
    header.extend([10, 0, 0, 1, 10, 1, 0, 2]);
    if tagged {
        header.extend([158, 8, 5, 0x12, 0x34, 0x56, 0x78, 0x9a]);
    }
    let checksum = !fold(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn ip6(protocol: u8, tagged: bool, payload: usize) -> Vec<u8> {
    let length = payload + if tagged { 16 } else { 0 };
    let mut header = vec![0x60, 0, 0, 5];
    header.extend((length as u16).to_be_bytes());
    header.extend([if tagged { 60 } else { protocol }, 64]);
    for last in [1, 2] {
        header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    if tagged {
        let tag = [0x5e, 6, 5, 0x12, 0x34, 0x56, 0x78, 0x9a];
        header.extend([protocol, 1]);
        header.extend(tag);
        header.extend([1, 4, 0, 0, 0, 0]);
    }
    header
}

fn sum(bytes: &[u8]) -> u32 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(pair).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
