//! Egress of `signet0`, where the stack routes what is for pods of other nodes. The destination
//! is final here.

use signet_abi::DropReason;

use crate::address;
use crate::fragment;
use crate::parse;
use crate::send::{self, Wait};
use crate::state::State;
use crate::verdict::{Ctx, Refusal, Verdict};

/// The verdict on a packet to another node. `bytes` begin with the IP header.
pub fn to_tunnel(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    judge(state, now, ctx, bytes).unwrap_or_else(Verdict::from)
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<Verdict, Refusal> {
    if !state.is_configured() {
        return Err(DropReason::NotConfigured.into());
    }
    if ctx.ifindex != state.config.signet0_ifindex {
        return Err(DropReason::UnknownInterface.into());
    }
    let mut packet = parse::parse(ctx.protocol, bytes).packet?;
    if packet.tag.is_some() {
        return Err(DropReason::ForeignTag.into());
    }
    // The device's own chatter (MLD, router solicitations) ends here.
    if address::is_multicast(&packet.dst) {
        return Err(DropReason::Multicast.into());
    }
    if address::is_link_local(&packet.src) || address::is_link_local(&packet.dst) {
        return Err(DropReason::LinkLocal.into());
    }
    if ctx.ingress_ifindex == 0 && ctx.tc_index == 0 {
        return Err(DropReason::HostWithoutLabel.into());
    }
    // Only a packet that `from_workload` let through has both; the index alone could be left
    // over, the mark alone could be a rule's of the host.
    let endpoint = state
        .endpoint(ctx.tc_index)
        .filter(|_| state.mark_of(ctx.mark) == state.config.mark_pending)
        .ok_or(DropReason::NoSourceIndex)?;
    if !address::is_of_endpoint(&packet.src, &endpoint) {
        return Err(DropReason::SourceTranslated.into());
    }
    fragment::ports(state, now, &mut packet)?;
    send::send(state, now, ctx, &packet, bytes, &endpoint, Wait::Allowed)
}
