use pb::Refusal;
use signet_crypto::{
    spiffe_id::SpiffeId,
    x509::profile::{Binding, Purpose},
};

use super::{puppet::Puppet, *};
use crate::wire::{Message, pb};

#[test]
fn an_honest_peer_is_granted() {
    let mut puppet = Puppet::new(60);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    let again = puppet.request(&y, None);
    assert_eq!(puppet.ask(again), None, "a pod is proven once a channel");
    assert_eq!(
        puppet.two.world.nodes[puppet.two.a].maps.recv.len(),
        1,
        "and granted once"
    );
    assert!(puppet.conn().0 > 0);
}

#[test]
fn a_certificate_for_another_node_is_refused() {
    let mut puppet = Puppet::new(61);
    let (y, a) = (puppet.two.y.clone(), puppet.two.a);
    let svid = puppet.svid(&y, a);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::Proof));
}

#[test]
fn a_certificate_of_another_identity_is_refused() {
    let mut puppet = Puppet::new(62);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let mut other = y.clone();
    other.entry.spiffe_id =
        SpiffeId::workload(y.entry.spiffe_id.trust_domain(), "shop", "admin").unwrap();
    let svid = puppet.svid(&other, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::Proof));
}

#[test]
fn a_certificate_of_another_purpose_is_refused() {
    let mut puppet = Puppet::new(63);
    let y = puppet.two.y.clone();
    let svid = puppet
        .two
        .world
        .issue(y.entry.spiffe_id.clone(), Purpose::WorkloadApi, None);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::Proof));
}

#[test]
fn a_certificate_of_a_namespace_made_anew_is_refused() {
    let mut puppet = Puppet::new(64);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let node = puppet.two.world.nodes[b].facts.spiffe_id.clone();
    for (namespace, account) in [("other", "sa-backend"), ("ns-shop", "other")] {
        let binding = Binding::new(&node, namespace, account);
        let id = y.entry.spiffe_id.clone();
        let svid = puppet
            .two
            .world
            .issue(id, Purpose::AgentPlane, Some(binding));
        let request = puppet.request(&y, Some(&svid));
        assert_eq!(
            puppet.ask(request),
            Some(Refusal::Proof),
            "{namespace} {account}"
        );
    }
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut puppet = Puppet::new(65);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    puppet.two.world.svid_ttl = SECOND * 2;
    let svid = puppet.svid(&y, b);
    puppet.two.world.run(SECOND * 4);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::Proof));
}

#[test]
fn a_replayed_proof_number_is_refused() {
    let mut puppet = Puppet::new(66);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let mut first = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(first.clone()), None);
    first.id = 77;
    assert_eq!(puppet.ask(first), Some(Refusal::Proof));
    let low = puppet.request(&y, Some(&svid));
    let high = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(high), None);
    assert_eq!(puppet.ask(low), Some(Refusal::Proof), "numbers only grow");
}

#[test]
fn every_flipped_byte_of_a_proof_is_found() {
    let mut puppet = Puppet::new(67);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let length = puppet.request(&y, Some(&svid)).authenticator.len();
    for at in (0..length).step_by(97) {
        let mut request = puppet.request(&y, Some(&svid));
        if let Some(byte) = request.authenticator.get_mut(at) {
            *byte ^= 1;
        }
        assert_eq!(puppet.ask(request), Some(Refusal::Proof), "byte {at}");
    }
}

#[test]
fn a_pod_that_is_not_placed_there_is_refused() {
    let mut puppet = Puppet::new(68);
    let b = puppet.two.b;
    let c = puppet.two.world.add_node();
    let z = puppet.two.world.add_pod(c, "shop", "elsewhere");
    let svid = puppet.svid(&z, b);
    let request = puppet.request(&z, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::NotPlaced));
    let mut ghost = puppet.two.y.clone();
    ghost.uid = crate::ids::PodUid::new("nobody");
    let request = puppet.request(&ghost, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::UnknownSource));
}

#[test]
fn no_proof_is_given_to_who_has_not_proven_anything() {
    let mut puppet = Puppet::new(69);
    let y = puppet.two.y.clone();
    let before = puppet.two.world.nodes[puppet.two.a]
        .agent
        .as_ref()
        .unwrap()
        .counters();
    let request = puppet.request(&y, None);
    assert_eq!(puppet.ask(request), Some(Refusal::NotProven));
    let b = puppet.two.b;
    let svid = puppet.svid(&y, b);
    let mut request = puppet.request(&y, Some(&svid));
    request.dst_pod = "nobody".to_owned();
    assert_eq!(puppet.ask(request), Some(Refusal::UnknownDestination));
    let mut request = puppet.request(&y, Some(&svid));
    request.dst_address = crate::wire::address_bytes("10.0.99.99".parse().unwrap());
    assert_eq!(puppet.ask(request), Some(Refusal::UnknownDestination));
    let closed = [
        allow("frontend", &["somebody"]),
        allow("backend", &["somebody"]),
    ];
    puppet.two.world.set_policies(policies(&closed));
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), Some(Refusal::Policy));
    let after = puppet.two.world.nodes[puppet.two.a]
        .agent
        .as_ref()
        .unwrap()
        .counters();
    assert_eq!(before.proofs_made, after.proofs_made);
    assert_eq!(before.labels_granted, after.labels_granted);
    assert!(puppet.two.world.nodes[puppet.two.a].maps.recv.is_empty());
}

#[test]
fn a_flood_of_questions_is_bounded() {
    let mut puppet = Puppet::new(70);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let link = puppet
        .two
        .world
        .links_between(puppet.two.a, b)
        .pop()
        .unwrap();
    for _ in 0..5000 {
        let request = puppet.request(&y, None);
        let (kind, payload) = Message::ProofReq(request).encode();
        let input = crate::Input::Frame {
            conn: link.server.1,
            kind,
            payload,
        };
        puppet.two.world.input(puppet.two.a, input);
    }
    let counters = puppet.two.world.nodes[puppet.two.a]
        .agent
        .as_ref()
        .unwrap()
        .counters();
    assert_eq!(counters.requests, 5000);
    assert!(counters.requests_limited >= 5000 - 512, "{counters:?}");
    puppet.two.world.captured.clear();
    puppet.two.world.run(SECOND * 3);
    puppet.two.world.captured.clear();
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None, "and passes");
}

#[test]
fn who_breaks_the_protocol_is_hung_up_on() {
    let wrong: [(&str, u8, Vec<u8>); 7] = [
        ("unknown type", 99, Vec::new()),
        ("not a message", 7, vec![0xff; 9]),
        ("too large", 14, vec![0; 70_000]),
        ("second HELLO", 1, Vec::new()),
        (
            "unasked SLOT_ACCEPT",
            3,
            pb_bytes(&pb::SlotAccept {
                epoch: 3,
                wg_public_key: vec![1; 32],
                port: 1,
                ..pb::SlotAccept::default()
            }),
        ),
        (
            "half a name of a label",
            17,
            pb_bytes(&pb::LabelKeep {
                names: vec![0; 24],
                ..pb::LabelKeep::default()
            }),
        ),
        (
            "label of 41 bits",
            9,
            pb_bytes(&pb::Label {
                label: 1 << 40,
                ..pb::Label::default()
            }),
        ),
    ];
    for (name, kind, payload) in wrong {
        let mut puppet = Puppet::new(71);
        puppet.raw(kind, payload);
        assert!(puppet.closed, "{name}");
        let agent = puppet.two.world.nodes[puppet.two.a].agent.as_ref().unwrap();
        assert_eq!(agent.counters().channel_violations, 1, "{name}");
    }
}

fn pb_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[test]
fn a_label_nobody_asked_for_grants_nothing() {
    let mut puppet = Puppet::new(72);
    let (x, y) = (puppet.two.x.clone(), puppet.two.y.clone());
    puppet.say(Message::Label(pb::Label {
        src_pod: x.uid.as_str().to_owned(),
        dst_pod: y.uid.as_str().to_owned(),
        label: 5,
        epoch: 1,
        not_after_unix_ms: u64::MAX,
    }));
    assert!(puppet.two.world.nodes[puppet.two.a].maps.send.is_empty());
    let b = puppet.two.b;
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    puppet.say(Message::Label(pb::Label {
        src_pod: x.uid.as_str().to_owned(),
        dst_pod: y.uid.as_str().to_owned(),
        label: 5,
        epoch: 9,
        not_after_unix_ms: u64::MAX,
    }));
    assert!(
        puppet.two.world.nodes[puppet.two.a].maps.send.is_empty(),
        "of another epoch"
    );
}

#[test]
fn a_peer_cannot_extend_beyond_the_certificates() {
    let mut puppet = Puppet::new(73);
    let (x, y, b) = (puppet.two.x.clone(), puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    puppet.say(Message::Label(pb::Label {
        src_pod: x.uid.as_str().to_owned(),
        dst_pod: y.uid.as_str().to_owned(),
        label: 5,
        epoch: 1,
        not_after_unix_ms: u64::MAX,
    }));
    let end = puppet.two.world.boot + SECOND * 3600;
    let rows = &puppet.two.world.nodes[puppet.two.a].maps.send;
    assert_eq!(rows.len(), 2);
    for row in rows.values() {
        let crate::rows::SendRow::Paired { not_after, .. } = row else {
            panic!("{row:?}")
        };
        assert!(*not_after <= end);
    }
}
