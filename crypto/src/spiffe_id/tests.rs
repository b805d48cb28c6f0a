//! Clause by clause: SPIFFE-ID sections 2, 2.1, 2.2 and 2.3.

use proptest::prelude::*;

use super::*;

fn error(text: &str) -> SpiffeIdError {
    SpiffeId::new(text).expect_err(text)
}

fn accept(text: &str) -> SpiffeId {
    let id = SpiffeId::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(id.to_string(), text);
    id
}

#[test]
fn id_2_scheme_is_spiffe() {
    accept("spiffe://td.test/a");
    for text in [
        "",
        "/a",
        "td.test/a",
        "http://td.test/a",
        "SPIFFE://td.test/a",
        "spiffe:td.test/a",
    ] {
        assert_eq!(error(text), SpiffeIdError::Scheme, "{text}");
    }
    assert_eq!(error(" spiffe://td.test/a"), SpiffeIdError::Scheme);
}

#[test]
fn id_2_trust_domain_name_is_not_empty() {
    assert_eq!(error("spiffe://"), SpiffeIdError::EmptyTrustDomain);
    assert_eq!(error("spiffe:///a"), SpiffeIdError::EmptyTrustDomain);
    assert_eq!(TrustDomain::new(""), Err(SpiffeIdError::EmptyTrustDomain));
}

#[test]
fn id_2_query_and_fragment_are_refused() {
    assert_eq!(
        error("spiffe://td.test/a?b=c"),
        SpiffeIdError::PathCharacter('?')
    );
    assert_eq!(
        error("spiffe://td.test/a#b"),
        SpiffeIdError::PathCharacter('#')
    );
    assert_eq!(
        error("spiffe://td.test?b"),
        SpiffeIdError::TrustDomainCharacter('?')
    );
    assert_eq!(
        error("spiffe://td.test#b"),
        SpiffeIdError::TrustDomainCharacter('#')
    );
}

#[test]
fn id_2_1_userinfo_and_port_are_refused() {
    assert_eq!(
        error("spiffe://me@td.test/a"),
        SpiffeIdError::TrustDomainCharacter('@')
    );
    assert_eq!(
        error("spiffe://td.test:80/a"),
        SpiffeIdError::TrustDomainCharacter(':')
    );
    assert_eq!(
        error("spiffe://td.test:/a"),
        SpiffeIdError::TrustDomainCharacter(':')
    );
    assert_eq!(
        error("spiffe://[::1]/a"),
        SpiffeIdError::TrustDomainCharacter('[')
    );
}

#[test]
fn id_2_1_trust_domain_characters() {
    accept("spiffe://abcdefghijklmnopqrstuvwxyz-0123456789._/a");
    for c in (0..=0x7f_u8).map(char::from).chain(['ß', '本']) {
        let name = format!("td{c}test");
        let allowed = c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        assert_eq!(TrustDomain::new(name.as_str()).is_ok(), allowed, "{c:?}");
    }
    assert_eq!(
        error("spiffe://TD.test/a"),
        SpiffeIdError::TrustDomainCharacter('T')
    );
}

#[test]
fn id_2_2_path_characters() {
    accept("spiffe://td.test/abcdefghijklmnopqrstuvwxyz/ABCDEFGHIJKLMNOPQRSTUVWXYZ/0123456789.-_");
    for c in (0..=0x7f_u8).map(char::from).chain(['ß', '本']) {
        let id = SpiffeId::new(format!("spiffe://td.test/a{c}b"));
        let allowed = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        assert_eq!(id.is_ok(), allowed, "{c:?}");
    }
}

#[test]
fn id_2_2_percent_encoding_is_refused() {
    assert_eq!(
        error("spiffe://td.test/a%62"),
        SpiffeIdError::PathCharacter('%')
    );
    assert_eq!(
        error("spiffe://td%2etest/a"),
        SpiffeIdError::TrustDomainCharacter('%')
    );
}

#[test]
fn id_2_2_empty_segments_and_trailing_slash_are_refused() {
    for path in ["/", "//", "//a", "/a//b", "/a/"] {
        assert_eq!(
            error(&format!("spiffe://td.test{path}")),
            SpiffeIdError::EmptySegment,
            "{path}"
        );
    }
}

#[test]
fn id_2_2_dot_segments_are_refused() {
    for (path, segment) in [
        ("/.", "."),
        ("/..", ".."),
        ("/a/./b", "."),
        ("/a/../b", ".."),
    ] {
        let expected = SpiffeIdError::DotSegment(segment.to_owned());
        assert_eq!(
            error(&format!("spiffe://td.test{path}")),
            expected,
            "{path}"
        );
    }
    accept("spiffe://td.test/.../..a/a..");
}

#[test]
fn id_2_3_lengths() {
    let of_length = |length: usize| {
        let prefix = "spiffe://td.test/";
        format!("{prefix}{}", "a".repeat(length - prefix.len()))
    };
    accept(&of_length(2048));
    assert_eq!(
        error(&of_length(2049)),
        SpiffeIdError::TooLong { length: 2049 }
    );

    accept(&format!("spiffe://{}/a", "t".repeat(255)));
    let long = "t".repeat(256);
    assert_eq!(
        error(&format!("spiffe://{long}/a")),
        SpiffeIdError::TrustDomainTooLong { length: 256 }
    );
}

#[test]
fn a_trust_domain_is_its_own_id_without_path() {
    let td = TrustDomain::new("td.test").unwrap();
    assert_eq!(td.id(), accept("spiffe://td.test"));
    assert_eq!(td.id().path(), "");
    assert_eq!(td.id().kind(), IdKind::TrustDomain);
}

#[test]
fn the_shapes_signet_issues() {
    let td = TrustDomain::new("td.test").unwrap();
    let workload = SpiffeId::workload(&td, "shop", "web.front").unwrap();
    assert_eq!(workload, accept("spiffe://td.test/ns/shop/sa/web.front"));
    assert_eq!(workload.trust_domain(), &td);
    assert_eq!(workload.path(), "/ns/shop/sa/web.front");
    let expected = IdKind::Workload {
        namespace: "shop",
        service_account: "web.front",
    };
    assert_eq!(workload.kind(), expected);

    let node = SpiffeId::node(&td, "uid-1").unwrap();
    assert_eq!(node, accept("spiffe://td.test/node/uid-1"));
    assert_eq!(node.kind(), IdKind::Node { uid: "uid-1" });

    let identity = SpiffeId::identity_service(&td);
    assert_eq!(identity, accept("spiffe://td.test/signet/identity"));
    assert_eq!(identity.kind(), IdKind::IdentityService);
}

#[test]
fn a_name_cannot_smuggle_in_a_segment() {
    let td = TrustDomain::new("td.test").unwrap();
    assert!(SpiffeId::workload(&td, "shop/sa/admin", "x").is_err());
    assert!(SpiffeId::workload(&td, "shop", "web/..").is_err());
    assert!(SpiffeId::workload(&td, "", "web").is_err());
    assert!(SpiffeId::node(&td, "a/b").is_err());
    assert!(SpiffeId::node(&td, "..").is_err());
}

proptest! {
    #[test]
    fn what_parses_prints_as_it_was_and_parses_again(
        name in "[a-z0-9._-]{1,40}",
        path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}){0,6}",
    ) {
        let text = format!("spiffe://{name}{path}");
        let id = SpiffeId::new(text.clone()).unwrap();
        prop_assert_eq!(id.as_str(), &text);
        prop_assert_eq!(id.trust_domain().as_str(), &name);
        prop_assert_eq!(id.path(), &path);
        prop_assert_eq!(SpiffeId::try_from(String::from(id.clone())).unwrap(), id);
    }

    #[test]
    fn whatever_comes_is_either_refused_or_kept_as_it_is(text in "(spiffe://)?[ -~]{0,60}") {
        if let Ok(id) = SpiffeId::new(text.clone()) {
            prop_assert_eq!(id.to_string(), text.clone());
            let rebuilt = format!("spiffe://{}{}", id.trust_domain(), id.path());
            prop_assert_eq!(rebuilt, text);
        }
    }
}
