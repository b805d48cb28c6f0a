//! Why a policy object was refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A policy object that was refused, whole. One line: which object, which field, what is wrong
/// with it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// Kind and `namespace/name`, as far as they could be read.
    pub object: String,
    /// The field, such as `spec.ingress[0].from[1].cidrs[0].cidr`.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}; {}",
            self.object, self.path, self.what, self.fix
        )
    }
}

impl std::error::Error for PolicyProblem {}

/// What is wrong inside an object whose name the caller knows.
#[derive(Debug)]
pub(crate) struct Fault {
    path: String,
    what: String,
    fix: String,
}

impl Fault {
    pub(crate) fn new(
        path: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Fault {
            path: path.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }

    pub(crate) fn within(self, object: impl Into<String>) -> PolicyProblem {
        PolicyProblem {
            object: object.into(),
            path: self.path,
            what: self.what,
            fix: self.fix,
        }
    }
}
