//! Peers that offer less than TLS 1.3 with X25519MLKEM768.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Setup;
use crate::tls::provider;
use crate::tls::testing::{Failure, connect};

/// Believes every server: what is tested here must not hang on the client's own care.
#[derive(Debug)]
pub(super) struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client of rustls's own making, that proves the client SVID of `setup`.
pub(super) fn plain_client(
    setup: &Setup,
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let svid = setup.client_svid.clone().unwrap();
    ClientConfig::builder_with_details(Arc::new(provider), Arc::new(setup.time.clone()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_cert_resolver(Arc::new(svid))
}

/// A server of rustls's own making, that asks for no certificate.
pub(super) fn plain_server(
    setup: &Setup,
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    ServerConfig::builder_with_details(Arc::new(provider), Arc::new(setup.time.clone()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(setup.server_svid.clone()))
}

fn with_groups(groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>) -> CryptoProvider {
    CryptoProvider {
        kx_groups: groups,
        ..default_provider()
    }
}

#[test]
fn these_plain_peers_connect_to_each_other() {
    let setup = Setup::new();
    let (tls12, x25519) = (default_provider(), with_groups(vec![kx_group::X25519]));
    for (provider, version) in [(tls12, &TLS12), (x25519, &TLS13)] {
        let client = plain_client(&setup, provider.clone(), version);
        let server = plain_server(&setup, provider, version);
        connect(&Arc::new(client), &Arc::new(server)).unwrap();
    }
}

#[test]
fn tls_1_2_client_is_refused() {
    let setup = Setup::new();
    let client = Arc::new(plain_client(&setup, default_provider(), &TLS12));
    match connect(&client, &setup.server()) {
        Err(Failure::Server(Error::PeerIncompatible(_))) => {}
        other => panic!("the server should have refused: {other:?}"),
    }
}

#[test]
fn tls_1_2_server_is_refused() {
    let setup = Setup::new();
    let server = Arc::new(plain_server(&setup, default_provider(), &TLS12));
    match connect(&setup.client(), &server) {
        Err(Failure::Server(Error::PeerIncompatible(_)) | Failure::Client(_)) => {}
        other => panic!("no TLS 1.2 connection should come about: {other:?}"),
    }
}

#[test]
fn client_without_x25519mlkem768_is_refused() {
    let setup = Setup::new();
    for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::MLKEM768] {
        let provider = with_groups(vec![group]);
        let client = Arc::new(plain_client(&setup, provider, &TLS13));
        match connect(&client, &setup.server()) {
            Err(Failure::Server(error)) => assert_eq!(
                error,
                Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon),
                "{group:?}"
            ),
            other => panic!("the server should have refused {group:?}: {other:?}"),
        }
    }
}

#[test]
fn server_without_x25519mlkem768_is_refused() {
    let setup = Setup::new();
    let server = plain_server(&setup, with_groups(vec![kx_group::X25519]), &TLS13);
    assert!(connect(&setup.client(), &Arc::new(server)).is_err());
}

#[test]
fn a_client_that_prefers_x25519_is_brought_to_x25519mlkem768() {
    let setup = Setup::new();
    let provider = with_groups(vec![kx_group::X25519, kx_group::X25519MLKEM768]);
    let client = Arc::new(plain_client(&setup, provider, &TLS13));
    let (client, _) = connect(&client, &setup.server()).unwrap();
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn aes_128_is_not_negotiated() {
    let setup = Setup::new();
    let mut only = default_provider();
    only.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let client = Arc::new(plain_client(&setup, only, &TLS13));
    assert!(connect(&client, &setup.server()).is_err());
}

#[test]
fn the_provider_holds_what_is_wanted_and_no_more() {
    let provider = provider();
    assert_eq!(provider.kx_groups.len(), 1);
    assert_eq!(
        provider.kx_groups[0].name(),
        rustls::NamedGroup::X25519MLKEM768
    );
    assert_eq!(provider.cipher_suites.len(), 2);
    assert!(
        provider
            .cipher_suites
            .iter()
            .all(|suite| suite.tls13().is_some())
    );
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    assert_eq!(schemes, crate::svid::SCHEMES);
}
