//! X.509-SVIDs: a private key, and the chain that says whose it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::spiffe_id::SpiffeId;
use crate::x509::der::{SET, explicit, oid, sequence, tlv, unsigned};
use crate::x509::profile::sha256;
use crate::x509::template::{Extension, empty_name, signed};
use crate::x509::verify::uri_names;

mod statement;

pub use statement::verify_statement;

/// The schemes an SVID's key may sign with, in TLS and in exported authenticators.
pub(crate) const SCHEMES: [SignatureScheme; 2] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
];

/// A private key of an SVID: ECDSA P-256 (what we make) or Ed25519 (also accepted). Cheap to clone.
#[derive(Clone)]
pub struct SvidKey {
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    signing: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    spki: Arc<[u8]>,
}

impl SvidKey {
    /// A fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When AWS-LC cannot make one.
    pub fn generate() -> Result<Self, SvidError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| SvidError::Crypto("make a key"))?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key from its PKCS#8 encoding (DER).
    ///
    /// # Errors
    /// When it is neither ECDSA P-256 nor Ed25519.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SvidError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let signing = any_supported_type(&der).map_err(|_| SvidError::UnsupportedKey)?;
        let scheme = SCHEMES
            .into_iter()
            .find(|scheme| signing.choose_scheme(&[*scheme]).is_some())
            .ok_or(SvidError::UnsupportedKey)?;
        let spki = signing.public_key().ok_or(SvidError::UnsupportedKey)?;
        Ok(Self {
            pkcs8: Arc::new(Zeroizing::new(pkcs8.to_vec())),
            scheme,
            spki: spki.as_ref().into(),
            signing,
        })
    }

    /// The PKCS#8 encoding (DER), for storage with mode 0600 or delivery over the Workload API.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A PKCS#10 request (DER) for this key, naming `id`.
    ///
    /// # Errors
    /// When AWS-LC cannot sign.
    pub fn csr(&self, id: &SpiffeId) -> Result<Vec<u8>, SvidError> {
        let names = Extension::uri_names(true, &[id.as_str()]).encode();
        let request = sequence(&[oid(EXTENSION_REQUEST), tlv(SET, &[sequence(&[names])])]);
        self.csr_with(&request)
    }

    /// A PKCS#10 request (DER) that names nobody: for a node that is told its ID by the answer.
    ///
    /// # Errors
    /// When AWS-LC cannot sign.
    pub fn anonymous_csr(&self) -> Result<Vec<u8>, SvidError> {
        self.csr_with(&[])
    }

    /// The public key as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.spki.to_vec()
    }

    pub(crate) fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SvidError> {
        let signer = self.signing.choose_scheme(&[self.scheme]);
        let signature = signer.and_then(|signer| signer.sign(message).ok());
        signature.ok_or(SvidError::Crypto("sign"))
    }

    /// DER AlgorithmIdentifier of [`SvidKey::sign`] (RFC 5758 section 3.2, RFC 8410 section 3).
    pub(crate) fn signature_algorithm(&self) -> &'static [u8] {
        if self.scheme == SignatureScheme::ED25519 {
            &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]
        } else {
            &[
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
            ]
        }
    }

    fn csr_with(&self, attributes: &[u8]) -> Result<Vec<u8>, SvidError> {
        let content = [
            unsigned(&[0]),
            empty_name(),
            self.spki(),
            explicit(0, attributes),
        ]
        .concat();
        signed(sequence(&[content]), self)
    }
}

impl fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SvidKey(..)")
    }
}

/// PKCS#9 extensionRequest.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

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
    pub fn new(chain: Vec<CertificateDer<'static>>, key: SvidKey) -> Result<Self, SvidError> {
        let der = chain.first().ok_or(SvidError::EmptyChain)?;
        let sha256 = sha256(der);
        let (id, not_before, not_after, for_this_key) = {
            let (_, leaf) = X509Certificate::from_der(der)
                .map_err(|error| SvidError::Malformed(error.to_string()))?;
            let validity = leaf.validity();
            (
                single_id(&leaf)?,
                unix_time(validity.not_before.timestamp()),
                unix_time(validity.not_after.timestamp()),
                leaf.public_key().raw == key.spki.as_ref(),
            )
        };
        if !for_this_key {
            return Err(SvidError::KeyMismatch(id));
        }
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&key.signing)));
        Ok(Self {
            id,
            key,
            not_before,
            not_after,
            sha256,
            certified,
        })
    }

    /// Whose SVID this is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The private key.
    pub fn key(&self) -> &SvidKey {
        &self.key
    }

    /// Start of the leaf's validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// End of the leaf's validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// SHA-256 of the leaf.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// SHA-256 of the leaf in lower-case hex, as audit records name it.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .field("sha256", &self.sha256_hex())
            .finish_non_exhaustive()
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
    /// The certificate's key did not sign this statement.
    #[error("certificate's key did not sign this")]
    BadStatement,
}

fn single_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = uri_names(leaf).map_err(|error| SvidError::Malformed(error.to_string()))?;
    let [name] = names.as_slice() else {
        return Err(SvidError::BadId(format!(
            "it has {} URI names",
            names.len()
        )));
    };
    SpiffeId::new(*name).map_err(|error| SvidError::BadId(error.to_string()))
}

/// Times before 1970 do not exist for us.
pub(crate) fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
