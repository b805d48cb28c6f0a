//! The identity service's gRPC messages, clients and servers.
//!
//! [`v1`] is made from `proto/signet/identity/v1`. With the feature `client`, `client` connects
//! to the service over TLS and to its admin socket.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;

mod address;

pub use address::{address_bytes, parse_address};

/// `signet.identity.v1`: services Node and Admin.
pub mod v1 {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::wildcard_enum_match_arm,
        unreachable_pub,
        reason = "generated from the protocol files"
    )]
    tonic::include_proto!("signet.identity.v1");
}

/// ALPN protocol of the Node service: HTTP/2, as gRPC has it.
pub const ALPN: &[u8] = b"h2";

/// TCP port of the Node service unless told otherwise.
pub const DEFAULT_PORT: u16 = 7448;

/// The largest message either side accepts, in bytes. An entry is a few KiB; a CSR less than one.
pub const MAX_MESSAGE: usize = 256 << 10;
