//! The bytes of a certificate: RFC 5280 structures filled in, judged by nobody. What may be filled in
//! is for [`super::build`] to decide; tests fill in what must be refused.

use rustls_pki_types::{CertificateDer, UnixTime};

use super::der::{
    BOOLEAN, OCTET_STRING, SET, UTF8_STRING, bit_string, explicit, named_bits, oid, sequence, time,
    tlv, unsigned,
};
use super::profile::sha256;
use crate::svid::{SvidError, SvidKey};

pub(crate) const KEY_USAGE_DIGITAL_SIGNATURE: u8 = 0x80;
pub(crate) const KEY_USAGE_CERT_SIGN: u8 = 0x04;
pub(crate) const KEY_USAGE_CRL_SIGN: u8 = 0x02;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const URI_NAME: u8 = 0x86;

/// An extension, its value already in DER.
pub(crate) struct Extension {
    pub(crate) oid: Vec<u8>,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Extension {
    fn new(oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        Self {
            oid: oid.to_vec(),
            critical,
            value,
        }
    }

    pub(crate) fn uri_names(critical: bool, uris: &[&str]) -> Self {
        let names: Vec<_> = uris.iter().map(|uri| tlv(URI_NAME, &[uri])).collect();
        Self::new(SUBJECT_ALT_NAME, critical, sequence(&names))
    }

    pub(crate) fn key_usage(critical: bool, bits: u8) -> Self {
        Self::new(KEY_USAGE, critical, named_bits(bits))
    }

    /// The cA field is written even where it is the default: `FALSE` may not be encoded in DER, so a
    /// leaf's value is an empty sequence.
    pub(crate) fn basic_constraints(path_length: Option<u8>, authority: bool) -> Self {
        let mut fields = Vec::new();
        if authority {
            fields.push(tlv(BOOLEAN, &[[0xff]]));
        }
        if let Some(length) = path_length {
            fields.push(unsigned(&[length]));
        }
        Self::new(BASIC_CONSTRAINTS, true, sequence(&fields))
    }

    pub(crate) fn extended_key_usage(purposes: &[&[u8]]) -> Self {
        let purposes: Vec<_> = purposes.iter().map(|purpose| oid(purpose)).collect();
        Self::new(EXTENDED_KEY_USAGE, false, sequence(&purposes))
    }

    pub(crate) fn subject_key_id(key_id: &[u8]) -> Self {
        Self::new(SUBJECT_KEY_ID, false, tlv(OCTET_STRING, &[key_id]))
    }

    pub(crate) fn authority_key_id(key_id: &[u8]) -> Self {
        Self::new(AUTHORITY_KEY_ID, false, sequence(&[tlv(0x80, &[key_id])]))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let critical = if self.critical {
            tlv(BOOLEAN, &[[0xff]])
        } else {
            Vec::new()
        };
        sequence(&[oid(&self.oid), critical, tlv(OCTET_STRING, &[&self.value])])
    }
}

/// A certificate before it is signed.
pub(crate) struct Template<'a> {
    pub(crate) serial: [u8; 16],
    /// DER Name.
    pub(crate) issuer: &'a [u8],
    /// DER Name.
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// DER SubjectPublicKeyInfo.
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Vec<Extension>,
}

impl Template<'_> {
    pub(crate) fn sign(&self, key: &SvidKey) -> Result<CertificateDer<'static>, TemplateError> {
        let date = |at| time(at).ok_or(TemplateError::Date);
        let extensions: Vec<_> = self.extensions.iter().map(Extension::encode).collect();
        let to_be_signed = sequence(&[
            explicit(0, &unsigned(&[2])),
            unsigned(&self.serial),
            key.signature_algorithm().to_vec(),
            self.issuer.to_vec(),
            sequence(&[date(self.not_before)?, date(self.not_after)?]),
            self.subject.to_vec(),
            self.spki.to_vec(),
            explicit(3, &sequence(&extensions)),
        ]);
        Ok(signed(to_be_signed, key)?.into())
    }
}

/// Why a template became no certificate.
pub(crate) enum TemplateError {
    Date,
    Sign(SvidError),
}

impl From<SvidError> for TemplateError {
    fn from(error: SvidError) -> Self {
        Self::Sign(error)
    }
}

/// `SEQUENCE { content, signature algorithm, signature }`, the shape of certificates and requests.
pub(crate) fn signed(content: Vec<u8>, key: &SvidKey) -> Result<Vec<u8>, SvidError> {
    let signature = bit_string(&key.sign(&content)?);
    Ok(sequence(&[
        content,
        key.signature_algorithm().to_vec(),
        signature,
    ]))
}

/// `O=Signet, CN=<common name>`
pub(crate) fn distinguished_name(common_name: &str) -> Vec<u8> {
    let attribute =
        |kind, value: &str| tlv(SET, &[sequence(&[oid(kind), tlv(UTF8_STRING, &[value])])]);
    sequence(&[
        attribute(ORGANIZATION, "Signet"),
        attribute(COMMON_NAME, common_name),
    ])
}

/// The name of nobody, for leaves: their name is the URI.
pub(crate) fn empty_name() -> Vec<u8> {
    sequence::<&[u8]>(&[])
}

/// A key identifier: 160 bits of the SHA-256 of the SubjectPublicKeyInfo (RFC 7093, section 2, 4).
pub(crate) fn key_id(spki: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(&sha256(spki)[..20]);
    out
}
