//! Checking certificate chains.

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::bundle::TrustBundle;
use crate::spiffe_id::SpiffeId;
use crate::x509::profile::{Binding, Purpose};

/// Which side of a connection the certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS client authentication.
    Client,
    /// TLS server authentication.
    Server,
    /// Both, as X509-SVID wants.
    Either,
}

/// What the caller demands of a peer beyond a valid chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Exactly this ID.
    pub id: Option<SpiffeId>,
    /// Exactly this purpose.
    pub purpose: Option<Purpose>,
    /// Bound to this node.
    pub node: Option<SpiffeId>,
    /// For this side of a connection.
    pub usage: Usage,
}

/// What a checked leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSvid {
    /// Whose.
    pub id: SpiffeId,
    /// For what use.
    pub purpose: Purpose,
    /// To what it is tied; always there for agent-plane certificates.
    pub binding: Option<Binding>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity of the leaf.
    pub not_after: UnixTime,
    /// Serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of the leaf.
    pub cert_sha256: [u8; 32],
}

/// Checks `chain` (leaf first) against one trust domain's authorities at `now`.
///
/// # Errors
/// Names the first rule that is broken.
pub fn verify(chain: &[CertificateDer<'_>], bundle: &TrustBundle, now: UnixTime, expect: &Expect) -> Result<VerifiedSvid, VerifyError> { let _ = (chain, bundle, now, expect); todo!() }

/// Why a chain is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No certificate at all.
    #[error("no certificate was presented")]
    NoCertificate,
}

/// The URI names of a certificate.
pub(crate) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, X509Error> {
    let mut uris = Vec::new();
    for name in certificate.subject_alternative_name()?.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name {
            uris.push(*uri);
        }
    }
    Ok(uris)
}
