//! Checking certificate chains: RFC 5280 path validation by rustls-webpki, and on top of it what
//! X509-SVID and Signet demand of a leaf.
//!
//! The identity is that of certificate 0 and of no other. Certificates after it must be signing
//! certificates, so that a second leaf, appended to a valid chain, is refused and not merely ignored.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs as algorithm};
use x509_parser::error::X509Error;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::extensions;
use super::keys::KeyKind;
use super::profile::{Binding, Purpose, node_digest, sha256};
use crate::bundle::TrustBundle;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::unix_time;

mod error;

pub use error::VerifyError;

/// The longest chain: a leaf and up to three authorities below the root.
pub const MAX_CHAIN_LENGTH: usize = 4;
/// The largest certificate, in bytes.
pub const MAX_CERTIFICATE_LENGTH: usize = 8192;

/// The most extensions in a certificate. Ours have seven.
pub const MAX_EXTENSIONS: usize = 32;

/// Signature algorithms believed in certificates.
pub(crate) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithm::ECDSA_P256_SHA256,
    algorithm::ECDSA_P256_SHA384,
    algorithm::ECDSA_P384_SHA256,
    algorithm::ECDSA_P384_SHA384,
    algorithm::ED25519,
];

/// Which side of a connection the certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS client authentication.
    Client,
    /// TLS server authentication.
    Server,
    /// Both, as X509-SVID section 4.4 wants of every leaf. For exported authenticators.
    Either,
}

/// What the caller demands of a peer beyond a valid chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Exactly this ID.
    pub id: Option<SpiffeId>,
    /// Exactly this purpose.
    pub purpose: Option<Purpose>,
    /// Bound to this node (by its SPIFFE ID).
    pub node: Option<SpiffeId>,
    /// For this side of a connection.
    pub usage: Usage,
}

impl Expect {
    /// Any valid SVID of the trust domain.
    pub fn any(usage: Usage) -> Self {
        Self {
            id: None,
            purpose: None,
            node: None,
            usage,
        }
    }

    /// Exactly `id`, in an agent-plane certificate bound to `node`: what a workload proof must be.
    pub fn workload_on(id: SpiffeId, node: SpiffeId) -> Self {
        Self {
            id: Some(id),
            purpose: Some(Purpose::AgentPlane),
            node: Some(node),
            usage: Usage::Either,
        }
    }
}

/// What a checked leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSvid {
    /// Whose.
    pub id: SpiffeId,
    /// For what use.
    pub purpose: Purpose,
    /// To what it is tied; there for agent-plane certificates and for no other.
    pub binding: Option<Binding>,
    /// Start of the leaf's validity.
    pub not_before: UnixTime,
    /// End of the leaf's validity, or of the shortest-lived authority above it if that is earlier.
    pub not_after: UnixTime,
    /// Serial number of the leaf, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of the leaf.
    pub cert_sha256: [u8; 32],
}

/// Checks `chain` (leaf first) against one trust domain's authorities, as of `now`.
///
/// # Errors
/// Names the first rule that is broken: of size, of an SVID's shape, of the path to an authority, or
/// of `expect`.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
    expect: &Expect,
) -> Result<VerifiedSvid, VerifyError> {
    let [leaf_der, intermediates @ ..] = chain else {
        return Err(VerifyError::NoCertificate);
    };
    check_sizes(chain)?;
    let leaf = parse(leaf_der, 0)?;
    let mut svid = check_leaf(&leaf, leaf_der)?;
    if svid.id.trust_domain() != bundle.trust_domain() {
        return Err(VerifyError::ForeignTrustDomain {
            found: svid.id,
            expected: bundle.trust_domain().clone(),
        });
    }
    for (index, der) in intermediates.iter().enumerate() {
        let authority_end = check_intermediate(der, index + 1, bundle.trust_domain())?;
        svid.not_after = svid.not_after.min(authority_end);
    }
    let root_end = check_path(leaf_der, intermediates, bundle, now, expect.usage)?;
    svid.not_after = svid.not_after.min(root_end);
    check_expectations(&svid, expect)?;
    Ok(svid)
}

fn check_sizes(chain: &[CertificateDer<'_>]) -> Result<(), VerifyError> {
    if chain.len() > MAX_CHAIN_LENGTH {
        return Err(VerifyError::ChainTooLong {
            length: chain.len(),
        });
    }
    match chain.iter().find(|der| der.len() > MAX_CERTIFICATE_LENGTH) {
        Some(der) => Err(VerifyError::CertificateTooLong { length: der.len() }),
        None => Ok(()),
    }
}

fn parse<'a>(
    der: &'a CertificateDer<'_>,
    index: usize,
) -> Result<X509Certificate<'a>, VerifyError> {
    let malformed = |reason: String| VerifyError::Malformed { index, reason };
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after the certificate".to_owned()));
    }
    if certificate.extensions().len() > MAX_EXTENSIONS {
        return Err(malformed("too many extensions".to_owned()));
    }
    // An extension that does not parse would look like one that is absent to the typed accessors.
    for extension in certificate.extensions() {
        if let ParsedExtension::ParseError { error } = extension.parsed_extension() {
            return Err(malformed(format!("extension {}: {error}", extension.oid)));
        }
        if certificate.get_extension_unique(&extension.oid).is_err() {
            return Err(malformed(format!(
                "extension {} is there twice",
                extension.oid
            )));
        }
    }
    Ok(certificate)
}

/// Everything a leaf must be by itself, before anybody vouches for it.
fn check_leaf(
    leaf: &X509Certificate<'_>,
    der: &CertificateDer<'_>,
) -> Result<VerifiedSvid, VerifyError> {
    let malformed = |error: X509Error| VerifyError::Malformed {
        index: 0,
        reason: error.to_string(),
    };

    if leaf
        .basic_constraints()
        .map_err(malformed)?
        .is_some_and(|extension| extension.value.ca)
    {
        return Err(VerifyError::LeafIsAuthority);
    }
    check_leaf_key_usage(leaf)?;
    let extended = leaf.extended_key_usage().map_err(malformed)?;
    if extended.is_some_and(|extension| !is_for_both_sides(extension.value)) {
        return Err(VerifyError::ExtendedKeyUsage);
    }
    if KeyKind::of_spki(leaf.public_key()).is_none() {
        return Err(VerifyError::UnsupportedKey);
    }

    let id = leaf_id(leaf)?;
    let purpose = extensions::purpose(leaf)?;
    if !purpose.fits(&id) {
        return Err(VerifyError::PurposeDoesNotFit { id, purpose });
    }
    let binding = extensions::binding(leaf)?;
    match (&binding, purpose.is_bound()) {
        (Some(_), true) | (None, false) => {}
        (None, true) => return Err(VerifyError::BindingExtension("missing")),
        (Some(_), false) => return Err(VerifyError::BindingExtension("out of place")),
    }

    let validity = leaf.validity();
    let serial = leaf.tbs_certificate.raw_serial();
    let significant = serial
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(serial.len());
    Ok(VerifiedSvid {
        id,
        purpose,
        binding,
        not_before: unix_time(validity.not_before.timestamp()),
        not_after: unix_time(validity.not_after.timestamp()),
        serial: serial[significant..].to_vec(),
        spki_sha256: sha256(leaf.public_key().raw),
        cert_sha256: sha256(der),
    })
}

fn check_leaf_key_usage(leaf: &X509Certificate<'_>) -> Result<(), VerifyError> {
    let usage = leaf
        .key_usage()
        .map_err(|_| VerifyError::KeyUsage("malformed"))?;
    let Some(usage) = usage else {
        return Err(VerifyError::KeyUsage("missing"));
    };
    if !usage.critical {
        return Err(VerifyError::KeyUsage("not marked critical"));
    }
    if !usage.value.digital_signature() {
        return Err(VerifyError::KeyUsage("digitalSignature is not set"));
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(VerifyError::KeyUsage("keyCertSign or cRLSign is set"));
    }
    Ok(())
}

fn is_for_both_sides(usage: &ExtendedKeyUsage<'_>) -> bool {
    usage.server_auth && usage.client_auth
}

fn leaf_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, VerifyError> {
    let malformed = |error: X509Error| VerifyError::Malformed {
        index: 0,
        reason: error.to_string(),
    };
    let uris = uri_names(leaf).map_err(malformed)?;
    let [uri] = uris.as_slice() else {
        return Err(VerifyError::UriNames(uris.len()));
    };
    let names = leaf.subject_alternative_name().map_err(malformed)?;
    let has_subject = leaf.subject().iter().next().is_some();
    if !has_subject && !names.is_some_and(|names| names.critical) {
        return Err(VerifyError::NamesNotCritical);
    }
    let id = SpiffeId::new(*uri)?;
    if id.path().is_empty() {
        return Err(VerifyError::NoPath(id));
    }
    Ok(id)
}

/// Checks what X509-SVID section 3.2 and 4 demand of a signing certificate; returns its end.
fn check_intermediate(
    der: &CertificateDer<'_>,
    index: usize,
    trust_domain: &TrustDomain,
) -> Result<UnixTime, VerifyError> {
    let refuse = |reason| Err(VerifyError::Intermediate { index, reason });
    let malformed = |error: X509Error| VerifyError::Malformed {
        index,
        reason: error.to_string(),
    };

    let certificate = parse(der, index)?;
    let constraints = certificate.basic_constraints().map_err(malformed)?;
    if !constraints.is_some_and(|extension| extension.value.ca) {
        return refuse("CA is not true");
    }
    let usage = certificate.key_usage().map_err(malformed)?;
    if !usage.is_some_and(|extension| extension.critical && extension.value.key_cert_sign()) {
        return refuse("keyCertSign is not set, or key usage is not critical");
    }
    match uri_names(&certificate).map_err(malformed)?.as_slice() {
        [] => {}
        [uri] => match SpiffeId::new(*uri) {
            Ok(id) if !id.path().is_empty() => return refuse("its SPIFFE ID has a path"),
            Ok(id) if id.trust_domain() != trust_domain => {
                return refuse("it is of another trust domain");
            }
            Ok(_) => {}
            Err(_) => return refuse("its URI name is no SPIFFE ID"),
        },
        [_, _, ..] => return refuse("it has more than one URI name"),
    }
    Ok(unix_time(certificate.validity().not_after.timestamp()))
}

/// Builds the path; returns the end of the authority at its other end.
fn check_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
    usage: Usage,
) -> Result<UnixTime, VerifyError> {
    let leaf = EndEntityCert::try_from(leaf).map_err(path_error)?;
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        // The leaf has both or neither by now, so for either side one path tells.
        Usage::Server | Usage::Either => KeyUsage::server_auth(),
    };
    let anchors: Vec<_> = bundle.anchors_at(now).cloned().collect();
    let path = leaf
        .verify_for_usage(ALGORITHMS, &anchors, intermediates, now, usage, None, None)
        .map_err(path_error)?;
    bundle
        .end_of(path.anchor())
        .ok_or(VerifyError::UnknownIssuer)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki's errors are many, and may grow"
)]
fn path_error(error: webpki::Error) -> VerifyError {
    match error {
        webpki::Error::CertExpired { time, not_after } => VerifyError::Expired {
            not_after: not_after.as_secs(),
            now: time.as_secs(),
        },
        webpki::Error::CertNotValidYet { time, not_before } => VerifyError::NotYetValid {
            not_before: not_before.as_secs(),
            now: time.as_secs(),
        },
        webpki::Error::UnknownIssuer => VerifyError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => VerifyError::BadSignature,
        other => VerifyError::Path(other.to_string()),
    }
}

fn check_expectations(svid: &VerifiedSvid, expect: &Expect) -> Result<(), VerifyError> {
    if let Some(expected) = &expect.id
        && *expected != svid.id
    {
        return Err(VerifyError::WrongId {
            found: svid.id.clone(),
            expected: expected.clone(),
        });
    }
    if let Some(node) = &expect.node
        && svid.binding.as_ref().map(|binding| binding.node) != Some(node_digest(node))
    {
        return Err(VerifyError::WrongNode {
            id: svid.id.clone(),
            node: node.clone(),
        });
    }
    if let Some(expected) = expect.purpose
        && expected != svid.purpose
    {
        return Err(VerifyError::WrongPurpose {
            id: svid.id.clone(),
            found: svid.purpose,
            expected,
        });
    }
    Ok(())
}

/// The URI names of a certificate.
pub(crate) fn uri_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> Result<Vec<&'a str>, X509Error> {
    let names = certificate.subject_alternative_name()?;
    let names = names
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    let uri = |name: &'a GeneralName<'_>| {
        if let GeneralName::URI(uri) = name {
            Some(*uri)
        } else {
            None
        }
    };
    Ok(names.filter_map(uri).collect())
}
