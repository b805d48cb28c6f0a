//! Keys derived from a node channel by the TLS 1.3 exporter.
use std::sync::{Arc, Mutex};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use zeroize::Zeroizing;
use crate::secret::Secret;
use crate::spiffe_id::SpiffeId;
use crate::wg::{Psk, PublicKey};

/// A side of the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Who dialled.
    Client,
    /// Who answered.
    Server,
}

/// The hash of the negotiated cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuiteHash {
    /// TLS13_CHACHA20_POLY1305_SHA256 (and TLS13_AES_128_GCM_SHA256, which we do not offer).
    Sha256,
    /// TLS13_AES_256_GCM_SHA384.
    Sha384,
}

/// A completed TLS 1.3 connection, as far as deriving keys from it goes.
pub trait ChannelSecrets: Send {
    /// The RFC 8446 section 7.5 exporter. No context and an empty one are the same in TLS 1.3.
    ///
    /// # Errors
    /// When the handshake is not complete, or `out` is too long.
    fn export(&self, label: &[u8], context: Option<&[u8]>, out: &mut [u8]) -> Result<(), ExportError>;
    /// The hash of the negotiated suite.
    ///
    /// # Errors
    /// When the handshake is not complete.
    fn suite_hash(&self) -> Result<SuiteHash, ExportError>;
    /// This end's role.
    fn role(&self) -> Role;
}

/// Why nothing was derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Too early.
    #[error("TLS handshake is not complete; derive keys after it")]
    Incomplete,
    /// The capture saw no connection, or more than one.
    #[error("exporter capture saw {0} connections; make a new one for each")]
    CaptureReused(usize),
    /// rustls or AWS-LC refused.
    #[error("TLS exporter failed: {0}")]
    Failed(String),
    /// The exporter gave 32 zero bytes.
    #[error("derived preshared key is all zero")]
    ZeroPsk,
}

/// Everything two ends of a slot agree on, in TLS role order (client first).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotContext {
    /// The epoch of the slot.
    pub epoch: u64,
    /// SPIFFE ID of the node that is TLS client.
    pub client_node: SpiffeId,
    /// SPIFFE ID of the node that is TLS server.
    pub server_node: SpiffeId,
    /// The client's boot ID (16 bytes of the UUID).
    pub client_boot_id: [u8; 16],
    /// The server's boot ID.
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

/// The exporter secret of one connection, free of the connection, so that it can be used while the
/// stream is busy elsewhere.
pub struct TlsSecrets { secret: Zeroizing<Vec<u8>>, hash: SuiteHash, role: Role }

/// Catches the exporter secret of exactly one connection.
#[derive(Default)]
pub struct ExporterCapture { seen: Mutex<Vec<Zeroizing<Vec<u8>>>> }

/// `config` for one connection whose exporter secret is caught.
pub fn capturing_client(config: &ClientConfig) -> (Arc<ClientConfig>, Arc<ExporterCapture>) { let _ = config; todo!() }
/// `config` for one connection whose exporter secret is caught.
pub fn capturing_server(config: &ServerConfig) -> (Arc<ServerConfig>, Arc<ExporterCapture>) { let _ = config; todo!() }

impl TlsSecrets {
    /// The secrets of a client's completed handshake.
    ///
    /// # Errors
    /// When it is not complete, or the capture was used for more than this connection.
    pub fn of_client(connection: &ClientConnection, capture: &ExporterCapture) -> Result<Self, ExportError> { let _ = (connection, capture); todo!() }
    /// The secrets of a server's completed handshake.
    ///
    /// # Errors
    /// As [`TlsSecrets::of_client`].
    pub fn of_server(connection: &ServerConnection, capture: &ExporterCapture) -> Result<Self, ExportError> { let _ = (connection, capture); todo!() }
}

impl ChannelSecrets for TlsSecrets {
    fn export(&self, label: &[u8], context: Option<&[u8]>, out: &mut [u8]) -> Result<(), ExportError> { let _ = (label, context, out, &self.secret); todo!() }
    fn suite_hash(&self) -> Result<SuiteHash, ExportError> { Ok(self.hash) }
    fn role(&self) -> Role { self.role }
}

/// The public name of a channel, the same at both ends.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn session_id(channel: &dyn ChannelSecrets) -> Result<[u8; 32], ExportError> { let _ = channel; todo!() }
/// The WireGuard preshared key of a slot.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn psk(channel: &dyn ChannelSecrets, slot: &SlotContext) -> Result<Psk, ExportError> { let _ = (channel, slot); todo!() }
/// What `role` sends to show that it derived the same slot.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn confirm(channel: &dyn ChannelSecrets, slot: &SlotContext, role: Role) -> Result<[u8; 32], ExportError> { let _ = (channel, slot, role, Secret::new([0;1])); todo!() }
/// Whether `presented` is what `role` must send, in constant time.
///
/// # Errors
/// As [`ChannelSecrets::export`].
pub fn confirm_matches(channel: &dyn ChannelSecrets, slot: &SlotContext, role: Role, presented: &[u8]) -> Result<bool, ExportError> { let _ = (channel, slot, role, presented); todo!() }
