//! The authorities of one trust domain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::svid::unix_time;
use crate::x509::verify::uri_names;

/// The largest bundle, in authorities. A rotation needs three (old, active, prepared).
pub const MAX_AUTHORITIES: usize = 32;

/// The authorities of one trust domain, as of one sequence number.
///
/// Bundles of several trust domains are never merged into one pool: an authority of one domain would
/// then vouch for the identities of every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    sequence: u64,
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<Anchor>,
}

/// An authority as path building wants it, with the validity that path building leaves to us.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    anchor: TrustAnchor<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl TrustBundle {
    /// A bundle of DER certificates, in the order given.
    ///
    /// # Errors
    /// When there is none or too many, one does not parse or is no signing certificate, or one
    /// names another trust domain.
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        if authorities.is_empty() {
            return Err(BundleError::Empty);
        }
        if authorities.len() > MAX_AUTHORITIES {
            return Err(BundleError::TooMany {
                count: authorities.len(),
            });
        }
        let anchors = authorities
            .iter()
            .enumerate()
            .map(|(index, authority)| anchor(&trust_domain, index, authority))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            trust_domain,
            sequence,
            authorities,
            anchors,
        })
    }

    /// Reads a bundle from concatenated PEM `CERTIFICATE` sections.
    ///
    /// # Errors
    /// As [`TrustBundle::new`], or when the PEM is broken.
    pub fn from_pem(
        trust_domain: TrustDomain,
        sequence: u64,
        pem: &[u8],
    ) -> Result<Self, BundleError> {
        let authorities = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BundleError::Pem {
                reason: error.to_string(),
            })?;
        Self::new(trust_domain, sequence, authorities)
    }

    /// The bundle as concatenated PEM `CERTIFICATE` sections.
    pub fn to_pem(&self) -> String {
        self.authorities
            .iter()
            .map(|authority| certificate_pem(authority))
            .collect()
    }

    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Grows with each change; a holder refuses a lower one.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The authorities' certificates.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The end of an authority's validity; of the longest, if its key is certified more than once.
    pub(crate) fn end_of(&self, authority: &TrustAnchor<'_>) -> Option<UnixTime> {
        let same = self.anchors.iter().filter(|held| held.anchor == *authority);
        same.map(|held| held.not_after).max()
    }

    /// The authorities within their validity.
    pub(crate) fn anchors_at(&self, now: UnixTime) -> impl Iterator<Item = &TrustAnchor<'static>> {
        let valid = move |anchor: &&Anchor| anchor.not_before <= now && now <= anchor.not_after;
        self.anchors
            .iter()
            .filter(valid)
            .map(|anchor| &anchor.anchor)
    }
}

/// One certificate as a PEM section, with a line feed at its end.
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// Why some certificates are not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No authority at all: nobody could ever be believed.
    #[error("trust bundle has no certificate")]
    Empty,
    /// More than [`MAX_AUTHORITIES`].
    #[error("trust bundle has {count} certificates; at most {MAX_AUTHORITIES} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Broken PEM.
    #[error("trust bundle is not PEM: {reason}")]
    Pem {
        /// What the parser says.
        reason: String,
    },
    /// Not an X.509 certificate.
    #[error("certificate {index} of the trust bundle does not parse: {reason}")]
    Malformed {
        /// Position in the bundle, from 0.
        index: usize,
        /// What the parser says.
        reason: String,
    },
    /// Not a signing certificate.
    #[error("certificate {index} of the trust bundle is not a signing certificate: {reason}")]
    NotAnAuthority {
        /// Position in the bundle, from 0.
        index: usize,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Names a trust domain other than the bundle's.
    #[error("certificate {index} of the trust bundle names {found}, not {expected}")]
    ForeignTrustDomain {
        /// Position in the bundle, from 0.
        index: usize,
        /// The ID in the certificate.
        found: String,
        /// The bundle's trust domain.
        expected: TrustDomain,
    },
    /// Carries a URI that is no SPIFFE ID.
    #[error("certificate {index} of the trust bundle has a bad SPIFFE ID: {source}")]
    BadId {
        /// Position in the bundle, from 0.
        index: usize,
        /// What is wrong with it.
        source: SpiffeIdError,
    },
}

fn anchor(
    trust_domain: &TrustDomain,
    index: usize,
    authority: &CertificateDer<'_>,
) -> Result<Anchor, BundleError> {
    let malformed = |reason: String| BundleError::Malformed { index, reason };
    let not_an_authority = |reason| BundleError::NotAnAuthority { index, reason };

    let (rest, certificate) =
        X509Certificate::from_der(authority).map_err(|error| malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after the certificate".to_owned()));
    }
    if !certificate.is_ca() {
        return Err(not_an_authority("basic constraints do not say CA"));
    }
    let usage = certificate
        .key_usage()
        .map_err(|error| malformed(error.to_string()))?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(not_an_authority("key usage lacks keyCertSign"));
    }

    let names = uri_names(&certificate).map_err(|error| malformed(error.to_string()))?;
    match names.as_slice() {
        // X509-SVID section 3.2: a signing certificate SHOULD itself be an SVID, and need not.
        [] => {}
        [name] => check_authority_id(trust_domain, index, name)?,
        [_, _, ..] => return Err(not_an_authority("it has more than one URI name")),
    }
    let anchor = webpki::anchor_from_trusted_cert(authority)
        .map_err(|error| malformed(error.to_string()))?
        .to_owned();
    let validity = certificate.validity();
    Ok(Anchor {
        anchor,
        not_before: unix_time(validity.not_before.timestamp()),
        not_after: unix_time(validity.not_after.timestamp()),
    })
}

fn check_authority_id(
    trust_domain: &TrustDomain,
    index: usize,
    name: &str,
) -> Result<(), BundleError> {
    let id = SpiffeId::new(name).map_err(|source| BundleError::BadId { index, source })?;
    if !id.path().is_empty() {
        return Err(BundleError::NotAnAuthority {
            index,
            reason: "its SPIFFE ID has a path",
        });
    }
    if id.trust_domain() != trust_domain {
        return Err(BundleError::ForeignTrustDomain {
            index,
            found: id.to_string(),
            expected: trust_domain.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
