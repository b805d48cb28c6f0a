use super::*;

#[test]
fn renewal_keeps_traffic_going() {
    let mut two = Two::new(30);
    two.world.svid_ttl = SECOND * 600;
    two.world.restart(two.a);
    two.world.restart(two.b);
    assert!(two.forth());
    for _ in 0..360 {
        two.world.run(SECOND * 10);
        assert!(two.flows(), "an hour on certificates of ten minutes");
    }
    let pair = &two.world.nodes[two.a]
        .agent
        .as_ref()
        .unwrap()
        .pairs(two.world.now(two.a))[0];
    assert_eq!(pair.epoch.0, 1, "on the first channel");
}

#[test]
fn without_renewal_traffic_ends_with_the_certificates() {
    let mut two = Two::open(31);
    let before = two.world.boot;
    two.world.set_service(false);
    two.world.run(SECOND * 3000);
    assert!(two.flows(), "the service is not needed for what is proven");
    let left = (before + SECOND * 3600).saturating_sub(two.world.boot);
    two.world.run(left + SECOND);
    assert!(!two.flows());
    assert!(two.clean());
    two.world.set_service(true);
    two.world.run(SECOND * 60);
    assert!(two.forth() && two.back(), "and comes back with the service");
}

#[test]
fn jumps_of_the_wall_clock_neither_extend_nor_cut() {
    for jump in [3600, -3600] {
        let mut two = Two::open(32);
        two.world.nodes[two.a].wall_offset = jump;
        two.world.run(SECOND * 5);
        assert!(two.flows(), "{jump}: cut");
        two.world.set_service(false);
        two.world.run(SECOND * 3590);
        two.world.run(SECOND * 10);
        assert!(!two.flows(), "{jump}: extended");
        assert!(two.clean(), "{jump}");
    }
}

#[test]
fn the_kernel_ends_a_row_even_if_the_agent_is_dead() {
    let mut two = Two::open(33);
    two.world.kill(two.a);
    two.world.kill(two.b);
    two.world.run(SECOND * 3601);
    assert!(!two.flows());
}

#[test]
fn a_lease_ends_when_the_service_says_that_the_peer_is_cut_off() {
    let mut two = Two::open(34);
    let node = two.world.nodes[two.b].facts.uid.clone();
    let down = |up| {
        crate::Input::Directory(crate::io::DirectoryInput::PeerStream {
            node: node.clone(),
            up,
        })
    };
    two.world.input(two.a, down(false));
    two.world.run(SECOND * 290);
    assert!(two.flows());
    two.world.run(SECOND * 11);
    assert!(!two.flows());
    two.world.input(two.a, down(true));
    assert!(two.flows());
}

#[test]
fn an_hour_without_the_service_is_outlived_by_what_is_proven_and_granted_to_nobody_new() {
    let mut two = Two::open(36);
    let late = two.world.add_pod(two.a, "shop", "late");
    two.world.run(SECOND);
    two.world.svid_ttl = SECOND * 7800;
    two.world.restart(two.a);
    two.world.restart(two.b);
    assert!(two.forth() && two.back());
    let granted = |two: &Two| two.agent(two.a).counters().labels_granted;
    let before = granted(&two);
    two.world.set_service(false);
    let stranger = two.world.add_pod(two.b, "shop", "stranger");
    for _ in 0..360 {
        two.world.run(SECOND * 10);
        assert!(two.flows(), "at {:?}", two.world.boot);
        let new = two.world.send(&late.uid, stranger.address);
        assert!(!two.world.arrived(new), "nobody has said who that is");
    }
    assert_eq!(granted(&two), before);
    two.world.set_service(true);
    two.world.run(SECOND * 60);
    assert!(two.world.passes(&late.uid, stranger.address));
    for _ in 0..800 {
        two.world.run(SECOND * 10);
        assert!(two.flows(), "renewals go on");
    }
}

#[test]
fn a_strict_node_without_the_service_lets_everything_end_with_a_lease() {
    let mut two = Two::new(37);
    two.world.outage = crate::facts::Outage::Strict;
    two.world.restart(two.a);
    let here = two.world.add_pod(two.a, "shop", "here");
    two.world.run(SECOND);
    assert!(two.forth() && two.back());
    two.world.set_service(false);
    two.world.run(SECOND * 299);
    assert!(two.flows());
    two.world.run(SECOND * 2);
    assert!(!two.flows());
    // Pods of the same node as well.
    let until = |two: &Two| {
        let (index, _) = two.world.endpoint_index(&here.uid).unwrap();
        two.world.nodes[two.a].maps.endpoints[&index].authenticated_until
    };
    assert!(until(&two).is_none_or(|until| until <= two.world.boot));
    two.world.set_service(true);
    assert!(two.flows(), "it was only a lease");
    assert!(until(&two).is_some_and(|until| until > two.world.boot));
}

#[test]
fn a_strict_node_that_starts_without_the_service_has_no_longer_either() {
    let mut two = Two::new(38);
    two.world.outage = crate::facts::Outage::Strict;
    two.world.restart(two.a);
    two.world.run(SECOND);
    assert!(two.forth() && two.back());
    two.world.set_service(false);
    two.world.run(SECOND * 200);
    two.world.restart(two.a);
    two.world.run(SECOND * 101);
    assert!(!two.flows(), "another start gives no other lease");
    two.world.run(SECOND * 400);
    assert!(!two.flows());
}

#[test]
fn a_lease_does_not_run_while_the_own_stream_is_down() {
    let mut two = Two::open(35);
    let node = two.world.nodes[two.b].facts.uid.clone();
    let down = || {
        crate::Input::Directory(crate::io::DirectoryInput::PeerStream {
            node: node.clone(),
            up: false,
        })
    };
    // As when the service stops: one stream after the other.
    two.world.input(two.a, down());
    two.world.set_service(false);
    two.world.run(SECOND * 600);
    assert!(two.flows(), "what is proven runs to its end");
    two.world.set_service(true);
    two.world.input(two.a, down());
    two.world.run(SECOND * 299);
    assert!(two.flows());
    two.world.run(SECOND * 2);
    assert!(!two.flows());
}
