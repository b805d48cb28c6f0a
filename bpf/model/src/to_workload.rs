//! Egress of a pod's host veth, the last hook before the pod. What the tunnel verified passes;
//! all else gets its verdict here, where translation is done: pods of this node, the node itself,
//! and the world.

use signet_abi::{DropReason, Endpoint};

use crate::address;
use crate::admit;
use crate::fragment;
use crate::neighbour;
use crate::parse::{self, ETHERNET_LEN, ETHERTYPE_ARP, Packet};
use crate::state::State;
use crate::verdict::{Ctx, Refusal, Verdict};

/// The verdict on a packet to a pod. `bytes` begin with the Ethernet header.
pub fn to_workload(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    match judge(state, now, ctx, bytes) {
        Ok(()) => Verdict::unchanged(ctx, bytes),
        Err(refusal) => refusal.into(),
    }
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<(), Refusal> {
    if !state.is_configured() {
        return Err(DropReason::NotConfigured.into());
    }
    let endpoint = state
        .endpoint_of_interface(ctx.ifindex)
        .ok_or(DropReason::UnknownInterface)?;
    // Made on this node: by a process, which NetworkPolicy always lets reach its own pods, or by
    // the kernel, whose "too big" must arrive or connections stall.
    if ctx.ingress_ifindex == 0 && ctx.tc_index == 0 {
        return Ok(());
    }
    if ctx.protocol == ETHERTYPE_ARP {
        return Ok(());
    }
    let ip = bytes.get(ETHERNET_LEN..).ok_or(DropReason::Malformed)?;
    let mut packet = parse::parse(ctx.protocol, ip).packet?;
    if packet.tag.is_some() {
        return Err(DropReason::ForeignTag.into());
    }
    if packet.neighbour {
        return judge_neighbour(&packet);
    }
    if address::is_multicast(&packet.dst) {
        return Err(DropReason::Multicast.into());
    }
    if !address::is_of_endpoint(&packet.dst, &endpoint) {
        return Err(DropReason::UnknownDestination.into());
    }
    let mark = state.mark_of(ctx.mark);
    if mark == state.config.mark_verified {
        judge_verified(state, ctx, &endpoint)
    } else if mark == state.config.mark_pending {
        judge_same_node(state, now, ctx, &mut packet, &endpoint)
    } else if mark == state.mark_reply() {
        // The flow was admitted at the other end's veth, which also checked the source; a service
        // may have lent the packet its address since.
        match state.endpoint(ctx.tc_index) {
            Some(_) => Ok(()),
            None => Err(DropReason::NoSourceIndex.into()),
        }
    } else {
        judge_world(state, now, &mut packet, &endpoint)
    }
}

/// On a bridge pods resolve each other; the sender's own veth has checked what it claims.
fn judge_neighbour(packet: &Packet) -> Result<(), Refusal> {
    match packet.icmp_type {
        Some(neighbour::SOLICITATION | neighbour::ADVERTISEMENT) => Ok(()),
        _ => Err(DropReason::RouterAdvertisement.into()),
    }
}

/// The tunnel's verdict counts if the packet came in by a slot, and for the pod it was about.
fn judge_verified(state: &State, ctx: &Ctx, endpoint: &Endpoint) -> Result<(), Refusal> {
    let by_slot =
        ctx.ingress_ifindex != 0 && state.config.slot_ifindex.contains(&ctx.ingress_ifindex);
    if !by_slot || ctx.tc_index != u32::from(endpoint.index) {
        return Err(DropReason::NotVerified.into());
    }
    Ok(())
}

/// From a pod of this node: its index came with the packet.
fn judge_same_node(
    state: &mut State,
    now: u64,
    ctx: &Ctx,
    packet: &mut Packet,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    let from = state
        .endpoint(ctx.tc_index)
        .ok_or(DropReason::NoSourceIndex)?;
    // Masqueraded only on the way back to itself (hairpin); the index tells who it is even then.
    let hairpin = from.index == endpoint.index;
    if !address::is_of_endpoint(&packet.src, &from) && !hairpin {
        return Err(DropReason::SourceTranslated.into());
    }
    fragment::ports(state, now, packet)?;
    admit::same_node(state, now, packet, &from, endpoint)
}

/// From somewhere that has only an address. A pod's address is no longer anybody's here.
fn judge_world(
    state: &mut State,
    now: u64,
    packet: &mut Packet,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    if state.is_pod(&packet.src) {
        return Err(DropReason::ClearPodAddress.into());
    }
    fragment::ports(state, now, packet)?;
    admit::plaintext_in(state, now, packet, endpoint)
}
