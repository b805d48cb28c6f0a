//! What one packet changes for the next: replies, fragments, policy changes, pods replaced.

use signet_abi::{Direction, DropReason, EventKind, Hook};
use signet_loader::prog_test::frame::{Fragment, Frame, Transport, tag_extension, tag_option};
use signet_loader::prog_test::{Outcome, Packet, Verdict};

use crate::to_tunnel::with_tag;
use crate::to_workload::prove;
use crate::world::*;

const SYN: u8 = 2;
const ACK: u8 = 16;

fn tcp(src: (&str, u16), dst: (&str, u16), flags: u8) -> Frame {
    Frame::new(
        ip(src.0),
        ip(dst.0),
        Transport::Tcp {
            sport: src.1,
            dport: dst.1,
            flags,
        },
    )
}

fn udp(src: (&str, u16), dst: (&str, u16)) -> Frame {
    Frame::new(
        ip(src.0),
        ip(dst.0),
        Transport::Udp {
            sport: src.1,
            dport: dst.1,
        },
    )
}

/// The frame with source and destination, and their ports, exchanged.
fn back(frame: &Frame, flags: u8) -> Frame {
    let transport = match frame.transport {
        Transport::Tcp { sport, dport, .. } => Transport::Tcp {
            sport: dport,
            dport: sport,
            flags,
        },
        Transport::Udp { sport, dport } => Transport::Udp {
            sport: dport,
            dport: sport,
        },
        ref other @ (Transport::Icmp { .. } | Transport::Raw(_)) => other.clone(),
    };
    Frame {
        src: frame.dst,
        dst: frame.src,
        transport,
        ..frame.clone()
    }
}

/// The ICMP error `from` sends about `frame`.
fn error(from: &str, frame: &Frame) -> Frame {
    let kind = if frame.src.is_ipv4() { 3 } else { 1 };
    Frame {
        payload: frame.build_ip(),
        ..Frame::new(
            ip(from),
            frame.src,
            Transport::Icmp {
                kind,
                code: 3,
                word: 0,
            },
        )
    }
}

impl World {
    pub(crate) fn go(&mut self, hook: Hook, packet: Packet) -> Outcome {
        self.prog.run(hook, &packet).unwrap()
    }

    /// A -> R at signet0.
    fn out(&mut self, frame: &Frame) -> Option<DropReason> {
        let packet = marked(Packet::new(SIGNET0, frame.build()), PENDING, A, A_IF);
        self.go(Hook::ToTunnel, packet).reason
    }

    /// R -> A at slot 0.
    fn arrive(&mut self, frame: &Frame) -> Option<DropReason> {
        let packet = marked(Packet::new(SLOT[0], with_tag(frame).build()), 0, 0, SLOT[0]);
        self.go(Hook::FromTunnel, packet).reason
    }

    /// From a pod's veth.
    fn leave(&mut self, index: u16, frame: &Frame) -> Outcome {
        let (ifindex, src_mac) = if index == A {
            (A_IF, A_MAC)
        } else {
            (B_IF, B_MAC)
        };
        let frame = Frame {
            src_mac,
            ..frame.clone()
        };
        self.go(Hook::FromWorkload, Packet::new(ifindex, frame.build()))
    }

    /// To a pod's veth, from the world.
    fn world_in(&mut self, frame: &Frame) -> Option<DropReason> {
        let packet = marked(Packet::new(A_IF, frame.build()), 0, 0, 3);
        self.go(Hook::ToWorkload, packet).reason
    }

    /// To A's veth from B, with the mark `from_workload` gave.
    fn b_to_a(&mut self, frame: &Frame) -> Outcome {
        let sent = self.leave(B, frame);
        assert_eq!(sent.verdict, Verdict::Next);
        let packet = marked(
            Packet::new(A_IF, frame.build()),
            sent.mark,
            sent.tc_index,
            B_IF,
        );
        self.go(Hook::ToWorkload, packet)
    }

    /// To B's veth from A, likewise.
    fn a_to_b(&mut self, frame: &Frame) -> Outcome {
        let sent = self.leave(A, frame);
        assert_eq!(sent.verdict, Verdict::Next);
        let packet = marked(
            Packet::new(B_IF, frame.build()),
            sent.mark,
            sent.tc_index,
            A_IF,
        );
        self.go(Hook::ToWorkload, packet)
    }

    /// A's packet through the guard as `translated`, with what `from_workload` gave it.
    fn guard(&mut self, sent: &Outcome, translated: &Frame) -> Outcome {
        let packet = Packet {
            hash: sent.hash,
            ..marked(
                Packet::new(UNDERLAY, translated.build()),
                sent.mark,
                sent.tc_index,
                A_IF,
            )
        };
        self.go(Hook::UnderlayGuard, packet)
    }
}

#[test]
fn replies_through_the_tunnel_need_no_rule() {
    let Some(mut w) = crate::world() else { return };
    for (a, r) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        for request in [tcp((a, 4000), (r, 80), SYN), udp((a, 4000), (r, 53))] {
            w.reset();
            w.isolate(A);
            let reply = back(&request, SYN | ACK);
            assert_eq!(
                w.arrive(&reply),
                Some(DropReason::DefaultDenyIngress),
                "unasked"
            );
            w.rule(A, Direction::Egress, CLASS_R, 0, 0, allow(1));
            assert_eq!(w.out(&request), None);
            assert_eq!(w.arrive(&reply), None);
            // Another port is another flow.
            let other = udp((r, 54), (a, 4000));
            assert_eq!(w.arrive(&other), Some(DropReason::DefaultDenyIngress));
            // Answering is not asking.
            if matches!(request.transport, Transport::Tcp { .. }) {
                let opening = back(&request, SYN);
                assert_eq!(w.arrive(&opening), Some(DropReason::DefaultDenyIngress));
            }
        }
    }
}

#[test]
fn the_other_way_round_too() {
    let Some(mut w) = crate::world() else { return };
    w.isolate(A);
    w.rule(A, Direction::Ingress, CLASS_R, 17, 53, allow(1));
    let request = udp(("10.2.0.2", 4000), ("10.1.0.2", 53));
    assert_eq!(
        w.out(&back(&request, 0)),
        Some(DropReason::DefaultDenyEgress)
    );
    assert_eq!(w.arrive(&request), None);
    assert_eq!(w.out(&back(&request, 0)), None);
}

#[test]
fn an_answer_stays_one_while_policy_changes_around_it() {
    let Some(mut w) = crate::world() else { return };
    let request = udp(("10.2.0.2", 4000), ("10.1.0.2", 53));
    assert_eq!(w.arrive(&request), None);
    assert_eq!(w.out(&back(&request, 0)), None);
    // Whoever asks is let in still, and A could as well have sent by itself.
    w.rule(A, Direction::Ingress, CLASS_R, 17, 53, allow(1));
    w.policy_changed(A);
    assert_eq!(w.out(&back(&request, 0)), None);
    // Now it could not: but it never did.
    w.isolate(A);
    w.policy_changed(A);
    assert_eq!(w.out(&back(&request, 0)), None);
    let unasked = udp(("10.1.0.2", 53), ("10.2.0.2", 4001));
    assert_eq!(w.out(&unasked), Some(DropReason::DefaultDenyEgress));
}

#[test]
fn echo_replies_belong_to_their_request() {
    let Some(mut w) = crate::world() else { return };
    w.isolate(A);
    w.rule(A, Direction::Egress, CLASS_R, 1, 0, allow(1));
    let request = Frame::new(
        ip("10.1.0.2"),
        ip("10.2.0.2"),
        Transport::Icmp {
            kind: 8,
            code: 0,
            word: 0x0007_0001,
        },
    );
    let reply = |word| Frame {
        transport: Transport::Icmp {
            kind: 0,
            code: 0,
            word,
        },
        ..back(&request, 0)
    };
    assert_eq!(
        w.arrive(&reply(0x0007_0001)),
        Some(DropReason::DefaultDenyIngress)
    );
    assert_eq!(w.out(&request), None);
    assert_eq!(
        w.arrive(&reply(0x0007_0002)),
        None,
        "the next sequence number"
    );
    assert_eq!(
        w.arrive(&reply(0x0008_0001)),
        Some(DropReason::DefaultDenyIngress)
    );
}

#[test]
fn errors_belong_to_the_flow_they_quote() {
    let Some(mut w) = crate::world() else { return };
    for (a, r) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        w.reset();
        w.isolate(A);
        w.rule(A, Direction::Egress, CLASS_R, 17, 53, allow(1));
        w.rule(A, Direction::Ingress, CLASS_R, 17, 54, allow(2));
        let request = udp((a, 4000), (r, 53));
        assert_eq!(
            w.arrive(&error(r, &request)),
            Some(DropReason::DefaultDenyIngress)
        );
        assert_eq!(w.out(&request), None);
        assert_eq!(w.arrive(&error(r, &request)), None);
        // About a flow there isn't.
        let other = udp((a, 4001), (r, 53));
        assert_eq!(
            w.arrive(&error(r, &other)),
            Some(DropReason::DefaultDenyIngress)
        );
        // A's own error about what R sent.
        let incoming = udp((r, 4000), (a, 54));
        assert_eq!(
            w.out(&error(a, &incoming)),
            Some(DropReason::DefaultDenyEgress)
        );
        assert_eq!(w.arrive(&incoming), None);
        assert_eq!(w.out(&error(a, &incoming)), None);
    }
}

#[test]
fn later_fragments_follow_their_first() {
    let Some(mut w) = crate::world() else { return };
    let piece = |frame: &Frame, offset, more| Frame {
        fragment: Some(Fragment {
            id: 77,
            offset,
            more,
        }),
        ..frame.clone()
    };
    for (a, r) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        w.reset();
        w.isolate(A);
        w.rule(A, Direction::Egress, CLASS_R, 17, 53, allow(1));
        w.rule(A, Direction::Ingress, CLASS_R, 17, 54, allow(2));
        let out = udp((a, 4000), (r, 53));
        assert_eq!(
            w.out(&piece(&out, 3, false)),
            Some(DropReason::FragmentWithoutPorts)
        );
        assert_eq!(w.out(&piece(&out, 0, true)), None);
        assert_eq!(w.out(&piece(&out, 3, true)), None);
        assert_eq!(w.out(&piece(&out, 6, false)), None);
        let incoming = udp((r, 4000), (a, 54));
        assert_eq!(
            w.arrive(&piece(&incoming, 3, false)),
            Some(DropReason::FragmentWithoutPorts)
        );
        assert_eq!(w.arrive(&piece(&incoming, 0, true)), None);
        assert_eq!(w.arrive(&piece(&incoming, 3, false)), None);
        // A denied first fragment takes its rest with it.
        let denied = Frame {
            fragment: Some(Fragment {
                id: 78,
                offset: 0,
                more: true,
            }),
            ..udp((a, 4000), (r, 99))
        };
        assert_eq!(w.out(&denied), Some(DropReason::DefaultDenyEgress));
        let rest = Frame {
            fragment: Some(Fragment {
                id: 78,
                offset: 3,
                more: false,
            }),
            ..denied
        };
        assert_eq!(w.out(&rest), Some(DropReason::DefaultDenyEgress));
    }
}

#[test]
fn a_spoofed_first_fragment_plants_nothing() {
    let Some(mut w) = crate::world() else { return };
    let spoofed = Frame {
        src_mac: B_MAC,
        fragment: Some(Fragment {
            id: 5,
            offset: 0,
            more: true,
        }),
        ..udp(("10.1.0.2", 1), ("10.2.0.2", 53))
    };
    let outcome = w.go(Hook::FromWorkload, Packet::new(B_IF, spoofed.build()));
    assert_eq!(outcome.reason, Some(DropReason::SourceSpoofed));
    assert_eq!(w.prog.maps.fragments.iter().count(), 0);
}

#[test]
fn a_policy_change_is_felt_by_the_next_packet() {
    let Some(mut w) = crate::world() else { return };
    w.isolate(A);
    w.rule(A, Direction::Egress, CLASS_R, 0, 0, allow(1));
    let connection = tcp(("10.1.0.2", 4000), ("10.2.0.2", 80), ACK);
    let datagrams = udp(("10.1.0.2", 4000), ("10.2.0.2", 53));
    for frame in [&connection, &datagrams] {
        assert_eq!(w.out(frame), None);
        assert_eq!(w.arrive(&back(frame, ACK)), None);
    }
    // Still allowed: both go on, an answer that was under way included.
    w.policy_changed(A);
    assert_eq!(w.arrive(&back(&connection, ACK)), None);
    assert_eq!(w.out(&connection), None);
    assert_eq!(w.arrive(&back(&datagrams, 0)), None);
    assert_eq!(w.out(&datagrams), None);
    // But nobody turns an answer round into a question of its own.
    w.policy_changed(A);
    let question = udp(("10.2.0.2", 53), ("10.1.0.2", 4001));
    assert_eq!(w.arrive(&question), Some(DropReason::DefaultDenyIngress));
    // No longer allowed.
    w.prog.maps.policy.clear().unwrap();
    w.policy_changed(A);
    assert_eq!(
        w.arrive(&back(&connection, ACK)),
        Some(DropReason::DefaultDenyIngress)
    );
    assert_eq!(
        w.arrive(&back(&datagrams, 0)),
        Some(DropReason::DefaultDenyIngress)
    );
    assert_eq!(w.out(&connection), Some(DropReason::DefaultDenyEgress));
    assert_eq!(w.out(&datagrams), Some(DropReason::DefaultDenyEgress));
}

#[test]
fn another_pod_inherits_no_flow() {
    let Some(mut w) = crate::world() else { return };
    w.isolate(A);
    w.rule(A, Direction::Egress, CLASS_R, 17, 53, allow(1));
    let request = udp(("10.1.0.2", 4000), ("10.2.0.2", 53));
    let reply = back(&request, 0);
    assert_eq!(w.out(&request), None);
    assert_eq!(w.arrive(&reply), None);
    // Another remote pod under the same address.
    w.recv_row(|row| row.remote = REMOTE_R + 1);
    assert_eq!(w.arrive(&reply), Some(DropReason::DefaultDenyIngress));
    w.recv_row(|_| {});
    assert_eq!(w.arrive(&reply), None);
    // Another local pod under the same address and index.
    w.edit(A, |a| a.generation += 1);
    assert_eq!(w.arrive(&reply), Some(DropReason::DefaultDenyIngress));
}

#[test]
fn pods_of_one_node_answer_each_other() {
    let Some(mut w) = crate::world() else { return };
    let request = tcp(("10.1.0.3", 4000), ("10.1.0.2", 80), SYN);
    let reply = back(&request, SYN | ACK);
    let asked = |w: &mut World| {
        w.reset();
        w.isolate(A);
        w.isolate(B);
        w.rule(A, Direction::Ingress, CLASS_B, 6, 80, allow(1));
        w.rule(B, Direction::Egress, CLASS_A, 6, 80, allow(2));
    };
    asked(&mut w);
    let unasked = tcp(("10.1.0.2", 80), ("10.1.0.3", 4000), SYN);
    assert_eq!(
        w.a_to_b(&unasked).reason,
        Some(DropReason::DefaultDenyEgress)
    );
    assert_eq!(w.b_to_a(&request).reason, None);
    let answer = w.leave(A, &reply);
    assert_eq!((answer.mark, answer.tc_index), (REPLY, A));
    assert_eq!(w.a_to_b(&reply).reason, None);
    // The client may see the service's address instead of the pod's.
    let untranslated = Frame {
        src: ip("10.96.0.10"),
        ..reply.clone()
    };
    let packet = marked(Packet::new(B_IF, untranslated.build()), REPLY, A, A_IF);
    assert_eq!(w.go(Hook::ToWorkload, packet).verdict, Verdict::Next);

    // A TCP connection survives a change that still allows it, at either end ...
    for end in [A, B] {
        w.policy_changed(end);
        assert_eq!(w.leave(A, &back(&request, ACK)).mark, REPLY);
    }
    // ... and ends with one that doesn't.
    asked(&mut w);
    assert_eq!(w.b_to_a(&request).reason, None);
    w.prog.maps.policy.clear().unwrap();
    w.policy_changed(B);
    assert_eq!(
        w.a_to_b(&back(&request, ACK)).reason,
        Some(DropReason::DefaultDenyEgress)
    );

    // A client that was replaced gets no answer meant for the former.
    asked(&mut w);
    assert_eq!(w.b_to_a(&request).reason, None);
    w.edit(B, |b| b.generation += 1);
    assert_eq!(w.leave(A, &reply).mark, PENDING);
}

#[test]
fn required_authentication_ends_with_its_certificates() {
    let Some(mut w) = crate::world() else { return };
    let request = tcp(("10.1.0.3", 4000), ("10.1.0.2", 80), SYN);
    let data = tcp(("10.1.0.3", 4000), ("10.1.0.2", 80), ACK);
    w.rule(A, Direction::Ingress, CLASS_B, 6, 80, require(1));
    let later = signet_loader::boot_time_ns() + HOUR;
    prove(&mut w, A, later);
    prove(&mut w, B, later);
    assert_eq!(w.b_to_a(&request).reason, None);
    assert_eq!(w.b_to_a(&data).reason, None);
    assert_eq!(w.leave(A, &back(&data, ACK)).mark, REPLY);
    prove(&mut w, B, 1);
    assert_eq!(
        w.b_to_a(&data).reason,
        Some(DropReason::AuthenticationRequired)
    );
    assert_eq!(w.leave(A, &back(&data, ACK)).mark, PENDING);
}

#[test]
fn the_world_answers_what_a_pod_asked() {
    let Some(mut w) = crate::world() else { return };
    w.rule(A, Direction::Egress, 0, 0, 443, allow(1));
    for (pod, node, service, server) in [
        // Masqueraded and behind a service address; then neither.
        ("10.1.0.2", "192.0.2.1", "10.96.0.1", "198.51.100.7"),
        ("fd00:1::2", "fd00:1::2", "2001:db8::7", "2001:db8::7"),
    ] {
        for request in [
            tcp((pod, 4000), (service, 443), SYN),
            udp((pod, 4000), (service, 443)),
        ] {
            w.prog.forget_flows().unwrap();
            let reply = back(&request, SYN | ACK);
            assert_eq!(
                w.world_in(&reply),
                Some(DropReason::DefaultDenyIngress),
                "unasked"
            );
            let sent = w.leave(A, &request);
            assert_eq!((sent.mark, sent.tc_index), (PENDING, A));
            assert_ne!(sent.hash, 0);
            assert_eq!(
                w.world_in(&reply),
                Some(DropReason::DefaultDenyIngress),
                "not out yet"
            );
            let translated = Frame {
                src: ip(node),
                dst: ip(server),
                ..request.clone()
            };
            assert_eq!(w.guard(&sent, &translated).verdict, Verdict::Next);
            assert_eq!(w.world_in(&reply), None);
            let router = if pod.contains('.') {
                "203.0.113.1"
            } else {
                "2001:db8::ff"
            };
            assert_eq!(w.world_in(&error(router, &request)), None);
            let other = udp((service, 444), (pod, 4000));
            assert_eq!(w.world_in(&other), Some(DropReason::DefaultDenyIngress));
            // The pod's next packet is its own, not an answer.
            assert_eq!(w.leave(A, &request).mark, PENDING);
        }
    }
}

#[test]
fn what_the_guard_refuses_gets_no_answer() {
    let Some(mut w) = crate::world() else { return };
    let request = udp(("10.1.0.2", 4000), ("198.51.100.7", 53));
    let sent = w.leave(A, &request);
    assert_eq!(
        w.guard(&sent, &request).reason,
        Some(DropReason::DefaultDenyEgress)
    );
    assert_eq!(
        w.world_in(&back(&request, 0)),
        Some(DropReason::DefaultDenyIngress)
    );
    assert_eq!(w.prog.maps.conntrack.iter().count(), 0);
}

#[test]
fn a_pod_answers_the_world_it_admitted() {
    let Some(mut w) = crate::world() else { return };
    w.rule(A, Direction::Ingress, 0, 6, 80, allow(1));
    let request = tcp(("198.51.100.7", 4000), ("10.1.0.2", 80), SYN);
    let reply = back(&request, SYN | ACK);
    assert_eq!(w.leave(A, &reply).mark, PENDING, "unasked");
    assert_eq!(w.world_in(&request), None);
    let sent = w.leave(A, &reply);
    assert_eq!((sent.mark, sent.tc_index), (REPLY, A));
    assert_eq!(w.guard(&sent, &reply).verdict, Verdict::Next);
    w.policy_changed(A);
    assert_eq!(
        w.leave(A, &back(&request, ACK)).mark,
        REPLY,
        "still allowed"
    );
    w.prog.maps.policy.clear().unwrap();
    w.policy_changed(A);
    let sent = w.leave(A, &back(&request, ACK));
    assert_eq!(sent.mark, PENDING);
    let refused = w.guard(&sent, &back(&request, ACK)).reason;
    assert_eq!(refused, Some(DropReason::DefaultDenyEgress));
}

#[test]
fn misses_and_drops_are_reported_once_a_second_with_the_count_left_out() {
    let Some(mut w) = crate::world() else { return };
    let unknown = udp(("10.1.0.2", 4000), ("10.2.0.9", 53));
    let packet = || marked(Packet::new(SIGNET0, unknown.build()), PENDING, A, A_IF);
    let first = w.go(Hook::ToTunnel, packet());
    assert_eq!(first.events.len(), 1);
    let event = first.events[0];
    assert_eq!(event.event_kind(), Some(EventKind::Miss));
    assert_eq!(event.event_hook(), Some(Hook::ToTunnel));
    assert_eq!((event.endpoint, event.family, event.proto), (A, 4, 17));
    assert_eq!(
        (event.sport, event.dport, event.ifindex),
        (4000, 53, SIGNET0)
    );
    assert_eq!(
        (event.src.to_ip(), event.dst.to_ip()),
        (unknown.src, unknown.dst)
    );
    for _ in 0..5 {
        assert!(w.go(Hook::ToTunnel, packet()).events.is_empty());
    }
    // The second over, without waiting for it.
    let limits: Vec<_> = w
        .prog
        .maps
        .event_limits
        .iter()
        .map(Result::unwrap)
        .collect();
    for (key, mut limit) in limits {
        limit.next = 0;
        w.prog.maps.event_limits.upsert(&key, &limit).unwrap();
    }
    let next = w.go(Hook::ToTunnel, packet());
    assert_eq!(
        next.events
            .iter()
            .map(|event| event.suppressed)
            .collect::<Vec<_>>(),
        [5]
    );
}

/// Kinds and ports of the flows that an outcome reports.
fn flows(outcome: &Outcome) -> Vec<(EventKind, u16, u16)> {
    let kind = |event: &signet_abi::Event| event.event_kind().unwrap();
    let events = outcome.events.iter();
    events
        .filter(|event| matches!(kind(event), EventKind::NewFlow | EventKind::TakenUp))
        .map(|event| (kind(event), event.sport, event.dport))
        .collect()
}

#[test]
fn admitted_flows_are_reported_by_port_if_somebody_asks() {
    let Some(mut w) = crate::world() else { return };
    let send = |w: &mut World, port| {
        let frame = udp(("10.1.0.2", 4000 + port), ("10.2.0.2", port));
        let packet = marked(Packet::new(SIGNET0, frame.build()), PENDING, A, A_IF);
        flows(&w.go(Hook::ToTunnel, packet))
    };
    let seen = |port| vec![(EventKind::NewFlow, 4000 + port, port)];
    assert_eq!(send(&mut w, 53), seen(53));
    assert_eq!(send(&mut w, 54), [], "once a second for a pair");
    let globals = signet_loader::Globals {
        report: true,
        ..w.globals
    };
    w.prog.maps.set_config(&globals.to_config(7)).unwrap();
    assert_eq!(send(&mut w, 55), seen(55));
    assert_eq!(send(&mut w, 56), seen(56));
    assert_eq!(send(&mut w, 56), [], "a known flow is no new one");
}

#[test]
fn who_opened_a_flow_is_told_from_either_side() {
    let Some(mut w) = crate::world() else { return };
    // A asked R on port 80 before anything was known here; R's answer comes first.
    w.isolate(A);
    w.rule(A, Direction::Egress, CLASS_R, 6, 80, allow(1));
    let answer = tcp(("10.2.0.2", 80), ("10.1.0.2", 4000), ACK);
    let packet = Packet::new(SLOT[0], with_tag(&answer).build());
    let outcome = w.go(Hook::FromTunnel, marked(packet, 0, 0, SLOT[0]));
    assert_eq!(outcome.reason, None);
    assert_eq!(flows(&outcome), [(EventKind::TakenUp, 80, 4000)]);
    // The same between pods of this node, where A answers B.
    w.reset();
    w.isolate(A);
    w.rule(A, Direction::Ingress, CLASS_B, 6, 80, allow(1));
    w.isolate(B);
    w.rule(B, Direction::Egress, CLASS_A, 6, 80, allow(2));
    let outcome = w.a_to_b(&tcp(("10.1.0.2", 80), ("10.1.0.3", 4000), ACK));
    assert_eq!(outcome.reason, None);
    assert_eq!(flows(&outcome), [(EventKind::TakenUp, 80, 4000)]);
    // And who asks is no answerer.
    w.reset();
    let outcome = w.b_to_a(&tcp(("10.1.0.3", 4000), ("10.1.0.2", 80), SYN));
    assert_eq!(flows(&outcome), [(EventKind::NewFlow, 4000, 80)]);
}

#[test]
fn a_tag_put_on_comes_off_without_a_trace() {
    let Some(mut w) = crate::world() else { return };
    // What A sends, R's node would receive; here the same node plays both.
    for (a, r) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        for len in [0usize, 1, 7, 512, 1300] {
            let sent = Frame {
                payload: vec![0xa5; len],
                ..udp((a, 1), (r, 2))
            };
            let packet = marked(Packet::new(SIGNET0, sent.build()), PENDING, A, A_IF);
            let tagged = w.go(Hook::ToTunnel, packet);
            assert_eq!(tagged.verdict, Verdict::Redirect(SLOT[0]));
            let carrier = if sent.src.is_ipv4() {
                tag_option(wire_epoch(), LABEL)
            } else {
                tag_extension(wire_epoch(), LABEL).1[2..].to_vec()
            };
            assert!(
                tagged
                    .data
                    .windows(carrier.len())
                    .any(|window| window == carrier)
            );
            let received = Frame {
                payload: vec![0xa5; len],
                ..udp((r, 1), (a, 2))
            };
            let packet = Packet::new(SLOT[0], with_tag(&received).build());
            assert_eq!(
                w.go(Hook::FromTunnel, packet).data,
                received.build(),
                "{len}"
            );
        }
    }
}
