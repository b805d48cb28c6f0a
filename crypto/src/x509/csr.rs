//! Certificate requests as they come in: the public key, and proof that the asker holds its other half.

use crate::spiffe_id::SpiffeId;

/// A public key whose private half the asker has proven to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrPublicKey {
    spki: Vec<u8>,
    requested_id: Option<SpiffeId>,
}

impl CsrPublicKey {
    /// The key as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] { &self.spki }
    /// SHA-256 of [`CsrPublicKey::spki`].
    pub fn spki_sha256(&self) -> [u8; 32] { crate::x509::profile::sha256(&self.spki) }
    /// The SPIFFE ID the request names, if any: a wish, which grants nothing.
    pub fn requested_id(&self) -> Option<&SpiffeId> { self.requested_id.as_ref() }
}

/// Parses a PKCS#10 request (DER) and checks its signature.
///
/// # Errors
/// Says what is wrong with the request.
pub fn parse(der: &[u8]) -> Result<CsrPublicKey, CsrError> { let _ = der; todo!() }

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Larger than allowed.
    #[error("certificate request is {length} bytes long; at most {max} are allowed")]
    TooLong { 
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize },
    /// Not PKCS#10.
    #[error("certificate request does not parse: {0}")]
    Malformed(String),
    /// A key that is neither ECDSA P-256 nor Ed25519.
    #[error("certificate request is for a key other than ECDSA P-256 or Ed25519")]
    UnsupportedKey,
    /// Not signed by the key it is for.
    #[error("certificate request is not signed by the key it is for")]
    BadSignature,
    /// More than one URI, or one that is no SPIFFE ID.
    #[error("certificate request names a bad SPIFFE ID: {0}")]
    BadId(String),
}
