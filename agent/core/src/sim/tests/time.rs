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
