//! What goes into the data path's maps, in the agent's words.
//!
//! The daemon translates to `signet-abi` and writes in the order given: rows are ordered so that
//! no packet ever meets a grant without what limits it. Times are on `CLOCK_BOOTTIME`.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use signet_abi::DropReason;

use crate::ids::{
    ClassId, EndpointIndex, Epoch, IdentityId, Label, PeerId, PodUid, RemoteId, Slot,
};

/// One change of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Write `endpoints`, `interfaces` and `local_addresses` for this endpoint, then attach the
    /// programs to its interface if they are not.
    SetEndpoint(EndpointRow),
    /// Detach from the interface and remove the endpoint from all three maps.
    RemoveEndpoint {
        /// Its index.
        index: EndpointIndex,
        /// Its interface.
        ifindex: u32,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// Write one send row.
    SetSend(SendKey, SendRow),
    /// Remove one send row.
    RemoveSend(SendKey),
    /// Write one receive row.
    SetRecv(Label, RecvRow),
    /// Remove one receive row.
    RemoveRecv(Label),
    /// Write one peer.
    SetPeer(PeerId, PeerRow),
    /// Remove one peer.
    RemovePeer(PeerId),
    /// Write one policy entry.
    SetPolicy(PolicyKey, PolicyValue),
    /// Remove one policy entry.
    RemovePolicy(PolicyKey),
    /// Write the class of an address block of the world.
    SetCidr(IpNet, ClassId),
    /// Remove it.
    RemoveCidr(IpNet),
    /// Write a range of pod addresses; `local` if it is this node's. Routes follow it.
    SetPodRange(IpNet, PodRange),
    /// Remove it.
    RemovePodRange(IpNet),
}

/// Whose pods a range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodRange {
    /// This node's.
    Local,
    /// Another node's.
    Remote,
}

/// One local endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// Key of the row.
    pub index: EndpointIndex,
    /// Which holder of the index this is.
    pub generation: u32,
    /// Host side of the veth.
    pub ifindex: u32,
    /// The pod's policy class, for pods of the same node.
    pub class: ClassId,
    /// The pod's identity; receive rows name it.
    pub identity: IdentityId,
    /// Grows when policy for this endpoint changes, so that flows are judged again.
    pub policy_generation: u32,
    /// Whether flows towards it need a rule.
    pub ingress_isolated: bool,
    /// Whether flows from it need a rule.
    pub egress_isolated: bool,
    /// End of its SVID; `None` while it has none, and is not authenticated.
    pub authenticated_until: Option<Duration>,
    /// MAC address of the pod's side.
    pub mac: [u8; 6],
    /// Its addresses, at most 4.
    pub addresses: Vec<IpAddr>,
}

/// Key of a send row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendKey {
    /// The sending endpoint.
    pub endpoint: EndpointIndex,
    /// Its generation.
    pub generation: u32,
    /// Address of the remote pod.
    pub destination: IpAddr,
}

/// What happens to packets for a remote pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendRow {
    /// They are tagged and sent.
    Paired {
        /// By slot: what the tag says there. Which of two is used is the peer's row's to say.
        tags: [Option<Tag>; 2],
        /// The node.
        peer: PeerId,
        /// Policy class of the remote pod.
        class: ClassId,
        /// The remote pod.
        remote: RemoteId,
        /// End of the grant.
        not_after: Duration,
    },
    /// They are dropped and counted.
    Refused {
        /// Under this reason.
        reason: DropReason,
        /// Until then; later packets ask again.
        not_after: Duration,
    },
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Granted by the receiver.
    pub label: Label,
    /// The epoch it was granted in.
    pub epoch: Epoch,
}

/// Who speaks under a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecvRow {
    /// The epoch it was granted in; the slot follows from it.
    pub epoch: Epoch,
    /// End of the grant.
    pub not_after: Duration,
    /// The node it was granted to.
    pub peer: PeerId,
    /// Policy class of the remote pod.
    pub class: ClassId,
    /// The remote pod.
    pub remote: RemoteId,
    /// The local identity it was granted for.
    pub identity: IdentityId,
    /// The remote pod's addresses, at most 4.
    pub addresses: Vec<IpAddr>,
}

/// One remote node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// Nothing of this peer passes after this; `None` is no limit.
    pub lease_until: Option<Duration>,
    /// Epoch of each slot; 0 is none.
    pub slot_epoch: [Epoch; 2],
    /// Nothing passes under a slot's keys after this; `None` is no limit.
    pub slot_until: [Option<Duration>; 2],
    /// The slot that packets leave by, if their row has a label there.
    pub tx_slot: Slot,
}

impl PeerRow {
    /// The tag that a packet of a row gets, as the data path chooses it.
    #[must_use]
    pub fn choose(&self, tags: &[Option<Tag>; 2]) -> Option<Tag> {
        [self.tx_slot, self.tx_slot.other()]
            .into_iter()
            .find_map(|slot| {
                let tag = tags[slot.index()]?;
                (tag.epoch == self.slot_epoch[slot.index()]).then_some(tag)
            })
    }
}

/// Which way, seen from the endpoint.
pub use signet_policy::Direction;

/// Key of a policy entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey {
    /// Whose policy.
    pub endpoint: EndpointIndex,
    /// Which way.
    pub direction: Direction,
    /// IP protocol number; 0 is any.
    pub protocol: u8,
    /// Class of the other end.
    pub class: ClassId,
    /// Destination port, host byte order; bits behind `port_bits` are zero.
    pub port: u16,
    /// Leading bits of the port that count, 0 to 16.
    pub port_bits: u8,
}

/// What a policy entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyValue {
    /// Number of the rule.
    pub rule: u32,
    /// Whether it allows.
    pub allow: bool,
    /// Whether it allows authenticated pairs only.
    pub authentication_required: bool,
}

/// What a previous instance left in the pinned maps. Rows that its agent could not decode are left
/// out here and removed by the daemon.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    /// The highest generation that any endpoint had, gone ones included: flows admitted for a pod
    /// that is gone must never count for another.
    pub last_generation: u32,
    /// `endpoints`. `pod` is what the daemon remembers of it, if it does.
    pub endpoints: Vec<(EndpointRow, Option<PodUid>)>,
    /// `send_rows`.
    pub send: Vec<(SendKey, SendRow)>,
    /// `recv_rows`.
    pub recv: Vec<(Label, RecvRow)>,
    /// `peers`.
    pub peers: Vec<(PeerId, PeerRow)>,
    /// `policy`.
    pub policy: Vec<(PolicyKey, PolicyValue)>,
    /// `cidr_classes`.
    pub cidrs: Vec<(IpNet, ClassId)>,
    /// `pod_ranges`.
    pub pod_ranges: Vec<IpNet>,
}

impl SendRow {
    /// The newest epoch that the row has a label of.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            SendRow::Paired { tags, .. } => tags.iter().flatten().map(|tag| tag.epoch).max(),
            SendRow::Refused { .. } => None,
        }
    }
}
