//! The last look at what leaves the node.

use signet_abi::{Direction, DropReason, Hook};
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::{Frame, Transport};

use crate::fixture::{Expect, Fixture};
use crate::to_tunnel::TCP;
use crate::world::*;

const NODE: &str = "192.0.2.1";

fn case(what: &'static str, data: Vec<u8>, from: (u32, u16, u32), expect: Expect) -> Fixture {
    let (mark, index, ingress) = from;
    let packet = marked(Packet::new(UNDERLAY, data), mark, index, ingress);
    Fixture::new(what, Hook::UnderlayGuard, packet, expect)
}

fn to_world(src: &str) -> Frame {
    Frame::new(ip(src), ip("198.51.100.7"), TCP)
}

const POD: (u32, u16, u32) = (PENDING, A, A_IF);
const ANSWER: (u32, u16, u32) = (REPLY, A, A_IF);
const OWN: (u32, u16, u32) = (0, 0, 0);
const FORWARDED: (u32, u16, u32) = (0, 0, 3);

pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = pod_fixtures();
    all.extend(node_fixtures());
    all
}

fn pod_fixtures() -> Vec<Fixture> {
    let drops =
        |what, frame: Frame, from, reason| case(what, frame.build(), from, Expect::Drop(reason));
    let pass = |what, frame: Frame| case(what, frame.build(), POD, Expect::Next(PENDING, A));
    vec![
        drops(
            "strict: nobody allowed the world",
            to_world(NODE),
            POD,
            DropReason::DefaultDenyEgress,
        ),
        pass("masqueraded, a rule for the world", to_world(NODE))
            .given(|w| w.rule(A, Direction::Egress, 0, 6, 80, allow(1))),
        pass(
            "its own address, a rule for the network",
            to_world("10.1.0.2"),
        )
        .given(|w| {
            w.cidr("198.51.100.0", 24, 40);
            w.rule(A, Direction::Egress, 40, 6, 80, allow(1));
        }),
        drops(
            "a denial",
            to_world(NODE),
            POD,
            DropReason::PolicyEgressDenied,
        )
        .given(|w| w.rule(A, Direction::Egress, 0, 6, 80, deny(1))),
        drops(
            "required",
            to_world(NODE),
            POD,
            DropReason::AuthenticationRequired,
        )
        .given(|w| w.rule(A, Direction::Egress, 0, 6, 80, require(1))),
        drops(
            "to a remote pod",
            Frame {
                dst: ip("10.2.0.2"),
                ..to_world(NODE)
            },
            POD,
            DropReason::ClearPodAddress,
        )
        .given(|w| w.rule(A, Direction::Egress, 0, 0, 0, allow(1))),
        drops(
            "no index",
            to_world(NODE),
            (PENDING, 0, A_IF),
            DropReason::NoSourceIndex,
        ),
        drops(
            "as another pod",
            to_world("10.1.0.3"),
            POD,
            DropReason::SourceTranslated,
        )
        .given(|w| w.rule(A, Direction::Egress, 0, 0, 0, allow(1))),
        case(
            "a reply",
            to_world("10.1.0.2").build(),
            ANSWER,
            Expect::Next(REPLY, A),
        ),
        drops(
            "a reply to a remote pod",
            Frame {
                dst: ip("fd00:2::2"),
                ..v6()
            },
            ANSWER,
            DropReason::ClearPodAddress,
        ),
        case("not IP", with_type(to_world(NODE), 0x8100), POD, {
            Expect::Drop(DropReason::PendingEscaped)
        }),
        drops(
            "tunnelled by the pod",
            Frame {
                transport: Transport::Raw(4),
                payload: Frame::new(ip("10.1.0.2"), ip("10.2.0.2"), TCP).build_ip(),
                ..to_world(NODE)
            },
            POD,
            DropReason::ClearPodAddress,
        )
        .given(|w| w.rule(A, Direction::Egress, 0, 0, 0, allow(1))),
    ]
}

fn v6() -> Frame {
    Frame::new(ip("2001:db8::1"), ip("2001:db8::2"), TCP)
}

fn node_fixtures() -> Vec<Fixture> {
    let pass = |what, data: Vec<u8>| case(what, data, OWN, Expect::Next(0, 0));
    let leaks = |what, frame: Frame, from| {
        case(
            what,
            frame.build(),
            from,
            Expect::Drop(DropReason::ClearPodAddress),
        )
    };
    let mut vxlan = vec![8, 0, 0, 0, 0, 0, 1, 0];
    vxlan.extend(Frame::new(ip("10.1.0.2"), ip("10.2.0.2"), TCP).build());
    vec![
        pass("the node's own", to_world(NODE).build()),
        pass("the node's own IPv6", v6().build()),
        pass("ARP", with_type(to_world(NODE), 0x0806)),
        pass("the node's own with odd options", {
            Frame {
                options: vec![131, 7, 4, 10, 0, 0, 1, 0],
                ..to_world(NODE)
            }
            .build()
        }),
        case(
            "forwarded for others",
            to_world("203.0.113.9").build(),
            FORWARDED,
            Expect::Next(0, 0),
        ),
        leaks("a pod's source", to_world("10.1.0.2"), FORWARDED),
        leaks("a remote pod's source", to_world("10.2.0.2"), FORWARDED),
        leaks(
            "a pod as destination",
            Frame {
                dst: ip("10.2.0.2"),
                ..to_world(NODE)
            },
            OWN,
        ),
        leaks(
            "an IPv6 pod",
            Frame {
                dst: ip("fd00:2::2"),
                ..v6()
            },
            OWN,
        ),
        leaks(
            "verified, but leaving",
            to_world("10.2.0.2"),
            (VERIFIED, A, SLOT[0]),
        ),
        leaks(
            "inside IPIP",
            Frame {
                transport: Transport::Raw(4),
                payload: Frame::new(ip("10.1.0.2"), ip("10.2.0.2"), TCP).build_ip(),
                ..to_world(NODE)
            },
            OWN,
        ),
        leaks(
            "IPv6 inside IPv4",
            Frame {
                transport: Transport::Raw(41),
                payload: Frame::new(ip("fd00:1::2"), ip("fd00:2::2"), TCP).build_ip(),
                ..to_world(NODE)
            },
            OWN,
        ),
        leaks(
            "inside VXLAN",
            Frame {
                transport: Transport::Udp {
                    sport: 1,
                    dport: 4789,
                },
                payload: vxlan,
                ..to_world(NODE)
            },
            OWN,
        ),
        pass("without a configuration", to_world(NODE).build())
            .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
        leaks(
            "a pod's address without a configuration",
            to_world("10.1.0.2"),
            POD,
        )
        .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
    ]
}

fn with_type(frame: Frame, ethertype: u16) -> Vec<u8> {
    let mut bytes = frame.build();
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}
