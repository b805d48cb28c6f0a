//! Random clusters with policies of extreme shapes, for property tests and fuzzers.
//!
//! Everything is drawn from small vocabularies, so that selectors hit, blocks overlap and port
//! ranges touch. Every generated object is valid.

mod objects;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::facts::{NamedPort, PeerFacts, PodFacts, Protocol};

/// Where a generator takes its decisions from.
pub trait Choices {
    /// A number below `bound`; 0 if `bound` is 0. 0 is always the simplest choice.
    fn below(&mut self, bound: usize) -> usize;

    /// True in `percent` of 100 cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent.min(100)
    }

    /// One of `options`, which must not be empty.
    fn pick<'a, T>(&mut self, options: &'a [T]) -> &'a T {
        &options[self.below(options.len())]
    }
}

/// Choices from bytes, as a fuzzer has them. When they run out, every choice is the simplest.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        if bound == 0 {
            0
        } else {
            usize::from(*first) * bound / 256
        }
    }
}

/// Choices from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Choices for Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(z % bound).unwrap_or(0)
    }
}

/// Pods, the world around them, and policies.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// All pods; most are enrolled.
    pub pods: Vec<PodFacts>,
    /// NetworkPolicy objects.
    pub network_policies: Vec<NetworkPolicy>,
    /// AuthenticatedPolicy objects.
    pub authenticated_policies: Vec<Value>,
}

pub(crate) const NAMESPACES: [&str; 3] = ["shop", "pay", "ops"];
pub(crate) const ACCOUNTS: [&str; 3] = ["default", "api", "db"];
pub(crate) const LABELS: [(&str, &[&str]); 3] = [
    ("app", &["a", "b", ""]),
    ("tier", &["x", "y"]),
    ("signet.dev/role", &["r"]),
];
pub(crate) const PORT_NAMES: [&str; 3] = ["http", "dns", "none"];

impl Cluster {
    /// Draws a cluster.
    pub fn generate(choices: &mut impl Choices) -> Cluster {
        let namespaces: Vec<(&str, BTreeMap<String, String>)> = NAMESPACES
            .iter()
            .take(1 + choices.below(NAMESPACES.len()))
            .map(|name| (*name, labels(choices)))
            .collect();
        let pods = (0..1 + choices.below(6)).map(|index| pod(choices, index, &namespaces));
        let pods = pods.collect();
        let network = 0..choices.below(4);
        let network_policies = network
            .filter_map(|index| {
                let namespace = choices.pick(&namespaces).0;
                let object = objects::network_policy(choices, namespace, index);
                serde_json::from_value(object).ok()
            })
            .collect();
        let authenticated = 0..choices.below(5);
        let authenticated_policies = authenticated
            .map(|index| {
                let namespace = choices.pick(&namespaces).0;
                objects::authenticated_policy(choices, namespace, index)
            })
            .collect();
        Cluster {
            pods,
            network_policies,
            authenticated_policies,
        }
    }

    /// Every kind of peer: the pods, nodes, and addresses in and around the blocks rules name.
    pub fn peers(&self) -> Vec<PeerFacts> {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        let list = |texts: &[&str]| texts.iter().filter_map(|text| address(text)).collect();
        let mut peers: Vec<PeerFacts> = self.pods.iter().cloned().map(PeerFacts::Pod).collect();
        peers.push(PeerFacts::Host(list(&["10.0.0.6"])));
        peers.push(PeerFacts::Host(list(&["10.0.0.6", "fd00::6"])));
        peers.push(PeerFacts::Host(Vec::new()));
        peers.push(PeerFacts::RemoteNode(list(&["10.0.0.7", "fd00::7"])));
        peers.push(PeerFacts::KubeApiServer(list(&["203.0.113.1"])));
        peers.push(PeerFacts::ApiServerNode(list(&["203.0.113.2"])));
        peers.extend(address("10.0.0.5").map(PeerFacts::Unmanaged));
        peers.extend(self.world().into_iter().map(PeerFacts::Address));
        peers
    }

    /// Addresses at the edges of every block that can be drawn.
    pub fn world(&self) -> BTreeSet<IpAddr> {
        let mut addresses = BTreeSet::new();
        for block in objects::BLOCKS {
            let Ok(block) = block.parse::<ipnet::IpNet>() else {
                continue;
            };
            addresses.extend([block.network(), block.broadcast()]);
            addresses.extend(before(block.network()));
            addresses.extend(after(block.broadcast()));
        }
        addresses
    }

    /// Ports at which some answer may change, and their neighbours.
    pub fn ports(&self) -> BTreeSet<u16> {
        let mut ports = BTreeSet::from([0, u16::MAX]);
        let named = self
            .pods
            .iter()
            .flat_map(|pod| pod.named_ports.iter().flatten());
        for port in objects::PORTS
            .iter()
            .copied()
            .chain(named.map(|named| named.port))
        {
            ports.extend([port.saturating_sub(1), port, port.saturating_add(1)]);
        }
        ports
    }
}

/// IP protocol numbers worth trying: those rules name, ICMP of both families, and GRE.
pub const PROTOCOLS: [u8; 6] = [6, 17, 132, 1, 58, 47];

fn pod(
    choices: &mut impl Choices,
    index: usize,
    namespaces: &[(&str, BTreeMap<String, String>)],
) -> PodFacts {
    let (namespace, namespace_labels) = choices.pick(namespaces);
    let account = *choices.pick(&ACCOUNTS);
    let enrolled = !choices.chance(15);
    let known = enrolled || choices.chance(50);
    let spiffe_id = format!("spiffe://lab.signet/ns/{namespace}/sa/{account}");
    let v4 = format!("10.0.0.{index}").parse().ok();
    let v6 = format!("fd00::{index:x}").parse().ok();
    let addresses = match choices.below(4) {
        0 => Vec::from_iter(v4),
        1 => Vec::from_iter(v6),
        2 => v4.into_iter().chain(v6).collect(),
        _ if choices.chance(30) => Vec::new(),
        _ => Vec::from_iter(v4),
    };
    PodFacts {
        uid: format!("uid-{index}"),
        namespace: (*namespace).to_owned(),
        name: format!("pod-{index}"),
        service_account: if known {
            account.to_owned()
        } else {
            String::new()
        },
        spiffe_id: if known { spiffe_id } else { String::new() },
        labels: labels(choices),
        namespace_labels: namespace_labels.clone(),
        addresses,
        named_ports: named_ports(choices),
        enrolled,
    }
}

fn labels(choices: &mut impl Choices) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, values) in LABELS {
        if choices.chance(60) {
            labels.insert(key.to_owned(), (*choices.pick(values)).to_owned());
        }
    }
    labels
}

fn named_ports(choices: &mut impl Choices) -> Option<Vec<NamedPort>> {
    if choices.chance(20) {
        return None;
    }
    let mut ports = Vec::new();
    for name in ["http", "dns"] {
        for _ in 0..choices.below(3) {
            ports.push(NamedPort {
                name: name.to_owned(),
                protocol: *choices.pick(&Protocol::ALL),
                port: *choices.pick(&[80, 53, 65535, 8080]),
            });
        }
    }
    Some(ports)
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|b| IpAddr::V4(b.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|b| IpAddr::V6(b.into())),
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|b| IpAddr::V4(b.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|b| IpAddr::V6(b.into())),
    }
}
