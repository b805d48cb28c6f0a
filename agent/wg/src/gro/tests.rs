use proptest::prelude::*;

use super::*;
use crate::{
    packet::{Family, Layout, TCP, UDP},
    test_packets::{Spec, assert_valid, packets_of, spec},
};

#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl FrameSink for Frames {
    fn write(&mut self, frame: &[u8]) {
        self.0.push(frame.to_vec());
    }
}

/// Feeds packets as the receiver does, with an AEAD tag's worth of junk behind each.
fn coalesce(packets: &[Vec<u8>], flush_each: usize) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new();
    let mut frames = Frames::default();
    for (number, packet) in packets.iter().enumerate() {
        let room = coalescer.room(packet.len() + AEAD_TAG).unwrap();
        room.fill(0xaa);
        room[..packet.len()].copy_from_slice(packet);
        coalescer.commit(packet.len(), &mut frames);
        // A packet that turns out bad must leave no trace.
        coalescer.room(packet.len() + AEAD_TAG).unwrap().fill(0xbb);
        coalescer.abort();
        if (number + 1) % flush_each == 0 {
            coalescer.flush(&mut frames);
        }
    }
    coalescer.flush(&mut frames);
    frames.0
}

fn plain(protocol: u8) -> Spec {
    Spec {
        family: Family::V4,
        protocol,
        tag: Some([1, 2, 3, 4, 5, 6]),
        flow: 1,
        id: 9,
        dont_fragment: true,
        sequence: 1000,
        flags: 0x10,
        window: 500,
        options: vec![1; 12],
    }
}

/// The `number`th packet of 100 bytes in the flow that `spec` begins.
fn nth(spec: &Spec, number: u16) -> Spec {
    Spec {
        id: spec.id.wrapping_add(number),
        sequence: spec.sequence.wrapping_add(100 * u32::from(number)),
        ..spec.clone()
    }
}

/// With "don't fragment" the identification means nothing (RFC 6864) and may be counted anew.
fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// What order is kept within: addresses, protocol and ports, as far as there are any.
fn flow_of(packet: &[u8]) -> impl Ord + use<> {
    let l4 = Layout::of(packet);
    (
        addresses(packet),
        l4.map(|l4| (l4.protocol, packet[l4.l4..l4.l4 + 4].to_vec())),
    )
}

#[test]
fn neighbours_become_one() {
    for protocol in [TCP, UDP] {
        let first = plain(protocol);
        let packets: Vec<_> = (0..10)
            .map(|n| nth(&first, n).packet(&[n as u8; 100]))
            .collect();
        let frames = coalesce(&packets, usize::MAX);
        assert_eq!(frames.len(), 1, "protocol {protocol}");
        assert_eq!(packets_of(&frames[0]), packets);
    }
}

#[test]
fn a_differing_tag_is_never_merged() {
    for protocol in [TCP, UDP] {
        for family in [Family::V4, Family::V6] {
            let first = Spec {
                family,
                ..plain(protocol)
            };
            for byte in 0..6 {
                let mut other = nth(&first, 1);
                other.tag.as_mut().unwrap()[byte] ^= 1;
                let packets = [first.packet(&[1; 100]), other.packet(&[2; 100])];
                let frames = coalesce(&packets, usize::MAX);
                assert_eq!(
                    frames.len(),
                    2,
                    "{family:?} protocol {protocol} tag byte {byte}"
                );
            }
            let untagged = Spec {
                tag: None,
                ..nth(&first, 1)
            };
            let packets = [first.packet(&[1; 100]), untagged.packet(&[2; 100])];
            assert_eq!(coalesce(&packets, usize::MAX).len(), 2);
        }
    }
}

#[test]
fn what_the_kernel_would_not_compute_again_is_never_merged() {
    type Change = fn(&mut Spec);
    let first = plain(TCP);
    let changes: [(&str, Change); 7] = [
        ("window", |spec| spec.window += 1),
        ("sequence", |spec| spec.sequence += 1),
        ("FIN", |spec| spec.flags |= 1),
        ("SYN", |spec| spec.flags |= 2),
        ("URG", |spec| spec.flags |= 0x20),
        ("CWR", |spec| spec.flags |= 0x80),
        ("option", |spec| spec.options[3] = 7),
    ];
    for (what, change) in changes {
        let mut other = nth(&first, 1);
        change(&mut other);
        let packets = [first.packet(&[1; 100]), other.packet(&[2; 100])];
        assert_eq!(coalesce(&packets, usize::MAX).len(), 2, "{what}");
    }
}

#[test]
fn a_damaged_packet_stays_damaged() {
    for protocol in [TCP, UDP] {
        let first = plain(protocol);
        let mut damaged = nth(&first, 1).packet(&[2; 100]);
        *damaged.last_mut().unwrap() ^= 0x10;
        let packets = vec![
            first.packet(&[1; 100]),
            damaged.clone(),
            nth(&first, 2).packet(&[3; 100]),
        ];
        let frames = coalesce(&packets, usize::MAX);
        let seen: Vec<_> = frames.iter().flat_map(|frame| packets_of(frame)).collect();
        assert_eq!(seen, packets);
        assert!(frames.iter().any(|frame| frame[VNET_LEN..] == damaged));
    }
}

#[test]
fn fragments_and_strangers_pass_alone() {
    let mut fragment = plain(UDP).packet(&[1; 100]);
    fragment[6] = 0x20;
    let odd = vec![
        fragment,
        vec![0x45; 20],
        vec![0x60; 40],
        vec![0xff; 33],
        vec![0x45],
        vec![0x47, 0, 0, 3],
    ];
    let frames = coalesce(&odd, usize::MAX);
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| frame[VNET_LEN..].to_vec())
        .collect();
    assert_eq!(seen, odd);
}

/// One step of a conversation: a flow goes on, or something about it changes.
#[derive(Clone, Debug)]
struct Step {
    flow: u8,
    payload: u16,
    flip: Option<(u8, u8)>,
    push: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![6 => Just(700u16), 1 => Just(1u16), 2 => 0u16..1400];
    let flip = prop::option::weighted(0.1, (0u8..120, 0u8..8));
    (0u8..4, payload, flip, prop::bool::weighted(0.1)).prop_map(|(flow, payload, flip, push)| {
        Step {
            flow,
            payload,
            flip,
            push,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn segment_then_coalesce_is_the_original(
        mut spec in spec(),
        gso_size in 1u16..1500,
        payload in prop::collection::vec(any::<u8>(), 2..4000),
    ) {
        spec.flags = 0x10;
        prop_assume!(payload.len() > usize::from(gso_size));
        let segments = payload.len().div_ceil(usize::from(gso_size));
        prop_assume!(spec.protocol == TCP || segments <= 64);
        let frame = spec.super_packet(&payload, gso_size);
        let packets = packets_of(&frame);
        prop_assert_eq!(packets.len(), segments);
        let mut seen = Vec::new();
        for packet in &packets {
            assert_valid(packet);
            prop_assert_eq!(&packet[spec.l4() - 8..spec.l4()], &frame[VNET_LEN + spec.l4() - 8..][..8]);
            seen.extend_from_slice(&packet[spec.headers()..]);
        }
        prop_assert_eq!(&seen, &payload);
        let frames = coalesce(&packets, usize::MAX);
        prop_assert_eq!(frames, vec![frame]);
    }

    /// Whatever comes in, cutting what goes out gives the same packets, byte for byte, in the
    /// same order within each flow.
    #[test]
    fn cutting_what_was_coalesced_is_the_input(
        mut flows in prop::collection::vec(spec(), 4),
        steps in prop::collection::vec(step(), 1..80),
        flush_each in 1usize..40,
    ) {
        let mut packets = Vec::new();
        for step in &steps {
            let flow = &mut flows[usize::from(step.flow)];
            let payload = vec![step.flow ^ step.payload as u8; usize::from(step.payload)];
            flow.flags = if step.push { 0x18 } else { 0x10 };
            let mut packet = flow.packet(&payload);
            if let Some((at, bit)) = step.flip
                && let Some(byte) = packet.get_mut(usize::from(at))
            {
                *byte ^= 1 << bit;
            }
            flow.sequence = flow.sequence.wrapping_add(u32::from(step.payload));
            flow.id = flow.id.wrapping_add(1);
            packets.push(packet);
        }
        let frames = coalesce(&packets, flush_each);
        let out: Vec<_> = frames.iter().flat_map(|frame| packets_of(frame)).collect();
        prop_assert_eq!(out.len(), packets.len());
        let mut known: Vec<_> = packets.iter().map(|packet| flow_of(packet)).collect();
        known.sort_unstable();
        known.dedup();
        for flow in known {
            let of = |list: &[Vec<u8>]| -> Vec<_> {
                let mine = list.iter().filter(|packet| flow_of(packet) == flow);
                mine.cloned().map(without_id).collect()
            };
            prop_assert!(of(&out) == of(&packets));
        }
    }
}
