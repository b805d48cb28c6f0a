use rustls::server::Acceptor;
use rustls::{
    CertificateError, ClientConnection, CommonState, Error, HandshakeKind, NamedGroup,
    ProtocolVersion,
};

use super::{Setup, reason};
use crate::svid::X509Svid;
use crate::tls::testing::{ALPN, clock, connect};
use crate::tls::{
    ClientAuth, ConfigError, ExpectPeer, SvidStore, TrustStore, client_config, peer_svid,
    require_alpn,
};
use crate::x509::profile::Purpose;
use crate::x509::testing::{HOUR, PRESENT, Pki};
use crate::x509::verify::{Expect, Usage, VerifyError};

#[test]
fn both_ends_learn_who_the_other_is() {
    let setup = Setup::new();
    let (client, server) = setup.connect().unwrap();
    let ends: [&CommonState; 2] = [&client, &server];
    for connection in ends {
        assert_eq!(
            connection.protocol_version(),
            Some(ProtocolVersion::TLSv1_3)
        );
        let group = connection.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        require_alpn(connection, ALPN).unwrap();
    }
    let peer = |presented, usage| {
        peer_svid(
            presented,
            &setup.client_trust,
            &setup.time,
            &Expect::any(usage),
        )
        .unwrap()
    };
    assert_eq!(
        peer(client.peer_certificates(), Usage::Server).id,
        setup.pki.node_id("b")
    );
    assert_eq!(
        peer(server.peer_certificates(), Usage::Client).id,
        setup.pki.node_id("a")
    );
}

#[test]
fn a_client_without_certificate_is_refused() {
    let mut setup = Setup::new();
    setup.client_svid = None;
    assert_eq!(setup.client_refused(), Error::NoCertificatesPresented);
}

#[test]
fn where_certificates_are_optional_one_that_is_shown_must_hold() {
    let optional = ClientAuth::Optional(ExpectPeer::Purpose(Purpose::NodeAgent));
    let mut setup = Setup::new();
    setup.server_asks = optional.clone();
    let (_, server) = setup.connect().unwrap();
    assert!(server.peer_certificates().is_some());

    setup.client_svid = None;
    let (_, server) = setup.connect().unwrap();
    assert!(server.peer_certificates().is_none());
    let nobody = peer_svid(
        server.peer_certificates(),
        &setup.server_trust,
        &setup.time,
        &Expect::any(Usage::Client),
    );
    assert_eq!(nobody, Err(VerifyError::NoCertificate));

    let mut setup = Setup::with_client(|pki| pki.workload("web", "a"));
    setup.server_asks = optional;
    assert!(matches!(
        reason(&setup.client_refused()),
        VerifyError::WrongPurpose { .. }
    ));
}

#[test]
fn wrong_purpose_is_refused_by_both_ends() {
    let spoils: [fn(&Pki) -> X509Svid; 3] = [
        |pki| pki.workload("web", "a"),
        |pki| pki.workload_api("web"),
        Pki::identity_service,
    ];
    for spoil in spoils {
        let error = Setup::with_client(spoil).client_refused();
        assert!(
            matches!(reason(&error), VerifyError::WrongPurpose { .. }),
            "{error}"
        );
        let error = Setup::with_server(spoil).server_refused();
        assert!(
            matches!(reason(&error), VerifyError::WrongPurpose { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_expected_id_is_exact() {
    let mut setup = Setup::new();
    setup.client_expects = ExpectPeer::Id(setup.pki.node_id("b"));
    setup.server_asks = ClientAuth::Required(ExpectPeer::Id(setup.pki.node_id("a")));
    setup.connect().unwrap();

    setup.server_asks = ClientAuth::Required(ExpectPeer::Id(setup.pki.node_id("c")));
    assert!(matches!(
        reason(&setup.client_refused()),
        VerifyError::WrongId { .. }
    ));
    setup.client_expects = ExpectPeer::Id(setup.pki.node_id("c"));
    assert!(matches!(
        reason(&setup.server_refused()),
        VerifyError::WrongId { .. }
    ));
}

#[test]
fn another_trust_domain_is_refused_by_both_ends() {
    let other = Pki::new("other.test");
    let mut setup = Setup::with_client(|_| other.node("a"));
    let error = setup.client_refused();
    assert!(
        matches!(reason(&error), VerifyError::ForeignTrustDomain { .. }),
        "{error}"
    );
    setup.client_svid = Some(SvidStore::new(setup.pki.node("a")));
    setup.server_svid = SvidStore::new(other.node("b"));
    let error = setup.server_refused();
    assert!(
        matches!(reason(&error), VerifyError::ForeignTrustDomain { .. }),
        "{error}"
    );
}

#[test]
fn another_authority_of_the_same_trust_domain_is_refused() {
    let impostor = Pki::new("td.test");
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(
        Setup::with_client(|_| impostor.node("a")).client_refused(),
        unknown
    );
    assert_eq!(
        Setup::with_server(|_| impostor.node("b")).server_refused(),
        unknown
    );
}

#[test]
fn an_expired_certificate_is_refused_by_the_anchored_clock() {
    let setup = Setup::new();
    setup.connect().unwrap();
    setup.time.anchor((PRESENT + HOUR) * 1000);
    setup.connect().unwrap();
    setup.time.anchor((PRESENT + HOUR + 1) * 1000);
    let expired = Error::InvalidCertificate(CertificateError::Expired);
    assert_eq!(setup.server_refused(), expired);

    // The server renews; now the client's is the one that is too old.
    let mut setup = setup;
    let mut forger = setup.pki.forger();
    forger.uris = vec![setup.pki.node_id("b").to_string()];
    forger.purpose = Some(crate::x509::build::purpose_extension(Purpose::NodeAgent));
    forger.binding = None;
    forger.not_after = crate::x509::testing::at(2 * HOUR as i64);
    let key = forger.key.clone();
    let chain = vec![forger.forge(), setup.pki.issuing.certificate().clone()];
    setup.server_svid = SvidStore::new(X509Svid::new(chain, key).unwrap());
    assert_eq!(setup.client_refused(), expired);
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    use std::sync::Arc;

    #[derive(Debug)]
    struct Stolen(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Stolen {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
        fn has_certs(&self) -> bool {
            true
        }
    }

    let setup = Setup::new();
    let (victim, mallory) = (setup.pki.node("a"), setup.pki.node("m"));
    let key = Arc::clone(&mallory.certified_key().key);
    let stolen = rustls::sign::CertifiedKey::new(victim.chain().to_vec(), key);
    let mut client = (*setup.client()).clone();
    client.client_auth_cert_resolver = Arc::new(Stolen(Arc::new(stolen)));
    match connect(&Arc::new(client), &setup.server()) {
        Err(crate::tls::testing::Failure::Server(error)) => {
            assert_eq!(
                error,
                Error::InvalidCertificate(CertificateError::BadSignature)
            );
        }
        other => panic!("the server should have refused: {other:?}"),
    }
}

#[test]
fn the_server_name_is_not_sent() {
    let setup = Setup::new();
    let name = "node-b.internal".try_into().unwrap();
    let mut client = ClientConnection::new(setup.client(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut bytes.as_slice()).unwrap();
    let accepted = acceptor
        .accept()
        .unwrap_or_else(|(error, _)| panic!("{error}"))
        .unwrap();
    assert_eq!(accepted.client_hello().server_name(), None);
    assert!(accepted.client_hello().alpn().unwrap().eq([ALPN]));
}

#[test]
fn another_protocol_is_refused() {
    let setup = Setup::new();
    let with = |alpn: &[&[u8]]| {
        let expect = setup.client_expects.clone();
        let svid = setup.client_svid.as_ref();
        let client = client_config(&setup.client_trust, svid, expect, &setup.time, alpn).unwrap();
        connect(&client, &setup.server())
    };
    with(&[ALPN]).unwrap();
    assert!(with(&[b"h2"]).is_err());

    let (client, server) = with(&[]).unwrap();
    let ends: [&CommonState; 2] = [&client, &server];
    for connection in ends {
        let expected = "signet/1".to_owned();
        let error = require_alpn(connection, ALPN).unwrap_err();
        assert_eq!(
            error,
            ConfigError::Alpn {
                found: None,
                expected
            }
        );
    }
}

#[test]
fn an_ed25519_svid_connects() {
    let mut setup = Setup::new();
    let key = crate::x509::testing::ed25519();
    let spec = setup
        .pki
        .spec(&key, &setup.pki.node_id("a"), Purpose::NodeAgent);
    let chain = setup.pki.issuing.issue_leaf(&spec).unwrap();
    setup.client_svid = Some(SvidStore::new(X509Svid::new(chain, key).unwrap()));
    setup.connect().unwrap();
}

#[test]
fn attestation_is_by_the_identity_services_id() {
    let pki = Pki::new("td.test");
    let trust = TrustStore::new(pki.bundle.clone());
    let id = crate::spiffe_id::SpiffeId::identity_service(&pki.trust_domain);
    let client = client_config(&trust, None, ExpectPeer::Id(id), &clock(), &[b"h2"]).unwrap();
    let ask = ClientAuth::Optional(ExpectPeer::Purpose(Purpose::NodeAgent));
    let serve = |svid| {
        let svid = SvidStore::new(svid);
        crate::tls::server_config(&trust, &svid, ask.clone(), &clock(), &[b"h2"]).unwrap()
    };
    connect(&client, &serve(pki.identity_service())).unwrap();
    assert!(
        connect(&client, &serve(pki.node("a"))).is_err(),
        "a node is not the service"
    );
}
