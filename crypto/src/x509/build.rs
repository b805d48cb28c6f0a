//! Making certificates: a root, the issuing authorities under it, and leaves.
//!
//! Every certificate is an X509-SVID: one URI name, `keyUsage` critical, and never a URI name
//! constraint (rustls-webpki refuses chains that have one).

use std::fmt;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::csr::CsrPublicKey;
use super::der::{ENUMERATED, OCTET_STRING, UTF8_STRING, sequence, tlv};
use super::profile::{BINDING_OID, Binding, MAX_UID_LENGTH, PURPOSE_OID, Purpose};
use super::template::{
    CLIENT_AUTH, Extension, KEY_USAGE_CERT_SIGN, KEY_USAGE_CRL_SIGN, KEY_USAGE_DIGITAL_SIGNATURE,
    SERVER_AUTH, Template, distinguished_name, empty_name, key_id,
};
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::SvidKey;

mod error;

pub use error::BuildError;

/// How far before its making an authority's validity begins: the machines that check it may be
/// behind, as time is anchored only to the second.
pub const AUTHORITY_BACKDATE: Duration = Duration::from_secs(60);

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
    /// Start of validity, inclusive.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// 16 random bytes. One bit of them is lost, and one fixed, to make a positive number of one
    /// length.
    pub serial: [u8; 16],
}

/// A self-signed authority: the root of a trust domain. It signs issuing authorities only.
pub struct RootAuthority(Authority);

impl RootAuthority {
    /// A fresh root that is valid from a minute ago until `lifetime` from `now`.
    ///
    /// # Errors
    /// When AWS-LC cannot make a key or sign, or the lifetime passes the year 9999.
    pub fn generate(
        trust_domain: &TrustDomain,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<Self, BuildError> {
        let key = SvidKey::generate()?;
        let name = distinguished_name(&format!("root {}", short_name(&key)));
        let validity = authority_validity(now, lifetime);
        let signer = Signer {
            key: &key,
            name: &name,
            key_id: &key_id(&key.spki()),
        };
        let certificate =
            signer.authority(trust_domain, &key, &name, validity, ROOT_PATH_LENGTH)?;
        Authority::from_parts(certificate, key, ROOT_PATH_LENGTH).map(Self)
    }

    /// A root from storage.
    ///
    /// # Errors
    /// When the certificate is no root of ours, or is for another key.
    pub fn from_parts(
        certificate: CertificateDer<'static>,
        pkcs8: &[u8],
    ) -> Result<Self, BuildError> {
        let key = SvidKey::from_pkcs8(pkcs8)?;
        Authority::from_parts(certificate, key, ROOT_PATH_LENGTH).map(Self)
    }

    /// A fresh issuing authority under this root, valid from a minute ago until `lifetime` from
    /// `now`.
    ///
    /// # Errors
    /// When it would outlive the root, or AWS-LC fails.
    pub fn issue_intermediate(
        &self,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<IssuingAuthority, BuildError> {
        let key = SvidKey::generate()?;
        let name = distinguished_name(&format!("issuing {}", short_name(&key)));
        let validity = authority_validity(now, lifetime);
        self.0.check_end(validity.1)?;
        let certificate = self.0.signer().authority(
            &self.0.trust_domain,
            &key,
            &name,
            validity,
            ISSUING_PATH_LENGTH,
        )?;
        Authority::from_parts(certificate, key, ISSUING_PATH_LENGTH).map(IssuingAuthority)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The certificate, for the trust bundle.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// The private key (PKCS#8), for storage.
    pub fn pkcs8(&self) -> &[u8] {
        self.0.key.pkcs8()
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }
}

/// An authority under a root. It signs leaves only.
pub struct IssuingAuthority(Authority);

impl IssuingAuthority {
    /// An issuing authority from storage.
    ///
    /// # Errors
    /// When the certificate is no issuing authority of ours, or is for another key.
    pub fn from_parts(
        certificate: CertificateDer<'static>,
        pkcs8: &[u8],
    ) -> Result<Self, BuildError> {
        let key = SvidKey::from_pkcs8(pkcs8)?;
        Authority::from_parts(certificate, key, ISSUING_PATH_LENGTH).map(Self)
    }

    /// Signs a leaf. The chain comes back leaf first, without the root.
    ///
    /// # Errors
    /// When the leaf would be one that nobody believes: ID of another trust domain or of the wrong
    /// shape for its purpose, binding missing or out of place, validity empty or beyond this
    /// authority's.
    pub fn issue_leaf(&self, spec: &LeafSpec) -> Result<Vec<CertificateDer<'static>>, BuildError> {
        self.check_leaf(spec)?;
        let mut extensions = vec![
            Extension::basic_constraints(None, false),
            Extension::key_usage(true, KEY_USAGE_DIGITAL_SIGNATURE),
            Extension::extended_key_usage(&[SERVER_AUTH, CLIENT_AUTH]),
            // Critical, as RFC 5280 wants it where the subject is empty.
            Extension::uri_names(true, &[spec.id.as_str()]),
            Extension::authority_key_id(&self.0.key_id),
            purpose_extension(spec.purpose),
        ];
        extensions.extend(spec.binding.as_ref().map(binding_extension));

        let leaf = Template {
            serial: positive(spec.serial),
            issuer: &self.0.name,
            subject: &empty_name(),
            not_before: spec.not_before,
            not_after: spec.not_after,
            spki: spec.public_key.spki(),
            extensions,
        }
        .sign(&self.0.key)?;
        Ok(vec![leaf, self.0.certificate.clone()])
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The certificate, the second of each leaf's chain.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// The private key (PKCS#8), for storage.
    pub fn pkcs8(&self) -> &[u8] {
        self.0.key.pkcs8()
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    fn check_leaf(&self, spec: &LeafSpec) -> Result<(), BuildError> {
        if spec.id.trust_domain() != &self.0.trust_domain {
            return Err(BuildError::ForeignTrustDomain {
                id: spec.id.clone(),
                authority: self.0.trust_domain.clone(),
            });
        }
        if !spec.purpose.fits(&spec.id) {
            return Err(BuildError::PurposeDoesNotFit {
                purpose: spec.purpose,
                id: spec.id.clone(),
            });
        }
        match (&spec.binding, spec.purpose.is_bound()) {
            (None, true) => return Err(BuildError::BindingMissing(spec.id.clone())),
            (Some(_), false) => return Err(BuildError::BindingUnexpected(spec.purpose)),
            (Some(binding), true) => check_binding(binding)?,
            (None, false) => {}
        }
        if spec.not_before >= spec.not_after {
            return Err(BuildError::EmptyValidity(spec.id.clone()));
        }
        self.0.check_end(spec.not_after)
    }
}

impl fmt::Debug for RootAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootAuthority({})", self.0.trust_domain)
    }
}

impl fmt::Debug for IssuingAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuingAuthority({})", self.0.trust_domain)
    }
}

/// Root, issuing, leaf: one authority may stand between the root and a leaf.
const ROOT_PATH_LENGTH: u8 = 1;
const ISSUING_PATH_LENGTH: u8 = 0;

struct Authority {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    /// DER Name, as issuer of what it signs.
    name: Vec<u8>,
    key_id: [u8; 20],
    key: SvidKey,
    not_after: UnixTime,
}

impl Authority {
    fn from_parts(
        certificate: CertificateDer<'static>,
        key: SvidKey,
        path_length: u8,
    ) -> Result<Self, BuildError> {
        let malformed = |error: &dyn fmt::Display| BuildError::Malformed(error.to_string());
        let (rest, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes after the certificate"));
        }
        let spki = parsed.public_key().raw.to_vec();
        if spki != key.spki() {
            return Err(BuildError::KeyMismatch);
        }
        let constraints = parsed
            .basic_constraints()
            .map_err(|error| malformed(&error))?;
        let constraints = constraints.map(|extension| extension.value);
        if !constraints.is_some_and(|c| c.ca && c.path_len_constraint == Some(path_length.into())) {
            return Err(BuildError::NotSuchAnAuthority(
                "CA flag or path length is another",
            ));
        }
        let trust_domain = own_trust_domain(&parsed)?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let name = parsed.subject().as_raw().to_vec();
        Ok(Self {
            trust_domain,
            name,
            key_id: key_id(&spki),
            key,
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(not_after)),
            certificate,
        })
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            name: &self.name,
            key_id: &self.key_id,
        }
    }

    fn check_end(&self, wanted: UnixTime) -> Result<(), BuildError> {
        if wanted > self.not_after {
            return Err(BuildError::OutlivesAuthority {
                wanted: wanted.as_secs(),
                authority: self.not_after.as_secs(),
            });
        }
        Ok(())
    }
}

/// Who signs an authority: itself, or the one above.
struct Signer<'a> {
    key: &'a SvidKey,
    name: &'a [u8],
    key_id: &'a [u8],
}

impl Signer<'_> {
    fn authority(
        &self,
        trust_domain: &TrustDomain,
        key: &SvidKey,
        name: &[u8],
        (not_before, not_after): (UnixTime, UnixTime),
        path_length: u8,
    ) -> Result<CertificateDer<'static>, BuildError> {
        let spki = key.spki();
        let own_key_id = key_id(&spki);
        let mut serial = [0; 16];
        serial.copy_from_slice(&own_key_id[..16]);
        let template = Template {
            serial: positive(serial),
            issuer: self.name,
            subject: name,
            not_before,
            not_after,
            spki: &spki,
            extensions: vec![
                Extension::basic_constraints(Some(path_length), true),
                Extension::key_usage(true, KEY_USAGE_CERT_SIGN | KEY_USAGE_CRL_SIGN),
                Extension::uri_names(false, &[trust_domain.id().as_str()]),
                Extension::subject_key_id(&own_key_id),
                Extension::authority_key_id(self.key_id),
            ],
        };
        Ok(template.sign(self.key)?)
    }
}

fn own_trust_domain(certificate: &X509Certificate<'_>) -> Result<TrustDomain, BuildError> {
    use x509_parser::extensions::GeneralName;

    let names = certificate
        .subject_alternative_name()
        .map_err(|error| BuildError::Malformed(error.to_string()))?;
    let names = names
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let [GeneralName::URI(uri)] = names else {
        return Err(BuildError::NotSuchAnAuthority(
            "it names no single trust domain",
        ));
    };
    let id = SpiffeId::new(*uri)
        .map_err(|_| BuildError::NotSuchAnAuthority("its URI is no SPIFFE ID"))?;
    if !id.path().is_empty() {
        return Err(BuildError::NotSuchAnAuthority("its SPIFFE ID has a path"));
    }
    Ok(id.trust_domain().clone())
}

fn authority_validity(now: UnixTime, lifetime: Duration) -> (UnixTime, UnixTime) {
    let now = Duration::from_secs(now.as_secs());
    (
        UnixTime::since_unix_epoch(now.saturating_sub(AUTHORITY_BACKDATE)),
        UnixTime::since_unix_epoch(now.saturating_add(lifetime)),
    )
}

/// Tells authorities of one trust domain apart for people; path building goes by key.
fn short_name(key: &SvidKey) -> String {
    hex::encode(&key_id(&key.spki())[..8])
}

fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn check_binding(binding: &Binding) -> Result<(), BuildError> {
    for uid in [&binding.namespace_uid, &binding.service_account_uid] {
        if uid.is_empty() || uid.len() > MAX_UID_LENGTH {
            return Err(BuildError::BindingUid(uid.clone()));
        }
    }
    Ok(())
}

pub(crate) fn purpose_extension(purpose: Purpose) -> Extension {
    let value = tlv(ENUMERATED, &[[purpose.number()]]);
    Extension {
        oid: PURPOSE_OID.to_vec(),
        critical: false,
        value,
    }
}

pub(crate) fn binding_extension(binding: &Binding) -> Extension {
    let value = sequence(&[
        tlv(OCTET_STRING, &[binding.node]),
        tlv(UTF8_STRING, &[&binding.namespace_uid]),
        tlv(UTF8_STRING, &[&binding.service_account_uid]),
    ]);
    Extension {
        oid: BINDING_OID.to_vec(),
        critical: false,
        value,
    }
}
