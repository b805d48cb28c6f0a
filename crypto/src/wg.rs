//! WireGuard key types: what travels between agent, engine and peer.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, X25519};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::random::Random;
use crate::secret::Secret;

/// A Curve25519 public key; base64 in text, as `wg` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Text that is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a WireGuard public key: expected the base64 of 32 bytes")]
pub struct PublicKeyError;

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| PublicKeyError)?;
        bytes.try_into().map(Self).map_err(|_| PublicKeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// A Curve25519 private key. It has no `Serialize`: static keys live in the engine that made them.
#[derive(Clone)]
pub struct PrivateKey(Secret<32>);

impl PrivateKey {
    /// A fresh key.
    pub fn generate(random: &mut dyn Random) -> Self {
        Self(Secret::random(random))
    }

    /// A key from its 32 bytes, clamped or not: clamping is part of every use (RFC 7748, section 5).
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The bytes, for the engine's handshake.
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// The matching public key.
    ///
    /// # Errors
    /// Only when AWS-LC refuses the key, which it does for no 32-byte value known to us.
    pub fn public_key(&self) -> Result<PublicKey, PrivateKeyError> {
        let key = agreement::PrivateKey::from_private_key(&X25519, self.0.expose())
            .map_err(|_| PrivateKeyError)?;
        let public = key.compute_public_key().map_err(|_| PrivateKeyError)?;
        public
            .as_ref()
            .try_into()
            .map(PublicKey)
            .map_err(|_| PrivateKeyError)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// AWS-LC refused a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X25519 private key: AWS-LC refused it; generate another")]
pub struct PrivateKeyError;

/// A WireGuard preshared key. WireGuard takes 32 zero bytes to mean "none", so there is no such
/// value of this type.
#[derive(Clone)]
pub struct Psk(Secret<32>);

/// A preshared key of 32 zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("preshared key is all zero, which WireGuard takes for none; derive it from the channel")]
pub struct ZeroPsk;

impl Psk {
    /// # Errors
    /// Refuses the all-zero key.
    pub fn new(secret: Secret<32>) -> Result<Self, ZeroPsk> {
        if secret.is_zero() {
            Err(ZeroPsk)
        } else {
            Ok(Self(secret))
        }
    }

    /// The secret, for the engine's handshake.
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

/// For the control socket between agent and engine only; the buffers it is written to and read from
/// must be wiped by their owner.
impl Serialize for Psk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Psk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = Secret::new(<[u8; 32]>::deserialize(deserializer)?);
        Self::new(secret).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
