//! Address blocks: a CIDR less its exceptions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// `cidr` without `except`. IPv4 blocks hold IPv4 addresses only, `::/0` holds no IPv4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddressBlock {
    pub(crate) cidr: IpNet,
    pub(crate) except: Vec<IpNet>,
}

/// Address blocks, asked by address: what that costs hardly grows with their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// By CIDR, the exceptions of each block that has it.
    holes: BTreeMap<IpNet, Vec<Nets>>,
    cidrs: Nets,
}

impl Blocks {
    pub(crate) fn insert(&mut self, block: AddressBlock) {
        self.cidrs.insert(block.cidr);
        let mut holes = Nets::default();
        block.except.into_iter().for_each(|hole| holes.insert(hole));
        self.holes.entry(block.cidr).or_default().push(holes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holes.is_empty()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.cidrs
            .holding(address)
            .filter_map(|cidr| self.holes.get(&cidr))
            .flatten()
            .any(|holes| holes.holding(address).next().is_none())
    }

    /// CIDRs and exceptions alike.
    pub(crate) fn edges(&self) -> impl Iterator<Item = IpNet> {
        let holes = self.holes.values().flatten().flat_map(|holes| &holes.nets);
        self.holes.keys().chain(holes).copied()
    }
}

/// Blocks of addresses that are found by one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Nets {
    nets: BTreeSet<IpNet>,
    /// Lengths of prefixes that occur, in IPv4 and in IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl Nets {
    fn insert(&mut self, net: IpNet) {
        let [v4, v6] = &mut self.lengths;
        let lengths = if net.addr().is_ipv4() { v4 } else { v6 };
        lengths.insert(net.prefix_len());
        self.nets.insert(net);
    }

    fn holding(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths
            .iter()
            .filter_map(move |length| Some(IpNet::new(address, *length).ok()?.trunc()))
            .filter(|net| self.nets.contains(net))
    }
}

/// Whether host bits may be set in a CIDR: `10.1.2.3/8` for `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostBits {
    /// Refused: it is more often a typing error than meant.
    Refused,
    /// Masked off, as Kubernetes does.
    Masked,
}

/// Why a CIDR was refused, and what to do.
pub(crate) struct BadCidr {
    pub(crate) what: String,
    pub(crate) fix: String,
}

/// Reads one CIDR.
pub(crate) fn parse(text: &str, host_bits: HostBits) -> Result<IpNet, BadCidr> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(if text.parse::<IpAddr>().is_ok() {
            let bits = if text.contains(':') { 128 } else { 32 };
            BadCidr {
                what: format!("`{text}` is an address without a prefix length"),
                fix: format!("write `{text}/{bits}` for this one address"),
            }
        } else {
            BadCidr {
                what: format!("`{text}` is not a CIDR"),
                fix: "write an address and a prefix length, such as `10.0.0.0/8` or `fd00::/8`"
                    .to_owned(),
            }
        });
    };
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Err(BadCidr {
            what: format!("`{text}` is an IPv4 block written as IPv6"),
            fix: format!("write `{v4}/{}`", v6.prefix_len() - 96),
        });
    }
    if host_bits == HostBits::Refused && net.trunc() != net {
        return Err(BadCidr {
            what: format!("`{text}` has bits set behind its prefix length"),
            fix: format!(
                "write `{}` for the block or `{}/{}` for the one address",
                net.trunc(),
                net.addr(),
                net.max_prefix_len()
            ),
        });
    }
    Ok(net.trunc())
}

/// Checks that `hole` lies inside `cidr` and is smaller.
pub(crate) fn check_exception(cidr: IpNet, hole: IpNet) -> Result<(), BadCidr> {
    if cidr.contains(&hole) && hole.prefix_len() > cidr.prefix_len() {
        return Ok(());
    }
    Err(BadCidr {
        what: format!("`{hole}` is not a smaller block inside `{cidr}`"),
        fix: "name a part of `cidr`, or remove the exception".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_its_exceptions_do_not_and_another_may() {
        let mut blocks = Blocks::default();
        assert!(blocks.is_empty());
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        blocks.insert(AddressBlock {
            cidr: net("10.0.0.0/8"),
            except: vec![net("10.1.0.0/16"), net("10.2.3.4/32")],
        });
        blocks.insert(AddressBlock {
            cidr: net("10.1.2.0/24"),
            except: Vec::new(),
        });
        blocks.insert(AddressBlock {
            cidr: net("::/0"),
            except: vec![net("fd00::/8")],
        });
        for (address, held) in [
            ("10.9.9.9", true),
            ("10.1.9.9", false),
            ("10.1.2.9", true),
            ("10.2.3.4", false),
            ("10.2.3.5", true),
            ("11.0.0.1", false),
            ("2001:db8::1", true),
            ("fd61::1", false),
        ] {
            assert_eq!(blocks.contains(address.parse().unwrap()), held, "{address}");
        }
        assert_eq!(blocks.edges().count(), 6);
        // The same CIDR again, without the exceptions, holds them too.
        blocks.insert(AddressBlock {
            cidr: net("10.0.0.0/8"),
            except: Vec::new(),
        });
        assert!(blocks.contains("10.1.9.9".parse().unwrap()));
    }
}
