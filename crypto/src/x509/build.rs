//! Making certificates: a root, the issuing authorities under it, and leaves.

use std::time::Duration;
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::x509::csr::CsrPublicKey;
use crate::x509::profile::{Binding, Purpose};

/// What a leaf is to say.
#[derive(Debug, Clone)]
pub struct LeafSpec {
    /// Whose certificate.
    pub id: SpiffeId,
    /// For which key.
    pub public_key: CsrPublicKey,
    /// For what use.
    pub purpose: Purpose,
    /// For [`Purpose::AgentPlane`], and only there.
    pub binding: Option<Binding>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// 16 random bytes, unique per issuing authority.
    pub serial: [u8; 16],
}

/// A self-signed authority, the root of a trust domain.
pub struct RootAuthority { inner: Authority }
/// An authority under a root, which signs leaves and nothing else.
pub struct IssuingAuthority { inner: Authority }
struct Authority { trust_domain: TrustDomain, certificate: CertificateDer<'static>, pkcs8: Zeroizing<Vec<u8>>, not_after: UnixTime }

impl RootAuthority {
    /// A fresh root.
    ///
    /// # Errors
    /// When AWS-LC cannot make a key or sign.
    pub fn generate(trust_domain: &TrustDomain, now: UnixTime, lifetime: Duration) -> Result<Self, BuildError> { let _ = (trust_domain, now, lifetime); todo!() }
    /// A root from storage.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub fn from_parts(certificate: CertificateDer<'static>, pkcs8: &[u8]) -> Result<Self, BuildError> { let _ = (certificate, pkcs8); todo!() }
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain { &self.inner.trust_domain }
    /// The certificate, for the trust bundle.
    pub fn certificate(&self) -> &CertificateDer<'static> { &self.inner.certificate }
    /// The private key (PKCS#8), for storage.
    pub fn pkcs8(&self) -> &[u8] { &self.inner.pkcs8 }
    /// End of validity.
    pub fn not_after(&self) -> UnixTime { self.inner.not_after }
    /// A fresh issuing authority under this root.
    ///
    /// # Errors
    /// When it would outlive the root, or AWS-LC fails.
    pub fn issue_intermediate(&self, now: UnixTime, lifetime: Duration) -> Result<IssuingAuthority, BuildError> { let _ = (now, lifetime); todo!() }
}

impl IssuingAuthority {
    /// An issuing authority from storage.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub fn from_parts(certificate: CertificateDer<'static>, pkcs8: &[u8]) -> Result<Self, BuildError> { let _ = (certificate, pkcs8); todo!() }
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain { &self.inner.trust_domain }
    /// The certificate, which goes into each leaf's chain.
    pub fn certificate(&self) -> &CertificateDer<'static> { &self.inner.certificate }
    /// The private key (PKCS#8), for storage.
    pub fn pkcs8(&self) -> &[u8] { &self.inner.pkcs8 }
    /// End of validity.
    pub fn not_after(&self) -> UnixTime { self.inner.not_after }
    /// Signs a leaf; the chain comes back leaf first, without the root.
    ///
    /// # Errors
    /// When the leaf would break a rule of [`crate::x509`], or outlive this authority.
    pub fn issue_leaf(&self, spec: &LeafSpec) -> Result<Vec<CertificateDer<'static>>, BuildError> { let _ = spec; todo!() }
}

/// Why a certificate is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// AWS-LC could not make a key, or sign.
    #[error("AWS-LC could not {0}")]
    Crypto(&'static str),
}
