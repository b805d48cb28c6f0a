//! The agent as a pure state machine, and the words it is asked in.

pub mod status;
