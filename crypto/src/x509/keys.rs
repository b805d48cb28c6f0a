//! The two kinds of key an SVID may have, as they are recognised in what others send.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519,
};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    EcdsaP256,
    Ed25519,
}

impl KeyKind {
    pub(crate) fn of_spki(spki: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let algorithm = &spki.algorithm;
        if algorithm.algorithm == OID_SIG_ED25519 {
            return algorithm.parameters.is_none().then_some(Self::Ed25519);
        }
        let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
        let is_p256 = algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_EC_P256;
        is_p256.then_some(Self::EcdsaP256)
    }

    /// Whether a signature by this kind of key may be labelled so.
    pub(crate) fn signs_with(self, algorithm: &AlgorithmIdentifier<'_>) -> bool {
        let expected = match self {
            Self::EcdsaP256 => OID_SIG_ECDSA_WITH_SHA256,
            Self::Ed25519 => OID_SIG_ED25519,
        };
        algorithm.algorithm == expected && algorithm.parameters.is_none()
    }

    pub(crate) fn verify(
        self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Unspecified> {
        match self {
            Self::EcdsaP256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, signature)
            }
            Self::Ed25519 => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        }
    }
}
