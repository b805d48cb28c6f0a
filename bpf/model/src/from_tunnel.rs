//! Ingress of a slot: what came out of WireGuard. The label says who speaks and to whom. Each
//! word of that is checked before policy is asked; then the tag goes and the stack delivers.

use signet_abi::{Direction, DropReason, Endpoint, RecvKey, RecvRow, SLOTS};

use crate::address;
use crate::admit::{self, Remote};
use crate::fragment;
use crate::parse::{self, Packet};
use crate::state::State;
use crate::tag::{self, Tag};
use crate::verdict::{Ctx, Refusal, Verdict};

/// The verdict on a packet from another node. `bytes` begin with the IP header.
pub fn from_tunnel(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    judge(state, now, ctx, bytes).unwrap_or_else(Verdict::from)
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<Verdict, Refusal> {
    if !state.is_configured() {
        return Err(DropReason::NotConfigured.into());
    }
    let slot = (0..SLOTS)
        .find(|slot| state.config.slot_ifindex[*slot] == ctx.ifindex)
        .ok_or(DropReason::UnknownInterface)?;
    let mut packet = parse::parse(ctx.protocol, bytes).packet?;
    let tag = packet.tag.ok_or(DropReason::Untagged)?;
    let row = speaker(state, now, &packet, tag, slot)?;
    let endpoint = addressee(state, &packet, &row)?;
    fragment::ports(state, now, &mut packet)?;
    let remote = Remote {
        class: row.class,
        handle: row.remote,
    };
    admit::labelled(state, now, &packet, &endpoint, remote, Direction::Ingress)?;
    Ok(Verdict::Next {
        mark: state.with_mark(ctx.mark, state.config.mark_verified),
        tc_index: u32::from(endpoint.index),
        hash: ctx.hash,
        bytes: tag::strip(&packet, bytes),
    })
}

/// Who speaks: the label's row, if it is good on this slot, now, from this source. The order is
/// the one in which the operator wants to hear of it.
fn speaker(
    state: &State,
    now: u64,
    packet: &Packet,
    tag: Tag,
    slot: usize,
) -> Result<RecvRow, DropReason> {
    let row = state
        .recv_rows
        .get(&RecvKey { label: tag.label })
        .ok_or(DropReason::UnknownLabel)?;
    if row.slot as usize != slot {
        return Err(DropReason::SlotMismatch);
    }
    let peer = state
        .peers
        .get(&row.peer)
        .filter(|peer| peer.lease_until > now)
        .ok_or(DropReason::LeaseExpired)?;
    // The whole epoch decides; its byte on the wire only catches a packet that is far too old.
    if peer.slot_epoch[slot] != row.epoch || row.epoch as u8 != tag.epoch {
        return Err(DropReason::EpochMismatch);
    }
    if peer.slot_until[slot] <= now {
        return Err(DropReason::EpochTooOld);
    }
    if row.not_after <= now {
        return Err(DropReason::LabelExpired);
    }
    if !address::is_of_row(&packet.src, row) {
        return Err(DropReason::InnerSourceMismatch);
    }
    Ok(*row)
}

/// To whom: the destination must still be the identity the label was granted for. If not, the
/// sender resolved the address before it changed hands, and is told so.
fn addressee(state: &State, packet: &Packet, row: &RecvRow) -> Result<Endpoint, Refusal> {
    let index = state
        .local_addresses
        .get(&packet.dst)
        .ok_or(Refusal::stale(DropReason::UnknownDestination))?;
    let endpoint = state
        .endpoint(*index)
        .filter(|endpoint| address::is_of_endpoint(&packet.dst, endpoint))
        .ok_or(Refusal::stale(DropReason::GenerationStale))?;
    if endpoint.identity != row.identity {
        return Err(Refusal::stale(DropReason::DstIdentityMismatch));
    }
    Ok(endpoint)
}
