//! Tagging against properties: what is added can be read and taken away without a trace.

use proptest::prelude::*;
use signet_abi::DropReason;

use crate::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Packet, parse};
use crate::tag::{Tag, add, strip};

/// A fit packet of either family, with `options` words of harmless options or extension headers,
/// and `padding` bytes that are not its own.
fn packet(v6: bool, options: usize, payload: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = if v6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        for _ in 0..options.min(6) {
            let next = std::mem::replace(&mut header[6], 60);
            header.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        }
        header
    } else {
        let mut header = vec![
            0x45 + options as u8,
            0,
            0,
            0,
            0xab,
            0xcd,
            0,
            0,
            64,
            17,
            0,
            0,
        ];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        header.extend(vec![1; 4 * options]);
        header
    };
    bytes.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    bytes.extend(payload);
    let length = bytes.len();
    if v6 {
        bytes[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    } else {
        bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    bytes.extend(vec![0xee; padding]);
    bytes
}

/// RFC 1071, over the header as it stands; 0 for one with the right checksum in it.
fn checksum(bytes: &[u8]) -> u16 {
    let header = usize::from(bytes[0] & 15) * 4;
    let mut sum = 0u32;
    for at in (0..header).step_by(2) {
        sum += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn read(bytes: &[u8]) -> Packet {
    let protocol = if bytes[0] >> 4 == 4 {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    };
    parse(protocol, bytes).packet.unwrap()
}

proptest! {
    #[test]
    fn added_then_stripped_is_the_packet(
        v6: bool,
        options in 0usize..=8,
        payload in prop::collection::vec(any::<u8>(), 0..100),
        padding in 0usize..10,
        epoch: u64,
        label: u64,
    ) {
        let before = packet(v6, options, &payload, padding);
        let plain = read(&before);
        let tag = Tag::new(epoch, label);
        let tagged_bytes = add(&plain, &before, tag).unwrap();
        let tagged = read(&tagged_bytes);
        prop_assert_eq!(tagged.tag, Some(tag));
        prop_assert_eq!((tagged.sport, tagged.dport), (plain.sport, plain.dport));
        prop_assert_eq!(tag.epoch, (epoch & 0xff) as u8);
        prop_assert_eq!(tag.label, label & 0xff_ffff_ffff);
        if !v6 {
            prop_assert_eq!(checksum(&tagged_bytes), 0);
        }
        prop_assert_eq!(strip(&tagged, &tagged_bytes), before);
    }

    #[test]
    fn a_wrong_checksum_stays_as_wrong(damage in 1u16..0xffff, label: u64) {
        let mut before = packet(false, 0, &[], 0);
        let right = u16::from_be_bytes([before[10], before[11]]);
        let wrong = ((u32::from(right) + u32::from(damage)) % 65535) as u16;
        before[10..12].copy_from_slice(&wrong.to_be_bytes());
        let tagged = add(&read(&before), &before, Tag::new(7, label)).unwrap();
        prop_assert_ne!(checksum(&tagged), 0);
        prop_assert_eq!(checksum(&tagged), checksum(&before));
    }
}

#[test]
fn no_room_for_the_tag() {
    let tag = Tag::new(1, 2);
    let before = packet(false, 9, &[], 0);
    assert_eq!(
        add(&read(&before), &before, tag),
        Err(DropReason::TagFailed)
    );
    for (v6, most) in [(false, 65535 - 8), (true, 40 + 65535 - 16)] {
        let header = if v6 { 48 } else { 28 };
        let before = packet(v6, 0, &vec![0; most - header], 0);
        assert!(add(&read(&before), &before, tag).is_ok());
        let before = packet(v6, 0, &vec![0; most - header + 1], 0);
        assert_eq!(
            add(&read(&before), &before, tag),
            Err(DropReason::PacketTooLarge)
        );
        let family = read(&before).family;
        assert_eq!(family == Family::V6, v6);
    }
}
