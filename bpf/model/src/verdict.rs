//! What a hook is told beside the bytes, and what it answers.

use signet_abi::{DropReason, Hook};

use crate::state::State;

/// What the kernel says about a packet (fields of `__sk_buff`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ctx {
    /// Device of the hook.
    pub ifindex: u32,
    /// Device the packet came in by, 0 if this node made it.
    pub ingress_ifindex: u32,
    /// The packet's mark.
    pub mark: u32,
    /// The packet's source index.
    pub tc_index: u32,
    /// The packet's hash.
    pub hash: u32,
    /// EtherType, host order.
    pub protocol: u16,
    /// A VLAN tag sits beside the data.
    pub vlan: bool,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stack goes on with it.
    Next {
        /// The mark it goes on with.
        mark: u32,
        /// The source index it goes on with.
        tc_index: u32,
        /// The hash it goes on with.
        hash: u32,
        /// Its bytes, with the same kind of header in front as they came with.
        bytes: Vec<u8>,
    },
    /// It leaves by a slot.
    Redirect {
        /// The slot's device.
        ifindex: u32,
        /// The tagged IP packet.
        bytes: Vec<u8>,
    },
    /// It waits with the agent.
    Hold {
        /// The hold device.
        ifindex: u32,
        /// The hold header and the IP packet as it came.
        frame: Vec<u8>,
    },
    /// It is dropped, counted and reported.
    Drop {
        /// Why.
        reason: DropReason,
        /// The sender's knowledge is out of date and it is to be told.
        stale: bool,
        /// The rule that decided, 0 for none.
        rule: u32,
    },
}

impl Verdict {
    /// The packet goes on as it came.
    pub(crate) fn unchanged(ctx: &Ctx, bytes: &[u8]) -> Self {
        Self::Next {
            mark: ctx.mark,
            tc_index: ctx.tc_index,
            hash: ctx.hash,
            bytes: bytes.to_vec(),
        }
    }

    /// Runs a hook's packet; the one place where a hook's number meets its function.
    pub fn of(hook: Hook, state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Self {
        let run = match hook {
            Hook::FromWorkload => crate::from_workload,
            Hook::ToTunnel => crate::to_tunnel,
            Hook::FromTunnel => crate::from_tunnel,
            Hook::ToWorkload => crate::to_workload,
            Hook::UnderlayGuard => crate::underlay_guard,
            Hook::FromHold => crate::from_hold,
        };
        run(state, now, ctx, bytes)
    }
}

/// A drop on its way out of the functions that decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) stale: bool,
    pub(crate) rule: u32,
}

impl Refusal {
    pub(crate) fn by_rule(reason: DropReason, rule: u32) -> Self {
        Self {
            reason,
            stale: false,
            rule,
        }
    }

    pub(crate) fn stale(reason: DropReason) -> Self {
        Self {
            reason,
            stale: true,
            rule: 0,
        }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::by_rule(reason, 0)
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::Drop {
            reason: refusal.reason,
            stale: refusal.stale,
            rule: refusal.rule,
        }
    }
}
