use rustls::{CertificateError, Error};

use super::Setup;
use crate::bundle::TrustBundle;
use crate::tls::{StoreError, SvidStore, TrustStore};
use crate::x509::testing::Pki;

fn bundle(pki: &Pki, sequence: u64, roots: &[&Pki]) -> TrustBundle {
    let authorities = roots
        .iter()
        .map(|pki| pki.root.certificate().clone())
        .collect();
    TrustBundle::new(pki.trust_domain.clone(), sequence, authorities).unwrap()
}

#[test]
fn the_next_handshake_uses_the_swapped_bundle() {
    let setup = Setup::new();
    let successor = Pki::new("td.test");
    let (client, server) = (setup.client(), setup.server());
    let connect = || crate::tls::testing::connect(&client, &server);
    connect().unwrap();
    setup
        .server_trust
        .swap(bundle(&setup.pki, 2, &[&setup.pki, &successor]))
        .unwrap();
    connect().unwrap();
    setup
        .server_trust
        .swap(bundle(&setup.pki, 3, &[&successor]))
        .unwrap();
    match connect() {
        Err(crate::tls::testing::Failure::Server(error)) => {
            assert_eq!(
                error,
                Error::InvalidCertificate(CertificateError::UnknownIssuer)
            );
        }
        other => panic!("the server should have refused: {other:?}"),
    }
}

#[test]
fn the_next_handshake_shows_the_swapped_svid() {
    let setup = Setup::new();
    let (client, server) = (setup.client(), setup.server());
    let shown = || {
        let (client, server) = crate::tls::testing::connect(&client, &server).unwrap();
        let leaf = |certificates: Option<&[rustls_pki_types::CertificateDer<'static>]>| {
            certificates.unwrap()[0].clone()
        };
        (
            leaf(server.peer_certificates()),
            leaf(client.peer_certificates()),
        )
    };
    let before = shown();
    let (a, b) = (setup.pki.node("a"), setup.pki.node("b"));
    setup.client_svid.as_ref().unwrap().swap(a.clone()).unwrap();
    setup.server_svid.swap(b.clone()).unwrap();
    let after = shown();
    assert_eq!(after, (a.chain()[0].clone(), b.chain()[0].clone()));
    assert_ne!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

#[test]
fn a_bundle_never_goes_back() {
    let (pki, other) = (Pki::new("td.test"), Pki::new("other.test"));
    let store = TrustStore::new(bundle(&pki, 5, &[&pki]));
    let clone = store.clone();
    store.swap(bundle(&pki, 5, &[&pki])).unwrap();
    assert_eq!(
        store.swap(bundle(&pki, 4, &[&pki])),
        Err(StoreError::Rollback { found: 4, held: 5 })
    );
    assert_eq!(
        store.swap(bundle(&pki, 5, &[&Pki::new("td.test")])),
        Err(StoreError::Fork { sequence: 5 })
    );
    let foreign = store.swap(bundle(&other, 6, &[&other]));
    assert!(matches!(foreign, Err(StoreError::TrustDomain { .. })));
    assert_eq!(clone.load().sequence(), 5);
    store.swap(bundle(&pki, 6, &[&pki])).unwrap();
    assert_eq!(clone.load().sequence(), 6, "clones share the bundle");
}

#[test]
fn an_svid_store_keeps_its_identity() {
    let pki = Pki::new("td.test");
    let store = SvidStore::new(pki.node("a"));
    let refused = store.swap(pki.node("b"));
    assert!(matches!(refused, Err(StoreError::Identity { .. })));
    assert_eq!(store.load().id(), &pki.node_id("a"));
}
