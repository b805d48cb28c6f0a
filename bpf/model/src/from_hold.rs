//! Ingress of the hold TAP: packets the agent releases. They never go through the stack again:
//! its conntrack has translated them and would do it a second time.

use signet_abi::{DropReason, SendKey};

use crate::address;
use crate::fragment;
use crate::hold;
use crate::parse::{self, ETHERNET_LEN};
use crate::send::{self, Wait};
use crate::state::State;
use crate::verdict::{Ctx, Refusal, Verdict};

/// The verdict on a released packet. `bytes` begin with the hold header, which only the agent can
/// write.
pub fn from_hold(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Verdict {
    judge(state, now, ctx, bytes).unwrap_or_else(Verdict::from)
}

fn judge(state: &mut State, now: u64, ctx: &Ctx, bytes: &[u8]) -> Result<Verdict, Refusal> {
    if !state.is_configured() {
        return Err(DropReason::NotConfigured.into());
    }
    if ctx.ifindex != state.config.hold_ifindex {
        return Err(DropReason::UnknownInterface.into());
    }
    let (header, ip) = bytes
        .split_at_checked(ETHERNET_LEN)
        .ok_or(DropReason::Malformed)?;
    let mut packet = parse::parse(ctx.protocol, ip).packet?;
    if packet.tag.is_some() {
        return Err(DropReason::ForeignTag.into());
    }
    // The pod may have died while its packet waited, and another have its index.
    let index = u16::from_be_bytes([header[2], header[3]]);
    let generation = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let endpoint = state
        .endpoint(u32::from(index))
        .filter(|endpoint| endpoint.generation == generation)
        .ok_or(DropReason::GenerationStale)?;
    if !address::is_of_endpoint(&packet.src, &endpoint) {
        return Err(DropReason::SourceSpoofed.into());
    }
    fragment::ports(state, now, &mut packet)?;
    let verdict = send::send(state, now, ctx, &packet, ip, &endpoint, Wait::Over);
    let key = SendKey {
        endpoint: u32::from(endpoint.index),
        generation: endpoint.generation,
        dst: packet.dst,
    };
    hold::released(state, &key, u16::from_be_bytes([header[4], header[5]]));
    verdict
}
