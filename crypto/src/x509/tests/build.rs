use std::time::Duration;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::SvidKey;
use crate::x509::build::{BuildError, IssuingAuthority, LeafSpec, RootAuthority};
use crate::x509::csr;
use crate::x509::profile::{BINDING_OID, PURPOSE_OID, Purpose};
use crate::x509::testing::{HOUR, Pki, at, ed25519};

fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

/// (object identifier or its hex, critical) of each extension, in order.
fn extensions(der: &CertificateDer<'_>) -> Vec<(String, bool)> {
    let own = [(PURPOSE_OID, "purpose"), (BINDING_OID, "binding")];
    let name = |oid: &x509_parser::asn1_rs::Oid<'_>| {
        let found = own.iter().find(|(known, _)| known == oid.as_bytes());
        found.map_or_else(|| oid.to_id_string(), |(_, name)| (*name).to_owned())
    };
    parse(der)
        .extensions()
        .iter()
        .map(|e| (name(&e.oid), e.critical))
        .collect()
}

fn named(list: &[(&str, bool)]) -> Vec<(String, bool)> {
    list.iter()
        .map(|(oid, critical)| ((*oid).to_owned(), *critical))
        .collect()
}

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const ALT_NAMES: &str = "2.5.29.17";
const SUBJECT_KEY_ID: &str = "2.5.29.14";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";

#[test]
fn a_leaf_has_these_extensions_and_no_other() {
    let pki = Pki::new("td.test");
    let common = [
        (BASIC_CONSTRAINTS, true),
        (KEY_USAGE, true),
        (EXTENDED_KEY_USAGE, false),
        (ALT_NAMES, true),
        (AUTHORITY_KEY_ID, false),
        ("purpose", false),
    ];
    assert_eq!(extensions(&pki.node("a").chain()[0]), named(&common));
    let bound = [common.as_slice(), &[("binding", false)]].concat();
    assert_eq!(
        extensions(&pki.workload("web", "a").chain()[0]),
        named(&bound)
    );
}

#[test]
fn an_authority_has_these_extensions_and_no_name_constraints() {
    let pki = Pki::new("td.test");
    let expected = named(&[
        (BASIC_CONSTRAINTS, true),
        (KEY_USAGE, true),
        (ALT_NAMES, false),
        (SUBJECT_KEY_ID, false),
        (AUTHORITY_KEY_ID, false),
    ]);
    for (authority, path_length) in [(pki.root.certificate(), 1), (pki.issuing.certificate(), 0)] {
        assert_eq!(extensions(authority), expected);
        let parsed = parse(authority);
        let constraints = parsed.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca);
        assert_eq!(constraints.path_len_constraint, Some(path_length));
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        for extension in parsed.extensions() {
            let constrained = matches!(
                extension.parsed_extension(),
                ParsedExtension::NameConstraints(_)
            );
            assert!(
                !constrained,
                "rustls-webpki refuses chains with URI name constraints"
            );
        }
    }
}

#[test]
fn key_identifiers_chain() {
    let pki = Pki::new("td.test");
    let leaf = pki.node("a").chain()[0].clone();
    let own = |der: &CertificateDer<'_>| {
        parse(der).extensions().iter().find_map(|extension| {
            let parsed = extension.parsed_extension();
            if let ParsedExtension::SubjectKeyIdentifier(id) = parsed {
                Some(id.0.to_vec())
            } else {
                None
            }
        })
    };
    let issuer = |der: &CertificateDer<'_>| {
        parse(der).extensions().iter().find_map(|extension| {
            let parsed = extension.parsed_extension();
            if let ParsedExtension::AuthorityKeyIdentifier(id) = parsed {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            } else {
                None
            }
        })
    };
    assert_eq!(issuer(&leaf), own(pki.issuing.certificate()));
    assert_eq!(
        issuer(pki.issuing.certificate()),
        own(pki.root.certificate())
    );
    assert_eq!(issuer(pki.root.certificate()), own(pki.root.certificate()));
    assert_ne!(own(pki.issuing.certificate()), own(pki.root.certificate()));
}

#[test]
fn serials_are_positive_and_of_one_length() {
    let pki = Pki::new("td.test");
    let key = SvidKey::generate().unwrap();
    for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
        let id = pki.node_id("a");
        let spec = LeafSpec {
            serial: [byte; 16],
            ..pki.spec(&key, &id, Purpose::NodeAgent)
        };
        let chain = pki.issuing.issue_leaf(&spec).unwrap();
        let leaf = parse(&chain[0]);
        let serial = leaf.raw_serial();
        assert_eq!(serial.len(), 16);
        assert!((0x40..0x80).contains(&serial[0]));
        assert_eq!(serial[1..], [byte; 15]);
    }
}

#[test]
fn other_software_reads_the_authorities() {
    let pki = Pki::new("td.test");
    let key = rcgen::KeyPair::try_from(pki.issuing.pkcs8()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(pki.issuing.certificate(), key).unwrap();
    assert_eq!(issuer.key_usages().len(), 2);
    webpki::anchor_from_trusted_cert(pki.root.certificate()).unwrap();
}

#[test]
fn a_leaf_for_an_ed25519_key() {
    let pki = Pki::new("td.test");
    let key = ed25519();
    let spec = pki.spec(&key, &pki.node_id("a"), Purpose::NodeAgent);
    let chain = pki.issuing.issue_leaf(&spec).unwrap();
    assert_eq!(parse(&chain[0]).public_key().raw, key.spki());
}

#[test]
fn refusals() {
    let pki = Pki::new("td.test");
    let key = SvidKey::generate().unwrap();
    let node = pki.spec(&key, &pki.node_id("a"), Purpose::NodeAgent);
    let workload = LeafSpec {
        binding: Some(pki.binding("a")),
        ..pki.spec(&key, &pki.workload_id("web"), Purpose::AgentPlane)
    };
    pki.issuing.issue_leaf(&node).unwrap();
    pki.issuing.issue_leaf(&workload).unwrap();
    let refuse = |spec: LeafSpec| pki.issuing.issue_leaf(&spec).expect_err("refused");

    let foreign = SpiffeId::new("spiffe://other.test/node/a").unwrap();
    let error = refuse(LeafSpec {
        id: foreign,
        ..node.clone()
    });
    assert!(
        matches!(error, BuildError::ForeignTrustDomain { .. }),
        "{error}"
    );

    let error = refuse(LeafSpec {
        purpose: Purpose::IdentityService,
        ..node.clone()
    });
    assert!(
        matches!(error, BuildError::PurposeDoesNotFit { .. }),
        "{error}"
    );
    let error = refuse(LeafSpec {
        id: pki.node_id("a"),
        ..workload.clone()
    });
    assert!(
        matches!(error, BuildError::PurposeDoesNotFit { .. }),
        "{error}"
    );

    let error = refuse(LeafSpec {
        binding: None,
        ..workload.clone()
    });
    assert!(matches!(error, BuildError::BindingMissing(_)), "{error}");
    let error = refuse(LeafSpec {
        binding: Some(pki.binding("a")),
        ..node.clone()
    });
    assert!(
        matches!(error, BuildError::BindingUnexpected(Purpose::NodeAgent)),
        "{error}"
    );
    for uid in [String::new(), "u".repeat(129)] {
        let mut binding = pki.binding("a");
        binding.namespace_uid = uid;
        let error = refuse(LeafSpec {
            binding: Some(binding),
            ..workload.clone()
        });
        assert!(matches!(error, BuildError::BindingUid(_)), "{error}");
    }

    let error = refuse(LeafSpec {
        not_after: node.not_before,
        ..node.clone()
    });
    assert!(matches!(error, BuildError::EmptyValidity(_)), "{error}");
    let error = refuse(LeafSpec {
        not_after: at(50 * HOUR as i64 + 1),
        ..node.clone()
    });
    assert!(
        matches!(error, BuildError::OutlivesAuthority { .. }),
        "{error}"
    );
    pki.issuing
        .issue_leaf(&LeafSpec {
            not_after: at(50 * HOUR as i64),
            ..node
        })
        .unwrap();

    let error = pki
        .root
        .issue_intermediate(at(0), Duration::from_secs(101 * HOUR))
        .unwrap_err();
    assert!(
        matches!(error, BuildError::OutlivesAuthority { .. }),
        "{error}"
    );
    let error = RootAuthority::generate(&pki.trust_domain, at(0), Duration::MAX).unwrap_err();
    assert_eq!(error, BuildError::Date);
}

#[test]
fn authorities_come_back_from_storage() {
    let pki = Pki::new("td.test");
    let stored = (pki.root.certificate().clone(), pki.root.pkcs8().to_vec());
    let root = RootAuthority::from_parts(stored.0, &stored.1).unwrap();
    assert_eq!(root.trust_domain(), &pki.trust_domain);
    assert_eq!(root.not_after(), at(100 * HOUR as i64));
    root.issue_intermediate(at(0), Duration::from_secs(HOUR))
        .unwrap();

    let certificate = pki.issuing.certificate().clone();
    let issuing = IssuingAuthority::from_parts(certificate, pki.issuing.pkcs8()).unwrap();
    let key = SvidKey::generate().unwrap();
    issuing
        .issue_leaf(&pki.spec(&key, &pki.node_id("a"), Purpose::NodeAgent))
        .unwrap();
}

#[test]
fn storage_mixed_up_is_noticed() {
    let pki = Pki::new("td.test");
    let (root, issuing) = (&pki.root, &pki.issuing);
    let mixed = RootAuthority::from_parts(root.certificate().clone(), issuing.pkcs8());
    assert_eq!(mixed.unwrap_err(), BuildError::KeyMismatch);
    let wrong_kind = RootAuthority::from_parts(issuing.certificate().clone(), issuing.pkcs8());
    assert!(matches!(
        wrong_kind.unwrap_err(),
        BuildError::NotSuchAnAuthority(_)
    ));
    let wrong_kind = IssuingAuthority::from_parts(root.certificate().clone(), root.pkcs8());
    assert!(matches!(
        wrong_kind.unwrap_err(),
        BuildError::NotSuchAnAuthority(_)
    ));
    let leaf = pki.node("a");
    let no_authority = IssuingAuthority::from_parts(leaf.chain()[0].clone(), leaf.key().pkcs8());
    assert!(matches!(
        no_authority.unwrap_err(),
        BuildError::NotSuchAnAuthority(_)
    ));
    let junk = RootAuthority::from_parts(vec![0x30, 0].into(), root.pkcs8());
    assert!(matches!(junk.unwrap_err(), BuildError::Malformed(_)));
    assert!(RootAuthority::from_parts(root.certificate().clone(), b"junk").is_err());
}

#[test]
fn debug_shows_no_key() {
    let pki = Pki::new("td.test");
    let text = format!("{:?} {:?}", pki.root, pki.issuing);
    assert_eq!(text, "RootAuthority(td.test) IssuingAuthority(td.test)");
}

#[test]
fn a_long_trust_domain_fits() {
    let trust_domain = TrustDomain::new("t".repeat(255)).unwrap();
    let root = RootAuthority::generate(&trust_domain, at(0), Duration::from_secs(HOUR)).unwrap();
    let issuing = root
        .issue_intermediate(at(0), Duration::from_secs(HOUR))
        .unwrap();
    let key = SvidKey::generate().unwrap();
    let id = SpiffeId::node(&trust_domain, "a").unwrap();
    let spec = LeafSpec {
        public_key: csr::parse(&key.csr(&id).unwrap()).unwrap(),
        id,
        purpose: Purpose::NodeAgent,
        binding: None,
        not_before: at(0),
        not_after: at(60),
        serial: [1; 16],
    };
    issuing.issue_leaf(&spec).unwrap();
}
