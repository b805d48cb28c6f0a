//! Flows that were admitted, so that their replies are. An entry counts only while the endpoint,
//! the other side and the policy are still those it was admitted under.
//!
//! Each flow is remembered per point, tunnel or veth, as the packets look there: the tunnel sees
//! it after service translation, the veth before.

use signet_abi::{
    CT_OTHER_NS, CT_TCP_NS, CT_UDP_NS, CtEntry, CtKey, Direction, Endpoint, ct_flags,
};

use crate::parse::{Packet, TCP, UDP};
use crate::state::State;

/// Where the packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Tunnel = 0,
    Veth = 1,
}

/// The flow of a packet that goes `way` as seen from `endpoint`.
///
/// An ICMP error belongs to the flow it quotes, provided it goes back to where the quoted packet
/// came from. On the way out it must also come from where that packet went to; on the way in it
/// may come from any router.
pub(crate) fn key(packet: &Packet, endpoint: u16, point: Point, way: Direction) -> CtKey {
    let about = packet.quote.filter(|quote| {
        quote.src == packet.dst && (way == Direction::Ingress || quote.dst == packet.src)
    });
    // The packet's two ends, or those of the quoted one, which went the other way.
    let (proto, from, to) = match about {
        Some(quote) => (
            quote.proto,
            (quote.dst, quote.dport),
            (quote.src, quote.sport),
        ),
        None => (
            packet.proto,
            (packet.src, packet.sport),
            (packet.dst, packet.dport),
        ),
    };
    let (local, remote) = match way {
        Direction::Ingress => (to, from),
        Direction::Egress => (from, to),
    };
    CtKey {
        local: local.0,
        remote: remote.0,
        local_port: local.1.to_be(),
        remote_port: remote.1.to_be(),
        proto,
        point: point as u8,
        endpoint,
    }
}

/// The entry that may speak for this packet: not run out, of this incarnation of the endpoint,
/// and, for a packet that opens a TCP connection, of one opened the same way. Without the last,
/// whoever was called could call back from the same port.
pub(crate) fn find(
    state: &State,
    now: u64,
    packet: &Packet,
    key: &CtKey,
    endpoint: &Endpoint,
    way: Direction,
) -> Option<CtEntry> {
    state.conntrack.get(key).copied().filter(|entry| {
        let opened_here = entry.flags & ct_flags::LOCAL_INITIATED != 0;
        entry.expires > now
            && entry.generation == endpoint.generation
            && (!packet.is_opening() || opened_here == (way == Direction::Egress))
    })
}

/// Writes the entry back, alive for another lifetime.
pub(crate) fn touch(state: &mut State, now: u64, key: CtKey, mut entry: CtEntry) {
    entry.expires = entry.expires.max(now + lifetime(&key));
    state.conntrack.insert(key, entry);
}

/// Remembers an admitted flow. An error opens none.
pub(crate) fn store(
    state: &mut State,
    now: u64,
    packet: &Packet,
    key: CtKey,
    endpoint: &Endpoint,
    entry: CtEntry,
) {
    if packet.quote.is_some() {
        return;
    }
    let entry = CtEntry {
        expires: now + lifetime(&key),
        generation: endpoint.generation,
        policy_generation: endpoint.policy_generation,
        ..entry
    };
    state.conntrack.insert(key, entry);
}

fn lifetime(key: &CtKey) -> u64 {
    match key.proto {
        TCP => CT_TCP_NS,
        UDP => CT_UDP_NS,
        _ => CT_OTHER_NS,
    }
}
