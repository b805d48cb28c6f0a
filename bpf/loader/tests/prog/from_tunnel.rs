//! The way out of the tunnel: every word of the label, then policy, then the tag goes.

use signet_abi::{Direction, DropReason, Hook};
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::{Fragment, Frame, Transport, tag_extension, tag_option};

use crate::fixture::{Expect, Fixture};
use crate::to_tunnel::{TCP, with_tag};
use crate::world::*;

fn v4() -> Frame {
    Frame::new(ip("10.2.0.2"), ip("10.1.0.2"), TCP)
}

fn v6() -> Frame {
    Frame::new(ip("fd00:2::2"), ip("fd00:1::2"), TCP)
}

fn on_slot(what: &'static str, frame: &Frame, expect: Expect) -> Fixture {
    let packet = marked(Packet::new(SLOT[0], frame.build()), 0, 0, SLOT[0]);
    Fixture::new(what, Hook::FromTunnel, packet, expect)
}

fn passes(what: &'static str, frame: Frame) -> Fixture {
    on_slot(what, &with_tag(&frame), Expect::Next(VERIFIED, A)).gives(&frame)
}

fn drops(what: &'static str, frame: Frame, reason: DropReason) -> Fixture {
    on_slot(what, &with_tag(&frame), Expect::Drop(reason))
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = tag_fixtures();
    all.extend(label_fixtures());
    all.extend(destination_fixtures());
    all
}

fn tag_fixtures() -> Vec<Fixture> {
    let raw = |what, frame: Frame, reason| on_slot(what, &frame, Expect::Drop(reason));
    let first = Some(Fragment {
        id: 3,
        offset: 0,
        more: true,
    });
    let hop_by_hop = (0, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    vec![
        passes("IPv4", v4()),
        passes("IPv6", v6()),
        passes(
            "UDP",
            Frame {
                transport: Transport::Udp { sport: 1, dport: 2 },
                ..v6()
            },
        ),
        passes(
            "an echo request",
            Frame {
                transport: Transport::Icmp {
                    kind: 8,
                    code: 0,
                    word: 0x10001,
                },
                ..v4()
            },
        ),
        passes(
            "a first fragment",
            Frame {
                fragment: first,
                ..v4()
            },
        ),
        passes(
            "a first IPv6 fragment",
            Frame {
                fragment: first,
                ..v6()
            },
        ),
        passes(
            "the pod's own options stay",
            Frame {
                options: vec![7, 7, 4, 0, 0, 0, 0, 0],
                ..v4()
            },
        ),
        raw("untagged", v4(), DropReason::Untagged),
        raw("untagged over IPv6", v6(), DropReason::Untagged),
        raw(
            "a tag in second place",
            Frame {
                options: [vec![1, 1, 1, 1], tag_option(wire_epoch(), LABEL)].concat(),
                ..v4()
            },
            DropReason::ForeignTag,
        ),
        raw(
            "a tag behind another header",
            Frame {
                extensions: vec![hop_by_hop, tag_extension(wire_epoch(), LABEL)],
                ..v6()
            },
            DropReason::ForeignTag,
        ),
        raw(
            "two tags",
            with_tag(&with_tag(&v4())),
            DropReason::ForeignTag,
        ),
        raw(
            "two tags over IPv6",
            with_tag(&with_tag(&v6())),
            DropReason::ForeignTag,
        ),
        drops(
            "source routed inside",
            Frame {
                options: vec![131, 7, 4, 10, 0, 0, 1, 0],
                ..v4()
            },
            DropReason::SourceRouted,
        ),
        drops(
            "a fragment without its first",
            Frame {
                fragment: Some(Fragment {
                    id: 8,
                    offset: 4,
                    more: false,
                }),
                ..v4()
            },
            DropReason::FragmentWithoutPorts,
        ),
    ]
}

fn label_fixtures() -> Vec<Fixture> {
    let guessed = |what, epoch, label, reason| {
        let frame = Frame {
            options: tag_option(epoch, label),
            ..v4()
        };
        on_slot(what, &frame, Expect::Drop(reason))
    };
    let mut other_slot = drops("on the other slot", v4(), DropReason::SlotMismatch);
    other_slot.packet.ifindex = SLOT[1];
    let mut no_slot = drops("another device", v4(), DropReason::UnknownInterface);
    no_slot.packet.ifindex = 99;
    vec![
        guessed(
            "a guessed label",
            wire_epoch(),
            LABEL + 1,
            DropReason::UnknownLabel,
        ),
        guessed(
            "another epoch byte",
            wire_epoch() + 1,
            LABEL,
            DropReason::EpochMismatch,
        ),
        other_slot,
        no_slot,
        drops("a slot that moved on", v4(), DropReason::EpochMismatch)
            .given(|w| w.peer(|peer| peer.slot_epoch[0] = EPOCH + 2)),
        drops(
            "the same byte, 256 epochs later",
            v4(),
            DropReason::EpochMismatch,
        )
        .given(|w| w.peer(|peer| peer.slot_epoch[0] = EPOCH + 256)),
        drops("keys that are too old", v4(), DropReason::EpochTooOld)
            .given(|w| w.peer(|peer| peer.slot_until[0] = 1)),
        drops("an expired label", v4(), DropReason::LabelExpired)
            .given(|w| w.recv_row(|row| row.not_after = 1)),
        drops("lease over", v4(), DropReason::LeaseExpired)
            .given(|w| w.peer(|peer| peer.lease_until = 1)),
        drops("peer removed", v4(), DropReason::LeaseExpired)
            .given(|w| assert!(w.prog.maps.peers.remove(&PEER).unwrap())),
        drops(
            "another source",
            Frame {
                src: ip("10.2.0.3"),
                ..v4()
            },
            DropReason::InnerSourceMismatch,
        ),
        drops(
            "another IPv6 source",
            Frame {
                src: ip("fd00:2::3"),
                ..v6()
            },
            DropReason::InnerSourceMismatch,
        ),
        drops(
            "a local pod's source",
            Frame {
                src: ip("10.1.0.3"),
                ..v4()
            },
            DropReason::InnerSourceMismatch,
        ),
        drops("not configured", v4(), DropReason::NotConfigured)
            .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
    ]
}

fn destination_fixtures() -> Vec<Fixture> {
    let stale =
        |what, frame: Frame, reason| on_slot(what, &with_tag(&frame), Expect::Stale(reason));
    vec![
        stale(
            "nobody's address",
            Frame {
                dst: ip("10.1.0.9"),
                ..v4()
            },
            DropReason::UnknownDestination,
        ),
        stale(
            "another identity's address",
            Frame {
                dst: ip("10.1.0.3"),
                ..v4()
            },
            DropReason::DstIdentityMismatch,
        ),
        stale(
            "the address went to another workload",
            v4(),
            DropReason::DstIdentityMismatch,
        )
        .given(|w| w.edit(A, |a| a.identity = 4711)),
        stale(
            "the address map is behind",
            v4(),
            DropReason::GenerationStale,
        )
        .given(|w| w.edit(A, |a| assert!(a.set_addrs(&[addr("10.1.0.7")])))),
        stale("the endpoint is gone", v4(), DropReason::GenerationStale)
            .given(|w| assert!(w.prog.maps.endpoints.remove(&A.into()).unwrap())),
        drops("isolated, no rule", v4(), DropReason::DefaultDenyIngress).given(|w| w.isolate(A)),
        drops("a denial", v4(), DropReason::PolicyIngressDenied)
            .given(|w| w.rule(A, Direction::Ingress, CLASS_R, 6, 80, deny(1))),
        passes("a rule that requires authentication", v4()).given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Ingress, CLASS_R, 6, 80, require(1));
        }),
    ]
}
