//! Keys and values of the maps, in the order a packet meets them.

use crate::addr::Addr;
use crate::limits::{MAX_ADDRESSES, SLOTS};

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// Unlisted plaintext peers are refused.
    pub const STRICT: u32 = 1;
    /// A packet without a send row goes to the hold device instead of being dropped.
    pub const HOLD: u32 = 2;
    /// Admitted flows are reported by protocol and port, not by pair: somebody asks what a policy
    /// would change.
    pub const REPORT: u32 = 4;
}

wire! {
    /// Map `config`, one entry. While `mark_mask` is 0 every program drops (NOT_CONFIGURED).
    pub struct Config as "config" {
        /// Interface of each slot, 0 = absent.
        pub slot_ifindex: [u32; SLOTS],
        /// The hold TAP, 0 = absent.
        pub hold_ifindex: u32,
        /// The device remote pods are routed to.
        pub signet0_ifindex: u32,
        /// [`config_flags`].
        pub flags: u32,
        /// Mark bits that are ours.
        pub mark_mask: u32,
        /// Mark of a packet that awaits its verdict.
        pub mark_pending: u32,
        /// Mark of a packet the tunnel delivered.
        pub mark_verified: u32,
        /// Key of the flow hash that ties a pod's packet to its translated self; random, never
        /// logged.
        pub hash_seed: u32,
        /// Index of the endpoint that stands for the node itself, 0 = absent. It has no interface.
        pub host_endpoint: u32,
    }
}

/// Bits of [`Endpoint::flags`].
pub mod endpoint_flags {
    /// Some policy selects it for ingress: no hit is a denial.
    pub const INGRESS_ISOLATED: u32 = 1;
    /// Some policy selects it for egress: no hit is a denial.
    pub const EGRESS_ISOLATED: u32 = 2;
    /// Its agent-plane SVID passed the full check; good until `not_after`.
    pub const AUTHENTICATED: u32 = 4;
}

wire! {
    /// Map `endpoints`, by index (1..): a local pod's interface.
    pub struct Endpoint as "endpoint" {
        /// New for every pod that takes this index; entries of an older one are dead.
        pub generation: u32,
        /// Host side of the veth.
        pub ifindex: u32,
        /// Class others see it as.
        pub class: u32,
        /// Handle of its SPIFFE identity (the Y of a receive row).
        pub identity: u32,
        /// Raised on every policy change that concerns it; older conntrack entries are
        /// evaluated again.
        pub policy_generation: u32,
        /// [`endpoint_flags`].
        pub flags: u32,
        /// End of its authentication.
        pub not_after: u64,
        /// How many of `addrs` count.
        pub addr_count: u32,
        /// MAC of the pod's side of the veth.
        pub mac: [u8; 6],
        /// Its own index.
        pub index: u16,
        /// Its addresses.
        pub addrs: [Addr; MAX_ADDRESSES],
        /// Zero.
        pub reserved: u32,
    }
}

impl Endpoint {
    /// Sets the addresses; false (and no change) if there are more than [`MAX_ADDRESSES`].
    pub fn set_addrs(&mut self, addrs: &[Addr]) -> bool {
        fill(&mut self.addrs, &mut self.addr_count, addrs)
    }
}

fn fill(slots: &mut [Addr; MAX_ADDRESSES], count: &mut u32, addrs: &[Addr]) -> bool {
    if addrs.len() > MAX_ADDRESSES {
        return false;
    }
    *slots = [Addr::default(); MAX_ADDRESSES];
    for (slot, addr) in slots.iter_mut().zip(addrs) {
        *slot = *addr;
    }
    *count = addrs.len() as u32;
    true
}

/// Values of map `pod_ranges`.
pub mod pod_range_flags {
    /// Pods of this node.
    pub const LOCAL: u32 = 1;
    /// Pods of other nodes.
    pub const REMOTE: u32 = 2;
}

wire! {
    /// Key of map `send_rows`: who sends to which address.
    pub struct SendKey as "send_key" {
        /// Index of the local endpoint.
        pub endpoint: u32,
        /// Its generation.
        pub generation: u32,
        /// Destination after service translation.
        pub dst: Addr,
    }
}

/// Values of [`SendRow::state`].
pub mod send_state {
    /// Both identities are proven; the label is good.
    pub const PAIRED: u8 = 1;
    /// The pair was refused; packets drop with the row's reason until `not_after`.
    pub const REFUSED: u8 = 2;
}

wire! {
    /// Map `send_rows`: how a packet is tagged and where it leaves.
    pub struct SendRow as "send_row" {
        /// By slot: drawn by the receiver, 40 bits. Two while a switch of epochs is under way.
        pub label: [u64; SLOTS],
        /// By slot: the label's epoch, 0 = no label. Counts only while it is the peer's epoch of
        /// that slot; packets take the peer's `tx_slot` if they can, else the other.
        pub epoch: [u64; SLOTS],
        /// End of the pair's proof, or of the refusal.
        pub not_after: u64,
        /// Key of map `peers`.
        pub peer: u32,
        /// Policy class of the remote pod.
        pub class: u32,
        /// The agent's handle of the remote pod; another handle is another pod, so conntrack
        /// entries of the former don't count.
        pub remote: u32,
        /// Zero.
        pub reserved: u8,
        /// [`send_state`].
        pub state: u8,
        /// Number of the drop reason of a REFUSED row.
        pub reason: u16,
    }
}

wire! {
    /// Key of map `recv_rows`.
    pub struct RecvKey as "recv_key" {
        /// The label on the wire.
        pub label: u64,
    }
}

wire! {
    /// Map `recv_rows`: who speaks under a label, and to whom.
    pub struct RecvRow as "recv_row" {
        /// Must equal the peer's epoch of `slot`.
        pub epoch: u64,
        /// End of the pair's proof.
        pub not_after: u64,
        /// Key of map `peers`.
        pub peer: u32,
        /// Policy class of the remote pod.
        pub class: u32,
        /// The agent's handle of the remote pod.
        pub remote: u32,
        /// Identity the label was granted for; must be the destination endpoint's.
        pub identity: u32,
        /// How many of `addrs` count.
        pub addr_count: u32,
        /// The only slot the label may come in on.
        pub slot: u32,
        /// Addresses of the remote pod.
        pub addrs: [Addr; MAX_ADDRESSES],
    }
}

impl RecvRow {
    /// Sets the addresses; false (and no change) if there are more than [`MAX_ADDRESSES`].
    pub fn set_addrs(&mut self, addrs: &[Addr]) -> bool {
        fill(&mut self.addrs, &mut self.addr_count, addrs)
    }
}

wire! {
    /// Map `peers`, by the agent's number of the remote node. Without an entry nothing passes.
    pub struct Peer as "peer" {
        /// Nothing to or from it passes later than this.
        pub lease_until: u64,
        /// Epoch of each slot with that peer, 0 = unused.
        pub slot_epoch: [u64; SLOTS],
        /// Nothing passes under a slot's keys later than this (EPOCH_TOO_OLD).
        pub slot_until: [u64; SLOTS],
        /// Slot that packets to it leave by. One write of this switches every pair at once.
        pub tx_slot: u32,
        /// Zero.
        pub reserved: u32,
    }
}

/// Bits of [`CtEntry::flags`].
pub mod ct_flags {
    /// The local endpoint opened the flow.
    pub const LOCAL_INITIATED: u16 = 1;
    /// A rule that requires authentication admitted it.
    pub const REQUIRED: u16 = 2;
}

wire! {
    /// Key of map `conntrack`: a flow as one local endpoint sees it at one point.
    pub struct CtKey as "ct_key" {
        /// The endpoint's address.
        pub local: Addr,
        /// The other side's address.
        pub remote: Addr,
        /// The endpoint's port, or the echo identifier; network order.
        pub local_port: u16,
        /// The other side's port, or the echo identifier; network order.
        pub remote_port: u16,
        /// IP protocol.
        pub proto: u8,
        /// 0 at the tunnel, 1 at the veth.
        pub point: u8,
        /// Index of the endpoint.
        pub endpoint: u16,
    }
}

wire! {
    /// Map `conntrack` (LRU). An entry counts only while everything it was admitted under is
    /// still the same.
    pub struct CtEntry as "ct_entry" {
        /// Moved on by each packet.
        pub expires: u64,
        /// The endpoint's generation.
        pub generation: u32,
        /// The endpoint's policy generation.
        pub policy_generation: u32,
        /// Tunnel: the remote pod's handle. Same node: the other endpoint's generation.
        /// Plaintext: the remote address's class.
        pub remote: u32,
        /// Same node: the other endpoint's policy generation.
        pub other_policy: u32,
        /// Same node: the other endpoint's index.
        pub other: u16,
        /// [`ct_flags`].
        pub flags: u16,
        /// The rule that admitted it.
        pub rule: u32,
    }
}

wire! {
    /// Key of map `flows` (LRU): finds the [`CtKey`] a pod's packet had at its veth after the
    /// stack has translated it.
    pub struct FlowKey as "flow_key" {
        /// Index of the endpoint.
        pub endpoint: u32,
        /// Keyed hash of the tuple, carried in `skb->hash`.
        pub hash: u32,
    }
}

wire! {
    /// Key of map `fragments` (LRU).
    pub struct FragKey as "frag_key" {
        /// Source.
        pub src: Addr,
        /// Destination.
        pub dst: Addr,
        /// Identification.
        pub id: u32,
        /// IP protocol.
        pub proto: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }
}

wire! {
    /// Map `fragments`: what only the first fragment says.
    pub struct FragPorts as "frag_ports" {
        /// Source port, network order.
        pub sport: u16,
        /// Destination port, network order.
        pub dport: u16,
        /// Zero.
        pub reserved: u32,
        /// Not used after this.
        pub expires: u64,
    }
}

wire! {
    /// Map `hold_budgets` (LRU), by index of the endpoint: what it may still send to the hold
    /// device.
    pub struct HoldBudget as "hold_budget" {
        /// The allowance is used up to here.
        pub used_until: u64,
    }
}

wire! {
    /// Map `hold_orders` (LRU), by [`SendKey`]: which of a pair's packets wait. A pair is open
    /// once the last that was sent to the hold device has left it.
    pub struct HoldOrder as "hold_order" {
        /// Not used after this.
        pub until: u64,
        /// Packets sent to the hold device; each carries the lower half as its ticket.
        pub sent: u32,
        /// Ticket of the last that was released.
        pub released: u32,
    }
}

wire! {
    /// Map `passed` (per CPU), by [`Hook`](crate::Hook).
    pub struct Passed as "passed_count" {
        /// Packets, a super-packet counted once.
        pub packets: u64,
        /// Bytes as the hook saw them.
        pub bytes: u64,
    }
}
