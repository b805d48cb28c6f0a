use super::*;
use crate::x509::testing::Pki;

fn refused(pki: &Pki, authorities: Vec<CertificateDer<'static>>) -> BundleError {
    TrustBundle::new(pki.trust_domain.clone(), 1, authorities).expect_err("refused")
}

#[test]
fn pem_goes_both_ways() {
    let (one, two) = (Pki::new("td.test"), Pki::new("td.test"));
    let authorities = vec![
        one.root.certificate().clone(),
        two.root.certificate().clone(),
    ];
    let bundle = TrustBundle::new(one.trust_domain.clone(), 7, authorities).unwrap();
    let pem = bundle.to_pem();
    assert!(pem.lines().all(|line| line.len() <= 64));
    let read = TrustBundle::from_pem(one.trust_domain.clone(), 7, pem.as_bytes()).unwrap();
    assert_eq!(read, bundle);
    assert_eq!((read.sequence(), read.authorities().len()), (7, 2));
}

#[test]
fn pem_of_other_things_is_refused() {
    let pki = Pki::new("td.test");
    let from = |pem: &str| TrustBundle::from_pem(pki.trust_domain.clone(), 1, pem.as_bytes());
    assert_eq!(from(""), Err(BundleError::Empty));
    assert_eq!(from("hello"), Err(BundleError::Empty));
    let broken = pki.bundle.to_pem().replace("-----END", "-----DNE");
    assert!(matches!(from(&broken), Err(BundleError::Pem { .. })));
}

#[test]
fn size_is_limited() {
    let pki = Pki::new("td.test");
    assert_eq!(refused(&pki, Vec::new()), BundleError::Empty);
    let many = vec![pki.root.certificate().clone(); MAX_AUTHORITIES + 1];
    assert_eq!(
        refused(&pki, many),
        BundleError::TooMany {
            count: MAX_AUTHORITIES + 1
        }
    );
}

#[test]
fn only_signing_certificates_of_the_trust_domain_are_let_in() {
    let (pki, other) = (Pki::new("td.test"), Pki::new("other.test"));
    let good = pki.root.certificate().clone();

    let foreign = refused(&pki, vec![good.clone(), other.root.certificate().clone()]);
    assert!(
        matches!(foreign, BundleError::ForeignTrustDomain { index: 1, .. }),
        "{foreign}"
    );
    let leaf = refused(&pki, vec![pki.node("a").chain()[0].clone()]);
    assert!(
        matches!(leaf, BundleError::NotAnAuthority { index: 0, .. }),
        "{leaf}"
    );
    let junk = refused(&pki, vec![vec![0x30, 0].into()]);
    assert!(
        matches!(junk, BundleError::Malformed { index: 0, .. }),
        "{junk}"
    );
    let trailing = refused(&pki, vec![[&good, [0].as_slice()].concat().into()]);
    assert!(
        matches!(trailing, BundleError::Malformed { index: 0, .. }),
        "{trailing}"
    );
}

#[test]
fn x509_svid_3_2_id_of_a_signing_certificate() {
    let pki = Pki::new("td.test");
    let with = |uris: &[&str]| {
        let mut forger = pki.forger();
        forger.as_authority("spiffe://td.test", None);
        forger.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        TrustBundle::new(pki.trust_domain.clone(), 1, vec![forger.forge()])
    };
    with(&["spiffe://td.test"]).unwrap();
    with(&[]).unwrap();
    let path = with(&["spiffe://td.test/ca"]);
    assert!(
        matches!(path, Err(BundleError::NotAnAuthority { .. })),
        "{path:?}"
    );
    let two = with(&["spiffe://td.test", "spiffe://td.test"]);
    assert!(
        matches!(two, Err(BundleError::NotAnAuthority { .. })),
        "{two:?}"
    );
    let http = with(&["http://td.test"]);
    assert!(matches!(http, Err(BundleError::BadId { .. })), "{http:?}");
}

#[test]
fn x509_svid_4_3_a_signing_certificate_may_sign_certificates() {
    let pki = Pki::new("td.test");
    let mut forger = pki.forger();
    forger.as_authority("spiffe://td.test", None).key_usage = Some((true, 0x02));
    let error = refused(&pki, vec![forger.forge()]);
    assert!(
        matches!(error, BundleError::NotAnAuthority { .. }),
        "{error}"
    );
}

#[test]
fn x509_svid_4_1_a_signing_certificate_says_ca() {
    let pki = Pki::new("td.test");
    let mut forger = pki.forger();
    forger.as_authority("spiffe://td.test", None).authority = None;
    let error = refused(&pki, vec![forger.forge()]);
    let reason = "basic constraints do not say CA";
    assert_eq!(error, BundleError::NotAnAuthority { index: 0, reason });
}
