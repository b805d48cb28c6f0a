//! The words of the agent's status socket: one JSON request line, JSON lines back.
//!
//! Requests are objects tagged by `cmd`; a failure is the single line [`Failure`]. Every time is
//! in seconds of Unix time unless its name says otherwise, on the clock that is anchored to the
//! identity service. Names, never keys: nothing in here is secret.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What a client asks; one per connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Answered by one [`Status`].
    Status,
    /// Answered by one [`Peers`].
    Peers,
    /// Answered by one [`Endpoints`].
    Endpoints,
    /// Answered by [`ObserveLine`]s: those remembered, then with `follow` all new ones until the
    /// client closes.
    Observe(ObserveFilter),
    /// Answered by one [`Policies`].
    Policies,
    /// Answered by one [`Explanation`].
    Explain(ExplainQuery),
    /// Answered by one [`Impact`].
    Impact,
    /// Answered by one [`AuditPeers`].
    AuditPeers,
    /// Answered by one [`AuditLog`].
    AuditLog,
    /// Attaches the programs to a pod's interface; answered by one [`EndpointAdded`] once nothing
    /// can pass unenforced.
    EndpointAdd {
        /// `metadata.uid` of the pod.
        pod_uid: String,
        /// Host side of the pod's veth, in the agent's network namespace.
        ifname: String,
    },
    /// Forgets a pod at once; answered by one [`EndpointRemoved`].
    EndpointRemove {
        /// `metadata.uid` of the pod.
        pod_uid: String,
    },
}

/// The answer to a request that could not be met: what happened, to what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// One line.
    pub error: String,
}

/// How the agent is, in blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `signet-agent`'s version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// UID of the Node object; absent until the node is attested.
    pub node_uid: Option<String>,
    /// The node's SPIFFE ID; absent until the node is attested.
    pub node_spiffe_id: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `strict`.
    pub mode: String,
    /// Seconds since the agent started.
    pub uptime_secs: u64,
    /// The stream from the identity service.
    pub identity: IdentityStatus,
    /// The WireGuard engine.
    pub tunnel: TunnelStatus,
    /// Local pods under enforcement.
    pub endpoints: u64,
    /// Remote nodes with state here.
    pub peers: u64,
    /// Pairs by state.
    pub pairs: PairCounts,
    /// Packets that wait for their pair.
    pub held: HeldStatus,
    /// Certificates the agent holds, soonest expiry first.
    pub svids: Vec<SvidStatus>,
    /// Drops by reason, those that happened only.
    pub drops: Vec<DropCount>,
    /// Policies in force.
    pub policies: PolicyStatus,
    /// What is wrong with the manifests; the last good state of each stays in force.
    pub manifest_problems: Vec<ManifestProblem>,
    /// What the agent needs to do its work, each with a hint when it fails.
    pub checks: Vec<HealthCheck>,
}

/// The agent's view of the identity service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// `host:port` as configured.
    pub address: String,
    /// Whether the watch stream is up.
    pub connected: bool,
    /// When it last came up or went down.
    pub since: Option<u64>,
    /// The trust domain; absent until the node is attested.
    pub trust_domain: Option<String>,
    /// Sequence of the trust bundle in force.
    pub bundle_sequence: u64,
    /// Entries this node subscribes to.
    pub subscriptions: u64,
    /// Why it is down.
    pub problem: Option<String>,
}

/// The agent's view of `signet-tunnel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// `userspace`.
    pub backend: String,
    /// Whether the control connection is up.
    pub connected: bool,
    /// When it last came up or went down.
    pub since: Option<u64>,
    /// Path of the control socket.
    pub socket: String,
    /// The engine's slots.
    pub slots: Vec<SlotStatus>,
    /// Why it is down.
    pub problem: Option<String>,
}

/// One slot of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// 0 or 1.
    pub slot: u8,
    /// The slot's WireGuard public key, base64.
    pub public_key: String,
    /// UDP port on the underlay.
    pub port: u16,
    /// The slot's device.
    pub interface: String,
    /// Peers configured in it.
    pub peers: u64,
}

/// Pairs of a local pod and a remote pod, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounts {
    /// Authenticated in both directions and flowing.
    pub open: u64,
    /// Being authenticated.
    pub pending: u64,
    /// Refused, remembered for a few seconds.
    pub refused: u64,
    /// Taken over from the agent before this one, not yet confirmed.
    pub adopted: u64,
}

/// The hold queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// Packets now in the queue.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets ever held.
    pub held_total: u64,
    /// Packets ever released.
    pub released_total: u64,
    /// Packets dropped from the queue: overflow, time-out or refusal.
    pub dropped_total: u64,
}

/// One certificate the agent holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SvidStatus {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// `node` or `workload`.
    pub kind: String,
    /// `namespace/name` of the pod it speaks for; absent for the node's.
    pub pod: Option<String>,
    /// SHA-256 of the leaf, hex.
    pub sha256: String,
    /// End of validity.
    pub not_after: u64,
}

/// Packets dropped for one reason since the maps were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// The reason's number, never reused.
    pub reason: u16,
    /// Its name.
    pub name: String,
    /// Packets.
    pub packets: u64,
}

/// Policies that apply on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// `AuthenticatedPolicy` objects.
    pub authenticated: u64,
    /// `NetworkPolicy` objects.
    pub network: u64,
    /// Rules compiled into the policy map.
    pub map_entries: u64,
    /// Objects that are refused or warned about, by name.
    pub problems: Vec<PolicyProblem>,
}

/// What is wrong with one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// `Kind namespace/name`.
    pub object: String,
    /// One line.
    pub message: String,
}

/// What is wrong with one manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestProblem {
    /// File in the manifest directory.
    pub file: String,
    /// `Kind namespace/name`, if the object could be told.
    pub object: Option<String>,
    /// One line.
    pub message: String,
}

/// One thing the agent needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// A short noun, such as `identity` or `tunnel`.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is so.
    pub detail: String,
    /// What to do; absent if `ok`.
    pub hint: Option<String>,
}

/// Remote nodes, readable like `wg show`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Sorted by node name.
    pub peers: Vec<Peer>,
}

/// One remote node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node's name, or its UID when the directory has not told the name.
    pub node: String,
    /// UID of the Node object.
    pub node_uid: String,
    /// SPIFFE ID proven in the channel.
    pub spiffe_id: String,
    /// Where WireGuard packets go.
    pub underlay: Option<SocketAddr>,
    /// The node channel; absent while there is none.
    pub channel: Option<Channel>,
    /// Why there is no channel, and when the next try is.
    pub problem: Option<String>,
    /// Key epoch in use.
    pub epoch: Option<u64>,
    /// Slot in use, `epoch & 1`.
    pub slot: Option<u8>,
    /// Seconds since its keys can be used.
    #[serde(default)]
    pub epoch_age_secs: Option<u64>,
    /// Seconds until the next keys are to be made; 0 if that is under way.
    #[serde(default)]
    pub next_switch_secs: Option<u64>,
    /// Its keys are so old that nothing passes.
    #[serde(default)]
    pub overdue: bool,
    /// The peer's WireGuard public key, base64.
    pub public_key: Option<String>,
    /// Seconds since the last WireGuard handshake.
    pub last_handshake_secs: Option<u64>,
    /// Bytes received through the tunnel.
    pub rx_bytes: u64,
    /// Bytes sent through the tunnel.
    pub tx_bytes: u64,
    /// What the engine accepts from and routes to this peer.
    pub allowed_ips: Vec<String>,
    /// Pairs with pods on this node.
    pub pairs: PairCounts,
}

/// One node channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// `connecting`, `hello`, `keying`, `ready`.
    pub state: String,
    /// `client` or `server`, of this node in TLS.
    pub role: String,
    /// When it was made.
    pub since: u64,
    /// Session id, hex: the same on both nodes.
    pub session_id: String,
    /// `TLSv1.3`.
    pub tls_version: String,
    /// Key exchange, `X25519MLKEM768`.
    pub key_exchange: String,
    /// Cipher suite.
    pub cipher: String,
    /// The peer's address of the TCP connection.
    pub remote: Option<SocketAddr>,
}

/// Local pods under enforcement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Sorted by namespace and name.
    pub endpoints: Vec<Endpoint>,
}

/// One local pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Index in the data path, 1 to 65,535, reused late.
    pub index: u16,
    /// Which holder of the index this is.
    pub generation: u32,
    /// `metadata.uid`.
    pub pod_uid: String,
    /// The pod's name; empty until the manifests tell it.
    pub name: String,
    /// Its namespace; empty until the manifests tell it.
    pub namespace: String,
    /// Its service account; empty until the manifests tell it.
    pub service_account: String,
    /// Its SPIFFE ID; absent until it has an SVID.
    pub spiffe_id: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Host side of its veth.
    pub interface: String,
    /// Index of that interface.
    pub ifindex: u32,
    /// How the agent came to know of it: `cni`, or `discovery` for a pod that was there before.
    #[serde(default)]
    pub found_by: String,
    /// End of validity of its agent-plane SVID; absent while it has none.
    pub svid_not_after: Option<u64>,
    /// Whether some policy isolates it for ingress.
    pub ingress_isolated: bool,
    /// Whether some policy isolates it for egress.
    pub egress_isolated: bool,
    /// Pairs with remote pods.
    pub pairs: PairCounts,
    /// What is still missing before it can talk to other nodes, one short line each.
    pub pending: Vec<String>,
}

impl Endpoint {
    /// True once nothing is pending.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Answer to [`Request::EndpointAdd`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointAdded {
    /// The endpoint; enforced from now on, and ready if nothing is pending.
    pub endpoint: Endpoint,
    /// Whether it can talk to other nodes already.
    pub ready: bool,
}

/// Answer to [`Request::EndpointRemove`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRemoved {
    /// `metadata.uid`.
    pub pod_uid: String,
    /// False if there was no such endpoint, which is no error.
    pub existed: bool,
}

/// Which flow events a client wants; an absent field matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveFilter {
    /// Go on until the client closes the connection.
    #[serde(default)]
    pub follow: bool,
    /// Only this verdict.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Source: `namespace/name`, `namespace`, an address or a SPIFFE ID.
    #[serde(default)]
    pub from: Option<String>,
    /// Destination, in the same words.
    #[serde(default)]
    pub to: Option<String>,
    /// How many remembered events come first; all that are remembered if absent.
    #[serde(default)]
    pub last: Option<u64>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It went on, and is the first of its flow here.
    Forwarded,
    /// It waits until its pair is authenticated.
    Held,
    /// It is gone.
    Dropped,
    /// It went on, and would not if what is only tried out were enforced.
    WouldDrop,
}

/// One line of an `observe` answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObserveLine {
    /// A flow event.
    Flow(Box<FlowEvent>),
    /// So many events did not reach this client, because it reads too slowly or the ring was full.
    Lost(u64),
}

/// One flow event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvent {
    /// Milliseconds of Unix time.
    pub time_ms: u64,
    /// The node that saw it.
    pub node: String,
    /// What became of the packet.
    pub verdict: Verdict,
    /// Why; absent for [`Verdict::Forwarded`].
    pub reason: Option<Reason>,
    /// `ingress` or `egress`, seen from the local pod; absent where there is none.
    pub direction: Option<String>,
    /// The program or queue that decided.
    pub hook: String,
    /// 4 or 6; 0 if the packet is neither.
    pub ip_version: u8,
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6` or the protocol's number.
    pub protocol: String,
    /// Who sent it.
    pub source: Party,
    /// Whom it was for.
    pub destination: Party,
    /// Whether it travelled or would have travelled in the tunnel.
    pub encrypted: bool,
    /// The policy rule that decided, `Kind namespace/name rule`.
    pub policy: Option<String>,
    /// Equal events that were left out before this one by the rate limit.
    pub suppressed: u64,
}

/// A numbered reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The number, never reused.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// One sentence for a person.
    pub explain: String,
}

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its address; absent if the packet had none that could be read.
    pub address: Option<IpAddr>,
    /// Its port; 0 where the protocol has none.
    pub port: u16,
    /// `namespace/name`, when known.
    pub pod: Option<String>,
    /// SPIFFE ID, when known.
    pub spiffe_id: Option<String>,
    /// The node it runs on, when known.
    pub node: Option<String>,
    /// Class of what is not a known pod: `World`, `Host`, `RemoteNode` ...
    pub class: Option<String>,
}

/// The policies this node enforces, and those it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Sorted by namespace and name.
    pub policies: Vec<PolicyInfo>,
    /// Objects that are refused; what they said before stays in force.
    pub problems: Vec<PolicyProblem>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// `AuthenticatedPolicy` or `NetworkPolicy`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `enforce` or `dry run`.
    pub enforcement: String,
    /// Rules for ingress.
    pub ingress_rules: u64,
    /// Rules for egress.
    pub egress_rules: u64,
    /// Pods that it selects, on any node, `namespace/name`, sorted.
    pub selects: Vec<String>,
    /// Those of them that run on this node.
    pub selects_here: Vec<String>,
}

/// Which flow to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// `namespace/name` of a pod, or an address.
    pub from: String,
    /// `namespace/name` of a pod, or an address.
    pub to: String,
    /// Destination port; 0 where the protocol has none.
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP` or a protocol number.
    pub proto: String,
}

/// Whether a flow may pass by policy, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// True if both ends admit it.
    pub allowed: bool,
    /// True if some deciding rule demands authentication.
    pub authentication_required: bool,
    /// Who would send.
    pub source: Party,
    /// Who would receive.
    pub destination: Party,
    /// The source's side.
    pub egress: ExplainedDirection,
    /// The destination's side.
    pub ingress: ExplainedDirection,
    /// What would happen on the wire, step by step, one sentence each.
    pub path: Vec<String>,
}

/// One direction of an [`Explanation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedDirection {
    /// True if this side admits it.
    pub allowed: bool,
    /// True if some policy isolates this side.
    pub isolated: bool,
    /// The rule that decided; absent if a default did.
    pub policy: Option<String>,
    /// `allow`, `deny`, `default allow` or `default deny`.
    pub decision: String,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
}

/// What would break if what is only tried out were enforced, as far as this node has seen traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// The node.
    pub node: String,
    /// Since when flows are remembered.
    pub since: u64,
    /// Different flows that are remembered.
    pub seen: u64,
    /// Different flows that had to be forgotten for want of room; the least recent go.
    pub forgotten: u64,
    /// Dry runs, `Kind namespace/name`, sorted.
    pub dry_runs: Vec<String>,
    /// Flows that pass now and would not; the most frequent first.
    pub breaks: Vec<BrokenFlow>,
    /// Pods of this node without a certificate, `namespace/name`: they cannot be authenticated.
    pub without_svid: Vec<String>,
}

/// Flows of one kind that pass now and would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenFlow {
    /// Who opens them.
    pub source: Party,
    /// Who is reached; with the port.
    pub destination: Party,
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6` or the protocol's number.
    pub protocol: String,
    /// The side that would stop them: `egress` or `ingress`.
    pub direction: String,
    /// To what it is due, `Kind namespace/name`.
    pub because_of: Vec<String>,
    /// Name of the drop reason they would get.
    pub reason: String,
    /// Why, in a sentence.
    pub why: String,
    /// How many were seen.
    pub flows: u64,
    /// When the first was seen, milliseconds of Unix time.
    pub first_ms: u64,
    /// When the last was seen, milliseconds of Unix time.
    pub last_ms: u64,
}

/// Who talked with whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPeers {
    /// Sorted by local pod, then remote pod.
    pub pairs: Vec<AuditPeer>,
}

/// Where the audit log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLog {
    /// Folder of its segments, on the agent's machine.
    pub directory: String,
}

/// One authenticated pair of a local and a remote pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPeer {
    /// `namespace/name` of the local pod.
    pub local_pod: String,
    /// Its UID.
    pub local_pod_uid: String,
    /// Its SPIFFE ID.
    pub local_spiffe_id: String,
    /// SHA-256 of its certificate, hex.
    pub local_certificate: String,
    /// `namespace/name` of the remote pod.
    pub remote_pod: String,
    /// Its UID.
    pub remote_pod_uid: String,
    /// Its SPIFFE ID.
    pub remote_spiffe_id: String,
    /// SHA-256 of the certificate it was proven with, hex.
    pub remote_certificate: String,
    /// The remote pod's node.
    pub remote_node: String,
    /// `TLSv1.3`.
    pub tls_version: String,
    /// `X25519MLKEM768`.
    pub key_exchange: String,
    /// The channel's cipher suite.
    pub cipher: String,
    /// Session id of the channel, hex: the same on both nodes.
    pub session_id: String,
    /// Key epoch of the tunnel.
    pub epoch: u64,
    /// `WireGuard (userspace), preshared key from the channel`.
    pub tunnel: String,
    /// When the pair was authenticated.
    pub since: u64,
    /// When it ends unless it is renewed.
    pub not_after: u64,
    /// `open`, `adopted`.
    pub state: String,
}
