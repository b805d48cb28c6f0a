//! Certificate requests as they come in: the public key, and proof that the asker holds its other
//! half.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::keys::KeyKind;
use super::profile::sha256;
use crate::spiffe_id::SpiffeId;

/// The largest request, in bytes. One with a SPIFFE ID of full length stays well below.
pub const MAX_CSR_LENGTH: usize = 8192;

/// A public key whose private half the asker has proven to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrPublicKey {
    spki: Vec<u8>,
    requested_id: Option<SpiffeId>,
}

impl CsrPublicKey {
    /// The key as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`CsrPublicKey::spki`].
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// The SPIFFE ID the request names, if any: a wish, which grants nothing.
    pub fn requested_id(&self) -> Option<&SpiffeId> {
        self.requested_id.as_ref()
    }
}

/// Parses a PKCS#10 request (DER) and checks its signature with the key inside.
///
/// # Errors
/// When it is too long, does not parse, is for a key we do not certify, names more than one ID or a
/// bad one, or is not signed by its own key.
pub fn parse(der: &[u8]) -> Result<CsrPublicKey, CsrError> {
    if der.len() > MAX_CSR_LENGTH {
        return Err(CsrError::TooLong { length: der.len() });
    }
    let malformed = |reason: String| CsrError::Malformed(reason);
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|error| malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after the request".to_owned()));
    }
    let spki = &request.certification_request_info.subject_pki;
    let kind = KeyKind::of_spki(spki).ok_or(CsrError::UnsupportedKey)?;
    let requested_id = requested_id(&request)?;

    if !kind.signs_with(&request.signature_algorithm) {
        return Err(CsrError::BadSignature);
    }
    kind.verify(
        &spki.subject_public_key.data,
        request.certification_request_info.raw,
        &request.signature_value.data,
    )
    .map_err(|_| CsrError::BadSignature)?;
    Ok(CsrPublicKey {
        spki: spki.raw.to_vec(),
        requested_id,
    })
}

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`MAX_CSR_LENGTH`].
    #[error("certificate request is {length} bytes long; at most {MAX_CSR_LENGTH} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
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

fn requested_id(request: &X509CertificationRequest<'_>) -> Result<Option<SpiffeId>, CsrError> {
    let mut found = None;
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            let GeneralName::URI(uri) = name else {
                continue;
            };
            let id = SpiffeId::new(*uri).map_err(|error| CsrError::BadId(error.to_string()))?;
            if found.replace(id).is_some() {
                return Err(CsrError::BadId("there is more than one".to_owned()));
            }
        }
    }
    Ok(found)
}
