//! Questions of the status socket to the executor.

use signet_agent_core::status::{
    AuditPeers, Endpoint, Endpoints, ExplainQuery, Explanation, Impact, Peers, Policies, Status,
};
use tokio::sync::oneshot;

use crate::{host::Link, observe::Subscription, state::FoundBy};

/// A question with the place for its answer.
pub(crate) enum Ask {
    Status(oneshot::Sender<Status>),
    /// The executor's part of the answer; what the engine knows is put in by who asks.
    Peers(oneshot::Sender<Peers>),
    Endpoints(oneshot::Sender<Endpoints>),
    AuditPeers(oneshot::Sender<AuditPeers>),
    Observe(oneshot::Sender<Subscription>),
    Policies(oneshot::Sender<Policies>),
    Impact(oneshot::Sender<Impact>),
    Explain(ExplainQuery, oneshot::Sender<Result<Explanation, String>>),
    AddEndpoint(NewEndpoint, oneshot::Sender<Result<Endpoint, AddError>>),
    /// Whether there was one.
    RemoveEndpoint(String, oneshot::Sender<bool>),
    /// An endpoint as it is now; `None` if there is none.
    Endpoint(String, oneshot::Sender<Option<Endpoint>>),
}

/// A pod's interface, looked at.
pub(crate) struct NewEndpoint {
    pub(crate) pod_uid: String,
    pub(crate) link: Link,
    pub(crate) mac: [u8; 6],
    pub(crate) found: FoundBy,
}

/// Why an endpoint was not added.
pub(crate) enum AddError {
    /// The manifests don't place it here; perhaps not yet.
    NotPlaced,
    /// One line.
    Failed(String),
}
