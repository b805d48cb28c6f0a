//! Identity and channel cryptography of Signet.
//!
//! What lives here, from the outside in:
//!
//! - [`spiffe_id`], [`svid`], [`bundle`]: who somebody is, the key and certificate that prove it,
//!   and the authorities that are believed.
//! - [`x509`]: building certificates ([`x509::build`]) and checking them ([`x509::verify`]). The two
//!   share no code beyond the list of object identifiers in [`x509::profile`], so that a mistake in
//!   one is not excused by the other.
//! - [`tls`]: TLS 1.3 with X25519MLKEM768 and nothing else, exporters, and the RFC 9261 exported
//!   authenticators that prove workload identities inside a node channel.
//! - [`wg`]: the WireGuard key types, and a preshared key that cannot be all zero.
//!
//! The crate does no I/O and reads no clock: callers pass [`time::Now`] (or a [`time::TimeSource`]
//! where rustls has to ask) and a [`random::Random`]. Key pairs are the one exception: they are made
//! by AWS-LC with its own generator.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bundle;
pub mod random;
pub mod secret;
pub mod spiffe_id;
pub mod svid;
pub mod time;
pub mod tls;
pub mod wg;
pub mod x509;
