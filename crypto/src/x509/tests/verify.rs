//! Each clause of X509-SVID that binds a validator, and each rule Signet adds, with a certificate
//! that passes and one that does not.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::bundle::TrustBundle;
use crate::spiffe_id::SpiffeIdError;
use crate::x509::build::{RootAuthority, binding_extension, purpose_extension};
use crate::x509::der::{ENUMERATED, sequence, tlv};
use crate::x509::profile::Purpose;
use crate::x509::template::{
    CLIENT_AUTH, Extension, KEY_USAGE_CERT_SIGN, KEY_USAGE_CRL_SIGN, KEY_USAGE_DIGITAL_SIGNATURE,
    SERVER_AUTH, distinguished_name,
};
use crate::x509::testing::{Forger, HOUR, Pki, at, ed25519};
use crate::x509::verify::{Expect, Usage, VerifiedSvid, VerifyError, verify};

fn check(pki: &Pki, chain: &[CertificateDer<'_>]) -> Result<VerifiedSvid, VerifyError> {
    verify(chain, &pki.bundle, at(0), &Expect::any(Usage::Either))
}

/// Checks a leaf that is good but for what `spoil` does to it.
fn forged(spoil: impl FnOnce(&Pki, &mut Forger)) -> Result<VerifiedSvid, VerifyError> {
    let pki = Pki::new("td.test");
    let mut forger = pki.forger();
    spoil(&pki, &mut forger);
    check(&pki, &[forger.forge(), pki.issuing.certificate().clone()])
}

fn refused(spoil: impl FnOnce(&Pki, &mut Forger)) -> VerifyError {
    forged(spoil).expect_err("a spoiled certificate passed")
}

fn intermediate_refused(spoil: impl FnOnce(&Pki, &mut Forger)) -> VerifyError {
    let pki = Pki::new("td.test");
    let mut authority = pki.forger();
    authority
        .as_authority("spiffe://td.test", Some(0))
        .signed_by(pki.root.certificate(), pki.root.pkcs8());
    let key = authority.key.clone();
    spoil(&pki, &mut authority);
    let authority = authority.forge();
    let leaf = pki.forger().signed_by(&authority, key.pkcs8()).forge();
    check(&pki, &[leaf, authority]).expect_err("a spoiled authority passed")
}

#[test]
fn what_the_forger_starts_from_passes() {
    let svid = forged(|_, _| {}).unwrap();
    assert_eq!(svid.id.as_str(), "spiffe://td.test/ns/shop/sa/web");
    assert_eq!(svid.purpose, Purpose::AgentPlane);
    assert_eq!(svid.serial, [0x41; 16]);
    assert_eq!(
        (svid.not_before, svid.not_after),
        (at(-60), at(HOUR as i64))
    );

    let pki = Pki::new("td.test");
    let mut authority = pki.forger();
    authority
        .as_authority("spiffe://td.test", Some(0))
        .signed_by(pki.root.certificate(), pki.root.pkcs8());
    let key = authority.key.clone();
    let authority = authority.forge();
    let leaf = pki.forger().signed_by(&authority, key.pkcs8()).forge();
    check(&pki, &[leaf, authority]).unwrap();
}

#[test]
fn x509_svid_2_exactly_one_uri_name() {
    assert_eq!(
        refused(|_, leaf| leaf.uris.clear()),
        VerifyError::UriNames(0)
    );
    let second = |_: &Pki, leaf: &mut Forger| leaf.uris.push("spiffe://td.test/b".to_owned());
    assert_eq!(refused(second), VerifyError::UriNames(2));
    let twice = |_: &Pki, leaf: &mut Forger| leaf.uris.push(leaf.uris[0].clone());
    assert_eq!(refused(twice), VerifyError::UriNames(2));
    let other = |_: &Pki, leaf: &mut Forger| leaf.uris.push("https://td.test/".to_owned());
    assert_eq!(refused(other), VerifyError::UriNames(2));
}

#[test]
fn x509_svid_2_names_of_other_types_are_allowed() {
    let dns = |_: &Pki, leaf: &mut Forger| leaf.other_names.push(tlv(0x82, &[b"web.shop"]));
    forged(dns).unwrap();
}

#[test]
fn x509_svid_3_1_leaf_has_a_path() {
    let root = |_: &Pki, leaf: &mut Forger| leaf.uris = vec!["spiffe://td.test".to_owned()];
    assert!(matches!(refused(root), VerifyError::NoPath(_)));
    let slash = |_: &Pki, leaf: &mut Forger| leaf.uris = vec!["spiffe://td.test/".to_owned()];
    assert_eq!(
        refused(slash),
        VerifyError::BadId(SpiffeIdError::EmptySegment)
    );
}

#[test]
fn x509_svid_3_1_names_are_critical_where_the_subject_is_empty() {
    assert_eq!(
        refused(|_, leaf| leaf.names_critical = false),
        VerifyError::NamesNotCritical
    );
    let with_subject = |_: &Pki, leaf: &mut Forger| {
        leaf.names_critical = false;
        leaf.subject = distinguished_name("web");
    };
    forged(with_subject).unwrap();
}

#[test]
fn x509_svid_3_2_signing_certificate_has_no_path() {
    let error = intermediate_refused(|_, ca| ca.uris = vec!["spiffe://td.test/ca".to_owned()]);
    assert_eq!(
        error,
        VerifyError::Intermediate {
            index: 1,
            reason: "its SPIFFE ID has a path"
        }
    );
}

#[test]
fn x509_svid_3_2_signing_certificate_is_of_the_trust_domain() {
    let error = intermediate_refused(|_, ca| ca.uris = vec!["spiffe://other.test".to_owned()]);
    let reason = "it is of another trust domain";
    assert_eq!(error, VerifyError::Intermediate { index: 1, reason });
    let error = intermediate_refused(|_, ca| ca.uris.push("spiffe://other.test".to_owned()));
    let reason = "it has more than one URI name";
    assert_eq!(error, VerifyError::Intermediate { index: 1, reason });
}

#[test]
fn x509_svid_3_2_signing_certificate_must_not_authenticate() {
    let pki = Pki::new("td.test");
    let chain = [pki.issuing.certificate().clone()];
    assert_eq!(check(&pki, &chain), Err(VerifyError::LeafIsAuthority));
    let chain = [pki.root.certificate().clone()];
    assert_eq!(check(&pki, &chain), Err(VerifyError::LeafIsAuthority));
}

#[test]
fn x509_svid_4_1_leaf_is_no_authority() {
    assert_eq!(
        refused(|_, leaf| leaf.authority = Some(None)),
        VerifyError::LeafIsAuthority
    );
}

#[test]
fn x509_svid_4_1_signing_certificate_is_an_authority() {
    let reason = "CA is not true";
    let error = intermediate_refused(|_, ca| ca.authority = None);
    assert_eq!(error, VerifyError::Intermediate { index: 1, reason });
}

#[test]
fn x509_svid_4_1_path_length_is_kept() {
    let pki = Pki::new("td.test");
    let mut rogue = pki.forger();
    rogue.as_authority("spiffe://td.test", None);
    let key = rogue.key.clone();
    let rogue = rogue.forge();
    let leaf = pki.forger().signed_by(&rogue, key.pkcs8()).forge();
    let chain = [leaf, rogue, pki.issuing.certificate().clone()];
    assert!(
        matches!(check(&pki, &chain), Err(VerifyError::Path(_))),
        "issuing has path length 0"
    );
}

#[test]
fn x509_svid_4_3_key_usage_of_a_leaf() {
    let with = |usage| refused(move |_, leaf| leaf.key_usage = usage);
    let signature = KEY_USAGE_DIGITAL_SIGNATURE;
    assert_eq!(with(None), VerifyError::KeyUsage("missing"));
    assert_eq!(
        with(Some((false, signature))),
        VerifyError::KeyUsage("not marked critical")
    );
    let lacking = VerifyError::KeyUsage("digitalSignature is not set");
    assert_eq!(with(Some((true, 0x20))), lacking);
    let signs = VerifyError::KeyUsage("keyCertSign or cRLSign is set");
    assert_eq!(with(Some((true, signature | KEY_USAGE_CERT_SIGN))), signs);
    assert_eq!(with(Some((true, signature | KEY_USAGE_CRL_SIGN))), signs);

    const KEY_ENCIPHERMENT_AND_AGREEMENT: u8 = 0x28;
    let more = signature | KEY_ENCIPHERMENT_AND_AGREEMENT;
    forged(|_, leaf| leaf.key_usage = Some((true, more))).unwrap();
}

#[test]
fn x509_svid_4_3_key_usage_of_a_signing_certificate() {
    let reason = "keyCertSign is not set, or key usage is not critical";
    for usage in [
        None,
        Some((true, KEY_USAGE_CRL_SIGN)),
        Some((false, KEY_USAGE_CERT_SIGN)),
    ] {
        let error = intermediate_refused(|_, ca| ca.key_usage = usage);
        assert_eq!(
            error,
            VerifyError::Intermediate { index: 1, reason },
            "{usage:?}"
        );
    }
}

#[test]
fn x509_svid_4_4_extended_key_usage_has_both_or_is_absent() {
    for one in [SERVER_AUTH, CLIENT_AUTH] {
        let error = refused(|_, leaf| leaf.extended = Some(vec![one]));
        assert_eq!(error, VerifyError::ExtendedKeyUsage);
    }
    forged(|_, leaf| leaf.extended = None).unwrap();
}

#[test]
fn x509_svid_5_1_rfc_5280_unknown_critical_extension_is_refused() {
    let unknown = |critical| Extension {
        oid: vec![0x2a, 0x03, 0x04],
        critical,
        value: sequence::<&[u8]>(&[]),
    };
    assert!(matches!(
        refused(|_, leaf| leaf.more.push(unknown(true))),
        VerifyError::Path(_)
    ));
    forged(|_, leaf| leaf.more.push(unknown(false))).unwrap();
}

#[test]
fn x509_svid_5_1_rfc_5280_no_extension_twice() {
    let again = |_: &Pki, leaf: &mut Forger| {
        leaf.more.push(purpose_extension(Purpose::NodeAgent));
    };
    assert!(matches!(
        refused(again),
        VerifyError::Malformed { index: 0, .. }
    ));
    let names = |_: &Pki, leaf: &mut Forger| {
        leaf.more
            .push(Extension::uri_names(true, &["spiffe://td.test/b"]));
    };
    assert!(matches!(
        refused(names),
        VerifyError::Malformed { index: 0, .. }
    ));
}

#[test]
fn x509_svid_5_1_extension_that_does_not_parse_is_not_taken_for_absent() {
    const NOT_A_SEQUENCE: [u8; 3] = [0x02, 0x01, 0x05];
    let error = refused(|_, leaf| leaf.raw_constraints = Some(NOT_A_SEQUENCE.to_vec()));
    assert!(
        matches!(error, VerifyError::Malformed { index: 0, .. }),
        "{error}"
    );
    let error = intermediate_refused(|_, ca| ca.raw_constraints = Some(NOT_A_SEQUENCE.to_vec()));
    assert!(
        matches!(error, VerifyError::Malformed { index: 1, .. }),
        "{error}"
    );
}

#[test]
fn x509_svid_5_2_scheme_is_spiffe() {
    let http = |_: &Pki, leaf: &mut Forger| leaf.uris = vec!["http://td.test/a".to_owned()];
    assert_eq!(refused(http), VerifyError::BadId(SpiffeIdError::Scheme));
}

#[test]
fn identity_is_that_of_certificate_0_alone() {
    let pki = Pki::new("td.test");
    let mallory = pki.workload("mallory", "a");
    let victim = pki.workload("victim", "b");
    let issuing = pki.issuing.certificate();
    let leaf = |svid: &crate::svid::X509Svid| svid.chain()[0].clone();

    let honest = [leaf(&mallory), issuing.clone()];
    assert_eq!(check(&pki, &honest).unwrap().id, *mallory.id());

    let reason = "CA is not true";
    let appended = [leaf(&mallory), issuing.clone(), leaf(&victim)];
    assert_eq!(
        check(&pki, &appended),
        Err(VerifyError::Intermediate { index: 2, reason })
    );
    let inserted = [leaf(&mallory), leaf(&victim), issuing.clone()];
    assert_eq!(
        check(&pki, &inserted),
        Err(VerifyError::Intermediate { index: 1, reason })
    );
}

#[test]
fn a_leaf_cannot_issue() {
    let pki = Pki::new("td.test");
    let mallory = pki.workload("mallory", "a");
    let issuer = &mallory.chain()[0];
    let mut forger = pki.forger();
    forger.signed_by(issuer, mallory.key().pkcs8());
    let chain = [
        forger.forge(),
        issuer.clone(),
        pki.issuing.certificate().clone(),
    ];
    let error = VerifyError::Intermediate {
        index: 1,
        reason: "CA is not true",
    };
    assert_eq!(check(&pki, &chain), Err(error));
    assert_eq!(
        check(&pki, &[chain[0].clone(), chain[2].clone()]),
        Err(VerifyError::UnknownIssuer)
    );
}

#[test]
fn only_the_trust_domains_own_bundle_vouches() {
    let (ours, other) = (Pki::new("td.test"), Pki::new("other.test"));
    let theirs = other.workload("web", "a");
    let error = check(&ours, theirs.chain()).unwrap_err();
    assert!(
        matches!(error, VerifyError::ForeignTrustDomain { .. }),
        "{error}"
    );
    check(&other, theirs.chain()).unwrap();

    // Their authority writes our name: it has our trust domain, and nobody to vouch for it.
    let mut forger = ours.forger();
    forger.signed_by(other.issuing.certificate(), other.issuing.pkcs8());
    let leaf = forger.forge();
    let reason = "it is of another trust domain";
    assert_eq!(
        check(&ours, &[leaf.clone(), other.issuing.certificate().clone()]),
        Err(VerifyError::Intermediate { index: 1, reason })
    );
    assert_eq!(
        check(&ours, std::slice::from_ref(&leaf)),
        Err(VerifyError::UnknownIssuer)
    );
    let error = check(&other, &[leaf, other.issuing.certificate().clone()]).unwrap_err();
    assert!(
        matches!(error, VerifyError::ForeignTrustDomain { .. }),
        "{error}"
    );
}

#[test]
fn an_authority_of_the_same_name_but_another_key_is_unknown() {
    let (ours, impostor) = (Pki::new("td.test"), Pki::new("td.test"));
    let svid = impostor.workload("web", "a");
    assert_eq!(check(&ours, svid.chain()), Err(VerifyError::UnknownIssuer));
    assert_eq!(
        check(&ours, &svid.chain()[..1]),
        Err(VerifyError::UnknownIssuer)
    );
}

#[test]
fn an_authority_that_left_the_bundle_vouches_no_more() {
    let (old, new) = (Pki::new("td.test"), Pki::new("td.test"));
    let svid = old.workload("web", "a");
    let roots = vec![
        new.root.certificate().clone(),
        old.root.certificate().clone(),
    ];
    let expect = Expect::any(Usage::Either);
    let with = |authorities| TrustBundle::new(old.trust_domain.clone(), 2, authorities).unwrap();
    verify(svid.chain(), &with(roots.clone()), at(0), &expect).unwrap();
    let without = with(vec![roots[0].clone()]);
    assert_eq!(
        verify(svid.chain(), &without, at(0), &expect),
        Err(VerifyError::UnknownIssuer)
    );
}

#[test]
fn validity_is_checked_at_the_time_that_is_passed_in() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let expect = Expect::any(Usage::Either);
    let at_time = |seconds| verify(svid.chain(), &pki.bundle, at(seconds), &expect);
    let end = HOUR as i64;
    at_time(-60).unwrap();
    at_time(end).unwrap();
    let (not_before, not_after) = (at(-60).as_secs(), at(end).as_secs());
    let early = VerifyError::NotYetValid {
        not_before,
        now: not_before - 1,
    };
    assert_eq!(at_time(-61), Err(early));
    let late = VerifyError::Expired {
        not_after,
        now: not_after + 1,
    };
    assert_eq!(at_time(end + 1), Err(late));
}

#[test]
fn an_authority_whose_time_has_not_come_vouches_for_nothing() {
    let pki = Pki::new("td.test");
    let mut forger = pki.forger();
    forger.not_before = at(-1000);
    let chain = [forger.forge(), pki.issuing.certificate().clone()];
    let expect = Expect::any(Usage::Either);
    verify(&chain, &pki.bundle, at(-60), &expect).unwrap();
    assert!(verify(&chain, &pki.bundle, at(-61), &expect).is_err());

    let mut leaf = pki.forger();
    leaf.signed_by(pki.root.certificate(), pki.root.pkcs8());
    leaf.not_before = at(-1000);
    let leaf = [leaf.forge()];
    verify(&leaf, &pki.bundle, at(-60), &expect).unwrap();
    assert_eq!(
        verify(&leaf, &pki.bundle, at(-61), &expect),
        Err(VerifyError::UnknownIssuer)
    );
}

#[test]
fn an_expired_authority_vouches_for_nothing() {
    let expect = Expect::any(Usage::Either);
    let pki = Pki::new("td.test");
    let mut forger = pki.forger();
    forger.not_after = at(1000 * HOUR as i64);
    let chain = [forger.forge(), pki.issuing.certificate().clone()];
    let seen = verify(&chain, &pki.bundle, at(50 * HOUR as i64), &expect).unwrap();
    assert_eq!(
        seen.not_after,
        pki.issuing.not_after(),
        "no longer than who vouches for it"
    );
    let after_issuing = verify(&chain, &pki.bundle, at(51 * HOUR as i64), &expect);
    assert!(
        matches!(after_issuing, Err(VerifyError::Expired { .. })),
        "{after_issuing:?}"
    );

    let short = RootAuthority::generate(&pki.trust_domain, at(0), Duration::from_secs(60)).unwrap();
    let authorities = vec![short.certificate().clone()];
    let bundle = TrustBundle::new(pki.trust_domain.clone(), 1, authorities).unwrap();
    let leaf = [pki
        .forger()
        .signed_by(short.certificate(), short.pkcs8())
        .forge()];
    let seen = verify(&leaf, &bundle, at(60), &expect).unwrap();
    assert_eq!(seen.not_after, at(60), "no longer than the root either");
    assert_eq!(
        verify(&leaf, &bundle, at(61), &expect),
        Err(VerifyError::UnknownIssuer)
    );
}

#[test]
fn purpose_is_there_known_and_fits() {
    let with = |extension| refused(move |_, leaf| leaf.purpose = extension);
    let raw = |value: Vec<u8>| {
        let mut extension = purpose_extension(Purpose::AgentPlane);
        extension.value = value;
        Some(extension)
    };
    assert_eq!(with(None), VerifyError::PurposeExtension("missing"));
    let unknown = VerifyError::PurposeExtension("unknown");
    assert_eq!(with(raw(tlv(ENUMERATED, &[[0]]))), unknown);
    assert_eq!(with(raw(tlv(ENUMERATED, &[[5]]))), unknown);
    let malformed = VerifyError::PurposeExtension("malformed");
    assert_eq!(with(raw(tlv(ENUMERATED, &[[0, 3]]))), malformed);
    assert_eq!(with(raw(vec![0x0a, 1, 3, 0])), malformed);
    assert_eq!(with(raw(vec![0x02, 1, 3])), malformed);
    for purpose in [Purpose::NodeAgent, Purpose::IdentityService] {
        let error = with(Some(purpose_extension(purpose)));
        assert!(
            matches!(error, VerifyError::PurposeDoesNotFit { .. }),
            "{error}"
        );
    }
}

#[test]
fn binding_is_there_exactly_where_it_belongs() {
    let missing = refused(|_, leaf| leaf.binding = None);
    assert_eq!(missing, VerifyError::BindingExtension("missing"));
    let out_of_place =
        refused(|_, leaf| leaf.purpose = Some(purpose_extension(Purpose::WorkloadApi)));
    assert_eq!(out_of_place, VerifyError::BindingExtension("out of place"));
    let malformed = refused(|pki, leaf| {
        let mut extension = binding_extension(&pki.binding("a"));
        extension.value.push(0);
        leaf.binding = Some(extension);
    });
    assert_eq!(malformed, VerifyError::BindingExtension("malformed"));
}

#[test]
fn keys_are_p256_or_ed25519() {
    forged(|_, leaf| leaf.key = ed25519()).unwrap();
    use rcgen::PublicKeyData;
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let spki = p384.subject_public_key_info();
    assert_eq!(
        refused(|_, leaf| leaf.spki = Some(spki)),
        VerifyError::UnsupportedKey
    );
}

#[test]
fn sizes_are_limited() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let issuing = pki.issuing.certificate();
    assert_eq!(check(&pki, &[]), Err(VerifyError::NoCertificate));

    let mut chain = svid.chain().to_vec();
    chain.extend([issuing.clone(), issuing.clone()]);
    check(&pki, &chain).unwrap();
    chain.push(issuing.clone());
    assert_eq!(
        check(&pki, &chain),
        Err(VerifyError::ChainTooLong { length: 5 })
    );

    let with_extensions = |count| {
        forged(move |_, leaf| {
            let extension = |number| Extension {
                oid: vec![0x2a, 0x03, number],
                critical: false,
                value: sequence::<&[u8]>(&[]),
            };
            leaf.more = (0..count).map(extension).collect();
        })
    };
    with_extensions(26).unwrap();
    assert!(matches!(
        with_extensions(27),
        Err(VerifyError::Malformed { index: 0, .. })
    ));

    let huge = CertificateDer::from(vec![0x30; 8193]);
    let error = VerifyError::CertificateTooLong { length: 8193 };
    assert_eq!(check(&pki, &[svid.chain()[0].clone(), huge]), Err(error));
}

#[test]
fn bytes_after_a_certificate_are_refused() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    for index in 0..2 {
        let mut chain = svid.chain().to_vec();
        chain[index] = [&chain[index], [0].as_slice()].concat().into();
        let error = check(&pki, &chain).unwrap_err();
        assert!(matches!(error, VerifyError::Malformed { index: found, .. } if found == index));
    }
}

#[test]
fn no_bit_of_a_leaf_can_change() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let [leaf, issuing] = svid.chain() else {
        panic!("two certificates")
    };
    for position in 0..leaf.len() {
        for bit in 0..8 {
            let mut bytes = leaf.to_vec();
            bytes[position] ^= 1 << bit;
            let chain = [CertificateDer::from(bytes), issuing.clone()];
            assert!(check(&pki, &chain).is_err(), "byte {position} bit {bit}");
        }
    }
}

#[test]
fn a_leaf_cut_short_or_of_junk_is_an_error_and_no_panic() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let [leaf, issuing] = svid.chain() else {
        panic!("two certificates")
    };
    for length in 0..leaf.len() {
        let chain = [
            CertificateDer::from(leaf[..length].to_vec()),
            issuing.clone(),
        ];
        assert!(check(&pki, &chain).is_err(), "cut to {length}");
    }
}
