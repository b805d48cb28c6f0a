//! Whose request is signed as what.

use std::sync::Arc;

use signet_crypto::{
    spiffe_id::SpiffeId,
    x509::{
        csr::{CsrError, CsrPublicKey, parse},
        profile::{Binding, Purpose},
    },
};

use crate::{
    authority::Leaf,
    cluster::{Node, NodeUid, PodUid},
    directory::Entry,
};
/// A workload's request that may be signed.
#[derive(Clone, Debug)]
pub struct WorkloadGrant {
    /// The pod, as the directory had it.
    pub entry: Arc<Entry>,
    /// The key that its agent made.
    pub public_key: CsrPublicKey,
}

impl WorkloadGrant {
    /// The leaf to sign: bound to the node, and to the namespace and service account as they are now,
    /// not as they are named.
    #[must_use]
    pub fn leaf(&self) -> Leaf<'_> {
        let Entry { pod, node, .. } = &*self.entry;
        Leaf {
            id: &pod.spiffe_id,
            public_key: &self.public_key,
            purpose: Purpose::AgentPlane,
            binding: Some(Binding::new(
                &node.spiffe_id,
                pod.namespace_uid.as_str(),
                pod.service_account_uid.as_str(),
            )),
            node: Some(&node.spiffe_id),
        }
    }
}

/// Whether `caller` may have an agent-plane SVID for `pod`, of which the directory says `entry`: only
/// if it has the pod there.
///
/// # Errors
/// Why not.
pub fn workload(
    entry: Option<Arc<Entry>>,
    caller: &NodeUid,
    pod: &PodUid,
    csr: &[u8],
) -> Result<WorkloadGrant, IssueRefusal> {
    let Some(entry) = entry.filter(|entry| entry.pod.uid == *pod) else {
        return Err(IssueRefusal::UnknownPod { pod: pod.clone() });
    };
    if entry.node.uid != *caller {
        return Err(IssueRefusal::OtherNode {
            pod: pod.clone(),
            runs_on: entry.node.name.clone(),
        });
    }
    let public_key = parse(csr)?;
    match public_key.requested_id() {
        Some(asked) if *asked != entry.pod.spiffe_id => Err(IssueRefusal::OtherId {
            asked: asked.clone(),
            is: entry.pod.spiffe_id.clone(),
        }),
        Some(_) | None => Ok(WorkloadGrant { entry, public_key }),
    }
}

/// The leaf of a node's own SVID.
#[must_use]
pub fn node<'a>(node: &'a Node, public_key: &'a CsrPublicKey) -> Leaf<'a> {
    Leaf {
        id: &node.spiffe_id,
        public_key,
        purpose: Purpose::NodeAgent,
        binding: None,
        node: None,
    }
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefusal {
    /// No live pod with that UID.
    #[error("pod {pod} is not known, or has finished; if it is new, try again in a moment")]
    UnknownPod {
        /// As it was asked.
        pod: PodUid,
    },
    /// The pod runs elsewhere. Where is for the service's log, not for the asker.
    #[error("pod {pod} does not run on this node; a node gets SVIDs for its own pods only")]
    OtherNode {
        /// As it was asked.
        pod: PodUid,
        /// Name of the node where it runs.
        runs_on: String,
    },
    /// The request names somebody else.
    #[error("request names {asked}, but the pod is {is}; leave the name out or correct it")]
    OtherId {
        /// What the request names.
        asked: SpiffeId,
        /// What the pod is.
        is: SpiffeId,
    },
    /// The request itself is bad.
    #[error(transparent)]
    Csr(#[from] CsrError),
}

impl IssueRefusal {
    /// One word, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownPod { .. } => "unknown_pod",
            Self::OtherNode { .. } => "other_node",
            Self::OtherId { .. } => "other_id",
            Self::Csr(_) => "bad_csr",
        }
    }
}
