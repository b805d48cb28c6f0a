//! What is known about the two ends of a flow.
//!
//! Facts about pods come from the identity service's directory and the cluster source, never from
//! the pod itself, so a pod cannot label itself into another rule.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A transport protocol that a rule can name. Everything else (ICMP, GRE, ...) has no ports and is
/// matched only by rules without a `ports` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// All protocols a rule can name.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol as Kubernetes writes it: `TCP`, `UDP`, `SCTP`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// Reads the Kubernetes spelling, exactly. `None` for anything else.
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One `containerPorts` entry that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    /// `containerPorts[].name`.
    pub name: String,
    /// `containerPorts[].protocol`; Kubernetes' default is TCP.
    pub protocol: Protocol,
    /// `containerPorts[].containerPort`.
    pub port: u16,
}

/// Everything policy asks about one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodFacts {
    /// `metadata.uid`. Two facts with one uid are the same pod.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.serviceAccountName`. Empty means not known.
    pub service_account: String,
    /// The SPIFFE ID the pod's SVID carries, compared byte for byte. Empty means not known.
    pub spiffe_id: String,
    /// `metadata.labels` of the pod.
    pub labels: BTreeMap<String, String>,
    /// `metadata.labels` of the pod's namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Named container ports; `None` when they are not known, as for a pod that only the directory
    /// has told of.
    pub named_ports: Option<Vec<NamedPort>>,
    /// Whether the pod takes part in the mesh, so that its identity can be proven.
    pub enrolled: bool,
}

impl PodFacts {
    /// `namespace/name`; of a node itself, which has no namespace, `node/name`.
    pub fn full_name(&self) -> String {
        let namespace = match self.namespace.as_str() {
            "" => "node",
            namespace => namespace,
        };
        format!("{namespace}/{}", self.name)
    }
}

/// The other end of a flow, as seen from a local pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PeerFacts {
    /// A pod, enrolled or not, whose facts are known.
    Pod(PodFacts),
    /// The world: an address outside the cluster.
    Address(IpAddr),
    /// The node the local pod runs on, with all its addresses.
    Host(Vec<IpAddr>),
    /// Another node, or all of them, with every address they have. An address block selects them
    /// only if it holds all of these.
    RemoteNode(Vec<IpAddr>),
    /// The Kubernetes API server, with its addresses.
    KubeApiServer(Vec<IpAddr>),
    /// Another node, with its addresses, where the Kubernetes API server answers too.
    ApiServerNode(Vec<IpAddr>),
    /// An address of the pod ranges about which nothing more is known. Selectors of pods, service
    /// accounts and SPIFFE IDs are unresolved for it.
    Unmanaged(IpAddr),
}

impl PeerFacts {
    /// The addresses the peer may use. Several only where one policy class speaks for all of them.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            PeerFacts::Pod(pod) => &pod.addresses,
            PeerFacts::Address(address) | PeerFacts::Unmanaged(address) => {
                std::slice::from_ref(address)
            }
            PeerFacts::Host(addresses)
            | PeerFacts::RemoteNode(addresses)
            | PeerFacts::KubeApiServer(addresses)
            | PeerFacts::ApiServerNode(addresses) => addresses,
        }
    }

    /// The pod behind it, if it is one.
    pub fn pod(&self) -> Option<&PodFacts> {
        match self {
            PeerFacts::Pod(pod) => Some(pod),
            PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::RemoteNode(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::ApiServerNode(_)
            | PeerFacts::Unmanaged(_) => None,
        }
    }

    /// Whether it is the world, which strict mode closes unless a rule opens it.
    pub fn is_world(&self) -> bool {
        matches!(self, PeerFacts::Address(_))
    }

    /// Whether it can prove an identity: pods of the mesh, and nodes, whose channel proves them.
    pub fn can_authenticate(&self) -> bool {
        match self {
            PeerFacts::Pod(pod) => pod.enrolled,
            PeerFacts::RemoteNode(_) | PeerFacts::ApiServerNode(_) => true,
            PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::Unmanaged(_) => false,
        }
    }
}

impl fmt::Display for PeerFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerFacts::Pod(pod) => write!(f, "{}/{}", pod.namespace, pod.name),
            PeerFacts::Address(address) => write!(f, "world ({address})"),
            PeerFacts::Host(_) => f.write_str("own node"),
            PeerFacts::RemoteNode(_) => f.write_str("remote node"),
            PeerFacts::KubeApiServer(_) => f.write_str("kube-apiserver"),
            PeerFacts::ApiServerNode(_) => f.write_str("remote node with kube-apiserver"),
            PeerFacts::Unmanaged(address) => write!(f, "unmanaged ({address})"),
        }
    }
}
