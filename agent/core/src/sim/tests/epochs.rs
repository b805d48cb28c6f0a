//! Keys renewed under traffic.

use super::*;
use crate::{
    Input,
    epochs::Schedule,
    event::AuditKind,
    ids::{Epoch, Slot},
    io::TunnelEvent,
};

const EPOCH: Duration = Duration::from_secs(20);

fn schedule() -> Schedule {
    Schedule {
        start: 0,
        length: EPOCH,
        jitter: SECOND * 3,
    }
}

impl Two {
    /// An open pair, and keys that are renewed.
    fn rolling(seed: u64) -> Self {
        let mut two = Self::new(seed);
        two.world.set_schedule(schedule());
        assert!(two.forth() && two.back());
        two
    }

    /// Packets flow both ways all the time.
    fn keeps_flowing(&mut self, span: Duration) {
        let end = self.world.boot + span;
        while self.world.boot < end {
            self.world.run(Duration::from_millis(20));
            assert!(self.flows(), "{}", self.tell());
        }
    }

    fn tell(&self) -> String {
        let node = |node: NodeIx| {
            let state = &self.world.nodes[node];
            let events = &state.events[state.events.len().saturating_sub(12)..];
            (
                state.drops.clone(),
                events.to_vec(),
                state.maps.peers.clone(),
            )
        };
        format!(
            "at {:?}\n{:#?}\n{:#?}",
            self.world.boot,
            node(self.a),
            node(self.b)
        )
    }

    /// Up to the moment at which one of the two begins a switch.
    fn until_dial(&mut self) {
        let dials = |two: &Self| [two.a, two.b].map(|node| two.agent(node).counters().dials);
        let before = dials(self);
        for _ in 0..EPOCH.as_millis() * 2 {
            if dials(self) != before {
                return;
            }
            self.world.run(Duration::from_millis(1));
        }
        panic!("no switch begins: {}", self.tell());
    }

    fn switches(&self, node: NodeIx) -> u64 {
        self.agent(node).counters().epoch_switches
    }

    fn tx(&self, node: NodeIx) -> Epoch {
        let peers = self.agent(node).peers();
        peers.first().map_or(Epoch(0), |peer| peer.tx)
    }
}

#[test]
fn a_hundred_epochs_lose_nothing_and_leave_nothing() {
    let mut two = Two::rolling(300);
    let before = [two.a, two.b].map(|node| two.world.nodes[node].engine.keys);
    two.keeps_flowing(EPOCH * 100);
    two.world.run(SECOND * 12);
    for (at, node) in [two.a, two.b].into_iter().enumerate() {
        assert!(two.switches(node) >= 99, "{} switches", two.switches(node));
        assert_eq!(two.agent(node).counters().epoch_failures, 0);
        let state = &two.world.nodes[node];
        assert_eq!(state.engine.peers.len(), 1, "only the newest keys are left");
        assert_eq!((state.maps.recv.len(), state.maps.peers.len()), (1, 1));
        assert!(state.engine.renewals >= 200, "static keys of both slots");
        assert_ne!(state.engine.keys, before[at]);
        // Every epoch is on record, under the session that both ends know.
        let renewed = |node: NodeIx| {
            let audit = two.world.nodes[node].audit.iter();
            let renewed = audit.filter(|record| record.what == AuditKind::Renewed);
            renewed
                .map(|record| (record.session_id, record.epoch))
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(renewed(node).len() >= 99);
        assert!(renewed(two.a) == renewed(two.b), "both ends tell the same");
    }
}

#[test]
fn no_epoch_uses_keys_of_another() {
    let mut two = Two::rolling(301);
    let mut seen = std::collections::BTreeSet::new();
    let mut epoch = Epoch(0);
    for _ in 0..(EPOCH * 10).as_secs() * 5 {
        two.world.run(Duration::from_millis(200));
        let now = two.tx(two.a);
        if now != epoch {
            let peers = &two.world.nodes[two.a].engine.peers;
            let peer = peers.iter().find(|(_, peer)| peer.epoch == now);
            let ((_, theirs), peer) = peer.expect("keys of the epoch in use");
            assert!(seen.insert(*theirs.as_bytes()), "their key is new");
            assert!(seen.insert(*peer.own.as_bytes()), "the own key is new");
            assert!(seen.insert(peer.psk), "the PSK is new");
            epoch = now;
        }
    }
    assert!(seen.len() >= 27);
}

#[test]
fn both_nodes_are_at_most_one_epoch_apart() {
    let mut two = Two::rolling(302);
    two.world.faults.delay = (Duration::from_micros(100), Duration::from_millis(80));
    for _ in 0..(EPOCH * 20).as_millis() / 7 {
        two.world.run(Duration::from_millis(7));
        assert!(two.flows(), "{}", two.tell());
        let (a, b) = (two.tx(two.a), two.tx(two.b));
        assert!(a.0.abs_diff(b.0) <= 1, "{a} and {b}");
    }
    assert!(two.switches(two.a) >= 19 && two.switches(two.b) >= 19);
}

#[test]
fn what_fails_before_the_switch_changes_nothing() {
    let mut two = Two::rolling(303);
    // The other slot's port is swallowed by a firewall: its keys are never proven.
    let other = two.tx(two.a).slot().other();
    two.world.nodes[two.b].engine.blocked.insert(other);
    let before = two.tx(two.a);
    two.until_dial();
    two.keeps_flowing(SECOND * 6);
    assert_eq!(two.tx(two.a), before, "nothing has moved");
    // A pair that begins meanwhile is not kept waiting for it.
    let z = two.world.add_pod(two.b, "shop", "other");
    two.world.run(SECOND);
    let (x, z) = (two.x.uid.clone(), z.address);
    assert!(two.world.passes(&x, z), "{}", two.tell());
    two.world.nodes[two.b].engine.blocked.clear();
    two.keeps_flowing(EPOCH * 2);
    assert!(two.agent(two.a).counters().epoch_failures >= 1);
    assert!(two.switches(two.a) >= 1);
    assert!(two.world.passes(&x, z));
}

#[test]
fn keys_that_are_two_epochs_old_carry_nothing() {
    let mut two = Two::rolling(304);
    // Agents cannot talk, engines can.
    two.world.faults.deaf = true;
    two.world.break_links(|_| true);
    two.world.run(SECOND);
    assert!(two.flows());
    let mut flowed = Duration::ZERO;
    let start = two.world.boot;
    while two.flows() {
        two.world.run(Duration::from_millis(100));
        flowed = two.world.boot - start;
        assert!(flowed < EPOCH * 2, "nothing ended it");
    }
    assert!(
        flowed >= EPOCH - SECOND * 2,
        "{flowed:?}: longer than one epoch"
    );
    assert!(two.world.nodes[two.a].drops["EPOCH_TOO_OLD"] > 0);
    two.world.run(SECOND);
    two.world.faults.deaf = false;
    two.world.run(SECOND * 20);
    assert!(two.flows(), "{}", two.tell());
}

#[test]
fn pairs_that_begin_in_the_middle_of_a_switch_lose_nothing() {
    for seed in 0..6 {
        let mut two = Two::rolling(310 + seed);
        two.world.faults.delay = (Duration::from_millis(5), Duration::from_millis(30));
        let mut sent = Vec::new();
        let mut pods = Vec::new();
        for _ in 0..(EPOCH * 3).as_secs() {
            let z = two.world.add_pod(two.b, "shop", "other");
            pods.push(z);
            for _ in 0..10 {
                two.world.run(Duration::from_millis(100));
                let x = two.x.uid.clone();
                for z in &pods {
                    sent.push(two.world.send(&x, z.address));
                }
            }
        }
        two.world.run(SECOND * 4);
        let arrived: std::collections::BTreeSet<u64> = two
            .world
            .deliveries
            .iter()
            .map(|delivery| delivery.id)
            .collect();
        let lost = sent.iter().filter(|id| !arrived.contains(id)).count();
        assert_eq!(lost, 0, "of {}\n{}", sent.len(), two.tell());
    }
}

#[test]
fn an_agent_that_is_killed_at_any_step_of_a_switch_loses_nothing() {
    // From before the dial to after the old keys are gone, in steps that hit each message.
    for step in (0..240).step_by(4) {
        let mut two = Two::rolling(400 + step);
        two.world.faults.delay = (Duration::from_millis(4), Duration::from_millis(6));
        two.until_dial();
        two.world.run(Duration::from_millis(step));
        let (victim, away) = match step / 4 % 3 {
            0 => (two.a, 0),
            1 => (two.b, 0),
            _ => (two.a, 1500),
        };
        two.world.kill(victim);
        for _ in 0..=away / 20 {
            assert!(two.flows(), "step {step}: {}", two.tell());
            two.world.run(Duration::from_millis(20));
        }
        two.world.start(victim);
        two.keeps_flowing(SECOND * 6);
    }
}

#[test]
fn a_channel_that_breaks_at_any_step_of_a_switch_loses_nothing() {
    for step in (0..200).step_by(4) {
        let mut two = Two::rolling(500 + step);
        two.world.faults.delay = (Duration::from_millis(4), Duration::from_millis(6));
        two.until_dial();
        two.world.run(Duration::from_millis(step));
        two.world.break_links(|_| true);
        two.keeps_flowing(SECOND * 6);
        two.keeps_flowing(EPOCH);
    }
}

#[test]
fn an_engine_that_loses_its_keys_in_the_middle_of_a_switch_gets_new_ones() {
    for step in (0..200).step_by(11) {
        let mut two = Two::rolling(600 + step);
        two.world.faults.delay = (Duration::from_millis(4), Duration::from_millis(6));
        two.until_dial();
        two.world.run(Duration::from_millis(step));
        two.world
            .crash_engine(if step % 2 == 0 { two.a } else { two.b });
        two.world.run(SECOND * 8);
        assert!(two.forth() && two.back(), "step {step}: {}", two.tell());
        two.keeps_flowing(EPOCH * 2);
    }
}

#[test]
fn clocks_that_jump_neither_stop_epochs_nor_lose_packets() {
    let mut two = Two::rolling(700);
    two.world.svid_ttl = SECOND * 86_400 * 3;
    two.world.run(SECOND * 3600);
    assert!(two.forth());
    let before = two.switches(two.a);
    for jump in [3600i64, -3600, 13, -7, 40_000, -40_000] {
        two.world.nodes[two.a].wall_offset += jump;
        two.keeps_flowing(EPOCH * 3);
        two.world.nodes[two.b].wall_offset += jump;
        two.keeps_flowing(EPOCH * 3);
    }
    let switches = two.switches(two.a) - before;
    assert!(switches >= 30, "{switches} in 36 epochs");
}

#[test]
fn nodes_that_no_longer_talk_keep_no_keys() {
    let mut two = Two::rolling(701);
    let y = two.y.uid.clone();
    two.world.remove_pod(&y);
    two.world.run(EPOCH * 3);
    for node in [two.a, two.b] {
        let left = two.world.nodes[node].engine.peers.len();
        assert_eq!(left, 0, "{}", two.tell());
        assert!(two.world.links_between(two.a, two.b).is_empty());
    }
    let z = two.world.add_pod(two.b, "shop", "backend");
    two.world.run(SECOND);
    let x = two.x.uid.clone();
    assert!(two.world.passes(&x, z.address), "and new ones when they do");
}

#[test]
fn a_shorter_epoch_applies_to_keys_that_are_there() {
    let mut two = Two::rolling(702);
    two.world.set_schedule(Schedule {
        length: SECOND * 3600,
        ..schedule()
    });
    two.keeps_flowing(EPOCH * 2);
    let before = two.switches(two.a);
    two.keeps_flowing(EPOCH * 2);
    assert_eq!(two.switches(two.a), before, "long epochs");
    two.world.set_schedule(schedule());
    two.keeps_flowing(EPOCH * 3);
    assert!(two.switches(two.a) >= before + 2);
}

#[test]
fn a_handshake_alone_moves_nothing() {
    let mut two = Two::open(703);
    let (a, before) = (two.a, two.tx(two.a));
    let keys: Vec<_> = two.world.nodes[a].engine.peers.keys().copied().collect();
    for (_, peer) in keys {
        for slot in Slot::ALL {
            let handshake = TunnelEvent::Handshake { slot, peer };
            two.world.input(a, Input::Tunnel(handshake));
        }
    }
    assert_eq!(two.tx(a), before);
    assert!(two.flows());
}
