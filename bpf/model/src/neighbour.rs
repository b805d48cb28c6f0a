//! Address resolution between a pod and its gateway: ARP (RFC 826) and neighbour discovery
//! (RFC 4861). A pod may only ever speak for itself.

use std::net::Ipv4Addr;

use signet_abi::{Addr, DropReason, Endpoint};

use crate::address;
use crate::parse::{Packet, be16};

pub(crate) const ROUTER_SOLICITATION: u8 = 133;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
pub(crate) const REDIRECT: u8 = 137;

/// Length of a solicitation or advertisement before its options.
const MESSAGE_LEN: usize = 24;
/// Most options that are read; the programs' work per packet must be bounded.
const MAX_OPTIONS: usize = 4;

/// Whether the endpoint may send this ARP message; `arp` begins behind the Ethernet header.
pub(crate) fn check_arp(arp: &[u8], endpoint: &Endpoint) -> Result<(), DropReason> {
    let arp = arp.get(..28).ok_or(DropReason::Malformed)?;
    // Ethernet and IPv4, request or reply.
    if arp[..6] != [0, 1, 8, 0, 6, 4] || !matches!(be16(arp, 6), 1 | 2) {
        return Err(DropReason::Malformed);
    }
    if arp[8..14] != endpoint.mac {
        return Err(DropReason::MacSpoofed);
    }
    let sender = Ipv4Addr::new(arp[14], arp[15], arp[16], arp[17]);
    // 0.0.0.0 probes for duplicates (RFC 5227).
    if !sender.is_unspecified() && !address::is_of_endpoint(&sender.into(), endpoint) {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// Whether the endpoint may send this discovery message; `ip` is the packet it is in.
pub(crate) fn check_discovery(
    packet: &Packet,
    ip: &[u8],
    endpoint: &Endpoint,
) -> Result<(), DropReason> {
    let kind = packet.icmp_type.ok_or(DropReason::Malformed)?;
    match kind {
        // No pod is a router.
        ROUTER_ADVERTISEMENT | REDIRECT => return Err(DropReason::RouterAdvertisement),
        // Nor do pods get their addresses from one.
        ROUTER_SOLICITATION => return Err(DropReason::Multicast),
        _ => {}
    }
    let message = ip
        .get(packet.transport..packet.length)
        .ok_or(DropReason::Malformed)?;
    let target = Addr {
        bytes: message
            .get(8..MESSAGE_LEN)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(DropReason::Malformed)?,
    };
    let own = |addr: &Addr| address::is_of_endpoint(addr, endpoint);
    // The unspecified source asks whether an address is taken (RFC 4862, 5.4).
    let duplicate_probe = kind == SOLICITATION && address::is_unspecified(&packet.src);
    if !address::is_link_local(&packet.src) && !own(&packet.src) && !duplicate_probe {
        return Err(DropReason::SourceSpoofed);
    }
    // A link-local target is the pod's own when it speaks from it.
    let from_target = address::is_link_local(&target) && target == packet.src;
    if kind == ADVERTISEMENT && !own(&target) && !from_target {
        return Err(DropReason::SourceSpoofed);
    }
    check_options(&message[MESSAGE_LEN..], endpoint)
}

/// Each link-layer address the message tells, wherever it stands, must be the pod's.
fn check_options(mut options: &[u8], endpoint: &Endpoint) -> Result<(), DropReason> {
    for _ in 0..MAX_OPTIONS {
        let [kind, units, ..] = options else {
            break;
        };
        let length = usize::from(*units) * 8;
        if length == 0 {
            return Err(DropReason::Malformed);
        }
        let option = options.get(..length).ok_or(DropReason::Malformed)?;
        if matches!(kind, 1 | 2) && option[2..8] != endpoint.mac {
            return Err(DropReason::MacSpoofed);
        }
        options = &options[length..];
    }
    // A rest too short for an option, or options nobody looked at.
    if options.is_empty() {
        Ok(())
    } else {
        Err(DropReason::Malformed)
    }
}
