use super::*;

#[test]
fn an_agent_killed_leaves_its_pairs_flowing_and_takes_them_over() {
    let mut two = Two::open(20);
    two.world.kill(two.a);
    for _ in 0..50 {
        two.world.run(Duration::from_millis(100));
        assert!(two.flows(), "nobody is there, and everything flows");
    }
    two.world.start(two.a);
    for _ in 0..300 {
        two.world.run(Duration::from_millis(20));
        assert!(two.flows(), "taken over without a gap");
    }
    let agent = two.world.nodes[two.a].agent.as_ref().unwrap();
    assert_eq!(agent.pairs(two.world.now(two.a)).len(), 1);
    assert_eq!(agent.summary().pairs.adopted, 0, "proven again at once");
    for _ in 0..150 {
        two.world.run(SECOND);
        assert!(two.flows());
    }
    let maps = &two.world.nodes[two.a].maps;
    assert_eq!(
        (maps.recv.len(), maps.peers.len()),
        (1, 1),
        "nothing old is left"
    );
    assert_eq!(two.world.nodes[two.b].maps.recv.len(), 1);
}

#[test]
fn both_agents_killed_at_once() {
    let mut two = Two::open(21);
    two.world.kill(two.a);
    two.world.kill(two.b);
    assert!(two.flows());
    two.world.start(two.b);
    two.world.start(two.a);
    for _ in 0..200 {
        two.world.run(Duration::from_millis(20));
        assert!(two.flows());
    }
    for _ in 0..130 {
        two.world.run(SECOND);
        assert!(two.flows());
    }
    assert_eq!(two.world.nodes[two.a].maps.recv.len(), 1);
}

#[test]
fn many_kills_lose_nothing() {
    for seed in 0..4 {
        let mut two = Two::open(100 + seed);
        for round in 0..12 {
            let node = if (seed + round) % 3 == 0 {
                two.b
            } else {
                two.a
            };
            two.world.restart(node);
            for _ in 0..(20 + 17 * (round % 4)) {
                two.world.run(Duration::from_millis(50));
                assert!(two.flows(), "seed {seed} round {round}");
            }
        }
    }
}

#[test]
fn rows_that_nobody_confirms_are_gone_after_the_time_for_adoption() {
    let mut two = Two::open(22);
    two.world.kill(two.b);
    two.world.cut(two.a, two.b, true);
    two.world.restart(two.a);
    two.world.run(SECOND * 119);
    assert!(
        two.world.nodes[two.a]
            .maps
            .send
            .values()
            .any(|row| row.epoch().is_some())
    );
    two.world.run(SECOND * 2);
    let maps = &two.world.nodes[two.a].maps;
    assert!(maps.recv.is_empty());
    assert!(!maps.send.values().any(|row| row.epoch().is_some()));
}

#[test]
fn what_was_deleted_meanwhile_is_withdrawn_at_the_start() {
    let mut two = Two::open(23);
    two.world.kill(two.a);
    let y = two.y.uid.clone();
    two.world.remove_pod(&y);
    two.world.start(two.a);
    two.world.run(SECOND);
    assert!(
        !two.world.nodes[two.a]
            .maps
            .send
            .values()
            .any(|row| row.epoch().is_some())
    );
}

#[test]
fn a_peer_that_boots_again_loses_everything_at_once() {
    let mut two = Two::open(24);
    two.world.reboot(two.b);
    two.world.run(SECOND * 20);
    let closed = two.world.nodes[two.a].audit.iter().any(|record| {
        record.what == crate::event::AuditKind::Closed(crate::event::PairEnd::PeerBooted)
    });
    assert!(closed, "{:?}", two.world.nodes[two.a].audit);
    assert!(two.forth() && two.back());
}

#[test]
fn an_engine_that_loses_its_keys_gets_new_ones() {
    let mut two = Two::open(25);
    two.world.crash_engine(two.a);
    assert!(!two.flows(), "nothing flows without keys");
    two.world.run(SECOND * 10);
    assert!(two.forth() && two.back());
}

#[test]
fn a_lost_control_connection_alone_changes_nothing() {
    let mut two = Two::open(26);
    let welcome = two.world.nodes[two.a].engine.welcome();
    two.world
        .input(two.a, crate::Input::Tunnel(crate::io::TunnelEvent::Gone));
    two.world.run(SECOND);
    assert!(two.flows());
    two.world.input(two.a, crate::Input::Tunnel(welcome));
    two.world.run(SECOND);
    assert!(two.flows());
    let z = two.world.add_pod(two.b, "shop", "other");
    assert!(two.world.passes(&two.x.uid, z.address));
}

#[test]
fn keys_of_an_unfinished_channel_do_not_end_those_in_use() {
    let mut two = Two::open(27);
    let ready = |two: &Two, node| two.agent(node).counters().slots_ready;
    let before = (ready(&two, two.a), ready(&two, two.b));
    two.world.break_links(|_| true);
    two.step_until(|two| (ready(two, two.a), ready(two, two.b)) != before);
    // The client believes in the new keys, the server dies before it hears of them.
    let server = if ready(&two, two.a) == before.0 {
        two.a
    } else {
        two.b
    };
    two.world.kill(server);
    for _ in 0..300 {
        two.world.run(SECOND);
        assert!(two.flows(), "at {:?}", two.world.boot);
    }
}

#[test]
fn a_label_without_a_way_back_is_withdrawn_if_its_pod_is_gone() {
    let mut two = Two::open(28);
    two.world.kill(two.a);
    two.world.nodes[two.a].maps.send.clear();
    let y = two.y.uid.clone();
    two.world.remove_pod(&y);
    two.world.start(two.a);
    two.world.run(SECOND);
    assert!(two.world.nodes[two.a].maps.recv.is_empty());
}

#[test]
fn a_peer_that_dials_before_the_start_is_heard_after_it() {
    let mut two = Two::open(42);
    two.world.kill(two.a);
    two.world.begin(two.a);
    two.world.run(SECOND * 2);
    assert_eq!(
        two.world.links_between(two.a, two.b).len(),
        1,
        "the peer is at the door"
    );
    two.world.welcome(two.a);
    two.world.run(SECOND);
    let counters = [two.a, two.b].map(|node| two.agent(node).counters());
    assert!(
        counters
            .iter()
            .all(|counters| counters.channel_violations == 0)
    );
    assert_eq!(two.world.links_between(two.a, two.b).len(), 1);
    assert_eq!(
        two.agent(two.a).summary().pairs.adopted,
        0,
        "proven again at once"
    );
    assert!(two.flows());
}

#[test]
fn a_label_that_the_peer_no_longer_has_goes_with_the_first_channel() {
    let mut two = Two::open(40);
    two.world.kill(two.a);
    // The peer restarts twice without anybody to talk to: what it had is over there.
    two.world.restart(two.b);
    two.world.run(SECOND * 121);
    assert!(two.world.nodes[two.b].maps.recv.is_empty());
    assert_eq!(two.world.nodes[two.a].maps.recv.len(), 1);
    // Nobody here asks for the pair again: its send rows are gone.
    two.world.nodes[two.a].maps.send.clear();
    let other = two.world.add_pod(two.a, "shop", "other");
    two.world.start(two.a);
    let id = two.world.send(&other.uid, two.y.address);
    two.world.run(SECOND * 3);
    assert!(two.world.arrived(id), "there is a channel");
    let old = two.world.nodes[two.a]
        .maps
        .recv
        .values()
        .filter(|row| row.epoch.0 == 1);
    assert_eq!(old.count(), 0, "nobody sends under it any more");
}

#[test]
fn labels_that_both_have_are_kept() {
    let mut two = Two::open(41);
    // The pair cannot be proven again, but there is a channel.
    let held = two.world.nodes[two.a].maps.recv.clone();
    two.world
        .no_svid
        .extend([two.x.uid.clone(), two.y.uid.clone()]);
    let (v, w) = (
        two.world.add_pod(two.a, "shop", "other"),
        two.world.add_pod(two.b, "shop", "another"),
    );
    two.world.restart(two.a);
    two.world.restart(two.b);
    assert!(two.world.passes(&v.uid, w.address));
    for _ in 0..100 {
        two.world.run(SECOND);
        assert!(two.flows(), "at {:?}", two.world.boot);
    }
    assert!(two.agent(two.a).counters().channels_opened > 0);
    for label in held.keys() {
        assert!(two.world.nodes[two.a].maps.recv.contains_key(label));
    }
}

#[test]
fn a_label_taken_over_ends_with_the_pod_it_was_for() {
    let mut two = Two::open(29);
    // Nobody can prove anything again.
    two.world.cut(two.a, two.b, true);
    two.world.restart(two.b);
    two.world.run(SECOND);
    assert!(!two.world.nodes[two.b].maps.recv.is_empty());
    let y = two.y.clone();
    two.world.remove_pod(&y.uid);
    two.world.add_pod_at(two.b, "shop", "backend", y.address);
    two.world.run(SECOND);
    assert!(two.world.nodes[two.b].maps.recv.is_empty());
}
