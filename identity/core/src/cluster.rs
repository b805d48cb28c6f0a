//! The cluster as the service's own watch shows it.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use signet_crypto::spiffe_id::SpiffeId;

/// `metadata.uid` of a Node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeUid(pub Arc<str>);

/// `metadata.uid` of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(pub Arc<str>);

impl From<&str> for NodeUid {
    fn from(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl From<&str> for PodUid {
    fn from(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl fmt::Display for NodeUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.uid`
    pub uid: NodeUid,
    /// `metadata.name`
    pub name: String,
    /// The identity of its agent: made of the UID.
    pub spiffe_id: SpiffeId,
    /// Addresses at which other nodes reach it, preferred first.
    pub underlay: Vec<IpAddr>,
    /// TCP port of its node channel.
    pub channel_port: u16,
    /// Ranges of its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
}

/// A live pod that runs on a node and has an identity of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`
    pub uid: PodUid,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.uid` of the Namespace.
    pub namespace_uid: String,
    /// `metadata.name`
    pub name: String,
    /// `spec.serviceAccountName`
    pub service_account: String,
    /// `metadata.uid` of the ServiceAccount.
    pub service_account_uid: String,
    /// Its identity: made of namespace and service account.
    pub spiffe_id: SpiffeId,
    /// `status.podIPs`, canonical.
    pub addresses: Vec<IpAddr>,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `metadata.labels` of the Namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Container ports that have names: rules may name them.
    pub named_ports: Vec<NamedPort>,
    /// The node on which it runs.
    pub node: NodeUid,
}

/// One `containerPorts` entry with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// `name`
    pub name: String,
    /// `protocol`: TCP, UDP or SCTP.
    pub protocol: String,
    /// `containerPort`
    pub port: u16,
}

/// Everything at one moment. UIDs, node names and pod addresses are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// By UID.
    pub nodes: BTreeMap<NodeUid, Node>,
    /// By UID. A pod whose node is not in `nodes` is as good as not there.
    pub pods: BTreeMap<PodUid, Pod>,
}
