//! Addresses of a lab. All of them live in namespaces of their own, so labs never meet.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | underlay (RFC 2544 and RFC 4193 ranges) | `198.18.0.0/24` | `fd53:6967::/64` |
//! | identity service | `.1` | `::1` |
//! | node i | `.(10 + i)` | `::(10 + i)`, in hexadecimal |
//! | pods of node i | `10.61.i.0/24` | `fd61:0:0:i::/64` |
//! | their gateway | `.1` | `::1` |

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::state::Family;

/// How many nodes a lab may have.
pub(crate) const MAX_NODES: u8 = 64;

/// Interface of a node (and the bridge in the identity's namespace) that carries the underlay.
pub(crate) const UNDERLAY: &str = "underlay0";

pub(crate) const UNDERLAY_PREFIX_V4: u8 = 24;
pub(crate) const UNDERLAY_PREFIX_V6: u8 = 64;

pub(crate) const IDENTITY_PORT: u16 = 7448;
pub(crate) const CHANNEL_PORT: u16 = 7447;
pub(crate) const METRICS_PORT: u16 = 9447;
pub(crate) const TUNNEL_METRICS_PORT: u16 = 9448;

/// Underlay addresses of the identity service, the family in use first.
pub(crate) fn identity_addresses(family: Family) -> Vec<IpAddr> {
    underlay(family, 1)
}

/// Underlay addresses of a node, the family in use first.
pub(crate) fn node_addresses(family: Family, index: u8) -> Vec<IpAddr> {
    underlay(family, 10 + index)
}

/// Pod ranges of a node.
pub(crate) fn pod_cidrs(index: u8) -> Result<Vec<IpNet>> {
    let v4 = Ipv4Net::new(Ipv4Addr::new(10, 61, index, 0), 24).context("pod range")?;
    let v6 = Ipv6Net::new(
        Ipv6Addr::new(0xfd61, 0, 0, u16::from(index), 0, 0, 0, 0),
        64,
    )
    .context("pod range")?;
    Ok(vec![v4.into(), v6.into()])
}

/// The gateway of a pod range: its first address.
pub(crate) fn gateway(cidr: &IpNet) -> IpAddr {
    nth(cidr, 1)
}

/// The next free host number of all ranges after `last`, wrapping round; 0 and 1 are never given.
///
/// Going on instead of taking the lowest means that a freed address is not handed on at once.
pub(crate) fn next_host(cidrs: &[IpNet], last: u32, used: &BTreeSet<IpAddr>) -> Result<u32> {
    let end = cidrs.iter().map(hosts).min().unwrap_or(0);
    let all = (last + 1..end).chain(2..=last.min(end.saturating_sub(1)));
    for host in all.filter(|host| *host >= 2) {
        if cidrs.iter().all(|cidr| !used.contains(&nth(cidr, host))) {
            return Ok(host);
        }
    }
    bail!("no address left in {cidrs:?}; remove a pod or give the node a larger podCIDR")
}

/// Address number `host` of a range.
pub(crate) fn nth(cidr: &IpNet, host: u32) -> IpAddr {
    match cidr {
        IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()).wrapping_add(host)).into(),
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.network()).wrapping_add(host.into())).into()
        }
    }
}

/// Where metrics and health are served, inside the namespace.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// `ip -4` and `ip -6` want to be told for routes.
pub(crate) fn host_prefix(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn underlay(family: Family, host: u8) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::new(198, 18, 0, host).into();
    let v6 = Ipv6Addr::new(0xfd53, 0x6967, 0, 0, 0, 0, 0, host.into()).into();
    match family {
        Family::Ipv4 => vec![v4, v6],
        Family::Ipv6 => vec![v6, v4],
    }
}

/// Host numbers of a range, at most those of a /16: more pods than that fit no lab.
fn hosts(cidr: &IpNet) -> u32 {
    let bits = (cidr.max_prefix_len() - cidr.prefix_len()).min(16);
    let all = 1u32 << bits;
    if cidr.addr().is_ipv4() {
        all.saturating_sub(1)
    } else {
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_address_is_not_the_next_one() {
        let cidrs = pod_cidrs(1).unwrap();
        let mut used = BTreeSet::new();
        assert_eq!(next_host(&cidrs, 1, &used).unwrap(), 2);
        assert_eq!(next_host(&cidrs, 2, &used).unwrap(), 3);
        used.insert("10.61.1.3".parse().unwrap());
        assert_eq!(next_host(&cidrs, 2, &used).unwrap(), 4);
        assert_eq!(next_host(&cidrs, 254, &used).unwrap(), 2);
    }

    #[test]
    fn a_full_range_says_so() {
        let cidrs = vec!["10.0.0.0/29".parse().unwrap()];
        let used = (2..7).map(|host| nth(&cidrs[0], host)).collect();
        let error = next_host(&cidrs, 4, &used).unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/29"), "{error}");
    }

    #[test]
    fn the_family_in_use_comes_first() {
        assert!(node_addresses(Family::Ipv4, 1)[0].is_ipv4());
        assert_eq!(
            node_addresses(Family::Ipv6, 1)[0],
            "fd53:6967::b".parse::<IpAddr>().unwrap()
        );
        assert_eq!(
            gateway(&pod_cidrs(2).unwrap()[0]),
            "10.61.2.1".parse::<IpAddr>().unwrap()
        );
    }
}
