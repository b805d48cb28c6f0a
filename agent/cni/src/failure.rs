//! What a runtime is told when something is wrong.

use serde_json::json;

/// Numbers below 100 are the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration is of a version that lacks the verb, or that nobody here knows.
    Version = 1,
    /// A `CNI_` variable is missing or wrong.
    Environment = 4,
    /// Standard input.
    Io = 5,
    /// The configuration is no JSON, or not of the right shape.
    Decode = 6,
    /// A field of the configuration is wrong.
    Config = 7,
    /// `STATUS`: an `ADD` would fail.
    NotAvailable = 50,
    /// Nobody answers at the agent's socket.
    NoAgent = 100,
    /// The agent will not enforce this pod.
    Refused = 101,
    /// The pod's interface has no side on this host that could be enforced.
    NoHostSide = 102,
    /// The pod's network has other addresses than the pod.
    OtherAddresses = 103,
    /// `CHECK`: the pod is not enforced as it should be.
    NotEnforced = 104,
}

/// Why a verb failed: what happened in `msg`, what to do about it in `details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) msg: String,
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// The error object of the specification, in the version that the runtime speaks.
    pub(crate) fn object(&self, version: &str) -> String {
        json!({
            "cniVersion": version,
            "code": self.code as u32,
            "msg": self.msg,
            "details": self.details,
        })
        .to_string()
    }
}
