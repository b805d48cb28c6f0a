//! Which peer an inner address belongs to: longest prefix wins.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

/// Prefixes of one slot and their owners.
///
/// Nearly all prefixes are single pod addresses, so that a hash lookup for each prefix
/// length in use (mostly one or two) beats walking a trie.
pub(crate) struct AllowedIps<T> {
    v4: Lengths<T>,
    v6: Lengths<T>,
}

/// By prefix length, then by the prefix's bits moved to the top of the word.
type Lengths<T> = BTreeMap<u8, HashMap<u128, T>>;

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        Self {
            v4: Lengths::new(),
            v6: Lengths::new(),
        }
    }
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    /// Gives `prefix` to `owner`, whoever had it before. Host bits are ignored.
    pub(crate) fn insert(&mut self, prefix: IpNet, owner: T) {
        let (bits, _) = top_bits(prefix.network());
        let lengths = self.lengths_mut(prefix.addr());
        lengths
            .entry(prefix.prefix_len())
            .or_default()
            .insert(bits, owner);
    }

    /// Takes everything from `owner`.
    pub(crate) fn remove_owner(&mut self, owner: T) {
        for lengths in [&mut self.v4, &mut self.v6] {
            for prefixes in lengths.values_mut() {
                prefixes.retain(|_, holder| *holder != owner);
            }
            lengths.retain(|_, prefixes| !prefixes.is_empty());
        }
    }

    /// The owner of the longest prefix that contains `address`.
    #[inline]
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<T> {
        let (bits, width) = top_bits(address);
        let lengths = if width == 32 { &self.v4 } else { &self.v6 };
        let mut found = lengths.iter().rev().map(|(length, prefixes)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            prefixes.get(&(bits & mask)).copied()
        });
        found.find_map(|owner| owner)
    }

    /// The prefixes of `owner`, in address order, IPv4 first.
    pub(crate) fn of(&self, owner: T) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        for (width, lengths) in [(32, &self.v4), (128, &self.v6)] {
            for (length, holders) in lengths {
                let mine = holders.iter().filter(|(_, holder)| **holder == owner);
                prefixes.extend(mine.filter_map(|(bits, _)| network(*bits, width, *length)));
            }
        }
        prefixes.sort_unstable();
        prefixes
    }

    fn lengths_mut(&mut self, address: IpAddr) -> &mut Lengths<T> {
        match address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

/// The address at the top of a word, and its width in bits.
#[inline]
fn top_bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn network(bits: u128, width: u8, length: u8) -> Option<IpNet> {
    let address = match width {
        32 => IpAddr::V4(((bits >> 96) as u32).into()),
        _ => IpAddr::V6(bits.into()),
    };
    IpNet::new(address, length).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The dumbest possible model: a list, searched from end to end.
    #[derive(Default)]
    struct List(Vec<(IpNet, u8)>);

    impl List {
        fn insert(&mut self, prefix: IpNet, owner: u8) {
            self.0.retain(|(known, _)| known.trunc() != prefix.trunc());
            self.0.push((prefix.trunc(), owner));
        }

        fn lookup(&self, address: IpAddr) -> Option<u8> {
            let holders = self
                .0
                .iter()
                .filter(|(prefix, _)| prefix.contains(&address));
            holders
                .max_by_key(|(prefix, _)| prefix.prefix_len())
                .map(|(_, owner)| *owner)
        }

        fn of(&self, owner: u8) -> Vec<IpNet> {
            let mine = self.0.iter().filter(|(_, holder)| *holder == owner);
            let mut prefixes: Vec<_> = mine.map(|(prefix, _)| *prefix).collect();
            prefixes.sort_unstable();
            prefixes
        }
    }

    /// Few distinct bits, so that prefixes nest and collide.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|low| IpAddr::V4([10, low >> 6, (low >> 3) & 7, low & 7].into())),
            any::<u8>().prop_map(|low| {
                let mut octets = [0; 16];
                (octets[0], octets[7], octets[15]) = (0xfd, low >> 4, low & 15);
                IpAddr::V6(octets.into())
            }),
            // What an IPv4 prefix must never match.
            any::<u8>().prop_map(|low| {
                let v4 = std::net::Ipv4Addr::new(10, low >> 6, (low >> 3) & 7, low & 7);
                IpAddr::V6(v4.to_ipv6_mapped())
            }),
        ]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), any::<u8>()).prop_map(|(address, length)| {
            let width = if address.is_ipv4() { 33 } else { 129 };
            IpNet::new(address, (u16::from(length) % width) as u8).unwrap()
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(IpNet, u8),
        RemoveOwner(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (prefix(), 0u8..4).prop_map(|(prefix, owner)| Step::Insert(prefix, owner)),
            1 => (0u8..4).prop_map(Step::RemoveOwner),
        ]
    }

    proptest! {
        #[test]
        fn same_as_a_list(
            steps in prop::collection::vec(step(), 0..60),
            probes in prop::collection::vec(address(), 30),
        ) {
            let (mut table, mut list) = (AllowedIps::default(), List::default());
            for step in steps {
                match step {
                    Step::Insert(prefix, owner) => {
                        table.insert(prefix, owner);
                        list.insert(prefix, owner);
                    }
                    Step::RemoveOwner(owner) => {
                        table.remove_owner(owner);
                        list.0.retain(|(_, holder)| *holder != owner);
                    }
                }
            }
            for probe in probes {
                prop_assert_eq!(table.lookup(probe), list.lookup(probe), "{}", probe);
            }
            for owner in 0..4 {
                prop_assert_eq!(table.of(owner), list.of(owner));
            }
        }
    }
}
