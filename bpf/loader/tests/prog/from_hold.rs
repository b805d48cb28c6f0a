//! Released packets: the same verdict, never held again.

use signet_abi::{DropReason, HoldHeader, Hook};
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::Frame;

use crate::fixture::{Expect, Fixture};
use crate::to_tunnel::{TCP, with_tag};
use crate::world::*;

fn frame() -> Frame {
    Frame::new(ip("10.1.0.2"), ip("10.2.0.2"), TCP)
}

fn held(frame: &Frame, header: HoldHeader) -> Vec<u8> {
    [&header.to_bytes()[..], &frame.build_ip()].concat()
}

fn case(what: &'static str, frame: Frame, expect: Expect) -> Fixture {
    let ethertype = if frame.src.is_ipv4() { 0x0800 } else { 0x86dd };
    let header = HoldHeader {
        endpoint: A,
        generation: A_GENERATION,
        ticket: 1,
        ethertype,
    };
    let out = held(&with_tag(&frame), header);
    let packet = Packet::new(HOLD, held(&frame, header));
    Fixture::new(what, Hook::FromHold, packet, expect).gives_bytes(out)
}

fn drops(what: &'static str, frame: Frame, reason: DropReason) -> Fixture {
    case(what, frame, Expect::Drop(reason))
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    let stale = |what, header| {
        let packet = Packet::new(HOLD, held(&frame(), header));
        Fixture::new(
            what,
            Hook::FromHold,
            packet,
            Expect::Drop(DropReason::GenerationStale),
        )
    };
    let header = HoldHeader {
        endpoint: A,
        generation: A_GENERATION,
        ticket: 1,
        ethertype: 0x0800,
    };
    vec![
        case("released", frame(), Expect::Redirect(SLOT[0])),
        case(
            "released over IPv6",
            Frame::new(ip("fd00:1::2"), ip("fd00:2::2"), TCP),
            Expect::Redirect(SLOT[0]),
        ),
        drops(
            "released without a row",
            Frame {
                dst: ip("10.2.0.9"),
                ..frame()
            },
            DropReason::NoSendRow,
        ),
        drops("released too late", frame(), DropReason::SendRowExpired)
            .given(|w| w.send_row("10.2.0.2", |row| row.not_after = 1)),
        drops("an epoch that is over", frame(), DropReason::EpochMismatch)
            .given(|w| w.peer(|peer| peer.slot_epoch[0] = EPOCH + 2)),
        drops("policy still rules", frame(), DropReason::DefaultDenyEgress).given(|w| w.isolate(A)),
        drops(
            "of another pod",
            Frame {
                src: ip("10.1.0.3"),
                ..frame()
            },
            DropReason::SourceSpoofed,
        ),
        drops("tagged", with_tag(&frame()), DropReason::ForeignTag),
        stale(
            "of a former pod",
            HoldHeader {
                generation: 1,
                ..header
            },
        ),
        stale(
            "of no pod",
            HoldHeader {
                endpoint: 9,
                ..header
            },
        ),
        Fixture {
            packet: Packet {
                ifindex: 99,
                ..Packet::new(HOLD, held(&frame(), header))
            },
            ..drops("another device", frame(), DropReason::UnknownInterface)
        },
        drops("not configured", frame(), DropReason::NotConfigured)
            .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
    ]
}
