//! The audit log of a node: who talked with whom, under which certificates, when, and who was
//! refused; kept so that a later change of it is found.
//!
//! - [`line`]: the four kinds of line and their one encoding. A line is canonical JSON; its SHA-256
//!   stands in the line after it.
//! - [`record`]: what a record says; [`fields`]: every field in words.
//! - [`key`]: the node's Ed25519 key that signs batches and checkpoints. A header line, signed with
//!   the node's SVID, ties that key to the node.
//! - [`chain`]: where the log stands, and the next line of each kind.
//! - [`segment`]: names, sizes and the life of the files.
//! - [`recover`]: what of a file is good after a crash.
//! - [`limit`]: how many refusals are worth a record.
//! - [`verify`]: checks a log from the outside. It shares with the rest the types of the lines and
//!   nothing else, so that a mistake in one is not excused by the other.
//!
//! The crate does no I/O and reads no clock. Keys are made by AWS-LC with its own generator.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod chain;
pub mod fields;
pub mod key;
pub mod limit;
pub mod line;
pub mod record;
pub mod recover;
pub mod segment;
pub mod verify;

#[cfg(test)]
mod tests;
