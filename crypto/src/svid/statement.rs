//! Statements that an SVID's key signs outside of TLS, to be checked long after.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{SvidError, SvidKey};
use crate::x509::keys::KeyKind;

/// As TLS 1.3 has it (RFC 8446 section 4.4.3): 64 spaces, a name for the use, a zero byte, then what
/// is said. The name keeps a statement from being taken for a handshake's signature, or for that of
/// another use.
fn content(context: &str, message: &[u8]) -> Vec<u8> {
    [&[b' '; 64], context.as_bytes(), &[0], message].concat()
}

impl SvidKey {
    /// Signs `message` for the use `context`, which begins with "Signet " so that it is no use of
    /// TLS. Check with [`verify_statement`].
    ///
    /// # Errors
    /// When AWS-LC cannot sign.
    pub fn sign_statement(&self, context: &str, message: &[u8]) -> Result<Vec<u8>, SvidError> {
        self.sign(&content(context, message))
    }
}

/// Checks that the key of the certificate `leaf` signed `message` for the use `context`. Whether
/// anybody believes the certificate is for [`crate::x509::verify::verify`] to say.
///
/// # Errors
/// When the certificate does not parse, has a key that no SVID has, or did not sign this.
pub fn verify_statement(
    leaf: &CertificateDer<'_>,
    context: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SvidError> {
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|error| SvidError::Malformed(error.to_string()))?;
    let spki = leaf.public_key();
    let kind = KeyKind::of_spki(spki).ok_or(SvidError::UnsupportedKey)?;
    kind.verify(
        &spki.subject_public_key.data,
        &content(context, message),
        signature,
    )
    .map_err(|_| SvidError::BadStatement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::Pki;

    const USE: &str = "Signet a test";

    #[test]
    fn a_statement_is_good_for_one_text_one_use_and_one_key() {
        let pki = Pki::new("td.test");
        let (svid, other) = (pki.node("a"), pki.node("b"));
        let signature = svid.key().sign_statement(USE, b"text").unwrap();
        let leaf = &svid.chain()[0];
        verify_statement(leaf, USE, b"text", &signature).unwrap();
        let wrong = [
            verify_statement(leaf, USE, b"Text", &signature),
            verify_statement(leaf, "Signet another", b"text", &signature),
            verify_statement(&other.chain()[0], USE, b"text", &signature),
            verify_statement(leaf, USE, b"text", &signature[1..]),
            verify_statement(leaf, USE, b"text", b""),
        ];
        for wrong in wrong {
            assert_eq!(wrong.unwrap_err(), SvidError::BadStatement);
        }
        assert!(matches!(
            verify_statement(&vec![0x30, 0].into(), USE, b"text", &signature).unwrap_err(),
            SvidError::Malformed(_)
        ));
    }

    #[test]
    fn no_signature_of_tls_is_a_statement() {
        let svid = Pki::new("td.test").node("a");
        for tls in [
            "TLS 1.3, client CertificateVerify",
            "TLS 1.3, server CertificateVerify",
        ] {
            let signature = svid.key().sign(&content(tls, &[7; 48])).unwrap();
            verify_statement(&svid.chain()[0], USE, &[7; 48], &signature).unwrap_err();
        }
    }
}
