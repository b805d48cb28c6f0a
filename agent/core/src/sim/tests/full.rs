use super::*;

/// Three pods there that one pod here talks to; what fits in here is one.
fn crowded(seed: u64) -> (Two, Vec<Pod>) {
    let mut two = Two::open(seed);
    let more = ["one", "two"].map(|name| two.world.add_pod(two.b, "shop", name));
    two.world.run(SECOND);
    (two, more.to_vec())
}

fn unwritten(two: &Two, node: NodeIx) -> usize {
    two.agent(node).summary().unwritten
}

#[test]
fn a_full_map_lets_nothing_more_pass_and_heals_when_there_is_room() {
    let (mut two, more) = crowded(60);
    two.world.nodes[two.a].maps.room = Some(1);
    for pod in more.iter().chain(&more) {
        assert!(!two.world.passes(&two.x.uid, pod.address), "without rows");
        assert!(!two.world.passes(&pod.uid, two.x.address), "without rows");
    }
    assert!(two.flows(), "what is there stays");
    assert!(unwritten(&two, two.a) >= 4);
    let drops = &two.world.nodes[two.a].drops;
    assert!(drops.contains_key("MAP_FULL"), "{drops:?}");

    two.world.nodes[two.a].maps.room = Some(100);
    two.world.run(SECOND * 20);
    for pod in &more {
        let ids = [
            two.world.send(&two.x.uid, pod.address),
            two.world.send(&pod.uid, two.x.address),
        ];
        assert!(ids.iter().all(|id| two.world.arrived(*id)));
    }
    assert_eq!(unwritten(&two, two.a), 0);
}

#[test]
fn what_ended_while_the_map_was_full_is_not_written_later() {
    let (mut two, more) = crowded(61);
    two.world.nodes[two.a].maps.room = Some(1);
    for pod in &more {
        assert!(!two.world.passes(&two.x.uid, pod.address));
    }
    for pod in &more {
        two.world.remove_pod(&pod.uid);
    }
    two.world.run(SECOND);
    two.world.nodes[two.a].maps.room = Some(100);
    two.world.run(SECOND * 20);
    let maps = &two.world.nodes[two.a].maps;
    let paired = maps.send.values().filter(|row| row.epoch().is_some());
    assert_eq!((paired.count(), maps.recv.len()), (2, 1), "one pair's");
    assert_eq!(unwritten(&two, two.a), 0);
    assert!(two.flows());
}

#[test]
fn a_full_map_on_the_other_side_is_waited_for() {
    let (mut two, more) = crowded(62);
    two.world.nodes[two.b].maps.room = Some(1);
    assert!(!two.world.passes(&two.x.uid, more[0].address));
    two.world.nodes[two.b].maps.room = None;
    two.world.run(SECOND * 20);
    let id = two.world.send(&two.x.uid, more[0].address);
    assert!(two.world.arrived(id));
}
