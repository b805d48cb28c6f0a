//! Keys derived from a node channel by the TLS 1.3 exporter (RFC 8446, section 7.5).
//!
//! | value | exporter label | context | bytes |
//! |---|---|---|---|
//! | [`session_id`] | `EXPORTER-Channel-Binding` (RFC 9266) | none | 32, hashed once more |
//! | [`psk`] | `EXPORTER-signet-wg-psk v1` | [`SlotContext`] | 32 |
//! | [`confirm`] | `EXPORTER-signet-slot-confirm v1` | [`SlotContext`] | 32, the key of an HMAC |
//! | [`KeepKey`] | `EXPORTER-signet-label-keep v1` | none | 32, the key of an HMAC |
//!
//! The first alone may be logged.

use aws_lc_rs::{digest, hmac};
use rustls::{ClientConnection, CommonState, ServerConnection};
use subtle::ConstantTimeEq;

use crate::secret::Secret;
use crate::spiffe_id::SpiffeId;
use crate::wg::{Psk, PublicKey};
use crate::x509::profile::sha256;

/// A side of the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Who dialled.
    Client,
    /// Who answered.
    Server,
}

impl Role {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The hash of the negotiated cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuiteHash {
    /// Of TLS13_CHACHA20_POLY1305_SHA256.
    Sha256,
    /// Of TLS13_AES_256_GCM_SHA384.
    Sha384,
}

impl SuiteHash {
    /// Of a connection whose handshake is complete.
    pub(super) fn of(connection: &CommonState) -> Result<Self, ExportError> {
        use rustls::crypto::hash::HashAlgorithm;

        if connection.is_handshaking() {
            return Err(ExportError::Incomplete);
        }
        let suite = connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.tls13());
        let suite = suite.ok_or(ExportError::Incomplete)?;
        let algorithm = suite.common.hash_provider.algorithm();
        if algorithm == HashAlgorithm::SHA256 {
            Ok(Self::Sha256)
        } else if algorithm == HashAlgorithm::SHA384 {
            Ok(Self::Sha384)
        } else {
            Err(ExportError::Failed(format!(
                "suite hash {algorithm:?} is not in use here"
            )))
        }
    }

    /// Its output, in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The hash of the concatenated parts.
    pub(super) fn digest(self, parts: &[&[u8]]) -> digest::Digest {
        let mut context = digest::Context::new(match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        });
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    }

    pub(super) fn hmac(self, key: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
        };
        hmac::Key::new(algorithm, key)
    }
}

/// A completed TLS 1.3 connection, as far as deriving keys from it goes.
pub trait ChannelSecrets: Send {
    /// The exporter. No context and an empty one are the same in TLS 1.3.
    ///
    /// # Errors
    /// When the handshake is not complete, or label or output are too long.
    fn export(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), ExportError>;

    /// The hash of the negotiated suite.
    ///
    /// # Errors
    /// When the handshake is not complete.
    fn suite_hash(&self) -> Result<SuiteHash, ExportError>;

    /// This end's role.
    fn role(&self) -> Role;
}

impl ChannelSecrets for ClientConnection {
    fn export(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), ExportError> {
        SuiteHash::of(self)?;
        let exported = self.export_keying_material(out, label, context);
        exported
            .map(|_| ())
            .map_err(|error| ExportError::Failed(error.to_string()))
    }

    fn suite_hash(&self) -> Result<SuiteHash, ExportError> {
        SuiteHash::of(self)
    }

    fn role(&self) -> Role {
        Role::Client
    }
}

impl ChannelSecrets for ServerConnection {
    fn export(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), ExportError> {
        SuiteHash::of(self)?;
        let exported = self.export_keying_material(out, label, context);
        exported
            .map(|_| ())
            .map_err(|error| ExportError::Failed(error.to_string()))
    }

    fn suite_hash(&self) -> Result<SuiteHash, ExportError> {
        SuiteHash::of(self)
    }

    fn role(&self) -> Role {
        Role::Server
    }
}

/// Why nothing was derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Too early.
    #[error("TLS handshake is not complete; derive keys after it")]
    Incomplete,
    /// The capture saw no connection, more than one, or was already emptied.
    #[error("exporter capture saw {connections} connections or was emptied; make one for each")]
    Capture {
        /// How many it saw.
        connections: usize,
    },
    /// rustls or AWS-LC refused.
    #[error("TLS exporter failed: {0}")]
    Failed(String),
    /// The exporter gave 32 zero bytes, which WireGuard would take for no key.
    #[error("derived preshared key is all zero; open the channel anew")]
    ZeroPsk,
}

/// Everything two ends of a slot agree on, in TLS role order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotContext {
    /// The epoch of the slot.
    pub epoch: u64,
    /// SPIFFE ID of the node that is TLS client.
    pub client_node: SpiffeId,
    /// SPIFFE ID of the node that is TLS server.
    pub server_node: SpiffeId,
    /// The client machine's boot ID (the 16 bytes of the UUID).
    pub client_boot_id: [u8; 16],
    /// The server machine's boot ID.
    pub server_boot_id: [u8; 16],
    /// The client's WireGuard public key in this slot.
    pub client_wg: PublicKey,
    /// The server's WireGuard public key in this slot.
    pub server_wg: PublicKey,
    /// The client's WireGuard UDP port in this slot.
    pub client_port: u16,
    /// The server's WireGuard UDP port in this slot.
    pub server_port: u16,
}

impl SlotContext {
    /// The exporter context. Different contexts have different bytes: every field has a fixed
    /// length, but for the two IDs, which are preceded by theirs.
    ///
    /// ```text
    /// offset      bytes  field
    /// 0           9      "signet/1" 0x00
    /// 9           8      epoch, big-endian
    /// 17          2      length of the client's node ID, big-endian
    /// 19          c      client's node ID
    /// 19+c        2      length of the server's node ID, big-endian
    /// 21+c        s      server's node ID
    /// 21+c+s      16     client's boot ID
    /// 37+c+s      16     server's boot ID
    /// 53+c+s      32     client's WireGuard public key
    /// 85+c+s      32     server's WireGuard public key
    /// 117+c+s     2      client's WireGuard port, big-endian
    /// 119+c+s     2      server's WireGuard port, big-endian
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let ids = [self.client_node.as_str(), self.server_node.as_str()];
        let mut out = Vec::with_capacity(121 + ids[0].len() + ids[1].len());
        out.extend_from_slice(b"signet/1\0");
        out.extend_from_slice(&self.epoch.to_be_bytes());
        for id in ids {
            // A SPIFFE ID has at most 2,048 bytes.
            out.extend_from_slice(&(id.len() as u16).to_be_bytes());
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(&self.client_boot_id);
        out.extend_from_slice(&self.server_boot_id);
        out.extend_from_slice(self.client_wg.as_bytes());
        out.extend_from_slice(self.server_wg.as_bytes());
        out.extend_from_slice(&self.client_port.to_be_bytes());
        out.extend_from_slice(&self.server_port.to_be_bytes());
        out
    }
}

/// The public name of a channel, the same at both ends and nowhere else. It tells nothing about the
/// channel's keys, so it may stand in logs and audit records.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn session_id(channel: &dyn ChannelSecrets) -> Result<[u8; 32], ExportError> {
    let binding = export::<32>(channel, CHANNEL_BINDING, None)?;
    Ok(sha256(
        &[b"signet session".as_slice(), binding.expose()].concat(),
    ))
}

/// The WireGuard preshared key of a slot.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn psk(channel: &dyn ChannelSecrets, slot: &SlotContext) -> Result<Psk, ExportError> {
    let secret = export::<32>(channel, PSK, Some(&slot.to_bytes()))?;
    Psk::new(secret).map_err(|_| ExportError::ZeroPsk)
}

/// What `role` sends to show that it has the same channel and the same idea of the slot.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn confirm(
    channel: &dyn ChannelSecrets,
    slot: &SlotContext,
    role: Role,
) -> Result<[u8; 32], ExportError> {
    let key = export::<32>(channel, CONFIRM, Some(&slot.to_bytes()))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let name = match role {
        Role::Client => b"client",
        Role::Server => b"server",
    };
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, name).as_ref());
    Ok(out)
}

/// Whether `presented` is what `role` must send, in time that does not depend on it.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn confirm_matches(
    channel: &dyn ChannelSecrets,
    slot: &SlotContext,
    role: Role,
    presented: &[u8],
) -> Result<bool, ExportError> {
    let expected = confirm(channel, slot, role)?;
    Ok(expected.as_slice().ct_eq(presented).into())
}

/// Names labels to who has them too, and tells nobody else what they are.
pub struct KeepKey(hmac::Key);

impl KeepKey {
    /// Of one channel; both ends have the same.
    ///
    /// # Errors
    /// As [`ChannelSecrets::export`].
    pub fn of(channel: &dyn ChannelSecrets) -> Result<Self, ExportError> {
        let key = export::<32>(channel, KEEP, None)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose())))
    }

    /// What `role` says of a label that it gave, or (`granted` false) that it was given. Nothing
    /// that one side says can be said again by the other.
    pub fn name(&self, role: Role, granted: bool, label: u64) -> [u8; 16] {
        let role = match role {
            Role::Client => b'c',
            Role::Server => b's',
        };
        let mut said = [0; 10];
        said[0] = role;
        said[1] = u8::from(granted);
        said[2..].copy_from_slice(&label.to_be_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&hmac::sign(&self.0, &said).as_ref()[..16]);
        out
    }
}

const CHANNEL_BINDING: &[u8] = b"EXPORTER-Channel-Binding";
const PSK: &[u8] = b"EXPORTER-signet-wg-psk v1";
const CONFIRM: &[u8] = b"EXPORTER-signet-slot-confirm v1";
const KEEP: &[u8] = b"EXPORTER-signet-label-keep v1";

fn export<const N: usize>(
    channel: &dyn ChannelSecrets,
    label: &[u8],
    context: Option<&[u8]>,
) -> Result<Secret<N>, ExportError> {
    Secret::filled(|out| channel.export(label, context, out))
}

#[cfg(test)]
mod tests;
