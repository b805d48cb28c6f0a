//! Address blocks: a CIDR less its exceptions.

use std::net::IpAddr;

use ipnet::IpNet;

/// `cidr` without `except`. IPv4 blocks hold IPv4 addresses only, `::/0` holds no IPv4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddressBlock {
    pub(crate) cidr: IpNet,
    pub(crate) except: Vec<IpNet>,
}

impl AddressBlock {
    pub(crate) fn contains(&self, address: &IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|hole| hole.contains(address))
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
