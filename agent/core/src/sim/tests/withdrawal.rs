use super::*;
use crate::Input;

#[test]
fn a_deleted_pod_takes_its_grants_along_on_both_nodes() {
    let mut two = Two::open(40);
    let y = two.y.uid.clone();
    two.world.remove_pod(&y);
    two.world.run(Duration::from_millis(10));
    assert!(two.clean());
    let allowed = two.world.nodes[two.a].agent.as_ref().unwrap().peers()[0].slots[0]
        .allowed_ips
        .clone();
    assert!(allowed.is_empty(), "{allowed:?}");
    assert!(!two.forth());
}

#[test]
fn an_address_given_to_another_identity_is_another_pair() {
    let mut two = Two::open(41);
    two.world.set_policies(policies(&[
        allow("backend", &["frontend"]),
        allow("vault", &["admin"]),
    ]));
    two.world.run(SECOND);
    assert!(two.flows());
    let y = two.y.uid.clone();
    two.world.remove_pod(&y);
    let address = two.y.address;
    let v = two.world.add_pod_at(two.b, "shop", "vault", address);
    let id = two.world.send(&two.x.uid, address);
    two.world.run(SECOND * 4);
    assert!(!two.world.arrived(id), "the old grant does not fit");
    assert!(
        !two.world.passes(&two.x.uid, address),
        "and no new one is made"
    );
    let admin = two.world.add_pod(two.a, "shop", "admin");
    two.world.run(SECOND);
    assert!(two.world.passes(&admin.uid, address));
    assert!(
        two.world
            .deliveries
            .iter()
            .all(|delivery| { delivery.to != v.uid || delivery.from == admin.uid })
    );
}

#[test]
fn an_address_that_moves_to_another_node_is_followed() {
    let mut two = Two::open(42);
    let c = two.world.add_node();
    let y = two.y.uid.clone();
    let address = two.y.address;
    two.world.remove_pod(&y);
    two.world.add_pod_at(c, "shop", "backend", address);
    two.world.run(SECOND);
    assert!(two.world.passes(&two.x.uid, address));
}

#[test]
fn a_destination_that_became_another_meanwhile_is_found_again() {
    let mut two = Two::open(43);
    // The sender's stream is down: it does not learn that the pod is another now.
    two.world.nodes[two.a].subscriptions.clear();
    two.world.cut(two.a, two.b, true);
    two.world.break_links(|_| true);
    let y = two.y.uid.clone();
    let address = two.y.address;
    two.world.remove_pod(&y);
    let mut packets = Vec::new();
    let stale = two.world.nodes[two.a].maps.send.clone();
    assert!(!stale.is_empty(), "rows outlive the channel");
    let z = two.world.add_pod_at(two.b, "shop", "other", address);
    two.world.cut(two.a, two.b, false);
    for _ in 0..20 {
        packets.push(two.world.send(&two.x.uid, address));
        two.world.run(SECOND);
    }
    let to: Vec<_> = two
        .world
        .deliveries
        .iter()
        .filter(|d| packets.contains(&d.id))
        .map(|d| &d.to)
        .collect();
    assert!(to.contains(&&z.uid), "the new one is found");
    assert!(!to.contains(&&y), "the old one gets nothing");
}

#[test]
fn a_policy_that_no_longer_admits_stops_live_flows() {
    let mut two = Two::open(44);
    // Closed in both directions: one that is open keeps the pair for its replies.
    let nobody = [
        allow("backend", &["somebody-else"]),
        allow("frontend", &["somebody-else"]),
    ];
    two.world.set_policies(policies(&nobody));
    assert!(!two.flows());
    two.world.run(SECOND);
    assert!(two.clean());
    assert!(!two.forth() && !two.back());
    assert!(
        two.world.nodes[two.a]
            .drops
            .contains_key("DEFAULT_DENY_INGRESS")
    );
    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    assert!(
        two.forth(),
        "a refusal is forgotten with the policy that made it"
    );
}

#[test]
fn a_label_change_is_judged_anew() {
    let mut two = Two::open(45);
    let closed = json!({
        "apiVersion": "signet.dev/v1alpha1",
        "kind": "AuthenticatedPolicy",
        "metadata": {"name": "blue", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "backend"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "frontend"}}}]}],
        },
    });
    two.world.set_policies(policies(&[
        closed,
        allow("frontend", &["nobody"]),
        allow("elsewhere", &["nobody"]),
    ]));
    two.world.run(SECOND);
    assert!(two.forth());
    let x = two.x.uid.clone();
    let pod = two.world.pods.get_mut(&x).unwrap();
    pod.entry
        .pod
        .labels
        .insert("app".to_owned(), "elsewhere".to_owned());
    two.world.push_changed(&x);
    two.world.tell_cluster(two.a);
    two.world.run(SECOND);
    assert!(!two.forth());
    assert!(two.clean());
}

#[test]
fn a_node_that_is_gone_takes_everything_along() {
    let mut two = Two::open(46);
    let node = two.world.nodes[two.b].facts.uid.clone();
    let gone = crate::io::DirectoryInput::NodeGone { node };
    two.world.input(two.a, Input::Directory(gone));
    let maps = &two.world.nodes[two.a].maps;
    assert!(maps.send.is_empty() && maps.recv.is_empty() && maps.peers.is_empty());
    assert!(two.world.nodes[two.a].engine.peers.is_empty());
    two.world.run(SECOND);
    assert_eq!(two.world.links_between(two.a, two.b).len(), 0);
}

#[test]
fn policy_entries_go_with_the_pairs_they_are_for() {
    let mut two = Two::new(47);
    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    two.world.run(SECOND);
    let before = two.world.nodes[two.b].maps.policy.len();
    assert!(two.forth());
    assert!(two.world.nodes[two.b].maps.policy.len() > before);
    let x = two.x.uid.clone();
    two.world.remove_pod(&x);
    two.world.run(SECOND);
    assert_eq!(two.world.nodes[two.b].maps.policy.len(), before);
}

#[test]
fn stale_makes_the_sender_ask_again() {
    let mut two = Two::open(48);
    let lookups = two.world.nodes[two.a]
        .agent
        .as_ref()
        .unwrap()
        .counters()
        .lookups;
    let peer = *two.world.nodes[two.b].maps.peers.keys().next().unwrap();
    two.world.input(
        two.b,
        Input::Stale {
            peer,
            destination: two.y.address,
        },
    );
    two.world.run(Duration::from_millis(100));
    assert!(
        !two.world.nodes[two.a]
            .maps
            .send
            .values()
            .any(|row| row.epoch().is_some())
    );
    assert!(two.forth(), "it is found again");
    assert!(
        two.world.nodes[two.a]
            .agent
            .as_ref()
            .unwrap()
            .counters()
            .lookups
            > lookups
    );
}

#[test]
fn a_pod_that_the_cluster_no_longer_knows_lets_nothing_pass() {
    let mut two = Two::new(49);
    let z = two.world.add_pod(two.b, "shop", "frontend");
    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    assert!(two.forth());
    let (index, _) = two.world.endpoint_index(&two.y.uid).unwrap();
    let entries = |two: &Two| {
        let keys = two.world.nodes[two.b].maps.policy.keys();
        keys.filter(|key| key.endpoint == index).count()
    };
    assert!(entries(&two) > 0);
    let before = two.world.nodes[two.b].maps.endpoints[&index].clone();
    // Its interface is still there.
    let y = two.world.pods.remove(&two.y.uid).unwrap();
    two.world.tell_cluster(two.b);
    let row = &two.world.nodes[two.b].maps.endpoints[&index];
    assert!(row.ingress_isolated && row.egress_isolated);
    assert_eq!(row.authenticated_until, None, "nobody vouches for it");
    assert!(row.policy_generation > before.policy_generation);
    assert_eq!(entries(&two), 0, "no rule is about it, {}'s neither", z.uid);
    assert!(two.world.nodes[two.b].maps.recv.is_empty());
    two.world.pods.insert(y.uid.clone(), y);
    two.world.tell_cluster(two.b);
    two.world.run(SECOND * 10);
    assert!(two.forth(), "and it comes back");
}

#[test]
fn a_pod_that_became_another_identity_starts_over() {
    let mut two = Two::open(50);
    let (index, _) = two.world.endpoint_index(&two.y.uid).unwrap();
    // Nobody can tell the other node, nor be told by it.
    two.world.cut(two.a, two.b, true);
    two.world.break_links(|_| true);
    two.world.run(SECOND);
    two.world.set_account(&two.y.uid, "vault");
    two.world.tell_cluster(two.b);
    let maps = &two.world.nodes[two.b].maps;
    assert!(maps.recv.is_empty(), "what was granted was not for it");
    assert!(!maps.send.values().any(|row| row.epoch().is_some()));
    assert_eq!(maps.endpoints[&index].authenticated_until, None);
    two.world.push_changed(&two.y.uid);
    two.world.cut(two.a, two.b, false);
    two.world.run(SECOND * 20);
    assert!(two.forth() && two.back(), "under its new name");
}

#[test]
fn half_a_policy_is_none() {
    let mut two = Two::new(51);
    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    assert!(two.forth());
    let (index, _) = two.world.endpoint_index(&two.y.uid).unwrap();
    let row = two.world.nodes[two.b].maps.endpoints[&index].clone();
    assert!(!row.egress_isolated);
    let class = two.world.nodes[two.b]
        .maps
        .recv
        .values()
        .next()
        .unwrap()
        .class;
    let maps = &mut two.world.nodes[two.b].maps;
    let of_pair = |key: &crate::rows::PolicyKey| key.endpoint == index && key.class == class;
    let (key, value) = maps
        .policy
        .iter()
        .find(|(key, _)| of_pair(key))
        .map(|(key, value)| (*key, *value))
        .unwrap();
    // The kernel has refused one of its entries.
    maps.policy.remove(&key);
    let now = two.world.now(two.b);
    let node = &mut two.world.nodes[two.b];
    let agent = node.agent.as_mut().unwrap();
    let failed = Input::MapFailed {
        op: Box::new(crate::rows::MapOp::SetPolicy(key, value)),
        error: "no space left".to_owned(),
    };
    agent.handle(
        failed,
        now,
        &mut signet_crypto::random::SeededRandom::new(1),
    );
    while let Some(output) = agent.poll_output() {
        if let crate::Output::Bpf(op) = output {
            node.maps.apply(op);
        }
    }
    let row = &node.maps.endpoints[&index];
    assert!(row.ingress_isolated && row.egress_isolated);
    assert!(!node.maps.policy.keys().any(of_pair));
    assert!(!two.flows());
    two.world.run(SECOND * 12);
    let row = &two.world.nodes[two.b].maps.endpoints[&index];
    assert!(!row.egress_isolated, "there is room again");
    assert!(two.flows());
}
