//! Packets that wait with the agent, and those that queue behind them until the last is back.

use signet_abi::{
    DropReason, Endpoint, HOLD_BURST_NS, HOLD_INTERVAL_NS, HOLD_ORDER_NS, HoldBudget, HoldHeader,
    HoldOrder, SendKey, config_flags,
};

use crate::state::State;
use crate::verdict::{Ctx, Verdict};

/// The hold device, if packets may wait at all.
pub(crate) fn device(state: &State) -> Option<u32> {
    let device = state.config.hold_ifindex;
    (state.config.flags & config_flags::HOLD != 0 && device != 0).then_some(device)
}

/// Whether the endpoint may send one more packet there; counts it.
pub(crate) fn afford(state: &mut State, now: u64, endpoint: &Endpoint) -> bool {
    let budget = state
        .hold_budgets
        .entry(u32::from(endpoint.index))
        .or_insert(HoldBudget { used_until: now });
    let from = budget.used_until.max(now);
    let fits = from - now < HOLD_BURST_NS;
    if fits {
        budget.used_until = from + HOLD_INTERVAL_NS;
    }
    fits
}

/// Whether packets of this pair are still on their way through the agent.
pub(crate) fn is_draining(state: &State, now: u64, key: &SendKey) -> bool {
    state
        .hold_orders
        .get(key)
        .is_some_and(|order| now < order.until && order.sent & 0xffff != order.released)
}

/// The packet with this ticket has left, or never will.
pub(crate) fn released(state: &mut State, key: &SendKey, ticket: u16) {
    if let Some(order) = state.hold_orders.get_mut(key) {
        order.released = u32::from(ticket);
    }
}

/// Lets the packet wait, under a header that says whose it is and which. `missing` says why there
/// is no row to send by, if there is none.
pub(crate) fn hold(
    state: &mut State,
    now: u64,
    ctx: &Ctx,
    (ip, device): (&[u8], u32),
    endpoint: &Endpoint,
    key: SendKey,
    missing: Option<DropReason>,
) -> Verdict {
    let until = now + HOLD_ORDER_NS;
    let order = state.hold_orders.entry(key).or_insert(HoldOrder {
        until,
        sent: 0,
        released: 0,
    });
    if missing.is_some() {
        order.until = until;
    }
    order.sent = order.sent.wrapping_add(1);
    let header = HoldHeader {
        endpoint: endpoint.index,
        generation: endpoint.generation,
        ticket: order.sent as u16,
        ethertype: ctx.protocol,
    };
    Verdict::Hold {
        ifindex: device,
        frame: [&header.to_bytes()[..], ip].concat(),
    }
}
