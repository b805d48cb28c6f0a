//! The rustls configurations.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::CertificateDer;

use super::verifier::{ExpectPeer, HANDSHAKE_ALGORITHMS, PeerVerifier};
use super::{SvidStore, TrustStore};
use crate::time::TimeSource;
use crate::x509::verify::{Expect, VerifiedSvid, VerifyError, verify};

/// What a server asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no handshake.
    Required(ExpectPeer),
    /// A client may come without a certificate; one that has one must prove it. For attestation,
    /// where the node has none yet: each call then checks for itself who is asking.
    Optional(ExpectPeer),
}

/// AWS-LC with two TLS 1.3 suites, X25519MLKEM768 and nothing else.
///
/// The group is named here because rustls would otherwise also negotiate plain X25519.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![kx_group::X25519MLKEM768],
        signature_verification_algorithms: HANDSHAKE_ALGORITHMS,
        ..default_provider()
    })
}

/// A client that proves `svid` (if it has one) and demands `expect` of the server.
///
/// The server name given to rustls is neither sent nor checked: identity is the SPIFFE ID.
///
/// # Errors
/// When rustls refuses the configuration.
pub fn client_config(
    trust: &TrustStore,
    svid: Option<&SvidStore>,
    expect: ExpectPeer,
    time: &TimeSource,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, ConfigError> {
    client_config_with(provider(), trust, svid, expect, time, alpn)
}

pub(super) fn client_config_with(
    provider: Arc<CryptoProvider>,
    trust: &TrustStore,
    svid: Option<&SvidStore>,
    expect: ExpectPeer,
    time: &TimeSource,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, ConfigError> {
    let verifier = PeerVerifier::of_server(trust.clone(), time.clone(), expect);
    let builder = ClientConfig::builder_with_details(provider, Arc::new(time.clone()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match svid {
        Some(svid) => builder.with_client_cert_resolver(Arc::new(svid.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// A server that proves `svid` and demands `auth` of its clients.
///
/// # Errors
/// When rustls refuses the configuration.
pub fn server_config(
    trust: &TrustStore,
    svid: &SvidStore,
    auth: ClientAuth,
    time: &TimeSource,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let (expect, required) = match auth {
        ClientAuth::Required(expect) => (expect, true),
        ClientAuth::Optional(expect) => (expect, false),
    };
    let verifier = PeerVerifier::of_client(trust.clone(), time.clone(), expect, required);
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(time.clone()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(svid.clone()));
    config.alpn_protocols = protocols(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(Arc::new(config))
}

/// Checks the certificates a connection presented once more, for what one call demands of its
/// caller, or to learn who it is.
///
/// # Errors
/// As [`crate::x509::verify::verify`]; no certificates count as [`VerifyError::NoCertificate`].
pub fn peer_svid(
    presented: Option<&[CertificateDer<'_>]>,
    trust: &TrustStore,
    time: &TimeSource,
    expect: &Expect,
) -> Result<VerifiedSvid, VerifyError> {
    verify(
        presented.unwrap_or_default(),
        &trust.load(),
        time.now().wall,
        expect,
    )
}

/// Refuses a connection on which `protocol` was not negotiated: rustls lets a peer that says nothing
/// of ALPN pass.
///
/// # Errors
/// When another protocol, or none, was negotiated.
pub fn require_alpn(connection: &CommonState, protocol: &[u8]) -> Result<(), ConfigError> {
    match connection.alpn_protocol() {
        Some(found) if found == protocol => Ok(()),
        found => Err(ConfigError::Alpn {
            found: found.map(|name| name.escape_ascii().to_string()),
            expected: protocol.escape_ascii().to_string(),
        }),
    }
}

/// What is wrong with a TLS set-up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// rustls refused.
    #[error("rustls refuses the configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The peer speaks another protocol, or named none.
    #[error("peer negotiated ALPN {found:?}, not {expected:?}; is something else on this port?")]
    Alpn {
        /// What was negotiated.
        found: Option<String>,
        /// What was demanded.
        expected: String,
    },
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
