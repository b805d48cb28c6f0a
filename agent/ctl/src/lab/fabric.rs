//! The underlay: a bridge in the identity's namespace, one interface in each node's, and the plain
//! routes between pod ranges that a CNI would set ("host-gw"). Without Signet, pods would talk in
//! the clear over these.

use anyhow::Result;
use ipnet::IpNet;

use super::blueprint::underlay_of;
use super::link;
use super::netns;
use super::plan::{UNDERLAY, UNDERLAY_PREFIX_V4, UNDERLAY_PREFIX_V6};
use super::state::{Lab, Node};

/// MTU of the underlay, and of every pod.
pub(crate) const MTU: u32 = 1500;

/// Makes the namespaces of the identity service and all nodes, and connects them.
pub(crate) fn build(lab: &Lab) -> Result<()> {
    let identity = &lab.identity;
    netns::create(&identity.netns)?;
    link::batch(&identity.netns, &bridge(lab))?;
    for node in lab.nodes.values() {
        netns::create(&node.netns)?;
        link::sysctls(&node.netns, &host_settings())?;
        link::batch(&identity.netns, &port(node))?;
        link::batch(&node.netns, &uplink(node))?;
    }
    for node in lab.nodes.values() {
        link::batch(&node.netns, &routes_to_others(lab, node)?)?;
    }
    Ok(())
}

fn bridge(lab: &Lab) -> Vec<String> {
    let mut commands = vec![
        "link set lo up".to_owned(),
        // Snooping without a querier would lose neighbour discovery after a few minutes.
        format!("link add {UNDERLAY} type bridge mcast_snooping 0"),
        format!("link set {UNDERLAY} mtu {MTU} addrgenmode none"),
        format!("link set {UNDERLAY} up"),
    ];
    commands.extend(addresses(&lab.identity.underlay_addresses));
    commands
}

fn port(node: &Node) -> Vec<String> {
    let name = format!("port{}", node.index);
    vec![
        format!(
            "link add {name} type veth peer name {UNDERLAY} netns {}",
            node.netns
        ),
        format!("link set {name} mtu {MTU} addrgenmode none"),
        format!("link set {name} master {UNDERLAY} up"),
    ]
}

fn uplink(node: &Node) -> Vec<String> {
    let mut commands = vec![
        "link set lo up".to_owned(),
        format!("link set {UNDERLAY} mtu {MTU} addrgenmode none"),
        format!("link set {UNDERLAY} up"),
    ];
    commands.extend(addresses(&node.underlay_addresses));
    commands
}

fn addresses(all: &[std::net::IpAddr]) -> Vec<String> {
    all.iter()
        .map(|address| {
            if address.is_ipv4() {
                format!("addr add {address}/{UNDERLAY_PREFIX_V4} dev {UNDERLAY}")
            } else {
                format!("addr add {address}/{UNDERLAY_PREFIX_V6} dev {UNDERLAY} nodad")
            }
        })
        .collect()
}

fn routes_to_others(lab: &Lab, node: &Node) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    for other in lab.nodes.values().filter(|other| other.name != node.name) {
        for cidr in &other.pod_cidrs {
            let via = underlay_of(other, matches!(cidr, IpNet::V4(_)))?;
            commands.push(format!("route add {cidr} via {via} dev {UNDERLAY}"));
        }
    }
    Ok(commands)
}

/// What a Kubernetes host has set.
fn host_settings() -> Vec<(String, &'static str)> {
    [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/accept_ra", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
