//! Authentication of workload pairs: proofs, labels, and the packets that wait for them.

pub(crate) mod hold;
pub(crate) mod label;
pub(crate) mod pair;
pub(crate) mod proof;
pub(crate) mod want;
