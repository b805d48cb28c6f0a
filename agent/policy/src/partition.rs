//! Which addresses of the world get which verdicts.
//!
//! Address blocks of all rules cut the address space into atoms: all addresses whose longest
//! matching block is the same one lie in exactly the same blocks, so one address speaks for its
//! atom. Atoms with equal verdicts for every local pod share a class.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::block::Blocks;
use crate::compile::PairPolicy;
use crate::facts::{PeerFacts, PodFacts};
use crate::model::Peers;
use crate::set::{PolicySet, Scope};

/// The address space of the world, cut into classes of equal verdicts.
///
/// Look an address up by its longest prefix in `blocks`; the class says what holds for it.
/// `0.0.0.0/0` and `::/0` are always listed, so an IPv4 address never falls to an IPv6 block where
/// both share one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrPartition {
    /// Prefix to class: an index into `classes`.
    pub blocks: BTreeMap<IpNet, usize>,
    /// The verdicts of each class, by the uid of the local pod. Class 0 is that of `0.0.0.0/0`.
    /// Two partitions number their classes on their own: a class of one is a class of the other if
    /// the value here is equal.
    pub classes: Vec<BTreeMap<String, PairPolicy>>,
}

impl CidrPartition {
    /// The class of one address.
    pub fn class_of(&self, address: IpAddr) -> usize {
        let holding = self
            .blocks
            .iter()
            .filter(|(block, _)| block.contains(&address));
        holding
            .max_by_key(|(block, _)| block.prefix_len())
            .map_or(0, |(_, class)| *class)
    }
}

impl PolicySet {
    /// Cuts the world into classes such that all addresses of a class get the same verdicts, in
    /// both directions and on every port, from the policies of each of `locals`.
    pub fn cidr_classes<'a>(
        &self,
        locals: impl IntoIterator<Item = &'a PodFacts>,
    ) -> CidrPartition {
        let locals: Vec<&PodFacts> = locals.into_iter().collect();
        let verdicts = |peer: PeerFacts| -> BTreeMap<String, PairPolicy> {
            locals
                .iter()
                .map(|pod| (pod.uid.clone(), self.compile_pair(pod, &peer)))
                .collect()
        };
        let mut cuts = roots();
        for pod in &locals {
            cuts.extend(self.address_blocks(pod).flat_map(Blocks::edges));
        }
        let mut partition = CidrPartition {
            blocks: BTreeMap::new(),
            classes: Vec::new(),
        };
        let mut known: BTreeMap<BTreeMap<String, PairPolicy>, usize> = BTreeMap::new();
        let mut classes = BTreeMap::new();
        for cut in &cuts {
            let address = match first_of_atom(*cut, &cuts) {
                Some(address) => address,
                // Smaller blocks cover it wholly, so no address asks for it; but roots are listed.
                None if cut.prefix_len() == 0 => cut.addr(),
                None => continue,
            };
            let class = *known
                .entry(verdicts(PeerFacts::Address(address)))
                .or_insert_with_key(|verdicts| {
                    partition.classes.push(verdicts.clone());
                    partition.classes.len() - 1
                });
            classes.insert(*cut, class);
        }
        partition.blocks = without_repetition(&classes);
        partition
    }

    fn address_blocks<'a>(&'a self, pod: &PodFacts) -> impl Iterator<Item = &'a Blocks> {
        let rules = self
            .effective(pod, Scope::Enforced)
            .flat_map(|policy| &policy.rules);
        rules.filter_map(|rule| match &rule.peers {
            Peers::All => None,
            Peers::AnyOf { blocks, .. } => Some(blocks),
        })
    }
}

fn roots() -> BTreeSet<IpNet> {
    BTreeSet::from([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())])
}

/// The first address of `cut` that no smaller cut holds.
fn first_of_atom(cut: IpNet, cuts: &BTreeSet<IpNet>) -> Option<IpAddr> {
    let mut candidate = cut.network();
    // Sorted by address, then from large to small, so a gap shows as soon as one is passed.
    let smaller = cuts
        .range(cut..)
        .skip(1)
        .take_while(|other| cut.contains(*other));
    for other in smaller {
        if other.network() > candidate {
            break;
        }
        if other.contains(&candidate) {
            if other.broadcast() == cut.broadcast() {
                return None;
            }
            candidate = successor(other.broadcast())?;
        }
    }
    Some(candidate)
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// Leaves out blocks that say what the next larger block says.
fn without_repetition(classes: &BTreeMap<IpNet, usize>) -> BTreeMap<IpNet, usize> {
    let larger = |block: &IpNet| {
        std::iter::successors(block.supernet(), IpNet::supernet).find_map(|net| classes.get(&net))
    };
    let kept = classes
        .iter()
        .filter(|(block, class)| larger(block) != Some(class));
    kept.map(|(block, class)| (*block, *class)).collect()
}
