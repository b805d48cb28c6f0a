//! Egress of an underlay device: the verdict of a pod's way into the world, and the last look at
//! everything that leaves. No packet with a pod's address goes out in the clear, not even inside
//! another one. The node's own traffic is not ours to stop.

use signet_abi::{Addr, DropReason};

use crate::address;
use crate::admit;
use crate::flow;
use crate::fragment;
use crate::parse::{self, ETHERNET_LEN, Family, IPIP, IPV6_IN_IP, Packet, Parsed, UDP};
use crate::state::State;
use crate::verdict::{Ctx, Refusal, Verdict};

/// VXLAN: IANA's port, and Linux's own.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const UDP_HEADER: usize = 8;
const VXLAN_HEADER: usize = 8;

/// The verdict on a packet that leaves the node. `bytes` begin with the Ethernet header.
pub fn underlay_guard(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    match judge(state, now, ctx, bytes) {
        Ok(()) => Verdict::unchanged(ctx, bytes),
        Err(refusal) => refusal.into(),
    }
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<(), Refusal> {
    let ip = bytes.get(ETHERNET_LEN..).unwrap_or_default();
    let parsed = parse::parse(ctx.protocol, ip);
    // Without a configuration no mark is known, but addresses are.
    let mark = state.mark_of(ctx.mark);
    let pending = mark != 0 && mark == state.config.mark_pending;
    let reply = mark != 0 && mark == state.mark_reply();
    if pending || reply {
        judge_pods(state, now, ctx, parsed, ip, reply)
    } else {
        judge_others(state, &parsed, ip)
    }
}

/// A pod's packet, by its mark: fit in every respect, and admitted.
fn judge_pods(
    state: &mut State,
    now: u64,
    ctx: &Ctx,
    parsed: Parsed,
    ip: &[u8],
    reply: bool,
) -> Result<(), Refusal> {
    if parsed.family.is_none() {
        return Err(DropReason::PendingEscaped.into());
    }
    let mut packet = parsed.packet?;
    if packet.tag.is_some() {
        return Err(DropReason::ForeignTag.into());
    }
    if hides_a_pod(state, &packet, ip) || state.is_pod(&packet.dst) {
        return Err(DropReason::ClearPodAddress.into());
    }
    let endpoint = state
        .endpoint(ctx.tc_index)
        .ok_or(DropReason::NoSourceIndex)?;
    // Masqueraded is fine, and so is its own address; another pod's is not.
    if state.is_pod(&packet.src) && !address::is_of_endpoint(&packet.src, &endpoint) {
        return Err(DropReason::SourceTranslated.into());
    }
    if reply {
        // Admitted at its own veth.
        return Ok(());
    }
    fragment::ports(state, now, &mut packet)?;
    let seen = flow::recall(state, ctx.tc_index, ctx.hash);
    admit::plaintext_out(state, now, &packet, &endpoint, seen)
}

/// Anything else that leaves: only pods' addresses are looked for, even in a broken packet.
fn judge_others(state: &State, parsed: &Parsed, ip: &[u8]) -> Result<(), Refusal> {
    let outside = parsed
        .addresses
        .is_some_and(|pair| names_a_pod(state, pair));
    let inside = parsed
        .packet
        .as_ref()
        .is_ok_and(|packet| hides_a_pod(state, packet, ip));
    if outside || inside {
        return Err(DropReason::ClearPodAddress.into());
    }
    Ok(())
}

/// Pod addresses one level down, in IPIP, 6in4 or VXLAN.
fn hides_a_pod(state: &State, packet: &Packet, ip: &[u8]) -> bool {
    if packet.is_later_fragment() {
        return false;
    }
    let down = match packet.proto {
        IPIP | IPV6_IN_IP => 0,
        UDP if VXLAN_PORTS.contains(&packet.dport) => UDP_HEADER + VXLAN_HEADER + ETHERNET_LEN,
        _ => return false,
    };
    let Some(inner) = ip.get(packet.transport + down..packet.length) else {
        return false;
    };
    let addresses = match inner.first().map(|byte| byte >> 4) {
        Some(4) => inner
            .get(12..20)
            .and_then(|bytes| address::pair(Family::V4, bytes)),
        Some(6) => inner
            .get(8..40)
            .and_then(|bytes| address::pair(Family::V6, bytes)),
        _ => None,
    };
    addresses.is_some_and(|pair| names_a_pod(state, pair))
}

fn names_a_pod(state: &State, (src, dst): (Addr, Addr)) -> bool {
    state.is_pod(&src) || state.is_pod(&dst)
}
