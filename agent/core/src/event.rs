//! What the agent tells people.

use std::{net::IpAddr, time::Duration};

use signet_abi::DropReason;
use signet_crypto::{spiffe_id::SpiffeId, wg::PublicKey};

use crate::{
    ids::{ConnId, Epoch, NodeUid, PodUid, Slot},
    io::ChannelRole,
};

/// One line of log, or a count. Levels are the shell's business, by variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// INFO. A channel is open: both sides said HELLO.
    ChannelOpen {
        /// The peer.
        node: NodeUid,
        /// The channel.
        conn: ConnId,
    },
    /// INFO. A channel is closed. Rows stay.
    ChannelClosed {
        /// The peer.
        node: NodeUid,
        /// The channel.
        conn: ConnId,
        /// Why.
        reason: String,
    },
    /// WARN. A peer broke the protocol; its channel is closed.
    ChannelViolation {
        /// The peer, as its certificate says.
        peer: String,
        /// What it did.
        what: String,
    },
    /// WARN. A dial failed; it is tried again while somebody waits.
    DialFailed {
        /// The peer.
        node: NodeUid,
        /// Why.
        error: String,
        /// When it is tried again at the earliest, on the boot clock.
        retry_at: Duration,
    },
    /// INFO. A slot can carry packets.
    SlotReady {
        /// The peer.
        node: NodeUid,
        /// Its epoch.
        epoch: Epoch,
    },
    /// INFO. Packets leave in this epoch from now on.
    EpochSwitched {
        /// The peer.
        node: NodeUid,
        /// The epoch.
        epoch: Epoch,
    },
    /// WARN. Keys could not be renewed yet; the ones before go on until they are two epochs old.
    EpochStuck {
        /// The peer.
        node: NodeUid,
        /// The epoch that packets leave in.
        epoch: Epoch,
        /// What is missing.
        why: String,
    },
    /// INFO. A slot's keys are gone.
    SlotRetired {
        /// The peer.
        node: NodeUid,
        /// The slot.
        slot: Slot,
        /// Its epoch.
        epoch: Epoch,
    },
    /// INFO. A pair is open in both directions.
    PairOpen {
        /// Local pod.
        local: PodUid,
        /// Remote pod.
        remote: PodUid,
        /// From the first missed packet to this, if a packet started it.
        first_contact: Option<Duration>,
    },
    /// INFO. A pair is over.
    PairClosed {
        /// Local pod.
        local: PodUid,
        /// Remote pod.
        remote: PodUid,
        /// Why.
        end: PairEnd,
    },
    /// INFO. A destination is refused for a while.
    PairRefused {
        /// Local pod.
        local: PodUid,
        /// Where to.
        destination: IpAddr,
        /// Under which reason its packets are counted.
        reason: DropReason,
        /// One line.
        detail: String,
    },
    /// INFO. A request of a peer was refused.
    RequestRefused {
        /// The peer.
        node: NodeUid,
        /// The pod it asked for.
        source: String,
        /// The pod it asked about.
        destination: String,
        /// One line.
        detail: String,
    },
    /// WARN. A proof was not believed.
    ProofRejected {
        /// The peer that brought it.
        node: NodeUid,
        /// For which pod.
        pod: PodUid,
        /// One line.
        detail: String,
    },
    /// WARN. A certificate could not be had; the one before stays in use.
    SvidFailed {
        /// The pod; `None` is the node.
        pod: Option<PodUid>,
        /// One line.
        error: String,
    },
    /// WARN. The directory could not be asked.
    LookupFailed {
        /// What was asked.
        key: String,
        /// One line.
        error: String,
    },
    /// WARN. The engine refused a command.
    TunnelFailed {
        /// One line.
        error: String,
    },
    /// ERROR. A map operation failed.
    MapFailed {
        /// Which, without secrets.
        op: &'static str,
        /// One line.
        error: String,
    },
    /// WARN. An endpoint could not be set up; what and what to do.
    EndpointRefused {
        /// The pod.
        pod: PodUid,
        /// One line.
        error: String,
    },
    /// INFO. What a previous instance left was taken over.
    AdoptionStarted {
        /// Send rows.
        send: usize,
        /// Receive rows.
        recv: usize,
    },
    /// INFO. Adoption is over; so many rows were not confirmed and are gone.
    AdoptionEnded {
        /// Send rows removed.
        send: usize,
        /// Receive rows removed.
        recv: usize,
    },
}

/// Why a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PairEnd {
    /// A certificate ran out.
    Expired,
    /// The local pod is gone.
    EndpointRemoved,
    /// The remote pod is gone, or its entry changed.
    RemoteGone,
    /// The remote node is gone.
    NodeGone,
    /// The remote node booted again.
    PeerBooted,
    /// No rule admits it any more.
    Policy,
    /// The peer took it back.
    Revoked,
    /// The keys it used are gone.
    KeysGone,
    /// The address belongs to somebody else.
    Stale,
}

/// Who talked with whom: both ends log the same `session_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// What happened.
    pub what: AuditKind,
    /// Local pod.
    pub local: PodUid,
    /// `namespace/name`.
    pub local_name: String,
    /// Its identity.
    pub local_id: SpiffeId,
    /// SHA-256 of its certificate.
    pub local_certificate: [u8; 32],
    /// Remote pod.
    pub remote: PodUid,
    /// `namespace/name`.
    pub remote_name: String,
    /// Its identity.
    pub remote_id: SpiffeId,
    /// SHA-256 of the certificate that it was proven with.
    pub remote_certificate: [u8; 32],
    /// The peer.
    pub node: NodeUid,
    /// Session id of the channel.
    pub session_id: [u8; 32],
    /// This node's side of it.
    pub role: ChannelRole,
    /// Key exchange of the channel.
    pub key_exchange: String,
    /// Cipher suite of the channel.
    pub cipher: String,
    /// Epoch of the keys.
    pub epoch: Epoch,
    /// This node's WireGuard key in that epoch; absent from [`AuditKind::Closed`].
    pub local_key: Option<PublicKey>,
    /// The peer's, likewise.
    pub remote_key: Option<PublicKey>,
    /// End of the grant, on the boot clock.
    pub not_after: Duration,
}

/// What an audit record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditKind {
    /// Both ends are proven and both directions granted.
    Opened,
    /// The grant goes on under renewed certificates.
    Renewed,
    /// It is over.
    Closed(PairEnd),
}
