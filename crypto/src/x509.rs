//! X.509: what an SVID looks like, how one is made, and, separately, how one is checked.

pub mod build;
pub mod csr;
mod der;
pub mod profile;
pub mod verify;
