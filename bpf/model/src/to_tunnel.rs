//! Egress of `signet0`, where the stack routes what is for pods of other nodes. The destination
//! is final here.

use signet_abi::{DropReason, Endpoint};

use crate::address;
use crate::fragment;
use crate::parse::{self, Packet};
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
    let endpoint = if ctx.tc_index == 0 {
        the_node(state, ctx, &packet)?
    } else {
        a_pod(state, ctx, &packet)?
    };
    fragment::ports(state, now, &mut packet)?;
    send::send(state, now, ctx, &packet, bytes, &endpoint, Wait::Allowed)
}

/// Only a packet that `from_workload` let through has both; the index alone could be left over, the
/// mark alone could be a rule's of the host.
fn a_pod(state: &State, ctx: &Ctx, packet: &Packet) -> Result<Endpoint, DropReason> {
    let endpoint = state
        .endpoint(ctx.tc_index)
        .filter(|_| state.mark_of(ctx.mark) == state.config.mark_pending)
        .ok_or(DropReason::NoSourceIndex)?;
    if !address::is_of_endpoint(&packet.src, &endpoint) {
        return Err(DropReason::SourceTranslated);
    }
    Ok(endpoint)
}

/// The node's own packet, or one that it forwards under its address: it speaks with its own identity.
/// What came from a pod and has lost its index on the way is neither, whatever its source is by now.
fn the_node(state: &State, ctx: &Ctx, packet: &Packet) -> Result<Endpoint, DropReason> {
    let of_a_pod = state.interfaces.contains_key(&ctx.ingress_ifindex);
    if of_a_pod || state.mark_of(ctx.mark) != 0 {
        return Err(DropReason::NoSourceIndex);
    }
    state
        .endpoint(state.config.host_endpoint)
        .filter(|host| address::is_of_endpoint(&packet.src, host))
        .ok_or(if ctx.ingress_ifindex == 0 {
            DropReason::HostWithoutLabel
        } else {
            DropReason::NoSourceIndex
        })
}
