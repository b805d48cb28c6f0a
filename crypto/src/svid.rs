//! X.509-SVIDs: a private key, and the chain that says whose it is.

use std::fmt;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::spiffe_id::SpiffeId;

/// A private key of an SVID: ECDSA P-256 (what we make) or Ed25519 (also accepted).
#[derive(Clone)]
pub struct SvidKey {
    pkcs8: Zeroizing<Vec<u8>>,
    signing: Arc<dyn SigningKey>,
}

impl SvidKey {
    /// A fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When AWS-LC cannot make one.
    pub fn generate() -> Result<Self, SvidError> { todo!() }

    /// A key from its PKCS#8 encoding.
    ///
    /// # Errors
    /// When it is neither ECDSA P-256 nor Ed25519.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SvidError> { let _ = pkcs8; todo!() }

    /// The PKCS#8 encoding, for storage with mode 0600 or delivery over the Workload API.
    pub fn pkcs8(&self) -> &[u8] { &self.pkcs8 }

    /// A PKCS#10 request (DER) for this key, naming `id`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn csr(&self, id: &SpiffeId) -> Result<Vec<u8>, SvidError> { let _ = id; todo!() }

    /// A PKCS#10 request (DER) that names nobody: for a node that is told its name by the answer.
    ///
    /// # Errors
    /// When signing fails.
    pub fn anonymous_csr(&self) -> Result<Vec<u8>, SvidError> { todo!() }

    /// The public key as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> { todo!() }
}

impl fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SvidKey(..)")
    }
}

/// An X.509-SVID with its private key. Cheap to clone.
#[derive(Clone)]
pub struct X509Svid {
    id: SpiffeId,
    key: SvidKey,
    not_before: UnixTime,
    not_after: UnixTime,
    sha256: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl X509Svid {
    /// Puts a chain (leaf first, root left out) and its key together.
    ///
    /// # Errors
    /// When the leaf does not parse, bears no single SPIFFE ID, or is not for this key. Whether
    /// anybody believes the chain is for [`crate::x509::verify::verify`] to say.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: SvidKey) -> Result<Self, SvidError> { let _ = (chain, key); todo!() }

    /// Whose SVID this is.
    pub fn id(&self) -> &SpiffeId { &self.id }
    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] { &self.certified.cert }
    /// The private key.
    pub fn key(&self) -> &SvidKey { &self.key }
    /// Start of the leaf's validity.
    pub fn not_before(&self) -> UnixTime { self.not_before }
    /// End of the leaf's validity.
    pub fn not_after(&self) -> UnixTime { self.not_after }
    /// SHA-256 of the leaf.
    pub fn sha256(&self) -> [u8; 32] { self.sha256 }
    /// SHA-256 of the leaf in lower-case hex, as audit records name it.
    pub fn sha256_hex(&self) -> String { hex::encode(self.sha256) }
    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> { &self.certified }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is wrong with a key or an SVID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// AWS-LC could not make a key, or sign.
    #[error("AWS-LC could not {0}")]
    Crypto(&'static str),
    /// Neither ECDSA P-256 nor Ed25519 PKCS#8.
    #[error("private key is neither ECDSA P-256 nor Ed25519 in PKCS#8")]
    UnsupportedKey,
    /// No certificate in the chain.
    #[error("certificate chain is empty")]
    EmptyChain,
    /// The leaf does not parse.
    #[error("leaf certificate does not parse: {0}")]
    Malformed(String),
    /// The leaf has not exactly one URI name, or that is no SPIFFE ID.
    #[error("leaf certificate has no single SPIFFE ID: {0}")]
    BadId(String),
    /// The leaf certifies another key.
    #[error("leaf certificate of {0} is for another private key")]
    KeyMismatch(SpiffeId),
}
