//! TLS 1.3 with X25519MLKEM768 and SPIFFE verification, and what is derived from a channel.
//!
//! No tickets, no 0-RTT, no resumption on either side: a resumed handshake verifies no certificate.

pub mod authenticator;
mod capture;
mod config;
pub mod exporter;
mod messages;
mod store;
mod verifier;

pub use capture::{ExporterCapture, TlsSecrets, capturing_client, capturing_server};
pub use config::{
    ClientAuth, ConfigError, client_config, peer_svid, provider, require_alpn, server_config,
};
pub use store::{StoreError, SvidStore, TrustStore};
pub use verifier::ExpectPeer;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
