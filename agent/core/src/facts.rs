//! What the agent is told about pods and nodes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use signet_crypto::spiffe_id::{SpiffeId, TrustDomain};
use signet_policy::{PodFacts, PolicySet};

use crate::ids::{NodeUid, PodUid};

/// A node as the directory and the cluster source describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.uid`.
    pub uid: NodeUid,
    /// `metadata.name`.
    pub name: String,
    /// The identity that its node channel must prove.
    pub spiffe_id: SpiffeId,
    /// Addresses on the underlay, preferred first.
    pub underlay: Vec<IpAddr>,
    /// TCP port of its node channel.
    pub channel_port: u16,
    /// `spec.podCIDRs`. Empty in entries of the directory, which don't tell them.
    pub pod_cidrs: Vec<IpNet>,
}

/// A pod as the directory attests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every change of this pod's entry.
    pub generation: u64,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// What policy asks about it. `spiffe_id` in there must be the text of `spiffe_id` here.
    pub pod: PodFacts,
    /// The identity it must prove.
    pub spiffe_id: SpiffeId,
    /// UID of its namespace, as certificates bind it.
    pub namespace_uid: String,
    /// UID of its service account, as certificates bind it.
    pub service_account_uid: String,
    /// The node it runs on.
    pub node: NodeFacts,
}

/// A pod of this node, from the cluster source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// What policy asks about it.
    pub pod: PodFacts,
}

/// What the cluster source says, whole; each [`crate::Input::Cluster`] replaces the one before.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Pods that run on this node, whether or not they have an endpoint.
    pub pods: Vec<LocalPod>,
    /// Every policy of the cluster.
    pub policies: Arc<PolicySet>,
    /// Every node, this one included.
    pub nodes: Vec<NodeFacts>,
    /// Addresses of the Kubernetes API server, if there is one.
    pub kube_api_servers: Vec<IpAddr>,
}

/// Who this agent is and how it behaves. Fixed for one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Trust domain of everybody it talks to.
    pub trust_domain: TrustDomain,
    /// UID of its Node object.
    pub node_uid: NodeUid,
    /// The node's SPIFFE ID.
    pub node_id: SpiffeId,
    /// The kernel's boot id, as 16 bytes.
    pub boot_id: [u8; 16],
    /// Grows with each start of the agent in one boot of this node, also over a wall clock that was
    /// set back: milliseconds of the boot clock will do. Peers refuse a lower one.
    pub instance: u64,
    /// Budgets of the hold queue and of requests.
    pub limits: Limits,
    /// How long things take at most.
    pub timers: Timers,
    /// What ends while the own stream from the identity service is down.
    pub outage: Outage,
}

/// How long grants last while nobody could tell this node of a revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// As long as their certificates: the service's absence stops nothing.
    #[default]
    Certificates,
    /// As long as a lease: a node that nobody can tell anything is treated as it would be by others.
    Strict,
}

/// Budgets. [`Limits::default`] is what is documented in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Held packets of one pair of endpoint and destination.
    pub hold_pair_packets: usize,
    /// Held bytes of one pair.
    pub hold_pair_bytes: usize,
    /// Held bytes of one endpoint.
    pub hold_endpoint_bytes: usize,
    /// Held bytes of the node.
    pub hold_node_bytes: usize,
    /// New pairs that one endpoint may start at once.
    pub pair_burst: u32,
    /// New pairs that one endpoint may start per second.
    pub pair_rate: u32,
    /// PROOF_REQ of one peer that are answered at once.
    pub request_burst: u32,
    /// PROOF_REQ of one peer that are answered per second.
    pub request_rate: u32,
    /// Renewed proofs of one peer that are looked at at once; then as many per second as requests.
    pub renewal_burst: u32,
    /// PROOF_REQ of one peer that wait for the directory, a certificate or the engine.
    pub requests_open: usize,
    /// Addresses and pods remembered from the directory without any use for them.
    pub directory_idle: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_pair_packets: 64,
            hold_pair_bytes: 96 << 10,
            hold_endpoint_bytes: 512 << 10,
            hold_node_bytes: 16 << 20,
            pair_burst: 256,
            pair_rate: 100,
            request_burst: 512,
            request_rate: 256,
            renewal_burst: 4096,
            requests_open: 256,
            directory_idle: 4096,
        }
    }
}

/// Durations. [`Timers::default`] is what is documented in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// A held packet waits at most this long.
    pub hold: Duration,
    /// A dial, HELLO or slot negotiation takes at most this long.
    pub handshake: Duration,
    /// A PROOF_REQ waits at most this long for its PROOF and LABEL.
    pub proof: Duration,
    /// A PING is sent this often.
    pub ping: Duration,
    /// A channel without any frame for this long is dead.
    pub dead: Duration,
    /// A refused destination is remembered this long, +-20 %.
    pub refused: Duration,
    /// Rows of a previous instance live this long unless a new pair replaces them.
    pub adoption: Duration,
    /// A slot receives this long after both nodes send in the other one; at most a third of an
    /// epoch.
    pub slot_grace: Duration,
    /// A switch of epochs that is not done after this is begun anew; at most a quarter of an epoch.
    pub switch: Duration,
    /// Lease of a peer whose stream to the identity service is down.
    pub lease: Duration,
    /// First and last delay between tries, doubled from one to the other, +-20 %.
    pub retry: (Duration, Duration),
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            proof: Duration::from_secs(3),
            ping: Duration::from_secs(10),
            dead: Duration::from_secs(30),
            refused: Duration::from_secs(5),
            adoption: Duration::from_secs(120),
            slot_grace: Duration::from_secs(200),
            switch: Duration::from_secs(30),
            lease: Duration::from_secs(300),
            retry: (Duration::from_millis(200), Duration::from_secs(15)),
        }
    }
}

/// A peer's address for WireGuard: underlay address and the port of its slot.
pub type Underlay = SocketAddr;
