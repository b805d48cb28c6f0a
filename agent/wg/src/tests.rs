//! Two engines' data paths joined in memory: no devices, no threads, no root.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use signet_abi::DropReason;
use signet_crypto::{
    random::{Random, SystemRandom},
    secret::Secret,
    wg::{PrivateKey, Psk},
};

use crate::{
    batch::{Batch, DatagramSink},
    control::Event,
    gro::FrameSink,
    packet::{Family, UDP},
    peers::{PeerSettings, SlotKeys},
    receive::Receiver,
    slot::Slot,
    test_packets::{Spec, packets_of},
    timers,
    transmit::Transmitter,
    vnet::VNET_LEN,
};

/// Collects what would go to the underlay.
#[derive(Default)]
struct Wire(Mutex<Vec<(SocketAddr, Vec<u8>)>>);

impl DatagramSink for Wire {
    fn send(&self, batch: &mut Batch) -> u64 {
        for message in batch.messages() {
            for datagram in batch.payload(message).chunks(message.segment) {
                self.send_one(message.to, datagram);
            }
        }
        batch.clear();
        0
    }

    fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        self.0.lock().unwrap().push((to, datagram.to_vec()));
        true
    }
}

#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl FrameSink for Frames {
    fn write(&mut self, frame: &[u8]) {
        self.0.push(frame.to_vec());
    }
}

struct Node {
    slot: Slot,
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    transmitter: Transmitter,
    receiver: Receiver,
    wire: Wire,
    inside: Frames,
}

impl Node {
    fn new(last: u8) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let keys = SlotKeys::new(&PrivateKey::generate(&mut SystemRandom)).unwrap();
        let sink = Arc::new(move |event| sink.lock().unwrap().push(event));
        Self {
            slot: Slot::new(0, keys, u32::from_ne_bytes(SystemRandom.bytes()), sink),
            address: SocketAddr::from(([192, 0, 2, last], 51830)),
            events,
            transmitter: Transmitter::new(),
            receiver: Receiver::new(),
            wire: Wire::default(),
            inside: Frames::default(),
        }
    }

    fn set_peer(&self, peer: &Node, psk: u8, epoch: u64, allowed: &[&str]) {
        let settings = PeerSettings {
            own: Arc::clone(&self.slot.keys()[0]),
            key: peer.slot.keys()[0].public_key(),
            psk: Psk::new(Secret::new([psk; 32])).unwrap(),
            underlay: peer.address,
            epoch,
            allowed_ips: allowed
                .iter()
                .map(|net| net.parse::<IpNet>().unwrap())
                .collect(),
        };
        self.slot.table_mut().set(settings);
    }

    fn send(&mut self, frame: &[u8]) {
        self.transmitter
            .frame(&self.slot, &mut frame.to_vec(), &self.wire);
        self.transmitter.flush(&self.slot, &self.wire);
    }

    fn take_wire(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.wire.0.lock().unwrap())
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let Self {
            slot,
            receiver,
            inside,
            wire,
            ..
        } = self;
        receiver.datagrams(slot, from, datagram, datagram.len(), inside, wire);
        receiver.flush(inside);
    }

    fn inner_packets(&mut self) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.inside.0);
        frames.iter().flat_map(|frame| packets_of(frame)).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.slot.counters.dropped(reason)
    }

    fn handshakes(&self) -> usize {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter(|event| matches!(event, Event::Handshake { .. }))
            .count()
    }
}

/// Carries datagrams both ways until none is left.
fn carry(a: &mut Node, b: &mut Node) {
    loop {
        let (to_b, to_a) = (a.take_wire(), b.take_wire());
        if to_a.is_empty() && to_b.is_empty() {
            return;
        }
        for (to, datagram) in to_b {
            assert_eq!(to, b.address);
            b.receive(a.address, &datagram);
        }
        for (to, datagram) in to_a {
            assert_eq!(to, a.address);
            a.receive(b.address, &datagram);
        }
    }
}

/// Two nodes that know each other; flows 1 and 2 of [`datagram`] go from a to b.
fn pair(psk_a: u8, psk_b: u8) -> (Node, Node) {
    let (a, b) = (Node::new(1), Node::new(2));
    a.set_peer(
        &b,
        psk_a,
        1,
        &["10.2.0.1/32", "10.2.0.2/32", "fd00:0:0:2::/64"],
    );
    b.set_peer(&a, psk_b, 1, &["10.1.0.1/32", "fd00:0:0:1::1/128"]);
    (a, b)
}

fn spec(family: Family, flow: u8) -> Spec {
    Spec {
        family,
        protocol: UDP,
        tag: Some([1, 2, 3, 4, 5, 6]),
        flow,
        id: 1,
        dont_fragment: true,
        sequence: 0,
        flags: 0,
        window: 0,
        options: Vec::new(),
    }
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; VNET_LEN];
    frame.extend_from_slice(packet);
    frame
}

fn datagram(flow: u8, payload: &[u8]) -> Vec<u8> {
    spec(Family::V4, flow).packet(payload)
}

fn index(node: &Node, of: &Node) -> u32 {
    node.slot
        .table()
        .by_key(&of.slot.keys()[0].public_key())
        .unwrap()
        .index
}

#[test]
fn the_first_packets_wait_for_the_handshake_and_keep_their_order() {
    let (mut a, mut b) = pair(7, 7);
    let packets: Vec<_> = (0..5u8).map(|n| datagram(1, &[n; 90])).collect();
    for packet in &packets {
        a.send(&frame(packet));
    }
    carry(&mut a, &mut b);
    assert_eq!(b.inner_packets(), packets);
    assert_eq!((a.handshakes(), b.handshakes()), (1, 1));
    assert_eq!(a.slot.counters.traffic.tx_packets.value(), 5);
    assert_eq!(b.slot.counters.traffic.rx_packets.value(), 5);
}

#[test]
fn the_agent_can_ask_for_the_handshake() {
    let (mut a, mut b) = pair(7, 7);
    let peer = Arc::clone(
        a.slot
            .table()
            .by_key(&b.slot.keys()[0].public_key())
            .unwrap(),
    );
    timers::initiate(&peer, &a.wire);
    carry(&mut a, &mut b);
    assert_eq!((a.handshakes(), b.handshakes()), (1, 1));
    // Now the answering side can send at once.
    let packet = spec(Family::V6, 1).packet(&[3; 10]);
    a.send(&frame(&packet));
    assert_eq!(a.take_wire().len(), 1);
}

#[test]
fn super_packets_arrive_whole_in_both_families() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    b.inner_packets();
    for family in [Family::V4, Family::V6] {
        let payload: Vec<u8> = (0..30_000u32).map(|at| (at * 7) as u8).collect();
        let super_packet = spec(family, 1).super_packet(&payload, 1300);
        a.send(&super_packet);
        let sealed = a.take_wire();
        assert_eq!(sealed.len(), payload.len().div_ceil(1300));
        let stream: Vec<u8> = sealed
            .iter()
            .flat_map(|(_, datagram)| datagram.clone())
            .collect();
        let length = sealed[0].1.len();
        let Node {
            slot,
            receiver,
            inside,
            wire,
            ..
        } = &mut b;
        receiver.datagrams(slot, a.address, &stream, length, inside, wire);
        receiver.flush(inside);
        assert_eq!(
            std::mem::take(&mut b.inside.0),
            vec![super_packet],
            "{family:?}"
        );
    }
}

#[test]
fn a_replayed_datagram_is_dropped_and_told() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    a.send(&frame(&datagram(1, &[1; 10])));
    let (_, sealed) = a.take_wire().remove(0);
    b.inner_packets();
    for _ in 0..3 {
        b.receive(a.address, &sealed);
    }
    assert_eq!(b.inner_packets(), [datagram(1, &[1; 10])]);
    assert_eq!(b.dropped(DropReason::WgReplay), 2);
    let events = b.events.lock().unwrap();
    assert!(events.iter().any(|event| matches!(
        event,
        Event::Dropped { reason: DropReason::WgReplay, peer: Some(peer), underlay: Some(from), .. }
            if *peer == a.slot.keys()[0].public_key() && *from == a.address
    )));
}

#[test]
fn a_replayed_initiation_is_dropped() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    let (_, initiation) = a.take_wire().remove(0);
    b.receive(a.address, &initiation);
    b.receive(a.address, &initiation);
    assert_eq!(b.dropped(DropReason::WgReplay), 1);
}

#[test]
fn any_flipped_bit_is_dropped() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    b.inner_packets();
    a.send(&frame(&datagram(1, &[1; 10])));
    let (_, sealed) = a.take_wire().remove(0);
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 4;
        b.receive(a.address, &forged);
        assert!(b.inner_packets().is_empty(), "byte {at}");
    }
    assert!(b.dropped(DropReason::WgInvalid) > 0);
    assert!(b.dropped(DropReason::WgMalformed) > 0);
    assert!(b.dropped(DropReason::WgUnknownPeer) + b.dropped(DropReason::WgNoSession) > 0);
    b.receive(a.address, &sealed);
    assert_eq!(b.inner_packets(), [datagram(1, &[1; 10])]);
}

#[test]
fn a_foreign_inner_source_is_dropped() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    b.inner_packets();
    // Flow 2 comes from 10.1.0.2, which b does not allow a.
    a.send(&frame(&datagram(2, &[0; 10])));
    a.send(&frame(&datagram(1, &[1; 10])));
    carry(&mut a, &mut b);
    assert_eq!(b.inner_packets(), [datagram(1, &[1; 10])]);
    assert_eq!(b.dropped(DropReason::WgSourceNotAllowed), 1);
    let events = b.events.lock().unwrap();
    let inner = events.iter().find_map(|event| {
        let Event::Dropped {
            reason: DropReason::WgSourceNotAllowed,
            inner,
            ..
        } = event
        else {
            return None;
        };
        *inner
    });
    assert_eq!(
        inner,
        Some(("10.1.0.2".parse().unwrap(), "10.2.0.2".parse().unwrap()))
    );
}

#[test]
fn different_psks_never_make_a_session() {
    let (mut a, mut b) = pair(7, 8);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    assert!(b.inner_packets().is_empty());
    assert_eq!((a.handshakes(), b.handshakes()), (0, 0));
    assert_eq!(a.dropped(DropReason::WgInvalid), 1);
}

#[test]
fn an_unknown_key_gets_no_answer() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.set_peer(&b, 7, 1, &["10.2.0.1/32"]);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    assert_eq!(b.dropped(DropReason::WgUnknownPeer), 1);
    assert!(b.take_wire().is_empty());
}

#[test]
fn the_destination_must_be_a_peers() {
    let (mut a, _b) = pair(7, 7);
    a.send(&frame(&datagram(3, &[0; 10])));
    assert_eq!(a.dropped(DropReason::WgNoPeer), 1);
    a.send(&[0; VNET_LEN]);
    a.send(&[0; 4]);
    assert_eq!(a.dropped(DropReason::WgMalformed), 2);
    assert!(a.take_wire().is_empty());
}

#[test]
fn packets_beyond_the_queue_are_counted() {
    let (mut a, _b) = pair(7, 7);
    for _ in 0..300 {
        a.send(&frame(&datagram(1, &[0; 10])));
    }
    assert_eq!(a.dropped(DropReason::WgNoSession), 300 - 256);
}

#[test]
fn setting_a_peer_again_keeps_its_session_and_a_new_psk_ends_it() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    b.inner_packets();

    let before = index(&a, &b);
    a.set_peer(&b, 7, 1, &["10.2.0.1/32"]);
    assert_eq!(index(&a, &b), before);
    a.send(&frame(&datagram(1, &[1; 10])));
    carry(&mut a, &mut b);
    assert_eq!(b.inner_packets(), [datagram(1, &[1; 10])]);
    assert_eq!(a.handshakes(), 1);
    // The second address is gone.
    a.send(&frame(&datagram(2, &[1; 10])));
    assert_eq!(a.dropped(DropReason::WgNoPeer), 1);

    a.set_peer(&b, 9, 3, &["10.2.0.1/32"]);
    assert_ne!(index(&a, &b), before);
    a.send(&frame(&datagram(1, &[2; 10])));
    carry(&mut a, &mut b);
    assert!(b.inner_packets().is_empty(), "the old PSK still works");
    b.set_peer(&a, 9, 3, &["10.1.0.1/32"]);
    let peer = Arc::clone(
        b.slot
            .table()
            .by_key(&a.slot.keys()[0].public_key())
            .unwrap(),
    );
    timers::initiate(&peer, &b.wire);
    carry(&mut a, &mut b);
    assert_eq!(
        b.inner_packets(),
        [datagram(1, &[2; 10])],
        "what waited comes with the new PSK"
    );
}

#[test]
fn a_removed_peer_is_a_stranger() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    carry(&mut a, &mut b);
    b.inner_packets();
    b.slot.table_mut().remove(&a.slot.keys()[0].public_key());
    a.send(&frame(&datagram(1, &[1; 10])));
    carry(&mut a, &mut b);
    assert!(b.inner_packets().is_empty());
    assert_eq!(b.dropped(DropReason::WgUnknownPeer), 1);
    assert!(b.slot.table().infos(0).is_empty());
}

#[test]
fn a_flood_of_handshakes_is_answered_with_cookies() {
    let (mut a, mut b) = pair(7, 7);
    a.send(&frame(&datagram(1, &[0; 10])));
    let (_, initiation) = a.take_wire().remove(0);
    for _ in 0..300 {
        b.receive(a.address, &initiation);
    }
    let cookies = b
        .take_wire()
        .into_iter()
        .filter(|(_, datagram)| datagram[0] == 3)
        .count();
    assert!(cookies >= 150, "{cookies} cookies");
}
