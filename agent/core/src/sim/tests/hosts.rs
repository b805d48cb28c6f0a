//! Nodes as ends of pairs: what they send themselves, and what is sent to them.

use pb::Refusal;

use super::{puppet::Puppet, *};
use crate::{ids::PodUid, wire::pb};

impl Two {
    fn underlay(&self, node: NodeIx) -> std::net::IpAddr {
        self.world.nodes[node].facts.underlay[0]
    }

    fn itself(&self, node: NodeIx) -> PodUid {
        PodUid::of_node(&self.world.nodes[node].facts.uid)
    }

    /// One packet each way between node a and pod y, without waiting for anything to be opened.
    fn host_flows(&mut self) -> bool {
        let own = self.underlay(self.a);
        let forth = self.world.send_as_node(self.a, self.y.address);
        let back = self.world.send(&self.y.uid, own);
        self.world.arrived(forth) && self.world.arrived(back)
    }
}

/// Lets nodes in to pods of this app, and nobody else.
fn nodes_only(app: &str) -> Value {
    json!({
        "apiVersion": "signet.dev/v1alpha1",
        "kind": "AuthenticatedPolicy",
        "metadata": {"name": format!("in-{app}"), "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": app}},
            "ingress": [{"from": [{"entities": ["RemoteNode"]}], "authentication": "Required"}],
        },
    })
}

#[test]
fn a_node_reaches_remote_pods_under_its_own_identity() {
    let mut two = Two::new(200);
    let id = two.world.send_as_node(two.a, two.y.address);
    two.world.run(SECOND);
    assert!(two.world.arrived(id), "the first packet was held");
    assert!(two.host_flows(), "the reply's way is open, too");
    let delivery = two.world.deliveries[0].clone();
    assert_eq!(
        (delivery.from, delivery.to),
        (two.itself(two.a), two.y.uid.clone())
    );
    assert_eq!(
        two.world.oracle.proofs, 1,
        "the pod's; TLS has proven the nodes"
    );
    let there = two.agent(two.b).pairs(two.world.now(two.b));
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].remote_id, two.world.nodes[two.a].facts.spiffe_id);
    let here = two.agent(two.a).pairs(two.world.now(two.a));
    assert_eq!(here[0].local_certificate, there[0].remote_certificate);
    assert_eq!(here[0].local_name, "node/n0");
}

#[test]
fn a_pod_reaches_a_remote_node() {
    let mut two = Two::new(201);
    let node = two.underlay(two.b);
    assert!(two.world.passes(&two.x.uid, node));
    assert_eq!(two.world.oracle.proofs, 1, "the pod's");
    let z = two.world.add_pod(two.a, "shop", "late");
    two.world.run(SECOND);
    assert!(two.world.passes(&z.uid, node));
}

#[test]
fn a_node_needs_a_rule_where_the_pod_is_isolated() {
    let mut two = Two::new(202);
    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    assert!(!two.world.passes_from_node(two.a, two.y.address));
    assert!(
        two.world.nodes[two.b]
            .drops
            .contains_key("DEFAULT_DENY_INGRESS")
    );
    assert!(two.forth());

    two.world.set_policies(policies(&[nodes_only("backend")]));
    assert!(two.world.passes_from_node(two.a, two.y.address));
    assert!(!two.forth(), "a rule for nodes is none for pods");

    two.world
        .set_policies(policies(&[allow("backend", &["frontend"])]));
    assert!(!two.world.passes_from_node(two.a, two.y.address));
    assert!(two.forth());
}

#[test]
fn certificates_of_nodes_are_renewed_under_their_pairs() {
    let mut two = Two::new(203);
    two.world.svid_ttl = SECOND * 100;
    two.world.restart(two.a);
    two.world.restart(two.b);
    two.world.run(SECOND);
    assert!(two.world.passes_from_node(two.a, two.y.address));
    for _ in 0..600 {
        two.world.run(SECOND);
        assert!(two.host_flows(), "at {:?}", two.world.boot);
    }
    let opened = two.agent(two.a).counters().channels_opened;
    assert_eq!(opened, 1, "all on one channel");
}

#[test]
fn a_restart_interrupts_no_node() {
    let mut two = Two::new(204);
    assert!(two.world.passes_from_node(two.a, two.y.address));
    for node in [two.a, two.b] {
        two.world.kill(node);
        assert!(two.host_flows());
        two.world.start(node);
        for _ in 0..400 {
            assert!(two.host_flows(), "at {:?}", two.world.boot);
            two.world.run(Duration::from_millis(500));
        }
        assert_eq!(two.world.nodes[two.a].maps.recv.len(), 1, "none of before");
    }
}

#[test]
fn a_node_that_is_removed_keeps_nothing() {
    let mut two = Two::new(205);
    assert!(two.world.passes_from_node(two.a, two.y.address));
    let node = two.world.nodes[two.a].facts.uid.clone();
    let gone = crate::io::DirectoryInput::NodeGone { node };
    two.world.input(two.b, crate::Input::Directory(gone));
    assert!(two.world.nodes[two.b].maps.recv.is_empty());
    assert!(two.world.nodes[two.b].maps.peers.is_empty());
}

#[test]
fn a_node_speaks_for_itself_alone() {
    let mut puppet = Puppet::new(206);
    let (y, x, b) = (puppet.two.y.clone(), puppet.two.x.clone(), puppet.two.b);
    let c = puppet.two.world.add_node();
    while puppet.hear().is_some() {}
    let ask = |puppet: &mut Puppet, source: String, svid: Option<_>| {
        let mut request = puppet.request(&y, svid);
        request.src_pod = source;
        puppet.ask(request)
    };
    let own = puppet.two.itself(b).to_string();
    let other = puppet.two.itself(c).to_string();
    assert_eq!(ask(&mut puppet, other, None), Some(Refusal::NotPlaced));
    let nobody = "node:nobody".to_owned();
    assert_eq!(ask(&mut puppet, nobody, None), Some(Refusal::UnknownSource));
    // A pod's certificate proves no node, nor does the node's own in a pod's place.
    let svid = puppet.svid(&y, b);
    let proof = ask(&mut puppet, own.clone(), Some(&svid));
    assert_eq!(proof, Some(Refusal::Proof));
    let svid = puppet.two.world.issue_node(b);
    let uid = y.uid.to_string();
    assert_eq!(ask(&mut puppet, uid, Some(&svid)), Some(Refusal::Proof));
    assert!(puppet.two.world.nodes[puppet.two.a].maps.recv.is_empty());

    let mut isolated = allow("frontend", &["nobody"]);
    isolated["spec"]["egress"] = json!([]);
    let isolated = policies(&[isolated]);
    puppet.two.world.set_policies(isolated);
    while puppet.hear().is_some() {}
    assert_eq!(ask(&mut puppet, own.clone(), None), Some(Refusal::Policy));
    puppet.two.world.set_policies(policies(&[]));
    while puppet.hear().is_some() {}
    assert_eq!(ask(&mut puppet, own, None), None);
    let rows = &puppet.two.world.nodes[puppet.two.a].maps.recv;
    let row = rows.values().next().unwrap();
    assert_eq!(row.addresses, [puppet.two.underlay(b)]);
    assert_eq!(rows.len(), 1, "{}", x.uid);
}

#[test]
fn an_address_that_two_nodes_claim_is_nobodys() {
    let mut two = Two::new(207);
    let c = two.world.add_node();
    two.world.nodes[c].facts.underlay = vec![two.underlay(two.a)];
    let facts = two.world.nodes[c].facts.clone();
    assert_eq!(facts.underlay, two.world.nodes[two.a].facts.underlay);
    for node in [two.a, two.b, c] {
        two.world.tell_cluster(node);
    }
    assert!(!two.world.passes_from_node(two.a, two.y.address));
    assert!(
        two.world.nodes[two.a]
            .drops
            .contains_key("HOST_WITHOUT_LABEL")
    );
    let node = two.underlay(two.a);
    assert!(!two.world.passes(&two.y.uid, node));
    assert!(two.forth(), "pods are not concerned");
}

#[test]
fn a_pod_takes_no_address_from_a_node() {
    let mut two = Two::new(208);
    let node = two.underlay(two.b);
    assert!(two.world.passes(&two.x.uid, node));
    let pod = two.world.pods.get_mut(&two.y.uid).unwrap();
    pod.entry.pod.addresses.push(node);
    assert!(two.forth(), "what was asked for is known by now");
    two.world.push_changed(&two.y.uid.clone());
    two.world.run(SECOND);
    assert!(two.world.passes(&two.x.uid, node));
    let to = &two.world.deliveries.last().unwrap().to;
    assert_eq!(*to, two.itself(two.b));
}
