//! The way of a packet to a pod of another node: its pair's row, the verdict, the tag, the slot.

use signet_abi::{Direction, DropReason, Endpoint, SLOTS, SendKey, SendRow, send_state};

use crate::admit::{self, Remote};
use crate::hold;
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
    let key = SendKey {
        endpoint: u32::from(endpoint.index),
        generation: endpoint.generation,
        dst: packet.dst,
    };
    let usable = usable_row(state, now, &key)?;
    let device = match wait {
        Wait::Allowed => hold::device(state),
        Wait::Over => None,
    };
    let usable = match (usable, device) {
        (Err(missing), None) => return Err(missing.into()),
        (Err(missing), Some(device)) => {
            if !hold::afford(state, now, endpoint) {
                return Err(DropReason::HoldLimited.into());
            }
            let packet = (ip, device);
            return Ok(hold::hold(
                state,
                now,
                ctx,
                packet,
                endpoint,
                key,
                Some(missing),
            ));
        }
        (Ok(usable), Some(device)) => {
            // Better out of order than lost.
            if hold::is_draining(state, now, &key) && hold::afford(state, now, endpoint) {
                let packet = (ip, device);
                return Ok(hold::hold(state, now, ctx, packet, endpoint, key, None));
            }
            usable
        }
        (Ok(usable), None) => usable,
    };
    let remote = Remote {
        class: usable.row.class,
        handle: usable.row.remote,
    };
    admit::labelled(state, now, packet, endpoint, remote, Direction::Egress)?;
    let tag = Tag::new(usable.row.epoch[usable.slot], usable.row.label[usable.slot]);
    Ok(Verdict::Redirect {
        ifindex: usable.device,
        bytes: tag::add(packet, ip, tag)?,
    })
}

struct Usable {
    row: SendRow,
    slot: usize,
    device: u32,
}

/// The row to send by. The outer error drops; the inner one says what is missing, which the agent
/// can mend while the packet waits.
fn usable_row(
    state: &State,
    now: u64,
    key: &SendKey,
) -> Result<Result<Usable, DropReason>, Refusal> {
    let Some(row) = state.send_rows.get(key).copied() else {
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
    let peer = state
        .peers
        .get(&row.peer)
        .filter(|peer| peer.lease_until > now)
        .ok_or(DropReason::LeaseExpired)?;
    // A label whose slot moved on to another epoch is none, nor is one whose slot is not there.
    let usable = |slot: &usize| {
        row.state == send_state::PAIRED
            && row.epoch[*slot] != 0
            && row.epoch[*slot] == peer.slot_epoch[*slot]
            && state.config.slot_ifindex[*slot] != 0
    };
    let preferred = peer.tx_slot as usize % SLOTS;
    // A pair that has no label there yet, or could not be given one, takes the other way.
    let slots = [preferred, preferred ^ 1];
    let Some(slot) = slots.into_iter().find(usable) else {
        return Ok(Err(DropReason::EpochMismatch));
    };
    if peer.slot_until[slot] <= now {
        return Err(DropReason::EpochTooOld.into());
    }
    let device = state.config.slot_ifindex[slot];
    Ok(Ok(Usable { row, slot, device }))
}
