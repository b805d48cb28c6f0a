//! RFC 9261 exported authenticators.
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;
use crate::bundle::TrustBundle;
use crate::svid::X509Svid;
use crate::x509::verify::{Expect, VerifiedSvid, VerifyError};
pub use super::exporter::Role;
use super::exporter::{ChannelSecrets, ExportError, SuiteHash};

/// The two exporter values that authenticators of one role on one channel hang on.
pub struct Secrets { role: Role, hash: SuiteHash, handshake_context: Zeroizing<Vec<u8>>, finished_key: Zeroizing<Vec<u8>> }

impl Secrets {
    /// For authenticators made by `prover`, on `channel`.
    ///
    /// # Errors
    /// As [`ChannelSecrets::export`].
    pub fn from_channel(channel: &dyn ChannelSecrets, prover: Role) -> Result<Self, ExportError> { let _ = (channel, prover); todo!() }
}

/// An authenticator request: 32 bytes that the verifier chose and never uses again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request { 
    /// certificate_request_context
    pub context: [u8; 32] }

/// Proves `svid` in answer to `request`.
///
/// # Errors
/// When signing fails.
pub fn create(secrets: &Secrets, request: &Request, svid: &X509Svid) -> Result<Vec<u8>, AuthenticatorError> { let _ = (secrets, request, svid, secrets.role, secrets.hash, &secrets.handshake_context, &secrets.finished_key); todo!() }
/// Declines `request`, provably: an authenticator without certificate.
///
/// # Errors
/// When the MAC cannot be made.
pub fn refuse(secrets: &Secrets, request: &Request) -> Result<Vec<u8>, AuthenticatorError> { let _ = (secrets, request); todo!() }
/// Checks an authenticator.
///
/// # Errors
/// Names the first check that fails.
pub fn verify(secrets: &Secrets, request: &Request, authenticator: &[u8], bundle: &TrustBundle, now: UnixTime, expect: &Expect) -> Result<VerifiedSvid, AuthenticatorError> { let _ = (secrets, request, authenticator, bundle, now, expect); todo!() }

/// Why an authenticator proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticatorError {
    /// The peer declined.
    #[error("peer declined to authenticate")]
    Refused,
    /// Does not parse.
    #[error("authenticator is malformed: {0}")]
    Malformed(&'static str),
    /// Not for this channel, role and request, or altered.
    #[error("authenticator is not for this channel, role and request")]
    Finished,
    /// The chain is not believed.
    #[error("authenticator's certificate is refused: {0}")]
    Certificate(#[from] VerifyError),
    /// Not signed by the certificate's key.
    #[error("authenticator is not signed by the key of its certificate")]
    Signature,
    /// This end could not sign.
    #[error("authenticator could not be made: {0}")]
    Create(&'static str),
}
