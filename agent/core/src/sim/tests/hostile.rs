//! Nodes with a good certificate and bad intentions: what they say costs nobody else anything.

use pb::Refusal;

use super::{puppet::Puppet, *};
use crate::wire::{Message, pb};

#[test]
fn a_wireguard_key_of_another_node_is_refused() {
    let mut two = Two::new(80);
    let c = two.world.add_node();
    let z = two.world.add_pod(c, "shop", "elsewhere");
    two.world.run(SECOND);
    assert!(two.world.passes(&two.x.uid, z.address));
    let key = two.world.nodes[c].engine.keys[1];
    let shaken = crate::io::TunnelEvent::Handshake {
        slot: crate::ids::Slot::Odd,
        peer: key,
    };
    two.world.input(two.a, crate::Input::Tunnel(shaken));
    let mut puppet = Puppet::greeted(two);
    let answer = puppet.offer(key);
    assert!(!matches!(answer, Some(Message::SlotAccept(_))));
    assert!(puppet.closed);
    assert_eq!(puppet.counters().channel_violations, 1);
    let id = puppet.two.world.send(&puppet.two.x.uid, z.address);
    assert!(puppet.two.world.arrived(id), "the owner keeps its tunnel");
}

#[test]
fn a_wireguard_key_is_not_kept_from_its_owner() {
    let mut two = Two::new(79);
    let c = two.world.add_node();
    let z = two.world.add_pod(c, "shop", "elsewhere");
    two.world.run(SECOND);
    let key = two.world.nodes[c].engine.keys[1];
    let mut puppet = Puppet::greeted(two);
    let answer = puppet.offer(key);
    assert!(matches!(answer, Some(Message::SlotAccept(_))));
    let Two { x, .. } = &puppet.two;
    let x = x.uid.clone();
    assert!(
        puppet.two.world.passes(&x, z.address),
        "who has the key, gets it"
    );
}

#[test]
fn a_slot_retired_while_its_keys_are_made_ends_the_channel() {
    let mut puppet = Puppet::greeted(Two::new(81));
    let offer = Puppet::offered(signet_crypto::wg::PublicKey([3; 32]));
    puppet.hand(&Message::SlotOffer(offer));
    puppet.hand(&Message::SlotRetire(pb::SlotRetire { epoch: 1 }));
    puppet.two.world.run(SECOND);
    assert_eq!(puppet.counters().channel_violations, 1);
    assert!(puppet.two.world.nodes[puppet.two.a].engine.peers.is_empty());
}

#[test]
fn a_service_account_made_anew_is_proven_anew() {
    let mut puppet = Puppet::new(82);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    let pod = puppet.two.world.pods.get_mut(&y.uid).unwrap();
    pod.entry.service_account_uid = "sa-another".to_owned();
    puppet.two.world.push_changed(&y.uid);
    puppet.two.world.run(SECOND);
    while puppet.hear().is_some() {}
    let request = puppet.request(&y, None);
    assert_eq!(
        puppet.ask(request),
        Some(Refusal::NotProven),
        "the proof was of the account before"
    );
}

#[test]
fn coming_back_gives_no_new_burst() {
    let mut two = Two::new(83);
    let begin = two.world.boot;
    let mut asked = 0;
    for _ in 0..10 {
        let mut puppet = Puppet::greeted(two);
        let y = puppet.two.y.clone();
        for _ in 0..600 {
            let request = puppet.request(&y, None);
            puppet.hand(&Message::ProofReq(request));
            asked += 1;
        }
        two = puppet.two;
        two.world.break_links(|_| true);
    }
    let counters = two.agent(two.a).counters();
    assert_eq!(counters.requests, asked);
    let most = 512 + 256 * ((two.world.boot - begin).as_secs() + 1);
    let looked_at = counters.requests - counters.requests_limited;
    assert!(looked_at <= most, "{looked_at} > {most}");
}

#[test]
fn a_name_that_no_pod_can_have_ends_the_channel() {
    let mut puppet = Puppet::new(84);
    let mut ghost = puppet.two.y.clone();
    ghost.uid = crate::ids::PodUid::new("x".repeat(60_000));
    let before = puppet.counters().lookups;
    let request = puppet.request(&ghost, None);
    puppet.say(Message::ProofReq(request));
    assert!(puppet.closed);
    assert_eq!(
        puppet.counters().lookups,
        before,
        "nobody is asked about it"
    );
}

#[test]
fn every_question_is_answered_in_time_whatever_is_missing_here() {
    let mut puppet = Puppet::new(85);
    let (y, a, b) = (puppet.two.y.clone(), puppet.two.a, puppet.two.b);
    let svid = puppet.svid(&y, b);
    // Without a node certificate that is in time nothing can be granted.
    puppet.two.world.set_service(false);
    puppet.two.world.svid_ttl = SECOND * 2;
    let short = puppet.two.world.issue_node(a);
    puppet
        .two
        .world
        .input(a, crate::Input::NodeSvid { svid: short });
    puppet.two.world.svid_ttl = SECOND * 3600;
    puppet.two.world.set_service(true);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    puppet.two.world.set_service(false);
    puppet.two.world.run(SECOND * 4);
    while puppet.hear().is_some() {}
    let mut open = std::collections::BTreeSet::new();
    for _ in 0..600 {
        let request = puppet.request(&y, None);
        open.insert(request.id);
        puppet.hand(&Message::ProofReq(request));
        puppet.two.world.run(Duration::from_millis(10));
    }
    puppet.two.world.run(SECOND * 4);
    while let Some(message) = puppet.heard() {
        let Message::Proof(proof) = message else {
            panic!("{}", message.name())
        };
        assert_ne!(proof.refusal(), Refusal::None);
        open.remove(&proof.id);
    }
    assert!(open.is_empty(), "{} hang", open.len());
}

#[test]
fn proofs_without_end_end_the_channel() {
    let mut puppet = Puppet::new(86);
    let (y, b) = (puppet.two.y.clone(), puppet.two.b);
    let svid = puppet.svid(&y, b);
    let request = puppet.request(&y, Some(&svid));
    assert_eq!(puppet.ask(request), None);
    let known = puppet.counters();
    for n in 0..6000 {
        if puppet.counters().channel_violations > 0 {
            break;
        }
        puppet.hand(&Message::Proof(pb::Proof {
            pod: y.uid.as_str().to_owned(),
            proof_n: 1000 + n,
            authenticator: vec![1; 64],
            ..pb::Proof::default()
        }));
    }
    let counters = puppet.counters();
    assert_eq!(counters.channel_violations, 1);
    let looked_at = counters.proofs_rejected - known.proofs_rejected;
    assert!((512..5000).contains(&looked_at), "{looked_at}");
}
