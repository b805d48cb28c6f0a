//! One file per command.

pub(crate) mod audit;
pub(crate) mod endpoints;
pub(crate) mod observe;
pub(crate) mod peers;
pub(crate) mod policy;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod version;
