//! Ingress of a pod's host veth: who sends. Decided by the interface and by nothing the pod can
//! write; everything behind goes by the index set here. What the destination will be is not known
//! yet, since services are translated later, so only the source is judged.

use signet_abi::{Direction, DropReason, Endpoint};

use crate::address;
use crate::admit;
use crate::conntrack::{self, Point};
use crate::flow;
use crate::fragment;
use crate::neighbour;
use crate::parse::{self, ETHERNET_LEN, ETHERTYPE_ARP, Family, Packet, UDP};
use crate::state::State;
use crate::verdict::{Ctx, Refusal, Verdict};

/// The verdict on a packet a pod sent. `bytes` begin with the Ethernet header.
pub fn from_workload(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    judge(state, now, ctx, bytes).unwrap_or_else(Verdict::from)
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<Verdict, Refusal> {
    if !state.is_configured() {
        return Err(DropReason::NotConfigured.into());
    }
    let endpoint = state
        .endpoint_of_interface(ctx.ifindex)
        .ok_or(DropReason::UnknownInterface)?;
    let (ethernet, ip) = bytes
        .split_at_checked(ETHERNET_LEN)
        .ok_or(DropReason::Malformed)?;
    if ethernet[6..12] != endpoint.mac {
        return Err(DropReason::MacSpoofed.into());
    }
    // A VLAN tag may sit beside the data, where nobody would look for it.
    if ctx.vlan {
        return Err(DropReason::NotIp.into());
    }
    if ctx.protocol == ETHERTYPE_ARP {
        neighbour::check_arp(ip, &endpoint)?;
        return Ok(Verdict::unchanged(ctx, bytes));
    }
    let mut packet = parse::parse(ctx.protocol, ip).packet?;
    if packet.tag.is_some() {
        return Err(DropReason::ForeignTag.into());
    }
    if packet.neighbour {
        neighbour::check_discovery(&packet, ip, &endpoint)?;
        return Ok(Verdict::unchanged(ctx, bytes));
    }
    if is_dhcp(&packet, &endpoint) {
        return Ok(Verdict::unchanged(ctx, bytes));
    }
    check_source(&packet, &endpoint)?;
    fragment::ports(state, now, &mut packet)?;
    Ok(set_out(state, now, ctx, bytes, &packet, &endpoint))
}

/// A request for a lease, broadcast: the stack never forwards those. To any other destination it
/// would be a way out that no verdict waits on; a renewal is sent to the server's own address and
/// goes the way of all packets.
fn is_dhcp(packet: &Packet, endpoint: &Endpoint) -> bool {
    packet.family == Family::V4
        && packet.proto == UDP
        && !packet.is_later_fragment()
        && (packet.sport, packet.dport) == (68, 67)
        && address::is_broadcast(&packet.dst)
        && (address::is_unspecified(&packet.src) || address::is_of_endpoint(&packet.src, endpoint))
}

fn check_source(packet: &Packet, endpoint: &Endpoint) -> Result<(), DropReason> {
    if address::is_multicast(&packet.dst) {
        return Err(DropReason::Multicast);
    }
    if address::is_link_local(&packet.src) || address::is_link_local(&packet.dst) {
        return Err(DropReason::LinkLocal);
    }
    if !address::is_of_endpoint(&packet.src, endpoint) {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// The packet with its index and its mark: reply of an admitted flow, or verdict outstanding.
fn set_out(
    state: &mut State,
    now: u64,
    ctx: &Ctx,
    bytes: &[u8],
    packet: &Packet,
    endpoint: &Endpoint,
) -> Verdict {
    let key = conntrack::key(packet, endpoint.index, Point::Veth, Direction::Egress);
    let mut hash = ctx.hash;
    let mark = if admit::is_reply(state, now, packet, endpoint, key) {
        state.mark_reply()
    } else {
        // It may leave the node, and is judged there under the addresses it has then.
        if !state.is_pod(&packet.dst) {
            hash = flow::remember(state, &key);
        }
        state.config.mark_pending
    };
    Verdict::Next {
        mark: state.with_mark(ctx.mark, mark),
        tc_index: u32::from(endpoint.index),
        hash,
        bytes: bytes.to_vec(),
    }
}
