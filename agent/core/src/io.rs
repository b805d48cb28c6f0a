//! What goes into the agent and what comes out: the whole surface to the world.
//!
//! The shell feeds every fact as an [`Input`] to [`crate::Agent::handle`], then takes outputs from
//! [`crate::Agent::poll_output`] until there is none and does them **in order**. Nothing in here
//! decides; nothing out there should.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use signet_abi::DropReason;
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::SpiffeId,
    svid::X509Svid,
    tls::exporter::ChannelSecrets,
    wg::{Psk, PublicKey},
    x509::verify::VerifiedSvid,
};

pub use crate::{
    epochs::Schedule,
    event::{AuditRecord, Event, PairEnd},
    facts::{ClusterView, Config, Entry, Limits, LocalPod, NodeFacts, Outage, Timers},
    ids::{
        ClassId, ConnId, EndpointIndex, Epoch, IdentityId, Label, NodeUid, PeerId, PodUid,
        RemoteId, Slot,
    },
    rows::{
        Adopted, EndpointRow, MapOp, PeerRow, PodRange, PolicyKey, PolicyValue, RecvRow, SendKey,
        SendRow, Tag,
    },
};

/// Something that happened.
pub enum Input {
    /// What a previous instance left in the maps. Once, before anything else but `Trust`,
    /// `NodeSvid` and `Cluster`; empty on a first start. No row is written and nobody is dialled
    /// before this and the first `Tunnel(Welcome)` and `Cluster` are in.
    Adopted(Box<Adopted>),
    /// A pod's interface is there. Answered at once by [`MapOp::SetEndpoint`]. Again for a known
    /// pod: its interface or addresses changed.
    EndpointAdded {
        /// The pod.
        pod: PodUid,
        /// Host side of its veth.
        ifindex: u32,
        /// Host side's name, for people.
        ifname: String,
        /// MAC address of the pod's side.
        mac: [u8; 6],
        /// The pod's addresses; the first 4 count.
        addresses: Vec<IpAddr>,
    },
    /// A pod's interface is gone, or the pod is to be forgotten at once.
    EndpointRemoved {
        /// The pod.
        pod: PodUid,
    },
    /// The cluster source's view, at start and after each change.
    Cluster(Box<ClusterView>),
    /// Answer to [`Output::RequestSvid`].
    SvidIssued {
        /// The pod.
        pod: PodUid,
        /// Its agent-plane SVID with its key.
        svid: Arc<X509Svid>,
    },
    /// The other answer to [`Output::RequestSvid`]. The agent asks again later by itself.
    SvidFailed {
        /// The pod.
        pod: PodUid,
        /// One line.
        error: String,
    },
    /// The node's SVID, at start and after each renewal.
    NodeSvid {
        /// With its key, the one that TLS uses.
        svid: Arc<X509Svid>,
    },
    /// Renewal failed; the agent asks again later by itself.
    NodeSvidFailed {
        /// One line.
        error: String,
    },
    /// The trust bundle, at start and after each change. A lower sequence is ignored.
    Trust {
        /// The bundle of the own trust domain.
        bundle: Arc<TrustBundle>,
    },
    /// When keys are renewed, as the identity service says; at start and after each change. None is
    /// renewed before this.
    Schedule(Schedule),
    /// A packet met no send row. From the hold device with `packet`, from the event ring without.
    Miss {
        /// The sender.
        endpoint: EndpointIndex,
        /// Its generation when the packet passed; another one is no longer served.
        generation: u32,
        /// Where to.
        destination: IpAddr,
        /// The IP packet, without link-layer header.
        packet: Option<Vec<u8>>,
    },
    /// The data path saw a packet of a remote pod for a local endpoint of another identity than
    /// its label was granted for ([`DropReason`] `DST_IDENTITY_MISMATCH`).
    Stale {
        /// The node it came from.
        peer: PeerId,
        /// The inner destination.
        destination: IpAddr,
    },
    /// The kernel refused a map operation (a full map, for example).
    MapFailed {
        /// What was asked.
        op: Box<MapOp>,
        /// One line.
        error: String,
    },
    /// From the identity service.
    Directory(DirectoryInput),
    /// TLS is done and both ends have proven their node SVIDs.
    ChannelConnected(Box<Connected>),
    /// One frame of a channel, in order.
    Frame {
        /// The channel.
        conn: ConnId,
        /// Frame type, the byte after the length.
        kind: u8,
        /// The payload, at most 64 KiB.
        payload: Vec<u8>,
    },
    /// The connection is gone, for whatever reason, also after [`Output::CloseChannel`].
    ChannelClosed {
        /// The channel.
        conn: ConnId,
        /// One line.
        reason: String,
    },
    /// Answer to [`Output::Dial`] if no `ChannelConnected` comes.
    DialFailed {
        /// Whom.
        node: NodeUid,
        /// One line.
        error: String,
    },
    /// From the engine.
    Tunnel(TunnelEvent),
    /// The agent is asked to stop: channels say BYE, rows stay.
    Shutdown,
}

/// News of the directory.
#[derive(Clone, Debug)]
pub enum DirectoryInput {
    /// Answer to [`Output::Lookup`].
    Answer {
        /// What was asked.
        key: LookupKey,
        /// The entry, or `None` if there is no such pod.
        entry: Option<Box<Entry>>,
    },
    /// The other answer to [`Output::Lookup`]: it could not be asked.
    Failed {
        /// What was asked.
        key: LookupKey,
        /// One line.
        error: String,
    },
    /// An entry that the agent subscribed to, new or changed.
    Entry(Box<Entry>),
    /// A pod that the agent subscribed to no longer exists.
    Gone {
        /// The pod.
        pod: PodUid,
        /// Generation of its last entry.
        generation: u64,
    },
    /// A node no longer exists.
    NodeGone {
        /// The node.
        node: NodeUid,
    },
    /// Whether a peer's own stream from the identity service is up, as my stream tells.
    PeerStream {
        /// The node.
        node: NodeUid,
        /// Whether it is up.
        up: bool,
    },
    /// The own stream from the identity service came up. Subscriptions are made again by the agent.
    Up,
    /// The own stream went down.
    Down,
}

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookupKey {
    /// The pod with this address.
    Address(IpAddr),
    /// This pod.
    Pod(PodUid),
}

/// Which side of TLS this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelRole {
    /// It dialled.
    Client,
    /// It accepted.
    Server,
}

/// A channel right after TLS.
pub struct Connected {
    /// Its number.
    pub conn: ConnId,
    /// This node's side.
    pub role: ChannelRole,
    /// The peer's node SVID, verified.
    pub peer: VerifiedSvid,
    /// Exporters of this TLS session.
    pub secrets: Box<dyn ChannelSecrets + Send>,
    /// Name of the key-exchange group.
    pub key_exchange: String,
    /// Name of the cipher suite.
    pub cipher: String,
    /// The peer's address on the underlay.
    pub remote: SocketAddr,
}

/// From the engine.
#[derive(Clone, Debug)]
pub enum TunnelEvent {
    /// The control connection is up.
    Welcome {
        /// Both slots.
        slots: [EngineSlot; 2],
        /// Peers it still serves.
        peers: Vec<EnginePeer>,
    },
    /// A command is done.
    Done {
        /// The command's number.
        seq: u64,
    },
    /// Answer to [`TunnelCommand::RenewKey`]: the slot's key is another from now on.
    KeyRenewed {
        /// The command's number.
        seq: u64,
        /// The slot.
        slot: Slot,
        /// The new key.
        public_key: PublicKey,
    },
    /// A command was refused.
    Failed {
        /// The command's number.
        seq: u64,
        /// One line.
        error: String,
    },
    /// A WireGuard handshake was completed.
    Handshake {
        /// The slot.
        slot: Slot,
        /// The peer.
        peer: PublicKey,
    },
    /// The control connection is lost. The engine goes on or is gone; the next `Welcome` tells.
    Gone,
}

/// One slot of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSlot {
    /// Its static key.
    pub public_key: PublicKey,
    /// Its UDP port.
    pub port: u16,
}

/// One peer in a slot of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePeer {
    /// The slot.
    pub slot: Slot,
    /// The own static key towards it.
    pub own_key: PublicKey,
    /// The peer's static key there.
    pub public_key: PublicKey,
    /// The epoch of its PSK.
    pub epoch: Epoch,
    /// Where its datagrams go.
    pub underlay: SocketAddr,
    /// What it accepts from and routes to it.
    pub allowed_ips: Vec<IpNet>,
}

/// Something to do.
pub enum Output {
    /// Change a map. If it fails: [`Input::MapFailed`].
    Bpf(MapOp),
    /// Ask the identity service; answer with [`DirectoryInput::Answer`] or
    /// [`DirectoryInput::Failed`]. Never twice at once for one key.
    Lookup(LookupKey),
    /// Ask for pushes about this pod. Kept over [`DirectoryInput::Down`] by the agent: it says so
    /// again after `Up`.
    Subscribe(PodUid),
    /// No more pushes about this pod.
    Unsubscribe(PodUid),
    /// Make a key, have it signed, answer with [`Input::SvidIssued`] or [`Input::SvidFailed`].
    RequestSvid {
        /// The pod.
        pod: PodUid,
        /// What the certificate will say.
        id: SpiffeId,
    },
    /// Renew the node's SVID, answer with [`Input::NodeSvid`] or [`Input::NodeSvidFailed`].
    RenewNodeSvid,
    /// Connect to a node: TCP and TLS within 5 s, client side. Answer with
    /// [`Input::ChannelConnected`] or [`Input::DialFailed`]. Never twice at once for one node.
    Dial {
        /// Whom.
        node: NodeUid,
        /// Underlay addresses, to be tried in order.
        addresses: Vec<IpAddr>,
        /// TCP port.
        port: u16,
        /// The identity it must prove.
        expect: SpiffeId,
    },
    /// Send one frame: `u32 length | u8 kind | payload`.
    SendFrame {
        /// The channel.
        conn: ConnId,
        /// Frame type.
        kind: u8,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Send what is queued, then close. [`Input::ChannelClosed`] may follow and is ignored.
    CloseChannel {
        /// The channel.
        conn: ConnId,
        /// One line for the log.
        reason: String,
    },
    /// For the engine. Answered by `Done` or `Failed` with its `seq`.
    Tunnel(TunnelCommand),
    /// Write a held packet to the hold device: destination MAC `02:00:<endpoint>:00:00`, source MAC
    /// `02:00:<generation>`. Its send row is written already.
    Inject {
        /// The sender.
        endpoint: EndpointIndex,
        /// Its generation.
        generation: u32,
        /// The IP packet.
        packet: Vec<u8>,
    },
    /// Held packets were dropped: count them under their reason, show them to `observe`.
    DropHeld {
        /// The sender.
        endpoint: EndpointIndex,
        /// Where to.
        destination: IpAddr,
        /// Why.
        reason: DropReason,
        /// How many.
        count: u64,
    },
    /// For the log and the metrics.
    Event(Event),
    /// For the audit log.
    Audit(Box<AuditRecord>),
}

/// To the engine; the same words as its control socket.
#[derive(Debug)]
pub enum TunnelCommand {
    /// Add a peer to a slot.
    SetPeer {
        /// Repeated in the answer.
        seq: u64,
        /// The slot.
        slot: Slot,
        /// The own static key that the peer was told.
        own: PublicKey,
        /// The peer's static key there.
        peer: PublicKey,
        /// From the channel's exporter.
        psk: Psk,
        /// Where its datagrams go.
        underlay: SocketAddr,
        /// What to accept from it and route to it.
        allowed_ips: Vec<IpNet>,
        /// The epoch.
        epoch: Epoch,
        /// Whether the own engine starts the WireGuard handshake.
        initiate: bool,
    },
    /// Replace a peer's allowed IPs.
    SetAllowedIps {
        /// Repeated in the answer.
        seq: u64,
        /// The slot.
        slot: Slot,
        /// The peer.
        peer: PublicKey,
        /// All of them.
        allowed_ips: Vec<IpNet>,
    },
    /// Make a new static key for a slot; peers that are there keep theirs. Answered by
    /// [`TunnelEvent::KeyRenewed`].
    RenewKey {
        /// Repeated in the answer.
        seq: u64,
        /// The slot.
        slot: Slot,
    },
    /// Forget a peer and its keys.
    RemovePeer {
        /// Repeated in the answer.
        seq: u64,
        /// The slot.
        slot: Slot,
        /// The peer.
        peer: PublicKey,
    },
}

/// Why [`crate::Agent::handle_timeout`] is due; for the log and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Held packets are too old.
    Hold,
    /// A pair's proof did not come, or a refusal is over.
    Pair,
    /// A grant ends.
    Expiry,
    /// A channel is to be pinged, or is dead, or its greeting took too long.
    Channel,
    /// A node is to be dialled again.
    Dial,
    /// A slot's grace is over.
    Slot,
    /// Keys are to be renewed, or a switch goes nowhere.
    Epoch,
    /// A certificate is to be renewed.
    Svid,
    /// A lookup is to be repeated.
    Directory,
    /// Rows of a previous instance are to go.
    Adoption,
    /// A request of a peer waited too long.
    Request,
    /// Policy that the kernel did not take is tried again.
    Policy,
    /// Rows that the kernel did not take are tried again.
    Repair,
}

/// When to call [`crate::Agent::handle_timeout`], on the boot clock.
pub type Timeout = (Duration, Reason);

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("conn", &self.conn)
            .field("role", &self.role)
            .field("peer", &self.peer.id)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
