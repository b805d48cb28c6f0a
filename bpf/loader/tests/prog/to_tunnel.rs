//! The way into the tunnel: row, policy, tag, or hold.

use signet_abi::{
    Direction, DropReason, HoldBudget, HoldHeader, HoldOrder, Hook, SendKey, send_state,
};
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::{Fragment, Frame, Transport, tag_extension, tag_option};

use crate::fixture::{Expect, Fixture};
use crate::world::*;

pub(crate) const TCP: Transport = Transport::Tcp {
    sport: 4000,
    dport: 80,
    flags: 2,
};

fn v4() -> Frame {
    Frame::new(ip("10.1.0.2"), ip("10.2.0.2"), TCP)
}

fn v6() -> Frame {
    Frame::new(ip("fd00:1::2"), ip("fd00:2::2"), TCP)
}

/// As it arrives from A by the stack.
fn pending(frame: &Frame) -> Packet {
    marked(Packet::new(SIGNET0, frame.build()), PENDING, A, A_IF)
}

fn case(what: &'static str, frame: Frame, expect: Expect) -> Fixture {
    Fixture::new(what, Hook::ToTunnel, pending(&frame), expect)
}

fn drops(what: &'static str, frame: Frame, reason: DropReason) -> Fixture {
    case(what, frame, Expect::Drop(reason))
}

/// Redirected to slot 0 with the tag.
fn tagged(what: &'static str, frame: Frame) -> Fixture {
    let out = with_tag(&frame);
    case(what, frame, Expect::Redirect(SLOT[0])).gives(&out)
}

pub(crate) fn with_tag(frame: &Frame) -> Frame {
    let mut out = frame.clone();
    if frame.src.is_ipv4() {
        out.options = [tag_option(wire_epoch(), LABEL), frame.options.clone()].concat();
    } else {
        out.extensions.insert(0, tag_extension(wire_epoch(), LABEL));
    }
    out
}

fn held(what: &'static str, frame: Frame) -> Fixture {
    held_as(what, frame, 1)
}

fn held_as(what: &'static str, frame: Frame, ticket: u16) -> Fixture {
    let ethertype = if frame.src.is_ipv4() { 0x0800 } else { 0x86dd };
    let header = HoldHeader {
        endpoint: A,
        generation: A_GENERATION,
        ticket,
        ethertype,
    };
    let out = [&header.to_bytes()[..], &frame.build()].concat();
    case(what, frame, Expect::Redirect(HOLD)).gives_bytes(out)
}

fn without_hold(world: &mut World) {
    let globals = signet_loader::Globals {
        hold: false,
        ..world.globals
    };
    world.prog.maps.set_config(&globals.to_config(7)).unwrap();
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = tag_fixtures();
    all.extend(row_fixtures());
    all.extend(source_fixtures());
    all.extend(policy_fixtures());
    all.extend(host_fixtures());
    all
}

/// What the node itself sends, and what it forwards under its own address.
fn host_fixtures() -> Vec<Fixture> {
    const UPLINK: u32 = 3;
    let frame = || Frame::new(ip("172.18.0.2"), ip("10.2.0.2"), TCP);
    let row = |world: &mut World| {
        for dst in ["10.2.0.2", "fd00:2::2"] {
            world.send_row_of(HOST, 5, dst, |_| {});
        }
    };
    let sent = |what, frame: &Frame, mark, ingress, expect| {
        let packet = marked(Packet::new(SIGNET0, frame.build()), mark, 0, ingress);
        Fixture::new(what, Hook::ToTunnel, packet, expect).given(row)
    };
    let v6 = Frame::new(ip("fc00::2"), ip("fd00:2::2"), TCP);
    let stranger = Frame {
        src: ip("10.1.0.1"),
        ..frame()
    };
    let drops = |what, frame: &Frame, mark, ingress, reason| {
        sent(what, frame, mark, ingress, Expect::Drop(reason))
    };
    let out = Expect::Redirect;
    let header = HoldHeader {
        endpoint: HOST,
        generation: 5,
        ticket: 1,
        ethertype: 0x0800,
    };
    let held = [&header.to_bytes()[..], &frame().build()].concat();
    vec![
        sent("from the node", &frame(), 0, 0, out(SLOT[0])).gives(&with_tag(&frame())),
        sent("from the node, IPv6", &v6, 0, 0, out(SLOT[0])).gives(&with_tag(&v6)),
        sent(
            "masqueraded by the node",
            &frame(),
            0x4000,
            UPLINK,
            out(SLOT[0]),
        )
        .gives(&with_tag(&frame())),
        sent(
            "from the node for the first time",
            &frame(),
            0,
            0,
            out(HOLD),
        )
        .given(|_| {})
        .gives_bytes(held),
        drops(
            "from the node under an address of none",
            &stranger,
            0,
            0,
            DropReason::HostWithoutLabel,
        ),
        drops(
            "forwarded under its own address",
            &stranger,
            0,
            UPLINK,
            DropReason::NoSourceIndex,
        ),
        drops(
            "a pod's that lost its index, masqueraded",
            &frame(),
            PENDING,
            UPLINK,
            DropReason::NoSourceIndex,
        ),
        drops(
            "a pod's that lost index and mark, masqueraded",
            &frame(),
            0,
            A_IF,
            DropReason::NoSourceIndex,
        ),
        drops(
            "before the node has an endpoint",
            &frame(),
            0,
            0,
            DropReason::HostWithoutLabel,
        )
        .given(|world| {
            let globals = signet_loader::Globals {
                host_endpoint: 0,
                ..world.globals
            };
            world.prog.maps.set_config(&globals.to_config(7)).unwrap();
        }),
    ]
}

fn tag_fixtures() -> Vec<Fixture> {
    let first = Some(Fragment {
        id: 3,
        offset: 0,
        more: true,
    });
    vec![
        tagged("IPv4", v4()),
        tagged("IPv6", v6()),
        tagged(
            "UDP",
            Frame {
                transport: Transport::Udp { sport: 1, dport: 2 },
                ..v4()
            },
        ),
        tagged(
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
        tagged(
            "an IPv6 echo request",
            Frame {
                transport: Transport::Icmp {
                    kind: 128,
                    code: 0,
                    word: 0x10001,
                },
                ..v6()
            },
        ),
        tagged(
            "a first fragment",
            Frame {
                fragment: first,
                ..v4()
            },
        ),
        tagged(
            "a first IPv6 fragment",
            Frame {
                fragment: first,
                ..v6()
            },
        ),
        tagged(
            "before other options",
            Frame {
                options: vec![7, 7, 4, 0, 0, 0, 0, 0],
                ..v4()
            },
        ),
        tagged(
            "before other headers",
            Frame {
                extensions: vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
                ..v6()
            },
        ),
        tagged(
            "ESP",
            Frame {
                transport: Transport::Raw(50),
                ..v4()
            },
        ),
        drops(
            "no room among the options",
            Frame {
                options: vec![1; 36],
                ..v4()
            },
            DropReason::TagFailed,
        ),
        drops(
            "too large for the tag",
            Frame {
                payload: vec![0; 1955],
                ..v4()
            },
            DropReason::PacketTooLarge,
        ),
        drops(
            "too large over IPv6",
            Frame {
                payload: vec![0; 1970],
                ..v6()
            },
            DropReason::PacketTooLarge,
        ),
        other_slot("only the other slot has a label").given(|w| {
            w.send_row("10.2.0.2", |row| {
                row.label = [0, LABEL + 1];
                row.epoch = [0, EPOCH - 1];
            });
        }),
        other_slot("both have one, and the peer was switched").given(|w| {
            both_slots(w);
            w.peer(|peer| peer.tx_slot = 1);
        }),
        tagged("both have one, and the peer was not switched", v4()).given(both_slots),
        tagged("switched, but this pair has no label there", v4())
            .given(|w| w.peer(|peer| peer.tx_slot = 1)),
    ]
}

/// Two labels, as in a switch of epochs.
fn both_slots(w: &mut World) {
    w.send_row("10.2.0.2", |row| {
        row.label = [LABEL, LABEL + 1];
        row.epoch = [EPOCH, EPOCH - 1];
    });
}

fn other_slot(what: &'static str) -> Fixture {
    case(what, v4(), Expect::Redirect(SLOT[1])).gives(&Frame {
        options: tag_option((EPOCH - 1) as u8, LABEL + 1),
        ..v4()
    })
}

fn row_fixtures() -> Vec<Fixture> {
    let unknown = || Frame::new(ip("10.2.0.9"), ip("10.2.0.9"), TCP);
    let to_unknown = Frame {
        src: ip("10.1.0.2"),
        ..unknown()
    };
    vec![
        held("no row: held", to_unknown.clone()),
        held(
            "no row over IPv6",
            Frame {
                dst: ip("fd00:2::9"),
                ..v6()
            },
        ),
        held("an expired row", v4()).given(|w| w.send_row("10.2.0.2", |row| row.not_after = 1)),
        held("an expired refusal", v4()).given(|w| {
            w.send_row("10.2.0.2", |row| {
                row.state = send_state::REFUSED;
                row.not_after = 1;
            });
        }),
        held("an epoch that is over", v4())
            .given(|w| w.peer(|peer| peer.slot_epoch[0] = EPOCH + 2)),
        held("no label of a slot that is in use", v4())
            .given(|w| w.send_row("10.2.0.2", |row| row.epoch = [0, EPOCH + 1])),
        drops("keys that are too old", v4(), DropReason::EpochTooOld)
            .given(|w| w.peer(|peer| peer.slot_until[0] = 1)),
        held("a row of a former pod with this index", v4())
            .given(|w| w.edit(A, |a| a.generation = A_GENERATION))
            .given(|w| {
                let key = signet_abi::SendKey {
                    endpoint: A.into(),
                    generation: A_GENERATION,
                    dst: addr("10.2.0.2"),
                };
                let row = w.prog.maps.send_rows.get(&key).unwrap().unwrap();
                assert!(w.prog.maps.send_rows.remove(&key).unwrap());
                let older = signet_abi::SendKey {
                    generation: 1,
                    ..key
                };
                w.prog.maps.send_rows.upsert(&older, &row).unwrap();
            }),
        drops("no row, no hold", to_unknown, DropReason::NoSendRow).given(without_hold),
        drops("expired, no hold", v4(), DropReason::SendRowExpired).given(|w| {
            without_hold(w);
            w.send_row("10.2.0.2", |row| row.not_after = 1);
        }),
        drops("refused by policy", v4(), DropReason::PolicyEgressDenied).given(|w| {
            w.send_row("10.2.0.2", |row| {
                row.state = send_state::REFUSED;
                row.reason = DropReason::PolicyEgressDenied.number();
            });
        }),
        drops(
            "refused without a word",
            v4(),
            DropReason::AuthenticationFailed,
        )
        .given(|w| {
            w.send_row("10.2.0.2", |row| row.state = send_state::REFUSED);
        }),
        drops("lease over", v4(), DropReason::LeaseExpired)
            .given(|w| w.peer(|peer| peer.lease_until = 1)),
        drops("peer removed", v4(), DropReason::LeaseExpired)
            .given(|w| assert!(w.prog.maps.peers.remove(&PEER).unwrap())),
    ]
}

fn source_fixtures() -> Vec<Fixture> {
    let with =
        |what, packet, reason| Fixture::new(what, Hook::ToTunnel, packet, Expect::Drop(reason));
    let plain = || Packet::new(SIGNET0, v4().build());
    vec![
        with(
            "no index",
            marked(plain(), PENDING, 0, A_IF),
            DropReason::NoSourceIndex,
        ),
        with(
            "an index nobody has",
            marked(plain(), PENDING, 9, A_IF),
            DropReason::NoSourceIndex,
        ),
        with(
            "forwarded without a mark",
            marked(plain(), 0, 0, 3),
            DropReason::NoSourceIndex,
        ),
        with(
            "an index without a mark",
            marked(plain(), 0, A, A_IF),
            DropReason::NoSourceIndex,
        ),
        with(
            "a reply's mark",
            marked(plain(), REPLY, A, A_IF),
            DropReason::NoSourceIndex,
        ),
        with(
            "from the node",
            marked(plain(), 0, 0, 0),
            DropReason::HostWithoutLabel,
        ),
        with(
            "another device",
            Packet {
                ifindex: 99,
                ..pending(&v4())
            },
            DropReason::UnknownInterface,
        ),
        drops(
            "masqueraded",
            Frame {
                src: ip("192.0.2.1"),
                ..v4()
            },
            DropReason::SourceTranslated,
        ),
        drops(
            "as another pod",
            Frame {
                src: ip("10.1.0.3"),
                ..v4()
            },
            DropReason::SourceTranslated,
        ),
        drops(
            "multicast",
            Frame {
                dst: ip("ff02::16"),
                ..v6()
            },
            DropReason::Multicast,
        ),
        drops(
            "link-local",
            Frame {
                src: ip("fe80::1"),
                ..v6()
            },
            DropReason::LinkLocal,
        ),
        drops("tagged already", with_tag(&v4()), DropReason::ForeignTag),
        drops(
            "a fragment without its first",
            Frame {
                fragment: Some(Fragment {
                    id: 1,
                    offset: 4,
                    more: true,
                }),
                ..v4()
            },
            DropReason::FragmentWithoutPorts,
        ),
        drops("not configured", v4(), DropReason::NotConfigured)
            .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
    ]
}

/// Packets of the pair have been sent to the hold device up to `sent`, and are back up to
/// `released`.
fn waiting(world: &mut World, until: u64, sent: u32, released: u32) {
    let key = SendKey {
        endpoint: A.into(),
        generation: A_GENERATION,
        dst: addr("10.2.0.2"),
    };
    let order = HoldOrder {
        until,
        sent,
        released,
    };
    world.prog.maps.hold_orders.upsert(&key, &order).unwrap();
}

fn spent(world: &mut World) {
    let budget = HoldBudget {
        used_until: u64::MAX,
    };
    let endpoint = A.into();
    world
        .prog
        .maps
        .hold_budgets
        .upsert(&endpoint, &budget)
        .unwrap();
}

pub(crate) fn order_fixtures() -> Vec<Fixture> {
    let to_unknown = || Frame {
        dst: ip("10.2.0.9"),
        ..v4()
    };
    vec![
        drops(
            "no row, too many wait",
            to_unknown(),
            DropReason::HoldLimited,
        )
        .given(spent),
        held_as("a row, and others wait", v4(), 4).given(|w| waiting(w, u64::MAX, 3, 2)),
        held_as("tickets begin again", v4(), 0).given(|w| waiting(w, u64::MAX, 0xffff, 7)),
        tagged("a row, and all are back", v4()).given(|w| waiting(w, u64::MAX, 3, 3)),
        tagged("all are back, long since", v4()).given(|w| waiting(w, u64::MAX, 0x5_0003, 3)),
        tagged("a row, and the others are lost", v4()).given(|w| waiting(w, 1, 3, 2)),
        tagged("others wait, too many to join", v4()).given(|w| {
            waiting(w, u64::MAX, 3, 2);
            spent(w);
        }),
        tagged("others wait, but no longer may", v4()).given(|w| {
            waiting(w, u64::MAX, 3, 2);
            without_hold(w);
        }),
    ]
}

fn policy_fixtures() -> Vec<Fixture> {
    vec![
        drops("isolated, no rule", v4(), DropReason::DefaultDenyEgress).given(|w| w.isolate(A)),
        tagged("isolated, a rule for the port", v4()).given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Egress, CLASS_R, 6, 80, allow(1));
        }),
        tagged("a rule for every protocol", v4()).given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Egress, CLASS_R, 0, 0, allow(1));
        }),
        tagged("a rule that requires authentication", v4()).given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Egress, CLASS_R, 6, 0, require(1));
        }),
        drops(
            "a rule for another port",
            v4(),
            DropReason::DefaultDenyEgress,
        )
        .given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Egress, CLASS_R, 6, 81, allow(1));
        }),
        drops(
            "a rule for another class",
            v4(),
            DropReason::DefaultDenyEgress,
        )
        .given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Egress, CLASS_R + 1, 6, 80, allow(1));
        }),
        drops(
            "a rule for the other way",
            v4(),
            DropReason::DefaultDenyEgress,
        )
        .given(|w| {
            w.isolate(A);
            w.rule(A, Direction::Ingress, CLASS_R, 6, 80, allow(1));
        }),
        drops("a denial", v4(), DropReason::PolicyEgressDenied)
            .given(|w| w.rule(A, Direction::Egress, CLASS_R, 6, 80, deny(1))),
        drops(
            "a denial within an allowed range",
            v4(),
            DropReason::PolicyEgressDenied,
        )
        .given(|w| {
            w.rule(A, Direction::Egress, CLASS_R, 6, 0, allow(1));
            w.rule(A, Direction::Egress, CLASS_R, 6, 80, deny(2));
        }),
        drops(
            "an exact protocol before all protocols",
            v4(),
            DropReason::PolicyEgressDenied,
        )
        .given(|w| {
            w.rule(A, Direction::Egress, CLASS_R, 0, 80, allow(1));
            w.rule(A, Direction::Egress, CLASS_R, 6, 0, deny(2));
        }),
    ]
}
