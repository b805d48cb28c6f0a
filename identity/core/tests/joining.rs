//! Join tokens and what comes after them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::time::Duration;

use common::{at, node_uid};
use signet_crypto::random::SeededRandom;
use signet_identity_core::{
    registry::{NodeRecord, NodeRefusal, readmit},
    token::{JoinToken, MAX_TTL, MEMORY, TokenRecord, TokenRefusal, consume},
    unix_ms,
};

const TTL: Duration = Duration::from_secs(600);

#[test]
fn a_token_survives_a_file_and_nothing_else_passes_for_one() {
    let token = JoinToken::generate(&mut SeededRandom::new(1));
    let other = JoinToken::generate(&mut SeededRandom::new(2));
    let read = JoinToken::parse(&format!("  {}\n", token.expose())).unwrap();
    assert_eq!(read.hash(), token.hash());
    assert_ne!(other.hash(), token.hash());
    assert!(
        !format!("{token:?}").contains(&token.expose()[12..]),
        "a token in a log is spent"
    );
    let text = token.expose();
    for bad in [
        "",
        "signet-join-",
        &text[..text.len() - 1],
        &text[7..],
        &text.replace('-', "_"),
        &format!("{text}0"),
    ] {
        assert_eq!(
            JoinToken::parse(bad).unwrap_err(),
            TokenRefusal::Malformed,
            "{bad}"
        );
    }
}

#[test]
fn a_token_is_good_once_for_its_node_in_its_time() {
    let fresh = TokenRecord::new("a", at(0), TTL).unwrap();
    let used = consume(Some(&fresh), "a", &node_uid("uid-a"), at(599)).unwrap();
    assert!(fresh.is_open(at(599)) && !fresh.is_open(at(600)) && !used.is_open(at(599)));
    let cases = [
        (None, "a", 1, "unknown"),
        (Some(&fresh), "b", 1, "other_node"),
        (Some(&used), "b", 601, "other_node"),
        (Some(&fresh), "a", 600, "expired"),
        (Some(&used), "a", 599, "used"),
        (Some(&used), "a", 700, "used"),
    ];
    for (record, name, secs, reason) in cases {
        let refusal = consume(record, name, &node_uid("uid"), at(secs)).unwrap_err();
        assert_eq!(refusal.reason(), reason);
        let text = refusal.to_string();
        assert!(
            text.contains("signetctl token create --node") && !text.contains('\n'),
            "{text}"
        );
    }
    assert_eq!(used.used.unwrap().at_ms, unix_ms(at(599)));
}

#[test]
fn validities_have_bounds_and_memory_ends() {
    for (ttl, fine) in [
        (Duration::ZERO, false),
        (Duration::from_secs(1), true),
        (MAX_TTL, true),
        (MAX_TTL + TTL, false),
    ] {
        assert_eq!(TokenRecord::new("a", at(0), ttl).is_ok(), fine, "{ttl:?}");
    }
    let record = TokenRecord::new("a", at(0), TTL).unwrap();
    let end = 600 + MEMORY.as_secs();
    assert!(!record.is_forgotten(at(end)) && record.is_forgotten(at(end + 1)));
}

#[test]
fn a_node_comes_back_with_the_keys_it_was_certified_with() {
    let first = NodeRecord::attested("a", [1; 32], at(0), at(3600));
    let same = first.renewed("a", [1; 32], at(10), at(3610));
    assert_eq!(
        (same.previous_key, same.attested_ms),
        (None, unix_ms(at(0)))
    );
    let second = same.renewed("a", [2; 32], at(20), at(3620));
    let again = second.renewed("a", [2; 32], at(30), at(3630));
    let third = again.renewed("a", [3; 32], at(40), at(3640));
    // An answer that got lost leaves the node with its previous key.
    for (record, key, fine) in [
        (&second, 1, true),
        (&second, 2, true),
        (&again, 1, true),
        (&third, 1, false),
        (&third, 2, true),
        (&third, 3, true),
        (&third, 9, false),
    ] {
        assert_eq!(
            readmit(Some(record), "a", &[key; 32]).is_ok(),
            fine,
            "{key} of {record:?}"
        );
    }
    assert_eq!(
        readmit(None, "a", &[1; 32]).unwrap_err(),
        NodeRefusal::NeverJoined { name: "a".into() }
    );
    // Joining anew voids what was.
    let rejoined = NodeRecord::attested("a", [7; 32], at(50), at(3650));
    assert_eq!(
        readmit(Some(&rejoined), "a", &[3; 32]).unwrap_err(),
        NodeRefusal::OtherKey { name: "a".into() }
    );
}
