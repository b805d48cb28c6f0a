//! What the host's network should look like, computed from what is known about the nodes.
//!
//! Pure: the same facts give the same plan, and [`super::Host`] brings the kernel in line with it.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The stable TUN that remote pods are routed to. It has no reader.
pub(crate) const SIGNET0: &str = "signet0";
/// The TAP that packets wait in.
pub(crate) const HOLD: &str = "sghold";

/// Table for packets that await their verdict: remote pods and peer nodes.
pub(crate) const TABLE_PENDING: u32 = 7447;
/// Table for source checks of packets that the tunnel delivered.
pub(crate) const TABLE_VERIFIED: u32 = 7448;
/// Table for the host's own traffic to remote pods.
pub(crate) const TABLE_HOST: u32 = 7449;
/// All tables that are ours.
pub(crate) const TABLES: [u32; 3] = [TABLE_PENDING, TABLE_VERIFIED, TABLE_HOST];

/// Outer headers of WireGuard over IPv4: 20 + 8 + 16 + 16.
const WIREGUARD_OVER_V4: u32 = 60;
/// Outer headers of WireGuard over IPv6: 40 + 8 + 16 + 16.
const WIREGUARD_OVER_V6: u32 = 80;
/// The larger of the two tags.
const TAG: u32 = signet_abi::TAG_LEN_V6;
/// Smallest MTU that IPv6 allows (RFC 8200, section 5).
const IPV6_MINIMUM_MTU: u32 = 1280;
/// WireGuard pads what it encrypts to a multiple of this.
const PADDING: u32 = 16;

/// What the plan is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// This node's addresses, the underlay address first.
    pub(crate) own_addresses: Vec<IpAddr>,
    /// This node's pod ranges.
    pub(crate) own_pod_cidrs: Vec<IpNet>,
    /// Addresses of the other nodes.
    pub(crate) peer_addresses: Vec<IpAddr>,
    /// Pod ranges of the other nodes.
    pub(crate) peer_pod_cidrs: Vec<IpNet>,
    /// Slot devices that exist, in order of their number.
    pub(crate) slots: Vec<u32>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Via {
    /// To `signet0`, with a preferred source if there is one of the family.
    Signet0 {
        /// `src` of the route.
        source: Option<IpAddr>,
    },
    /// To any of these devices; for reverse-path checks only.
    Slots(Vec<u32>),
    /// On to the next rule.
    Throw,
}

/// One route of one of our tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) table: u32,
    pub(crate) prefix: IpNet,
    pub(crate) via: Via,
}

/// One routing rule, made for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) priority: u32,
    /// Mark and mask; `None` matches everything.
    pub(crate) mark: Option<(u32, u32)>,
    pub(crate) table: u32,
}

/// Ours, before main and before a CNI's.
pub(crate) const RULES: [Rule; 3] = [
    Rule {
        priority: 99,
        mark: Some((signet_abi::MARK_VERIFIED, signet_abi::MARK_MASK)),
        table: TABLE_VERIFIED,
    },
    Rule {
        priority: 100,
        mark: Some((signet_abi::MARK_PENDING, signet_abi::MARK_MASK)),
        table: TABLE_PENDING,
    },
    Rule {
        priority: 101,
        mark: None,
        table: TABLE_HOST,
    },
];

/// The routes and addresses that should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) routes: BTreeSet<Route>,
    /// On `signet0`, each as a host prefix.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Plan {
    pub(crate) fn new(facts: &HostFacts) -> Self {
        let source = |v4: bool| {
            facts
                .own_addresses
                .iter()
                .copied()
                .find(|address| address.is_ipv4() == v4)
        };
        let own: BTreeSet<IpNet> = facts.own_pod_cidrs.iter().map(IpNet::trunc).collect();
        let own_addresses: BTreeSet<IpAddr> = facts.own_addresses.iter().copied().collect();
        let mut routes = BTreeSet::new();
        for prefix in facts.peer_pod_cidrs.iter().map(IpNet::trunc) {
            // A prefix that two nodes claim stays with the local pods; the manifests say so too.
            if own.contains(&prefix) {
                continue;
            }
            routes.insert(Route {
                table: TABLE_PENDING,
                prefix,
                via: Via::Signet0 { source: None },
            });
            routes.insert(Route {
                table: TABLE_HOST,
                prefix,
                via: Via::Signet0 {
                    source: source(is_v4(&prefix)),
                },
            });
            // Reverse-path checks exist for IPv4 only.
            if is_v4(&prefix) && !facts.slots.is_empty() {
                let via = Via::Slots(facts.slots.clone());
                routes.insert(Route {
                    table: TABLE_VERIFIED,
                    prefix,
                    via,
                });
            }
        }
        // A larger remote range must not swallow the local one.
        for table in [TABLE_PENDING, TABLE_HOST] {
            for prefix in &own {
                routes.insert(Route {
                    table,
                    prefix: *prefix,
                    via: Via::Throw,
                });
            }
        }
        // Pods reach other nodes through the tunnel; the host itself does not, or the engine's own
        // datagrams would loop.
        for address in &facts.peer_addresses {
            if !own_addresses.contains(address) {
                routes.insert(Route {
                    table: TABLE_PENDING,
                    prefix: IpNet::from(*address),
                    via: Via::Signet0 { source: None },
                });
            }
        }
        Self {
            routes,
            addresses: own_addresses,
        }
    }
}

fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

/// The MTU of `signet0`, which pods learn by "too big": what fits into one underlay packet after
/// tag, padding and WireGuard.
///
/// # Errors
/// If that is below what IPv6 needs.
pub(crate) fn tunnel_mtu(underlay_mtu: u32, underlay: IpAddr) -> Result<u32, String> {
    let outer = if underlay.is_ipv4() {
        WIREGUARD_OVER_V4
    } else {
        WIREGUARD_OVER_V6
    };
    let payload = underlay_mtu.saturating_sub(outer) / PADDING * PADDING;
    let mtu = payload.saturating_sub(TAG);
    if mtu < IPV6_MINIMUM_MTU {
        let needed = IPV6_MINIMUM_MTU + TAG + outer;
        return Err(format!(
            "underlay MTU {underlay_mtu} leaves {mtu} bytes for pods, IPv6 needs \
             {IPV6_MINIMUM_MTU}: raise it to {needed} or more"
        ));
    }
    Ok(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts {
            own_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            own_pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd01::/64".parse().unwrap()],
            peer_addresses: vec!["192.0.2.2".parse().unwrap()],
            peer_pod_cidrs: vec!["10.2.0.0/24".parse().unwrap(), "fd02::/64".parse().unwrap()],
            slots: vec![7, 8],
        }
    }

    fn route(plan: &Plan, table: u32, prefix: &str) -> Option<Via> {
        let prefix: IpNet = prefix.parse().unwrap();
        plan.routes
            .iter()
            .find(|route| route.table == table && route.prefix == prefix)
            .map(|route| route.via.clone())
    }

    #[test]
    fn each_table_holds_what_its_rule_is_for() {
        let plan = Plan::new(&facts());
        let to_pods = Some(Via::Signet0 { source: None });
        let from_host = |source: &str| {
            Some(Via::Signet0 {
                source: source.parse().ok(),
            })
        };
        let expect = [
            (TABLE_PENDING, "10.2.0.0/24", to_pods.clone()),
            (TABLE_PENDING, "fd02::/64", to_pods.clone()),
            (TABLE_PENDING, "192.0.2.2/32", to_pods),
            (TABLE_PENDING, "10.1.0.0/24", Some(Via::Throw)),
            (TABLE_HOST, "10.2.0.0/24", from_host("192.0.2.1")),
            (TABLE_HOST, "fd02::/64", from_host("2001:db8::1")),
            (TABLE_HOST, "fd01::/64", Some(Via::Throw)),
            (TABLE_HOST, "192.0.2.2/32", None),
            (TABLE_VERIFIED, "10.2.0.0/24", Some(Via::Slots(vec![7, 8]))),
            (TABLE_VERIFIED, "fd02::/64", None),
            (TABLE_VERIFIED, "10.1.0.0/24", None),
        ];
        for (table, prefix, via) in expect {
            assert_eq!(route(&plan, table, prefix), via, "table {table} {prefix}");
        }
        assert_eq!(plan.routes.len(), 10);
        assert_eq!(plan.addresses.len(), 2);
    }

    #[test]
    fn own_ranges_and_addresses_win_over_claims_of_others() {
        let mut facts = facts();
        facts.peer_pod_cidrs.push("10.1.0.0/24".parse().unwrap());
        facts.peer_pod_cidrs.push("10.0.0.0/8".parse().unwrap());
        facts.peer_addresses.push("192.0.2.1".parse().unwrap());
        let plan = Plan::new(&facts);
        assert_eq!(route(&plan, TABLE_PENDING, "10.1.0.0/24"), Some(Via::Throw));
        assert_eq!(route(&plan, TABLE_PENDING, "192.0.2.1/32"), None);
        assert!(route(&plan, TABLE_PENDING, "10.0.0.0/8").is_some());
    }

    #[test]
    fn no_route_over_slots_that_are_not_there() {
        let mut facts = facts();
        facts.slots.clear();
        let plan = Plan::new(&facts);
        assert!(
            plan.routes
                .iter()
                .all(|route| route.table != TABLE_VERIFIED)
        );
    }

    #[test]
    fn mtu_leaves_room_for_everything_outside_and_for_ipv6_inside() {
        let v4 = "192.0.2.1".parse().unwrap();
        let v6 = "2001:db8::1".parse().unwrap();
        for (underlay, address, expected) in [
            (1500, v4, 1424),
            (1500, v6, 1392),
            (9000, v4, 8912),
            (9000, v6, 8896),
            (1376, v6, 1280),
        ] {
            let mtu = tunnel_mtu(underlay, address).unwrap();
            assert_eq!(mtu, expected, "{underlay} {address}");
            let outer = if address == v4 { 60 } else { 80 };
            let padded = (mtu + TAG).next_multiple_of(PADDING);
            assert!(padded + outer <= underlay, "{underlay} {address}");
        }
        assert!(tunnel_mtu(1375, v6).unwrap_err().contains("1376"));
        assert!(tunnel_mtu(0, v4).is_err());
    }
}
