//! The Ed25519 key that signs the log of one node.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use crate::line::Hex;

/// The private key. Made once per node, kept with mode 0600; it signs nothing but audit lines.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// A key could not be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// AWS-LC could not make one.
    #[error("AWS-LC could not make a key")]
    Generate,
    /// The bytes are no Ed25519 key in PKCS#8.
    #[error("it is no Ed25519 key in PKCS#8")]
    Malformed,
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// When AWS-LC cannot make one.
    pub fn generate() -> Result<Self, KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(document.as_ref()).map_err(|_| KeyError::Generate)
    }

    /// A key from storage.
    ///
    /// # Errors
    /// When the bytes are no Ed25519 key in PKCS#8.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
        })
    }

    /// PKCS#8 (DER), for storage with mode 0600.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> Hex<32> {
        let mut bytes = [0; 32];
        let public = self.pair.public_key().as_ref();
        if public.len() == bytes.len() {
            bytes.copy_from_slice(public);
        }
        Hex(bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Hex<64> {
        let signature = self.pair.sign(message);
        let mut bytes = [0; 64];
        if signature.as_ref().len() == bytes.len() {
            bytes.copy_from_slice(signature.as_ref());
        }
        Hex(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// Whether `key` signed `message`.
pub(crate) fn signed(key: &Hex<32>, message: &[u8], signature: &Hex<64>) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(message, &signature.0)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_the_same_key_and_junk_is_none() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(key.public(), again.public());
        let signature = again.sign(b"text");
        assert!(signed(&key.public(), b"text", &signature));
        assert!(!signed(&key.public(), b"Text", &signature));
        assert!(!signed(&Hex([0; 32]), b"text", &signature));
        for junk in [&b""[..], b"junk", &key.pkcs8()[1..]] {
            assert_eq!(
                SigningKey::from_pkcs8(junk).unwrap_err(),
                KeyError::Malformed
            );
        }
        assert!(!format!("{key:?}").contains(&hex::encode(key.pkcs8())));
    }
}
