//! The agent's decisions, without a clock, a socket or a runtime.
//!
//! [`Agent`] is a function from inputs to outputs ([`io`]); time and randomness are arguments. The
//! protocol it speaks with its peers is in `docs/protocol.md`. [`status`] holds the words of the
//! status socket.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod adopt;
mod agent;
mod authn;
mod directory;
mod effects;
mod endpoint;
pub mod epochs;
pub mod event;
pub mod facts;
mod handles;
pub mod ids;
pub mod io;
mod peer;
mod policy_map;
mod repair;
pub mod rows;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;
pub mod snapshot;
pub mod status;
pub mod wire;

pub use agent::Agent;
pub use effects::Counters;
pub use io::{Input, Output};
