//! Who may talk with whom: Signet's policy engine.
//!
//! A pure function of policy objects and facts about pods. [`PolicySet`] is made from
//! `networking.k8s.io/v1 NetworkPolicy` and `signet.dev/v1alpha1 AuthenticatedPolicy` objects and
//! answers, pair by pair, with the tables that the data path enforces. `docs/policy.md` states the
//! semantics.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod block;
mod compile;
pub mod crd;
pub mod diff;
mod explain;
mod facts;
#[cfg(any(test, feature = "test-util"))]
pub mod generate;
mod impact;
mod import;
pub mod lint;
mod model;
#[cfg(any(test, feature = "test-util"))]
pub mod naive;
mod partition;
mod ports;
mod problem;
mod resolve;
mod select;
mod set;

pub use crate::compile::PairPolicy;
pub use crate::explain::{Cause, DryRunDifference, Explanation, Outcome, Query, Side};
pub use crate::facts::{NamedPort, PeerFacts, PodFacts, Protocol};
pub use crate::impact::Breakage;
pub use crate::model::{
    Action, Authentication, Direction, Enforcement, Entity, Isolation, Mode, PolicyKind, PolicyRef,
    RuleId, RuleName, Verdict,
};
pub use crate::partition::CidrPartition;
pub use crate::ports::{PortMap, PortPrefix, PortRange};
pub use crate::problem::PolicyProblem;
pub use crate::set::{PolicySet, TakenOver};

#[cfg(test)]
mod tests;
