//! The agent's decisions, without a clock, a socket or a runtime.
//!
//! [`Agent`] is a function from inputs to outputs ([`io`]); time and randomness are arguments. The
//! protocol it speaks with its peers is in `docs/protocol.md`. [`status`] holds the words of the
//! status socket.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod agent;
pub mod event;
pub mod facts;
pub mod ids;
pub mod io;
pub mod rows;
pub mod status;

pub use agent::Agent;
pub use io::{Input, Output};
