//! What the programs report. Never a label, never payload.

use crate::addr::Addr;
use crate::reason::DropReason;

wire! {
    /// One record of the ring `events`.
    pub struct Event as "event" {
        /// When.
        pub time: u64,
        /// [`EventKind`].
        pub kind: u8,
        /// [`Hook`].
        pub hook: u8,
        /// 4, 6, or 0 if the packet was neither.
        pub family: u8,
        /// IP protocol.
        pub proto: u8,
        /// Number of the drop reason, 0 for none.
        pub reason: u16,
        /// Index of the local endpoint, 0 if unknown.
        pub endpoint: u16,
        /// Source as seen at the hook.
        pub src: Addr,
        /// Destination as seen at the hook.
        pub dst: Addr,
        /// Source port, host order.
        pub sport: u16,
        /// Destination port, host order.
        pub dport: u16,
        /// The agent's number of the remote node, 0 if unknown.
        pub peer: u32,
        /// Class of the other side.
        pub class: u32,
        /// The agent's handle of the remote pod; same node: the other endpoint's index.
        pub remote: u32,
        /// Device of the hook.
        pub ifindex: u32,
        /// The rule that decided, 0 for none.
        pub rule: u32,
        /// Events of the same pair, kind and reason left out before this one.
        pub suppressed: u32,
        /// Length of the packet.
        pub length: u32,
    }
}

impl Event {
    /// The drop reason; `None` for no drop or a number this build doesn't know.
    pub fn drop_reason(&self) -> Option<DropReason> {
        DropReason::try_from(self.reason).ok()
    }

    /// What kind of event; `None` for a number this build doesn't know.
    pub fn event_kind(&self) -> Option<EventKind> {
        EventKind::try_from(self.kind).ok()
    }

    /// Which program reported it; `None` for a number this build doesn't know.
    pub fn event_hook(&self) -> Option<Hook> {
        Hook::try_from(self.hook).ok()
    }
}

wire! {
    /// Key of map `event_limits` (LRU).
    pub struct EventLimitKey as "event_limit_key" {
        /// Source.
        pub src: Addr,
        /// Destination.
        pub dst: Addr,
        /// Drop reason; with [`config_flags::REPORT`](crate::config_flags::REPORT) the port of the
        /// side that answers, network order, if a flow was admitted.
        pub reason: u16,
        /// Event kind.
        pub kind: u8,
        /// Hook.
        pub hook: u8,
        /// Index of the local endpoint; with `REPORT` the IP protocol in the upper half, if a flow
        /// was admitted.
        pub endpoint: u32,
    }
}

wire! {
    /// Map `event_limits`.
    pub struct EventLimit as "event_limit" {
        /// No event before this.
        pub next: u64,
        /// Left out since the last one.
        pub suppressed: u64,
    }
}

macro_rules! numbered {
    ($(#[$meta:meta])* pub enum $name:ident : $c_prefix:literal {
        $($(#[$vm:meta])* $variant:ident = $number:literal, $text:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vm])* $variant = $number,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Lower-case name for metrics and tables.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(crate) const C_PREFIX: &str = $c_prefix;
        }

        impl TryFrom<u8> for $name {
            type Error = u8;
            fn try_from(number: u8) -> Result<Self, u8> {
                match number { $($number => Ok(Self::$variant),)* other => Err(other) }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

numbered! {
    /// What an event tells.
    pub enum EventKind: "EVENT" {
        /// A packet was dropped.
        Drop = 1, "drop";
        /// A packet had no usable send row: the pair must be authenticated.
        Miss = 2, "miss";
        /// A packet was dropped because its sender's knowledge is out of date; tell it.
        Stale = 3, "stale";
        /// A flow was admitted.
        NewFlow = 4, "new_flow";
        /// A flow that was open already was admitted by a packet of the side that answers: who
        /// opened it is the packet's destination.
        TakenUp = 5, "taken_up";
    }
}

numbered! {
    /// The programs, by the place they are attached to.
    pub enum Hook: "HOOK" {
        /// TCX ingress of a pod's host veth.
        FromWorkload = 0, "from_workload";
        /// TCX egress of `signet0`.
        ToTunnel = 1, "to_tunnel";
        /// TCX ingress of a slot.
        FromTunnel = 2, "from_tunnel";
        /// TCX egress of a pod's host veth.
        ToWorkload = 3, "to_workload";
        /// TCX egress of an underlay device.
        UnderlayGuard = 4, "underlay_guard";
        /// TCX ingress of the hold TAP.
        FromHold = 5, "from_hold";
    }
}
