//! X.509: what an SVID looks like, how one is made, and, separately, how one is checked.

pub mod build;
pub mod csr;
pub(crate) mod der;
mod extensions;
pub(crate) mod keys;
pub mod profile;
pub(crate) mod template;
pub mod verify;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
