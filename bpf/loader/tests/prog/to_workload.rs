//! The last hook before the pod: from the tunnel, from this node, from the world.

use signet_abi::{Direction, DropReason, Hook, endpoint_flags};
use signet_loader::boot_time_ns;
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::{Fragment, Frame, Transport};

use crate::fixture::{Expect, Fixture};
use crate::to_tunnel::{TCP, with_tag};
use crate::world::*;

const UPLINK: u32 = 3;

/// A packet for A with these surroundings.
fn case(what: &'static str, frame: Frame, from: (u32, u16, u32), expect: Expect) -> Fixture {
    let (mark, index, ingress) = from;
    let packet = marked(Packet::new(A_IF, frame.build()), mark, index, ingress);
    Fixture::new(what, Hook::ToWorkload, packet, expect)
}

fn from_b() -> Frame {
    Frame::new(ip("10.1.0.3"), ip("10.1.0.2"), TCP)
}

fn from_world() -> Frame {
    Frame::new(ip("192.0.2.7"), ip("10.1.0.2"), TCP)
}

fn from_r() -> Frame {
    Frame::new(ip("10.2.0.2"), ip("10.1.0.2"), TCP)
}

const LOCAL: (u32, u16, u32) = (PENDING, B, B_IF);
const WORLD: (u32, u16, u32) = (0, 0, UPLINK);

pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = arrival_fixtures();
    all.extend(same_node_fixtures());
    all.extend(world_fixtures());
    all
}

fn arrival_fixtures() -> Vec<Fixture> {
    let verified = (VERIFIED, A, SLOT[0]);
    let drops = |what, frame, from, reason| case(what, frame, from, Expect::Drop(reason));
    let nd = |kind| Frame {
        ttl: 255,
        payload: vec![0; 24],
        ..Frame::new(
            ip("fd00:1::3"),
            ip("fd00:1::2"),
            Transport::Icmp {
                kind,
                code: 0,
                word: 0,
            },
        )
    };
    let mut elsewhere = drops(
        "no endpoint here",
        from_r(),
        verified,
        DropReason::UnknownInterface,
    );
    elsewhere.packet.ifindex = 99;
    vec![
        case(
            "from the tunnel",
            from_r(),
            verified,
            Expect::Next(VERIFIED, A),
        ),
        case(
            "from the other slot",
            from_r(),
            (VERIFIED, A, SLOT[1]),
            Expect::Next(VERIFIED, A),
        ),
        case(
            "from the tunnel, behind a service address",
            Frame {
                src: ip("10.96.0.1"),
                ..from_r()
            },
            verified,
            Expect::Next(VERIFIED, A),
        ),
        drops(
            "verified, but not from a slot",
            from_r(),
            (VERIFIED, A, UPLINK),
            DropReason::NotVerified,
        ),
        drops(
            "verified for another pod",
            from_r(),
            (VERIFIED, B, SLOT[0]),
            DropReason::NotVerified,
        ),
        drops(
            "from a slot, but not verified",
            from_r(),
            (0, 0, SLOT[0]),
            DropReason::ClearPodAddress,
        ),
        drops(
            "delivered to the wrong veth",
            Frame {
                dst: ip("10.1.0.3"),
                ..from_r()
            },
            verified,
            DropReason::UnknownDestination,
        ),
        drops(
            "a tag",
            with_tag(&from_world()),
            WORLD,
            DropReason::ForeignTag,
        ),
        drops(
            "source routed",
            Frame {
                options: vec![131, 7, 4, 10, 0, 0, 1, 0],
                ..from_world()
            },
            WORLD,
            DropReason::SourceRouted,
        ),
        drops(
            "multicast",
            Frame {
                dst: ip("224.0.0.1"),
                ..from_world()
            },
            WORLD,
            DropReason::Multicast,
        ),
        case(
            "from the node",
            Frame {
                src: ip("192.0.2.1"),
                ..from_r()
            },
            (0, 0, 0),
            Expect::Next(0, 0),
        ),
        case(
            "the kernel's too-big",
            Frame {
                transport: Transport::Icmp {
                    kind: 3,
                    code: 4,
                    word: 1400,
                },
                payload: from_r().build_ip(),
                ..Frame::new(ip("192.0.2.1"), ip("10.1.0.2"), TCP)
            },
            (0, 0, 0),
            Expect::Next(0, 0),
        ),
        case(
            "a solicitation of a pod on the same bridge",
            nd(135),
            (0, 0, B_IF),
            Expect::Next(0, 0),
        ),
        drops(
            "a router advertisement of one",
            nd(134),
            (0, 0, B_IF),
            DropReason::RouterAdvertisement,
        ),
        elsewhere,
        drops(
            "not configured",
            from_r(),
            verified,
            DropReason::NotConfigured,
        )
        .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
    ]
}

fn same_node_fixtures() -> Vec<Fixture> {
    let pass = |what, frame| case(what, frame, LOCAL, Expect::Next(PENDING, B));
    let drops = |what, frame, reason| case(what, frame, LOCAL, Expect::Drop(reason));
    vec![
        pass("a pod of this node", from_b()),
        pass(
            "over IPv6",
            Frame::new(ip("fd00:1::3"), ip("fd00:1::2"), TCP),
        ),
        case(
            "itself",
            Frame {
                src: ip("10.1.0.2"),
                ..from_b()
            },
            (PENDING, A, A_IF),
            Expect::Next(PENDING, A),
        )
        .given(|w| w.isolate(A)),
        case(
            "itself, masqueraded",
            Frame {
                src: ip("10.1.0.1"),
                ..from_b()
            },
            (PENDING, A, A_IF),
            Expect::Next(PENDING, A),
        ),
        drops(
            "masqueraded",
            Frame {
                src: ip("10.1.0.1"),
                ..from_b()
            },
            DropReason::SourceTranslated,
        ),
        case("an index nobody has", from_b(), (PENDING, 9, B_IF), {
            Expect::Drop(DropReason::NoSourceIndex)
        }),
        case(
            "no index",
            from_b(),
            (PENDING, 0, B_IF),
            Expect::Drop(DropReason::NoSourceIndex),
        ),
        case(
            "a reply",
            Frame {
                src: ip("10.96.0.1"),
                ..from_b()
            },
            (REPLY, B, B_IF),
            Expect::Next(REPLY, B),
        ),
        case("a reply of nobody", from_b(), (REPLY, 9, B_IF), {
            Expect::Drop(DropReason::NoSourceIndex)
        }),
        drops(
            "the sender's egress",
            from_b(),
            DropReason::DefaultDenyEgress,
        )
        .given(|w| w.isolate(B)),
        drops(
            "the sender's denial",
            from_b(),
            DropReason::PolicyEgressDenied,
        )
        .given(|w| w.rule(B, Direction::Egress, CLASS_A, 6, 80, deny(1))),
        drops(
            "the receiver's ingress",
            from_b(),
            DropReason::DefaultDenyIngress,
        )
        .given(|w| w.isolate(A)),
        drops(
            "the receiver's denial",
            from_b(),
            DropReason::PolicyIngressDenied,
        )
        .given(|w| w.rule(A, Direction::Ingress, CLASS_B, 6, 80, deny(1))),
        pass("both agree", from_b()).given(|w| {
            w.isolate(A);
            w.isolate(B);
            w.rule(A, Direction::Ingress, CLASS_B, 6, 80, allow(1));
            w.rule(B, Direction::Egress, CLASS_A, 6, 80, allow(2));
        }),
        drops(
            "required, unproven",
            from_b(),
            DropReason::AuthenticationRequired,
        )
        .given(|w| w.rule(A, Direction::Ingress, CLASS_B, 6, 80, require(1))),
        drops(
            "required, one proven",
            from_b(),
            DropReason::AuthenticationRequired,
        )
        .given(|w| {
            w.rule(A, Direction::Ingress, CLASS_B, 6, 80, require(1));
            prove(w, A, boot_time_ns() + HOUR);
        }),
        drops(
            "required, one expired",
            from_b(),
            DropReason::AuthenticationRequired,
        )
        .given(|w| {
            w.rule(A, Direction::Ingress, CLASS_B, 6, 80, require(1));
            prove(w, A, boot_time_ns() + HOUR);
            prove(w, B, 1);
        }),
        pass("required, both proven", from_b()).given(|w| {
            w.rule(A, Direction::Ingress, CLASS_B, 6, 80, require(1));
            prove(w, A, boot_time_ns() + HOUR);
            prove(w, B, boot_time_ns() + HOUR);
        }),
    ]
}

pub(crate) fn prove(world: &mut World, index: u16, not_after: u64) {
    world.edit(index, |endpoint| {
        endpoint.flags |= endpoint_flags::AUTHENTICATED;
        endpoint.not_after = not_after;
    });
}

fn world_fixtures() -> Vec<Fixture> {
    let pass = |what, frame| case(what, frame, WORLD, Expect::Next(0, 0));
    let drops = |what, frame, reason| case(what, frame, WORLD, Expect::Drop(reason));
    vec![
        drops(
            "strict: nobody asked for the world",
            from_world(),
            DropReason::DefaultDenyIngress,
        ),
        pass("not strict, not isolated", from_world()).given(|w| {
            let globals = signet_loader::Globals {
                strict: false,
                ..w.globals
            };
            w.prog.maps.set_config(&globals.to_config(7)).unwrap();
        }),
        pass("a rule for the world", from_world())
            .given(|w| w.rule(A, Direction::Ingress, 0, 6, 80, allow(1))),
        pass("a rule for its network", from_world()).given(|w| {
            w.cidr("192.0.2.0", 24, 40);
            w.rule(A, Direction::Ingress, 40, 6, 80, allow(1));
        }),
        drops(
            "the longer prefix counts",
            from_world(),
            DropReason::PolicyIngressDenied,
        )
        .given(|w| {
            w.cidr("192.0.2.0", 24, 40);
            w.cidr("192.0.2.0", 29, 41);
            w.rule(A, Direction::Ingress, 40, 6, 80, allow(1));
            w.rule(A, Direction::Ingress, 41, 6, 80, deny(1));
        }),
        drops(
            "required: it cannot prove anything",
            from_world(),
            DropReason::AuthenticationRequired,
        )
        .given(|w| w.rule(A, Direction::Ingress, 0, 6, 80, require(1))),
        drops(
            "another node's pod in the clear",
            from_r(),
            DropReason::ClearPodAddress,
        )
        .given(|w| w.rule(A, Direction::Ingress, 0, 6, 80, allow(1))),
        drops(
            "a pod of this node that lost its mark",
            from_b(),
            DropReason::ClearPodAddress,
        ),
        drops(
            "another's address",
            Frame {
                dst: ip("10.1.0.3"),
                ..from_world()
            },
            DropReason::UnknownDestination,
        ),
        drops(
            "a fragment without its first",
            Frame {
                fragment: Some(Fragment {
                    id: 8,
                    offset: 4,
                    more: false,
                }),
                ..from_world()
            },
            DropReason::FragmentWithoutPorts,
        ),
    ]
}
