//! TLS 1.3 with X25519MLKEM768 and SPIFFE verification, and what is derived from it.
//!
//! No tickets, no 0-RTT, no resumption on either side: a resumed handshake verifies no certificate.

pub mod authenticator;
mod config;
pub mod exporter;
mod store;

pub use config::{ClientAuth, ConfigError, ExpectPeer, client_config, peer_svid, provider, require_alpn, server_config};
pub use store::{SvidStore, TrustStore, StoreError};
