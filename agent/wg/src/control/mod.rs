//! What the agent and the engine say to each other over a Unix stream socket.
//!
//! The agent speaks first with [`Command::Hello`]; the engine answers with
//! [`Event::Welcome`], which tells everything a restarted agent needs to go on: the slots
//! with their public keys and the peers that are still served. After that each command
//! with a `seq` gets exactly one answer with the same `seq`, in order, and unasked events
//! come in between. One agent at a time: a new connection that says Hello replaces the old
//! one. Losing the agent changes nothing in the engine.
//!
//! Framing is in [`codec`].

pub mod codec;
mod wire;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use signet_abi::DropReason;
use signet_crypto::wg::{Psk, PublicKey};

pub use codec::{CodecError, Decoder, MAX_FRAME, encode};

/// The version of these messages. Both sides must say the same number.
pub const VERSION: u32 = 2;

/// From the agent to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// First message of a connection.
    Hello {
        /// The agent's [`VERSION`].
        version: u32,
    },
    /// Adds a peer to a slot, or brings it in line.
    ///
    /// With the PSK and epoch it already has, only `underlay` and `allowed_ips` change and
    /// its sessions go on. With another PSK or epoch its old sessions and keys are gone at
    /// once.
    SetPeer {
        /// Repeated in the answer.
        seq: u64,
        /// 0 or 1.
        slot: u8,
        /// The engine's own static key towards this peer: the one that it was told of. Keys before
        /// the last two are kept only as long as peers use them.
        own: PublicKey,
        /// The peer's static key in that slot.
        peer: PublicKey,
        /// Never all zero: such a frame does not decode.
        psk: Psk,
        /// Where datagrams to the peer are sent. It never roams: a node's address comes from
        /// the directory.
        underlay: SocketAddr,
        /// Inner addresses that may come from, and are sent to, this peer. A prefix another
        /// peer of the slot had moves to this one.
        allowed_ips: Vec<IpNet>,
        /// The epoch the PSK belongs to.
        epoch: u64,
        /// Send a handshake initiation at once.
        initiate: bool,
    },
    /// Replaces the allowed IPs of a peer.
    SetAllowedIps {
        /// Repeated in the answer.
        seq: u64,
        /// 0 or 1.
        slot: u8,
        /// The peer's static key in that slot.
        peer: PublicKey,
        /// The whole new list.
        allowed_ips: Vec<IpNet>,
    },
    /// Forgets a peer with its sessions and keys. Removing an unknown peer is `Done`.
    RemovePeer {
        /// Repeated in the answer.
        seq: u64,
        /// 0 or 1.
        slot: u8,
        /// The peer's static key in that slot.
        peer: PublicKey,
    },
    /// Makes a new static key for a slot; answered by [`Event::Renewed`]. Peers that are there go on
    /// with the key they were set with, which is forgotten with the last of them.
    Renew {
        /// Repeated in the answer.
        seq: u64,
        /// 0 or 1.
        slot: u8,
    },
    /// Asks for the counters of all peers.
    Status {
        /// Repeated in the answer.
        seq: u64,
    },
}

/// From the engine to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Answer to Hello.
    Welcome {
        /// The engine's [`VERSION`].
        version: u32,
        /// The slots, by number.
        slots: Vec<SlotInfo>,
        /// Peers served now.
        peers: Vec<PeerInfo>,
    },
    /// The command with that `seq` is in force.
    Done {
        /// Of the command.
        seq: u64,
    },
    /// The slot's static key is another from now on.
    Renewed {
        /// Of the command.
        seq: u64,
        /// 0 or 1.
        slot: u8,
        /// The new key; the private half never leaves the engine.
        public_key: PublicKey,
    },
    /// The command with that `seq` changed nothing.
    Failed {
        /// Of the command; 0 for a refused Hello.
        seq: u64,
        /// What happened, to what, and what to do.
        error: String,
    },
    /// A session with the peer is established or renewed.
    Handshake {
        /// 0 or 1.
        slot: u8,
        /// The peer's static key in that slot.
        peer: PublicKey,
    },
    /// Packets were dropped. Rate-limited to one event per second for each slot, peer and
    /// reason; the counters are exact.
    Dropped {
        /// 0 or 1.
        slot: u8,
        /// The peer, once it is known.
        peer: Option<PublicKey>,
        /// One of the engine's reasons (200 and up).
        #[serde(with = "wire::reason")]
        reason: DropReason,
        /// Where the datagram came from, if it came from the underlay.
        underlay: Option<SocketAddr>,
        /// Inner source and destination, if they could be read.
        inner: Option<(IpAddr, IpAddr)>,
        /// Drops of the same kind since the last such event, this one not counted.
        suppressed: u32,
    },
    /// Answer to Status.
    Status {
        /// Of the command.
        seq: u64,
        /// All peers, by slot and key.
        peers: Vec<PeerStats>,
    },
}

/// One slot of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfo {
    /// 0 or 1.
    pub slot: u8,
    /// The engine's newest static key in this slot; the private half never leaves the engine.
    pub public_key: PublicKey,
    /// UDP port on the underlay.
    pub port: u16,
    /// The slot's TUN device.
    pub ifname: String,
    /// Its index in the engine's network namespace.
    pub ifindex: u32,
}

/// What a peer was set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// 0 or 1.
    pub slot: u8,
    /// The engine's own static key towards it.
    pub own_key: PublicKey,
    /// The peer's static key in that slot.
    pub public_key: PublicKey,
    /// The epoch of its PSK.
    pub epoch: u64,
    /// Where datagrams to it are sent.
    pub underlay: SocketAddr,
    /// In address order.
    pub allowed_ips: Vec<IpNet>,
}

/// What a peer did so far. Bytes and packets are inner ones, keepalives not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// 0 or 1.
    pub slot: u8,
    /// The peer's static key in that slot.
    pub public_key: PublicKey,
    /// The epoch of its PSK.
    pub epoch: u64,
    /// Seconds since the last session was established; `None` before the first.
    pub last_handshake_secs: Option<u64>,
    /// Bytes handed to the underlay.
    pub tx_bytes: u64,
    /// Bytes accepted from the underlay.
    pub rx_bytes: u64,
    /// Packets (segments, not super-packets) handed to the underlay.
    pub tx_packets: u64,
    /// Packets (segments) accepted from the underlay.
    pub rx_packets: u64,
    /// Where datagrams to it are sent.
    pub underlay: SocketAddr,
    /// In address order.
    pub allowed_ips: Vec<IpNet>,
}

impl Command {
    /// The sequence number to answer with; Hello has none.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Hello { .. } => None,
            Self::SetPeer { seq, .. }
            | Self::SetAllowedIps { seq, .. }
            | Self::RemovePeer { seq, .. }
            | Self::Renew { seq, .. }
            | Self::Status { seq } => Some(*seq),
        }
    }
}

#[cfg(test)]
mod tests;
