use super::*;

#[test]
fn a_pair_holds_64_packets_and_drops_the_newest() {
    let mut two = Two::new(50);
    let ids: Vec<u64> = (0..80)
        .map(|_| two.world.send(&two.x.uid, two.y.address))
        .collect();
    assert_eq!(two.world.nodes[two.a].drops.get("HOLD_OVERFLOW"), Some(&16));
    two.world.run(SECOND);
    let arrived: Vec<u64> = two
        .world
        .deliveries
        .iter()
        .map(|delivery| delivery.id)
        .collect();
    assert_eq!(arrived, ids[..64], "the first ones, in order");
}

#[test]
fn a_packet_waits_three_seconds_at_most() {
    let mut two = Two::new(51);
    two.world.kill(two.b);
    two.world.send(&two.x.uid, two.y.address);
    two.world.run(Duration::from_millis(2999));
    assert_eq!(
        two.world.nodes[two.a]
            .agent
            .as_ref()
            .unwrap()
            .summary()
            .held_packets,
        1
    );
    two.world.run(Duration::from_millis(1));
    assert_eq!(two.world.nodes[two.a].drops.get("HOLD_TIMEOUT"), Some(&1));
    let summary = two.world.nodes[two.a].agent.as_ref().unwrap().summary();
    assert_eq!((summary.held_packets, summary.held_bytes), (0, 0));
}

#[test]
fn bytes_are_bounded_by_pair_pod_and_node() {
    use crate::{
        authn::hold::Hold,
        effects::{Counters, Ctx},
        facts::Limits,
        ids::EndpointIndex,
        rows::SendKey,
    };
    let mut random = signet_crypto::random::SeededRandom::new(1);
    let now = World::new(1).now(0);
    let mut ctx = Ctx {
        now,
        random: &mut random,
        out: Default::default(),
        counters: Counters::default(),
    };
    let limits = Limits::default();
    let key = |endpoint: u16, last: u16| SendKey {
        endpoint: EndpointIndex(endpoint),
        generation: 1,
        destination: std::net::IpAddr::V6(std::net::Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, last)),
    };
    let mut hold = Hold::default();
    for _ in 0..20 {
        hold.push(key(1, 1), vec![0; 9000], &limits, &mut ctx);
    }
    assert_eq!(hold.size().1, 10 * 9000, "96 KiB a pair");
    for last in 2..100 {
        hold.push(key(1, last), vec![0; 9000], &limits, &mut ctx);
    }
    assert_eq!(hold.size().1, 58 * 9000, "512 KiB a pod");
    for endpoint in 2..100 {
        for last in 0..100 {
            hold.push(key(endpoint, last), vec![0; 9000], &limits, &mut ctx);
        }
    }
    assert_eq!(
        hold.size().1 / 9000,
        limits.hold_node_bytes / 9000,
        "16 MiB a node"
    );
    hold.discard_where(|_| true, signet_abi::DropReason::AgentStopped, &mut ctx);
    assert_eq!(hold.size(), (0, 0));
    assert_eq!(
        ctx.counters.held,
        ctx.counters.held_dropped - overflowed(&ctx)
    );
}

/// Packets that were dropped without ever being held.
fn overflowed(ctx: &crate::effects::Ctx<'_>) -> u64 {
    let overflow = |output: &crate::Output| {
        if let crate::Output::DropHeld { reason, count, .. } = output
            && *reason == signet_abi::DropReason::HoldOverflow
        {
            return *count;
        }
        0
    };
    ctx.out.iter().map(overflow).sum()
}

#[test]
fn a_pod_that_scans_is_slowed_and_leaves_no_state() {
    let mut two = Two::new(52);
    for last in 0..2000u16 {
        let [high, low] = last.to_be_bytes();
        let to = std::net::IpAddr::from([10, 1, 128 + high, low]);
        two.world.send(&two.x.uid, to);
    }
    assert!(
        two.world.nodes[two.a]
            .drops
            .get("RATE_LIMITED")
            .copied()
            .unwrap_or(0)
            >= 1700
    );
    let z = two.world.add_pod(two.a, "shop", "calm");
    assert!(two.world.passes(&z.uid, two.y.address), "others are served");
    two.world.run(SECOND * 20);
    let maps = &two.world.nodes[two.a].maps;
    let refused = maps
        .send
        .values()
        .filter(|row| row.epoch().is_none())
        .count();
    assert_eq!(refused, 0, "refusals end");
}

#[test]
fn an_unknown_destination_is_refused_for_a_while() {
    let mut two = Two::new(53);
    let nobody = "10.1.200.1".parse().unwrap();
    assert!(!two.world.passes(&two.x.uid, nobody));
    two.world.send(&two.x.uid, nobody);
    assert!(
        two.world.nodes[two.a]
            .drops
            .contains_key("UNKNOWN_DESTINATION")
    );
    two.world.add_pod_at(two.b, "shop", "late", nobody);
    two.world.run(SECOND * 7);
    assert!(
        two.world.passes(&two.x.uid, nobody),
        "it is asked again later"
    );
}

#[test]
fn without_a_certificate_the_reason_is_said() {
    let mut world = World::new(54);
    let (a, b) = (world.add_node(), world.add_node());
    let y = world.add_pod(b, "shop", "backend");
    world.run(SECOND);
    world.service_up = false;
    let x = world.add_pod(a, "shop", "frontend");
    world.run(SECOND);
    // The directory is known already; only the certificate cannot be had.
    let entry = Box::new(y.entry.clone());
    world.input(
        a,
        crate::Input::Directory(crate::io::DirectoryInput::Entry(entry)),
    );
    for _ in 0..4 {
        world.send(&x.uid, y.address);
        world.run(SECOND);
    }
    assert!(
        world.nodes[a].drops.contains_key("IDENTITY_UNAVAILABLE"),
        "{:?}",
        world.nodes[a].drops
    );
    world.service_up = true;
    world.run(SECOND * 30);
    assert!(world.passes(&x.uid, y.address));
}
