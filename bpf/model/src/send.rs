//! The way of a packet to a pod of another node: its pair's row, the verdict, the tag, the slot.

use signet_abi::{
    Direction, DropReason, Endpoint, HoldHeader, SLOTS, SendKey, SendRow, config_flags, send_state,
};

use crate::admit::{self, Remote};
use crate::parse::Packet;
use crate::state::State;
use crate::tag::{self, Tag};
use crate::verdict::{Ctx, Refusal, Verdict};

/// Whether a packet without a usable row may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It comes for the first time.
    Allowed,
    /// It has waited; holding it again would be a loop.
    Over,
}

/// Sends `packet`, whose source is known to be `endpoint`. `ip` are its bytes.
pub(crate) fn send(
    state: &mut State,
    now: u64,
    ctx: &Ctx,
    packet: &Packet,
    ip: &[u8],
    endpoint: &Endpoint,
    wait: Wait,
) -> Result<Verdict, Refusal> {
    let usable = match usable_row(state, now, packet, endpoint)? {
        Ok(usable) => usable,
        Err(missing) => return hold(state, ctx, ip, endpoint, wait, missing),
    };
    let remote = Remote {
        class: usable.row.class,
        handle: usable.row.remote,
    };
    admit::labelled(state, now, packet, endpoint, remote, Direction::Egress)?;
    let tag = Tag::new(usable.row.epoch, usable.row.label);
    Ok(Verdict::Redirect {
        ifindex: usable.device,
        bytes: tag::add(packet, ip, tag)?,
    })
}

struct Usable {
    row: SendRow,
    device: u32,
}

/// The row to send by. The outer error drops; the inner one says what is missing, which the agent
/// can mend while the packet waits.
fn usable_row(
    state: &State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
) -> Result<Result<Usable, DropReason>, Refusal> {
    let key = SendKey {
        endpoint: u32::from(endpoint.index),
        generation: endpoint.generation,
        dst: packet.dst,
    };
    let Some(row) = state.send_rows.get(&key).copied() else {
        return Ok(Err(DropReason::NoSendRow));
    };
    if row.not_after <= now {
        return Ok(Err(DropReason::SendRowExpired));
    }
    if row.state == send_state::REFUSED {
        // Asking again before the refusal runs out would only repeat it.
        let reason = DropReason::try_from(row.reason).unwrap_or(DropReason::AuthenticationFailed);
        return Err(reason.into());
    }
    let slot = usize::from(row.slot) % SLOTS;
    let peer = state
        .peers
        .get(&row.peer)
        .filter(|peer| peer.lease_until > now)
        .ok_or(DropReason::LeaseExpired)?;
    // The slot moved on to another epoch under the row, or is not there at all.
    let device = state.config.slot_ifindex[slot];
    if row.state != send_state::PAIRED || peer.slot_epoch[slot] != row.epoch || device == 0 {
        return Ok(Err(DropReason::EpochMismatch));
    }
    Ok(Ok(Usable { row, device }))
}

/// Lets the packet wait with the agent, under a header that says whose it is.
fn hold(
    state: &State,
    ctx: &Ctx,
    ip: &[u8],
    endpoint: &Endpoint,
    wait: Wait,
    missing: DropReason,
) -> Result<Verdict, Refusal> {
    let device = state.config.hold_ifindex;
    let holds = state.config.flags & config_flags::HOLD != 0 && device != 0;
    if wait == Wait::Over || !holds {
        return Err(missing.into());
    }
    let header = HoldHeader {
        endpoint: endpoint.index,
        generation: endpoint.generation,
        ethertype: ctx.protocol,
    };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(ip);
    Ok(Verdict::Hold {
        ifindex: device,
        frame,
    })
}
