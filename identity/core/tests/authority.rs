//! Authorities over years of simulated time, and what they sign for whom.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::time::Duration;

use common::{DAY, at, cluster, node, node_uid, pod, td, uid};
use signet_crypto::{
    random::SeededRandom,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::SvidKey,
    x509::{
        csr,
        profile::{Binding, Purpose},
        verify::{Expect, Usage, VerifyError, verify},
    },
};
use signet_identity_core::{
    authority::{Authorities, AuthorityError, Issued, LEAF_BACKDATE, Role, State},
    directory::Directory,
    issue::{self, IssueRefusal},
};

const TTL: Duration = Duration::from_secs(3600);

fn issue_node(
    authorities: &Authorities,
    secs: u64,
    ttl: Duration,
) -> Result<Issued, AuthorityError> {
    let key = SvidKey::generate().unwrap();
    let public_key = csr::parse(&key.anonymous_csr().unwrap()).unwrap();
    let leaf_node = node("a");
    let leaf = issue::node(&leaf_node, &public_key);
    authorities.issue(leaf, ttl, at(secs), &mut SeededRandom::new(secs))
}

#[test]
fn a_leaf_lives_its_ttl_and_begins_a_minute_early() {
    let authorities = Authorities::generate(&td(), at(0)).unwrap();
    let issued = issue_node(&authorities, 100, TTL).unwrap();
    assert_eq!(issued.svid.id.as_str(), "spiffe://example.org/node/a");
    assert_eq!(
        (issued.svid.purpose, issued.svid.binding.clone()),
        (Purpose::NodeAgent, None)
    );
    assert_eq!(issued.svid.not_before, at(100 - LEAF_BACKDATE.as_secs()));
    assert_eq!(issued.svid.not_after, at(100 + 3600));
    let check = |secs| {
        verify(
            &issued.chain,
            authorities.bundle(),
            at(secs),
            &Expect::any(Usage::Client),
        )
        .map(drop)
    };
    assert_eq!(check(3700), Ok(()));
    assert!(check(3701).is_err());
}

#[test]
fn serials_differ() {
    let authorities = Authorities::generate(&td(), at(0)).unwrap();
    let one = issue_node(&authorities, 1, TTL).unwrap().svid.serial;
    assert_ne!(one, issue_node(&authorities, 2, TTL).unwrap().svid.serial);
}

#[test]
fn the_issuing_authority_turns_over_at_half_life_and_the_root_stays() {
    let mut authorities = Authorities::generate(&td(), at(0)).unwrap();
    let bundle = authorities.bundle().clone();
    assert_eq!(authorities.due(), at(7 * DAY / 2));
    assert!(!authorities.maintain(at(7 * DAY / 2 - 1)).unwrap());
    let before = issue_node(&authorities, 7 * DAY / 2 - 1, TTL).unwrap();

    assert!(authorities.maintain(at(7 * DAY / 2)).unwrap());
    let after = issue_node(&authorities, 7 * DAY / 2, TTL).unwrap();
    assert_ne!(before.chain[1], after.chain[1]);
    assert_eq!(*authorities.bundle(), bundle);
    for issued in [before, after] {
        let expect = Expect::any(Usage::Either);
        verify(&issued.chain, &bundle, at(7 * DAY / 2 + 10), &expect).unwrap();
    }
    let states = |authorities: &Authorities| {
        authorities
            .records()
            .iter()
            .map(|record| (record.role, record.state))
            .collect::<Vec<_>>()
    };
    let active = [(Role::Root, State::Active), (Role::Issuing, State::Active)];
    assert_eq!(states(&authorities)[..2], active);
    assert_eq!(states(&authorities)[2..], [(Role::Issuing, State::Old)]);
    assert!(
        authorities.records()[2].pkcs8.is_empty(),
        "an old key is of no use but to thieves"
    );
    // The first is forgotten once what it signed has expired; the second is now at half of its life.
    let first = authorities.records()[2].fingerprint();
    let second = authorities.records()[1].fingerprint();
    assert!(authorities.maintain(at(7 * DAY)).unwrap());
    let old: Vec<_> = authorities.records()[2..]
        .iter()
        .map(|record| record.fingerprint())
        .collect();
    assert_eq!((old, first == second), (vec![second], false));
}

#[test]
fn no_leaf_outlives_its_issuing_authority_nor_that_its_root() {
    let mut authorities = Authorities::generate(&td(), at(0)).unwrap();
    let issued = issue_node(&authorities, 7 * DAY - 600, TTL).unwrap();
    assert_eq!(issued.svid.not_after, at(7 * DAY));
    let nearly = 10 * 365 * DAY - 3 * DAY;
    assert!(authorities.maintain(at(nearly)).unwrap());
    assert_eq!(authorities.records()[1].not_after, at(10 * 365 * DAY));
    assert!(authorities.maintain(at(10 * 365 * DAY + 1)).is_err());
}

#[test]
fn authorities_come_back_from_storage_and_only_as_they_were() {
    let mut authorities = Authorities::generate(&td(), at(0)).unwrap();
    authorities.maintain(at(4 * DAY)).unwrap();
    let restored = Authorities::restore(&td(), authorities.records(), 7).unwrap();
    assert_eq!(
        restored.bundle().authorities(),
        authorities.bundle().authorities()
    );
    assert_eq!(
        (restored.bundle().sequence(), restored.due()),
        (7, authorities.due())
    );
    assert_eq!(restored.records().len(), 3);
    issue_node(&restored, 4 * DAY, TTL).unwrap();

    let other = TrustDomain::new("other.example").unwrap();
    let broken = |change: fn(&mut Vec<signet_identity_core::authority::Record>)| {
        let mut records = authorities.records();
        change(&mut records);
        Authorities::restore(&td(), records, 1)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(broken(|_| ()), None);
    assert_eq!(
        broken(|records| drop(records.remove(0))).unwrap(),
        "no active root authority"
    );
    assert_eq!(
        broken(|records| drop(records.remove(1))).unwrap(),
        "no active issuing authority"
    );
    assert_eq!(
        broken(|records| records[2].state = State::Active).unwrap(),
        "several active issuing authorities"
    );
    assert!(broken(|records| records[1].pkcs8 = records[0].pkcs8.clone()).is_some());
    assert!(Authorities::restore(&other, authorities.records(), 1).is_err());
}

fn directory() -> Directory {
    let mut directory = Directory::new(1);
    directory.apply(cluster(
        [node("a"), node("b")],
        [
            pod("p1", "a", "10.1.1.1", "web"),
            pod("p2", "b", "10.1.2.1", "db"),
        ],
    ));
    directory
}

#[test]
fn a_node_gets_its_own_pods_svid_bound_to_it() {
    let authorities = Authorities::generate(&td(), at(0)).unwrap();
    let key = SvidKey::generate().unwrap();
    let id = SpiffeId::workload(&td(), "shop", "web").unwrap();
    for csr in [key.csr(&id).unwrap(), key.anonymous_csr().unwrap()] {
        let grant = issue::workload(
            directory().entry(&uid("p1")),
            &node_uid("a"),
            &uid("p1"),
            &csr,
        )
        .unwrap();
        let issued = authorities
            .issue(grant.leaf(), TTL, at(5), &mut SeededRandom::new(1))
            .unwrap();
        let node_id = SpiffeId::node(&td(), "a").unwrap();
        let expect = Expect::workload_on(id.clone(), node_id.clone());
        let seen = verify(&issued.chain, authorities.bundle(), at(6), &expect).unwrap();
        assert_eq!(
            seen.binding,
            Some(Binding::new(&node_id, "ns-shop", "sa-web"))
        );
        assert_eq!(seen.purpose, Purpose::AgentPlane);
        let elsewhere = Expect::workload_on(id.clone(), SpiffeId::node(&td(), "b").unwrap());
        let refused = verify(&issued.chain, authorities.bundle(), at(6), &elsewhere);
        assert!(
            !matches!(refused, Ok(_) | Err(VerifyError::NoCertificate)),
            "{refused:?}"
        );
    }
}

#[test]
fn requests_that_are_not_the_nodes_to_make_are_refused_with_the_reason() {
    let key = SvidKey::generate().unwrap();
    let good = key.anonymous_csr().unwrap();
    let as_db = key
        .csr(&SpiffeId::workload(&td(), "shop", "db").unwrap())
        .unwrap();
    let mut torn = good.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    let ask = |node: &str, pod: &str, csr: &[u8]| {
        let error = issue::workload(
            directory().entry(&uid(pod)),
            &node_uid(node),
            &uid(pod),
            csr,
        )
        .unwrap_err();
        (error.reason(), error.to_string())
    };
    let (reason, text) = ask("b", "p1", &good);
    assert_eq!(reason, "other_node");
    assert!(
        !text.contains("name-of-a"),
        "the asker learns where the pod runs: {text}"
    );
    assert_eq!(ask("a", "p9", &good).0, "unknown_pod");
    assert_eq!(ask("a", "p1", &as_db).0, "other_id");
    assert_eq!(ask("a", "p1", &torn).0, "bad_csr");
    assert_eq!(ask("a", "p1", b"").0, "bad_csr");
    let seen = issue::workload(
        directory().entry(&uid("p1")),
        &node_uid("b"),
        &uid("p1"),
        &good,
    )
    .unwrap_err();
    assert_eq!(
        seen,
        IssueRefusal::OtherNode {
            pod: uid("p1"),
            runs_on: "name-of-a".into()
        },
        "the service's log does"
    );
}
