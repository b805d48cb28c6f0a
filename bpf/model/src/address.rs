//! What kind of address it is, and whose.

use std::net::{IpAddr, Ipv4Addr};

use signet_abi::{Addr, Endpoint, RecvRow};

use crate::parse::Family;

/// The usual address of a node-local DNS cache: link-local by number, but the node's own.
const NODE_LOCAL_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

/// One of the endpoint's own addresses.
pub(crate) fn is_of_endpoint(addr: &Addr, endpoint: &Endpoint) -> bool {
    counted(&endpoint.addrs, endpoint.addr_count).contains(addr)
}

/// One of the addresses of the pod that a label speaks for.
pub(crate) fn is_of_row(addr: &Addr, row: &RecvRow) -> bool {
    counted(&row.addrs, row.addr_count).contains(addr)
}

fn counted(addrs: &[Addr], count: u32) -> &[Addr] {
    addrs.get(..count as usize).unwrap_or(addrs)
}

pub(crate) fn is_unspecified(addr: &Addr) -> bool {
    addr.to_ip().is_unspecified()
}

pub(crate) fn is_broadcast(addr: &Addr) -> bool {
    addr.to_ip() == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Multicast, and IPv4's broadcast to everybody.
pub(crate) fn is_multicast(addr: &Addr) -> bool {
    addr.to_ip().is_multicast() || is_broadcast(addr)
}

/// Link-local, but for the one such address that is the node's.
pub(crate) fn is_link_local(addr: &Addr) -> bool {
    match addr.to_ip() {
        IpAddr::V4(v4) => v4.is_link_local() && v4 != NODE_LOCAL_DNS,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// An IPv4 address. In an IPv6 header it would be taken for the IPv4 host it names, since both
/// families share one address space here; it has no business on a wire (RFC 4942, 2.2).
pub(crate) fn is_mapped(addr: &Addr) -> bool {
    addr.is_ipv4()
}

/// The addresses of `family` in the 32 or 8 bytes of a header, source first.
pub(crate) fn pair(family: Family, bytes: &[u8]) -> Option<(Addr, Addr)> {
    let at = |from: usize| -> Option<Addr> {
        match family {
            Family::V4 => {
                let four: [u8; 4] = bytes.get(from..from + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(four).into())
            }
            Family::V6 => Some(Addr {
                bytes: bytes.get(from..from + 16)?.try_into().ok()?,
            }),
        }
    };
    let width = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    Some((at(0)?, at(width)?))
}
