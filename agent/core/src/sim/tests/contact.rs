use signet_abi::DropReason;

use super::*;

#[test]
fn first_contact_loses_nothing_and_opens_both_ways() {
    let mut two = Two::new(1);
    let ids: Vec<u64> = (0..20)
        .map(|_| two.world.send(&two.x.uid, two.y.address))
        .collect();
    two.world.run(SECOND);
    let arrived: Vec<u64> = two
        .world
        .deliveries
        .iter()
        .map(|delivery| delivery.id)
        .collect();
    assert_eq!(arrived, ids, "all of them, in order");
    assert!(two.flows(), "the reply's way is open, too");
    let pairs = two.world.nodes[two.a]
        .agent
        .as_ref()
        .unwrap()
        .pairs(two.world.now(two.a));
    let other = two.world.nodes[two.b]
        .agent
        .as_ref()
        .unwrap()
        .pairs(two.world.now(two.b));
    assert_eq!((pairs.len(), other.len()), (1, 1));
    let (pair, other) = (&pairs[0], &other[0]);
    assert_eq!(pair.session_id, other.session_id);
    assert_eq!(pair.local_certificate, other.remote_certificate);
    assert_eq!(pair.remote_certificate, other.local_certificate);
    assert_eq!(pair.epoch, other.epoch);
    assert_eq!(
        pair.remote_id.to_string(),
        "spiffe://sim.test/ns/shop/sa/backend"
    );
    assert_eq!(two.world.nodes[two.a].audit.len(), 1);
}

#[test]
fn both_families_go_under_one_pair() {
    let mut two = Two::open(2);
    let v6 = two.y.entry.pod.addresses[1];
    let proofs = two.world.oracle.proofs;
    let id = two.world.send(&two.x.uid, v6);
    assert!(two.world.arrived(id), "no second contact");
    assert_eq!(two.world.oracle.proofs, proofs);
}

#[test]
fn both_dial_at_once_and_one_channel_stays() {
    let mut glares = 0;
    for seed in 0..20 {
        let mut two = Two::new(seed);
        let forth = two.world.send(&two.x.uid, two.y.address);
        let back = two.world.send(&two.y.uid, two.x.address);
        two.world.run(SECOND * 3);
        assert!(
            two.world.arrived(forth) && two.world.arrived(back),
            "seed {seed}"
        );
        let links = two.world.links_between(two.a, two.b);
        assert_eq!(links.len(), 1, "seed {seed}");
        let dialled = |node: NodeIx| {
            two.world.nodes[node]
                .agent
                .as_ref()
                .unwrap()
                .counters()
                .dials
                > 0
        };
        let both = dialled(two.a) && dialled(two.b);
        if both {
            assert_eq!(
                links[0].client.0, two.a,
                "the smaller node's stays (seed {seed})"
            );
            glares += 1;
        }
        assert!(two.flows());
    }
    assert!(glares > 5, "{glares} of 20 runs had a glare");
}

#[test]
fn a_pair_started_from_both_ends_is_one_pair() {
    let mut two = Two::new(5);
    let z = two.world.add_pod(two.b, "shop", "other");
    assert!(two.world.passes(&two.x.uid, z.address), "the channel is up");
    let forth = two.world.send(&two.x.uid, two.y.address);
    let back = two.world.send(&two.y.uid, two.x.address);
    two.world.run(SECOND);
    assert!(two.world.arrived(forth) && two.world.arrived(back));
    for node in [two.a, two.b] {
        assert_eq!(
            two.world.nodes[node].maps.recv.len(),
            2,
            "one label a pair and direction"
        );
    }
}

#[test]
fn proofs_are_per_pod_not_per_pair() {
    let mut world = World::new(6);
    let (a, b) = (world.add_node(), world.add_node());
    let left: Vec<Pod> = (0..3)
        .map(|_| world.add_pod(a, "shop", "frontend"))
        .collect();
    let right: Vec<Pod> = (0..4)
        .map(|_| world.add_pod(b, "shop", "backend"))
        .collect();
    world.run(SECOND);
    assert!(world.passes(&left[0].uid, right[0].address));
    for x in &left {
        for y in &right {
            assert!(world.passes(&x.uid, y.address));
        }
    }
    assert_eq!(world.oracle.proofs, 7);
}

#[test]
fn three_nodes_reach_each_other() {
    let mut world = World::new(7);
    let nodes: Vec<NodeIx> = (0..3).map(|_| world.add_node()).collect();
    let pods: Vec<Pod> = nodes
        .iter()
        .map(|node| world.add_pod(*node, "shop", "any"))
        .collect();
    world.run(SECOND);
    for x in &pods {
        for y in pods.iter().filter(|y| y.uid != x.uid) {
            assert!(world.passes(&x.uid, y.address), "{} to {}", x.uid, y.uid);
        }
    }
}

#[test]
fn an_idle_channel_is_kept_and_a_silent_one_is_dropped() {
    let mut two = Two::open(8);
    two.world.run(SECOND * 120);
    let links = two.world.links_between(two.a, two.b);
    assert_eq!(links.len(), 1);
    assert_eq!(
        two.world.nodes[two.a]
            .agent
            .as_ref()
            .unwrap()
            .counters()
            .channels_opened,
        1
    );
    assert!(two.flows());
}

#[test]
fn a_lost_channel_revokes_nothing_and_comes_back() {
    let mut two = Two::open(9);
    two.world.break_links(|_| true);
    assert!(two.flows());
    for _ in 0..200 {
        two.world.run(Duration::from_millis(50));
        assert!(two.flows(), "rows move to the new epoch without a gap");
    }
    assert_eq!(two.world.links_between(two.a, two.b).len(), 1);
    let epoch = two.world.nodes[two.a]
        .agent
        .as_ref()
        .unwrap()
        .pairs(two.world.now(two.a))[0]
        .epoch;
    assert!(epoch.0 >= 2, "{epoch}");
    two.world.run(SECOND * 30);
    let slots = two.world.nodes[two.a].agent.as_ref().unwrap().peers()[0]
        .slots
        .len();
    assert_eq!(slots, 1, "the old slot is retired");
    assert_eq!(
        two.world.nodes[two.a].maps.recv.len(),
        1,
        "and its labels with it"
    );
}

#[test]
fn a_node_that_is_down_is_waited_for_then_refused() {
    let mut two = Two::new(10);
    two.world.kill(two.b);
    let id = two.world.send(&two.x.uid, two.y.address);
    two.world.run(SECOND);
    two.world.start(two.b);
    two.world.run(SECOND);
    assert!(two.world.arrived(id), "the packet was held meanwhile");

    two.world.kill(two.b);
    let z = two.world.add_pod(two.b, "shop", "late");
    two.world.cut(two.a, two.b, true);
    for _ in 0..20 {
        two.world.send(&two.x.uid, z.address);
        two.world.run(SECOND);
    }
    assert!(
        two.world.nodes[two.a]
            .drops
            .contains_key("PEER_UNREACHABLE")
    );
}

#[test]
fn a_peer_that_greets_wrongly_is_dialled_again() {
    let mut two = Two::new(19);
    two.world.send(&two.x.uid, two.y.address);
    two.step_until(|two| !two.world.links_between(two.a, two.b).is_empty());
    let conn = two.world.links_between(two.a, two.b)[0].client.1;
    let hello = crate::wire::pb::Hello {
        proto: 99,
        ..crate::wire::pb::Hello::default()
    };
    let (kind, payload) = crate::wire::Message::Hello(hello).encode();
    let frame = crate::Input::Frame {
        conn,
        kind,
        payload,
    };
    two.world.input(two.a, frame);
    two.world.run(SECOND);
    assert!(two.forth());
}

#[test]
fn a_peer_that_cannot_make_keys_is_dialled_less_and_less() {
    let mut two = Two::new(20);
    let gone = crate::Input::Tunnel(crate::io::TunnelEvent::Gone);
    two.world.input(two.b, gone);
    for _ in 0..60 {
        two.world.send(&two.x.uid, two.y.address);
        two.world.run(SECOND);
    }
    let dials = two.agent(two.a).counters().dials;
    assert!((4..20).contains(&dials), "{dials} in a minute");
    let welcome = two.world.nodes[two.b].engine.welcome();
    two.world.input(two.b, crate::Input::Tunnel(welcome));
    two.world.run(SECOND * 20);
    assert!(two.forth());
}

#[test]
fn a_pod_that_knocks_everywhere_has_the_directory_not_to_itself() {
    let mut two = Two::new(18);
    let w = two.world.add_pod(two.a, "shop", "frontend");
    two.world.run(SECOND);
    let before = two.agent(two.a).counters().lookups;
    for last in 0..40 {
        let nobody = std::net::Ipv4Addr::new(10, 9, 9, last);
        two.world.send(&two.x.uid, nobody.into());
    }
    let asked = |two: &Two| two.agent(two.a).counters().lookups - before;
    assert_eq!(asked(&two), 8, "the others wait for those");
    let packet = two.world.send(&w.uid, two.y.address);
    assert_eq!(asked(&two), 9, "another pod does not wait behind them");
    two.world.run(SECOND);
    assert!(two.world.arrived(packet));
    assert_eq!(asked(&two), 41, "each has had its turn");
    let refusals = two.agent(two.a).refusals();
    assert_eq!(refusals.len(), 40, "and its answer");
    assert!(
        refusals
            .iter()
            .all(|(pod, _, reason)| *pod == two.x.uid && *reason == DropReason::UnknownDestination)
    );
}

#[test]
fn turns_come_again_when_the_directory_does() {
    let mut two = Two::new(19);
    two.world.set_service(false);
    for last in 0..40 {
        let nobody = std::net::Ipv4Addr::new(10, 9, 9, last);
        two.world.send(&two.x.uid, nobody.into());
    }
    two.world.run(SECOND * 30);
    two.world.set_service(true);
    assert!(
        two.forth(),
        "a pod that knocked in vain reaches others again"
    );
}
