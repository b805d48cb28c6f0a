//! The objects that are read, reduced to what somebody uses.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

/// TCP port of a node's channel unless the Node's annotation `signet.dev/channel-port` says otherwise.
pub const DEFAULT_CHANNEL_PORT: u16 = 7447;

/// A kind of object, in the order in which objects depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Node
    Node,
    /// `v1` Namespace
    Namespace,
    /// `v1` ServiceAccount
    ServiceAccount,
    /// `v1` Pod
    Pod,
    /// `networking.k8s.io/v1` NetworkPolicy
    NetworkPolicy,
    /// `signet.dev/v1alpha1` AuthenticatedPolicy
    AuthenticatedPolicy,
}

impl Kind {
    /// Every kind that is read.
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::NetworkPolicy,
        Self::AuthenticatedPolicy,
    ];

    /// `kind` as manifests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::AuthenticatedPolicy => "AuthenticatedPolicy",
        }
    }

    /// `apiVersion` as manifests write it.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Node | Self::Namespace | Self::ServiceAccount | Self::Pod => "v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::AuthenticatedPolicy => "signet.dev/v1alpha1",
        }
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Node | Self::Namespace => false,
            Self::ServiceAccount | Self::Pod | Self::NetworkPolicy | Self::AuthenticatedPolicy => {
                true
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What tells one object from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `Kind namespace/name`, or `Kind name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        if namespace.is_empty() {
            write!(f, "{kind} {name}")
        } else {
            write!(f, "{kind} {namespace}/{name}")
        }
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.podCIDRs`, or `spec.podCIDR`: no two nodes' overlap.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.addresses` of type InternalIP, at least one, in their order. No two nodes share one.
    pub addresses: Vec<IpAddr>,
    /// Annotation `signet.dev/channel-port`, or [`DEFAULT_CHANNEL_PORT`].
    pub channel_port: u16,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.labels`, with `kubernetes.io/metadata.name`, which a cluster always sets.
    pub labels: BTreeMap<String, String>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, not yet started.
    Pending,
    /// At least one container runs; also what an absent phase counts as.
    Running,
    /// Every container ended well and stays so.
    Succeeded,
    /// Every container ended, one of them badly.
    Failed,
    /// The node does not answer; it may still run.
    Unknown,
}

impl Phase {
    /// Whether its containers have ended for good: it has no address and no identity any more.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running | Self::Unknown => false,
        }
    }
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// `name`
    pub name: String,
    /// `protocol`: TCP (the default), UDP or SCTP.
    pub protocol: String,
    /// `containerPort`
    pub port: u16,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// `spec.nodeName`: a node of the same snapshot. `None` until the pod is placed.
    pub node: Option<String>,
    /// `spec.serviceAccountName`, or `default`: a service account of the same snapshot.
    pub service_account: String,
    /// `status.podIPs`, or `status.podIP`; within the node's `podCIDRs`, and no other live pod's.
    pub addresses: Vec<IpAddr>,
    /// `status.phase`
    pub phase: Phase,
    /// `spec.hostNetwork`: its packets are the node's, and its identity too.
    pub host_network: bool,
    /// Named ports of `spec.containers`.
    pub named_ports: Vec<NamedPort>,
}

impl Pod {
    /// Whether it may hold addresses and an identity: its containers have not ended for good.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.phase.is_finished()
    }

    /// Whether it only mirrors a file on its node, so that the cluster never placed it there.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.annotations.contains_key("kubernetes.io/config.mirror")
    }

    /// Whether it takes part with an identity of its own.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.is_live() && !self.host_network && !self.is_mirror() && self.node.is_some()
    }
}

/// Any object. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A node.
    Node(Arc<Node>),
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A service account.
    ServiceAccount(Arc<ServiceAccount>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A network policy, as the Kubernetes type.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// An authenticated policy, as it stands: whoever evaluates it knows its fields.
    AuthenticatedPolicy(Arc<Value>),
}

impl Object {
    /// `metadata.uid`; `None` for policies, of which nobody asks it.
    pub(crate) fn uid(&self) -> Option<&str> {
        match self {
            Self::Node(node) => Some(&node.uid),
            Self::Namespace(namespace) => Some(&namespace.uid),
            Self::ServiceAccount(account) => Some(&account.uid),
            Self::Pod(pod) => Some(&pod.uid),
            Self::NetworkPolicy(_) | Self::AuthenticatedPolicy(_) => None,
        }
    }
}
