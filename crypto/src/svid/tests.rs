use super::*;
use crate::x509::testing::{HOUR, Pki, at, ed25519};

#[test]
fn an_svid_knows_what_its_leaf_says() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    assert_eq!(svid.id(), &pki.workload_id("web"));
    assert_eq!(
        (svid.not_before(), svid.not_after()),
        (at(-60), at(HOUR as i64))
    );
    assert_eq!(svid.chain().len(), 2);
    assert_eq!(svid.sha256(), sha256(&svid.chain()[0]));
    assert_eq!(svid.sha256_hex(), hex::encode(sha256(&svid.chain()[0])));
}

#[test]
fn chain_and_key_must_belong_together() {
    let pki = Pki::new("td.test");
    let svid = pki.node("a");
    let other = SvidKey::generate().unwrap();
    assert_eq!(
        X509Svid::new(svid.chain().to_vec(), other).unwrap_err(),
        SvidError::KeyMismatch(svid.id().clone())
    );
    let key = || svid.key().clone();
    assert_eq!(
        X509Svid::new(Vec::new(), key()).unwrap_err(),
        SvidError::EmptyChain
    );
    let junk = vec![vec![0x30, 0].into()];
    assert!(matches!(
        X509Svid::new(junk, key()).unwrap_err(),
        SvidError::Malformed(_)
    ));

    let mut forger = pki.forger();
    forger.uris.push("spiffe://td.test/b".to_owned());
    let key = forger.key.clone();
    assert!(matches!(
        X509Svid::new(vec![forger.forge()], key).unwrap_err(),
        SvidError::BadId(_)
    ));
}

#[test]
fn keys_come_back_from_pkcs8() {
    for key in [SvidKey::generate().unwrap(), ed25519()] {
        let again = SvidKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.spki(), key.spki());
        assert_eq!(again.scheme(), key.scheme());
    }
    assert_ne!(
        SvidKey::generate().unwrap().spki(),
        SvidKey::generate().unwrap().spki()
    );
}

#[test]
fn other_keys_are_refused() {
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let error = SvidKey::from_pkcs8(&p384.serialize_der()).unwrap_err();
    assert_eq!(error, SvidError::UnsupportedKey);
    assert_eq!(
        SvidKey::from_pkcs8(b"junk").unwrap_err(),
        SvidError::UnsupportedKey
    );
}

#[test]
fn debug_shows_no_key() {
    let svid = Pki::new("td.test").node("a");
    assert_eq!(format!("{:?}", svid.key()), "SvidKey(..)");
    let shown = format!("{svid:?}");
    assert!(shown.contains("spiffe://td.test/node/a"), "{shown}");
    assert!(!shown.contains("key"), "{shown}");
}
