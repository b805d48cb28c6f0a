//! Constants both sides use: sizes, marks, classes, the tag's wire format.

/// Version of the pinned layout. Raise it when a map's key, value or type changes; the loader
/// pins under a directory of this number, so an old and a new agent never share a map.
pub const LAYOUT_VERSION: u32 = 1;

/// Addresses an endpoint or a remote pod may have.
pub const MAX_ADDRESSES: usize = 4;
/// Slots of the tunnel; an epoch lives in slot `epoch & 1`.
pub const SLOTS: usize = 2;

/// Bits of the packet mark that are ours by default.
pub const MARK_MASK: u32 = 0x1800;
/// Sent by a workload, verdict outstanding.
pub const MARK_PENDING: u32 = 0x0800;
/// Came out of the tunnel and passed its checks.
pub const MARK_VERIFIED: u32 = 0x1000;
/// Reply of an admitted local flow (both bits).
pub const MARK_REPLY: u32 = 0x1800;

/// Anything outside the cluster, and the class of an address no prefix names.
pub const CLASS_WORLD: u32 = 0;
/// This node itself.
pub const CLASS_HOST: u32 = 1;
/// Another node.
pub const CLASS_REMOTE_NODE: u32 = 2;
/// The Kubernetes API server.
pub const CLASS_KUBE_API_SERVER: u32 = 3;
/// A pod that is not enrolled.
pub const CLASS_UNMANAGED: u32 = 4;
/// Classes from here on are assigned by the agent.
pub const CLASS_DYNAMIC: u32 = 16;

/// IPv4 option that carries the tag: copied, experiment (RFC 4727), number 30.
pub const TAG_OPTION_V4: u8 = 0x9e;
/// Bytes the tag adds to an IPv4 packet.
pub const TAG_LEN_V4: u32 = 8;
/// IPv6 destination option that carries the tag: discard if unknown (RFC 8200, 4.2).
pub const TAG_OPTION_V6: u8 = 0x5e;
/// Bytes the tag adds to an IPv6 packet (a whole Destination Options header).
pub const TAG_LEN_V6: u32 = 16;
/// Significant bits of a label.
pub const LABEL_BITS: u32 = 40;

/// Entries of the `drops` counter array; a drop reason's number is below it.
pub const DROP_REASONS: u32 = 512;
/// Highest endpoint index.
pub const MAX_ENDPOINTS: u32 = 4096;
/// Most IPv6 extension headers of a packet, the tag's not counted; with more it is malformed.
pub const MAX_EXTENSION_HEADERS: u32 = 6;

/// Idle lifetime of a TCP entry, ns. Longer pauses are covered by re-evaluation.
pub const CT_TCP_NS: u64 = 3_600_000_000_000;
/// Idle lifetime of a UDP entry, ns.
pub const CT_UDP_NS: u64 = 180_000_000_000;
/// Idle lifetime of an ICMP or other entry, ns.
pub const CT_OTHER_NS: u64 = 30_000_000_000;
/// How long the ports of a fragmented datagram are remembered, ns.
pub const FRAGMENT_NS: u64 = 30_000_000_000;
/// One packet of an endpoint may go to the hold device in this time, ns, ...
pub const HOLD_INTERVAL_NS: u64 = 1_000_000;
/// ... and so many of these times may be used at once, ns: 512 packets.
pub const HOLD_BURST_NS: u64 = 512_000_000;
/// How long packets of a pair whose row is there by now still queue behind those that wait, ns,
/// counted from the last that came without a row. More than a packet may wait.
pub const HOLD_ORDER_NS: u64 = 4_000_000_000;
/// At most one event per pair, kind and reason in this time, ns.
pub const EVENT_INTERVAL_NS: u64 = 1_000_000_000;
