//! The rustls configurations.
use std::sync::Arc;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig, CommonState};
use rustls_pki_types::CertificateDer;
use crate::spiffe_id::SpiffeId;
use crate::time::TimeSource;
use crate::x509::profile::Purpose;
use crate::x509::verify::{Expect, VerifiedSvid, VerifyError};
use super::{SvidStore, TrustStore};

/// Whom a TLS peer must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectPeer {
    /// Exactly this identity.
    Id(SpiffeId),
    /// Anybody with this purpose.
    Purpose(Purpose),
}

/// What a server asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no handshake.
    Required(ExpectPeer),
    /// A client may come without; one that has a certificate must prove it. For attestation, where
    /// the node has none yet: each call then checks for itself who is asking.
    Optional(ExpectPeer),
}

/// AWS-LC with TLS 1.3 suites only and X25519MLKEM768 only.
pub fn provider() -> Arc<CryptoProvider> { todo!() }

/// A client that proves `svid` (if any) and demands `expect` of the server. The server name given
/// to rustls is not used: identity is the SPIFFE ID.
///
/// # Errors
/// When rustls refuses the configuration.
pub fn client_config(trust: &TrustStore, svid: Option<&SvidStore>, expect: ExpectPeer, time: &TimeSource, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, ConfigError> { let _ = (trust, svid, expect, time, alpn); todo!() }

/// A server that proves `svid` and demands `auth` of its clients.
///
/// # Errors
/// When rustls refuses the configuration.
pub fn server_config(trust: &TrustStore, svid: &SvidStore, auth: ClientAuth, time: &TimeSource, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, ConfigError> { let _ = (trust, svid, auth, time, alpn); todo!() }

/// Checks the certificates a connection presented (again), for what a call demands of its caller.
///
/// # Errors
/// As [`crate::x509::verify::verify`]; no certificates count as [`VerifyError::NoCertificate`].
pub fn peer_svid(presented: Option<&[CertificateDer<'_>]>, trust: &TrustStore, time: &TimeSource, expect: &Expect) -> Result<VerifiedSvid, VerifyError> { let _ = (presented, trust, time, expect); todo!() }

/// Refuses a connection on which `protocol` was not negotiated: rustls lets a peer without ALPN pass.
///
/// # Errors
/// When another protocol, or none, was negotiated.
pub fn require_alpn(connection: &CommonState, protocol: &[u8]) -> Result<(), ConfigError> { let _ = (connection, protocol); todo!() }

/// What is wrong with a TLS set-up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// rustls refused.
    #[error("rustls refuses the configuration: {0}")]
    Rustls(String),
    /// The peer speaks another protocol.
    #[error("peer negotiated ALPN {found:?}, not {expected:?}; is something else on this port?")]
    Alpn {
        /// What was negotiated.
        found: Option<String>,
        /// What was asked.
        expected: String },
}
