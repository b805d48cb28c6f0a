//! Who waits, how many may, and who queues behind them.

use signet_abi::{DropReason, Hook, SendKey};
use signet_loader::prog_test::frame::{Frame, Transport};
use signet_loader::prog_test::{Outcome, Packet, Verdict};

use crate::world::*;

/// A datagram as the stack hands it to the tunnel.
fn sent(src: &str, dst: &str, (endpoint, ifindex): (u16, u32)) -> Packet {
    let ports = Transport::Udp {
        sport: 4000,
        dport: 53,
    };
    let frame = Frame::new(ip(src), ip(dst), ports);
    marked(
        Packet::new(SIGNET0, frame.build()),
        PENDING,
        endpoint,
        ifindex,
    )
}

#[test]
fn nothing_overtakes_what_waits() {
    let Some(mut w) = crate::world() else { return };
    let key = SendKey {
        endpoint: A.into(),
        generation: A_GENERATION,
        dst: addr("10.2.0.2"),
    };
    let ready = w.prog.maps.send_rows.get(&key).unwrap().unwrap();
    let packet = || sent("10.1.0.2", "10.2.0.2", (A, A_IF));
    // A frame on the hold device has the packet's own Ethernet header behind its own, in test runs only.
    let back = |held: Outcome| {
        let frame = [&held.data[..14], &held.data[28..]].concat();
        Packet::new(HOLD, frame)
    };

    w.prog.maps.send_rows.remove(&key).unwrap();
    let first = w.go(Hook::ToTunnel, packet());
    let second = w.go(Hook::ToTunnel, packet());
    w.prog.maps.send_rows.upsert(&key, &ready).unwrap();
    let third = w.go(Hook::ToTunnel, packet());
    for held in [&first, &second, &third] {
        assert_eq!(held.verdict, Verdict::Redirect(HOLD));
    }
    assert!(
        third.events.is_empty(),
        "nobody need be told of a pair that is there"
    );
    let release = |w: &mut World, held: Outcome| {
        let released = w.go(Hook::FromHold, back(held));
        assert_eq!(released.verdict, Verdict::Redirect(SLOT[0]));
    };
    release(&mut w, first);
    let fourth = w.go(Hook::ToTunnel, packet());
    assert_eq!(fourth.verdict, Verdict::Redirect(HOLD));
    // The second was lost on the way; those behind it make up for it.
    release(&mut w, third);
    release(&mut w, fourth);
    let fifth = w.go(Hook::ToTunnel, packet());
    assert_eq!(fifth.verdict, Verdict::Redirect(SLOT[0]));
}

#[test]
fn a_pod_has_only_so_much_to_hold() {
    let Some(mut w) = crate::world() else { return };
    let mut held = 0;
    for _ in 0..2000 {
        let outcome = w.go(Hook::ToTunnel, sent("10.1.0.2", "10.2.0.9", (A, A_IF)));
        if outcome.verdict == Verdict::Redirect(HOLD) {
            held += 1;
        } else {
            assert_eq!(outcome.reason, Some(DropReason::HoldLimited));
        }
    }
    // More than at once if this took its time, but never all.
    assert!((512..2000).contains(&held), "{held}");
    let neighbour = w.go(Hook::ToTunnel, sent("10.1.0.3", "10.2.0.9", (B, B_IF)));
    assert_eq!(neighbour.verdict, Verdict::Redirect(HOLD));
}
