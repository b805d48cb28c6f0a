//! Why a packet was dropped. Numbers are part of the interface: never reused, never renumbered.

use core::fmt;

macro_rules! reasons {
    ($($number:literal $variant:ident $name:literal $explain:literal;)*) => {
        /// Why a packet was dropped: 1.. by the eBPF programs, 200.. by the tunnel engine,
        /// 300.. by the agent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum DropReason {
            $(#[doc = $explain] $variant = $number,)*
        }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name: stable, for events, metrics and documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// For the operator: what happened, and what to do.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $explain,)* }
            }
        }

        impl TryFrom<u16> for DropReason {
            type Error = UnknownReason;
            fn try_from(number: u16) -> Result<Self, UnknownReason> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    other => Err(UnknownReason(other)),
                }
            }
        }
    };
}

reasons! {
    1 NoSourceIndex "NO_SOURCE_INDEX"
        "the packet lost the index of the pod that sent it: a foreign tc program returned OK behind ours, or a pod's interface is not enrolled; run `signetctl check`";
    2 SourceSpoofed "SOURCE_SPOOFED"
        "a pod sent from an IP address that is not its own: look at what runs in that pod";
    3 MacSpoofed "MAC_SPOOFED"
        "a pod sent from a MAC address that is not its interface's: look at what runs in that pod";
    4 SourceRouted "SOURCE_ROUTED"
        "the packet carries a source route or a routing header: these are never forwarded";
    5 ForeignTag "FOREIGN_TAG"
        "a packet outside the tunnel carries our tag option: somebody tries to forge an identity";
    6 UnknownInterface "UNKNOWN_INTERFACE"
        "a program runs on an interface the agent has no endpoint or slot for: wait for the agent, or add the endpoint again";
    7 Malformed "MALFORMED"
        "the packet's headers contradict themselves or are cut short: look at the sender";
    8 NotIp "NOT_IP"
        "neither IPv4 nor IPv6 nor ARP (or a VLAN frame): not carried";
    9 Multicast "MULTICAST"
        "multicast and broadcast of pods are not carried";
    10 RouterAdvertisement "ROUTER_ADVERTISEMENT"
        "a pod played IPv6 router (advertisement or redirect): look at what runs in that pod";
    11 LinkLocal "LINK_LOCAL"
        "link-local addresses are not carried; only neighbour discovery with the gateway and 169.254.20.10 are";
    12 SourceTranslated "SOURCE_TRANSLATED"
        "the stack rewrote a pod's source address before the verdict: exempt pod to pod traffic from masquerading";
    13 NoSendRow "NO_SEND_ROW"
        "the pair is not authenticated and the packet could not be held: is the agent running?";
    14 SendRowExpired "SEND_ROW_EXPIRED"
        "the pair's authentication ran out and was not renewed: is the agent connected to that node and to the identity service?";
    15 UnknownDestination "UNKNOWN_DESTINATION"
        "nobody owns the destination address: the pod is gone or not enrolled";
    16 AuthenticationFailed "AUTHENTICATION_FAILED"
        "the two workloads could not prove their identities to each other: see the agent's log for the pair";
    17 PolicyEgressDenied "POLICY_EGRESS_DENIED"
        "a rule denies the sender this destination: see `signetctl policy explain`";
    18 PolicyIngressDenied "POLICY_INGRESS_DENIED"
        "a rule denies the receiver this source: see `signetctl policy explain`";
    19 DefaultDenyEgress "DEFAULT_DENY_EGRESS"
        "no egress rule of the sender admits this destination: see `signetctl policy explain`";
    20 DefaultDenyIngress "DEFAULT_DENY_INGRESS"
        "no ingress rule of the receiver admits this source: see `signetctl policy explain`";
    21 AuthenticationRequired "AUTHENTICATION_REQUIRED"
        "the rule that admits the pair requires proven identities, and this path has none or they ran out";
    22 Untagged "UNTAGGED"
        "a packet came out of the tunnel without a tag in first place: is the peer running the same version?";
    23 UnknownLabel "UNKNOWN_LABEL"
        "no pair was given this label: revoked, or guessed";
    24 LabelExpired "LABEL_EXPIRED"
        "the label's certificates ran out and were not renewed: is the identity service reachable?";
    25 EpochMismatch "EPOCH_MISMATCH"
        "the label belongs to another key epoch than its slot: harmless in a rotation, else look at the clocks";
    26 SlotMismatch "SLOT_MISMATCH"
        "the label came in on another slot than the one it was given for: somebody replays it";
    27 LeaseExpired "LEASE_EXPIRED"
        "the peer's lease ran out: that node lost the identity service, or was banned";
    28 InnerSourceMismatch "INNER_SOURCE_MISMATCH"
        "a peer sent from an address that is not the labelled pod's: its directory is old, or the node lies";
    29 DstIdentityMismatch "DST_IDENTITY_MISMATCH"
        "the destination address now belongs to another identity than the label was given for: the sender is told to resolve it again";
    30 GenerationStale "GENERATION_STALE"
        "the packet belongs to a pod that no longer exists: harmless while pods come and go";
    31 NotVerified "NOT_VERIFIED"
        "a packet claims to come from the tunnel but did not: a rule of the host sets our mark bits; run `signetctl check`";
    32 ClearPodAddress "CLEAR_POD_ADDRESS"
        "a packet with a pod's address was about to travel outside the tunnel: check routes and rules with `signetctl check`";
    33 PendingEscaped "PENDING_ESCAPED"
        "a pod's packet that is not IP was about to leave the node unchecked: do not bridge pods to the underlay";
    34 FragmentWithoutPorts "FRAGMENT_WITHOUT_PORTS"
        "a later fragment came without its first: lost or reordered on the way";
    35 TagFailed "TAG_FAILED"
        "the tag could not be added or removed: the packet's IPv4 options leave no room for it";
    36 PacketTooLarge "PACKET_TOO_LARGE"
        "the packet plus the tag would pass 65535 bytes: lower the pod's gso_max_size";
    37 HostWithoutLabel "HOST_WITHOUT_LABEL"
        "the node itself sent to a remote pod from an address that is none of its own: is it in `status.addresses` of this Node, and of no other?";
    38 NotConfigured "NOT_CONFIGURED"
        "a program runs before the agent has configured it: start the agent";
    39 HoldLimited "HOLD_LIMITED"
        "the pod sends more packets to pods it has no authenticated pair with than may wait: scanning?";
    40 EpochTooOld "EPOCH_TOO_OLD"
        "the keys with that node are two epochs old and were never renewed: `signetctl peers` says why; can the two nodes reach each other on the channel port and both WireGuard ports?";

    200 WgReplay "WG_REPLAY"
        "a WireGuard packet came twice or far too late: replayed, or reordered beyond the window";
    201 WgInvalid "WG_INVALID"
        "a WireGuard packet failed authentication: forged, damaged, or from a session that is over";
    202 WgUnknownPeer "WG_UNKNOWN_PEER"
        "a WireGuard handshake came from a key that is no peer's";
    203 WgSourceNotAllowed "WG_SOURCE_NOT_ALLOWED"
        "a peer sent from an inner address it does not own";
    204 WgNoSession "WG_NO_SESSION"
        "there is no WireGuard session with the destination's peer yet, or any more";
    205 WgMalformed "WG_MALFORMED"
        "a datagram on the tunnel's port is not WireGuard";
    206 WgNoPeer "WG_NO_PEER"
        "no peer of the slot has the inner destination among its addresses";

    300 HoldOverflow "HOLD_OVERFLOW"
        "too many packets waited for the pair's authentication";
    301 HoldTimeout "HOLD_TIMEOUT"
        "the pair was not authenticated in time for the held packets: see the agent's log for the pair";
    302 PeerUnreachable "PEER_UNREACHABLE"
        "the node of the destination does not answer on its channel: is its agent running, is the port open?";
    303 AuthenticationRefused "AUTHENTICATION_REFUSED"
        "the node of the destination refused to prove its workload: see its agent's log";
    304 IdentityUnavailable "IDENTITY_UNAVAILABLE"
        "the sender has no certificate: the identity service is unreachable or refused it";
    305 RateLimited "RATE_LIMITED"
        "the pod opens more new pairs than it may: scanning?";
    306 EndpointGone "ENDPOINT_GONE"
        "the sending pod was removed while its packets waited";
    307 AgentStopped "AGENT_STOPPED"
        "the agent stopped while packets waited";
    308 MapFull "MAP_FULL"
        "the kernel did not take the pair's row, most likely because the map is full: fewer pairs per node are needed; it is tried again until there is room";
}

impl DropReason {
    /// The number on the wire and in the map.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// True for reasons the eBPF programs give by themselves.
    pub const fn is_kernel(self) -> bool {
        self.number() < 200
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number that is no drop reason of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason(
    /// The number.
    pub u16,
);

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drop reason {} is not known to this build: use matching versions",
            self.0
        )
    }
}

impl core::error::Error for UnknownReason {}
