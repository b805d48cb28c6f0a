//! The user-space WireGuard engine and the messages that drive it.
//!
//! - [`control`]: what the agent and `signet-tunnel` say to each other.

pub mod control;
