//! Addresses and prefixes of both families in one 128-bit form.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

wire! {
    /// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`, in network order.
    pub struct Addr as "addr" {
        /// The sixteen bytes.
        pub bytes: [u8; 16],
    }
}

impl Addr {
    /// The address as the kernel and the operator know it.
    pub fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.bytes).to_canonical()
    }

    /// True for `::ffff:0:0/96`.
    pub fn is_ipv4(self) -> bool {
        Ipv6Addr::from(self.bytes).to_ipv4_mapped().is_some()
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self {
            bytes: address.to_ipv6_mapped().octets(),
        }
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self {
            bytes: address.octets(),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

wire! {
    /// Key of the prefix maps (`pod_ranges`, `cidr_classes`): longest match wins.
    pub struct AddrPrefix as "addr_prefix" {
        /// Significant bits of `addr`, 0..=128; an IPv4 prefix counts 96 more than in its own
        /// notation.
        pub prefix_len: u32,
        /// The prefix; bits past `prefix_len` are ignored by the kernel.
        pub addr: Addr,
    }
}

impl AddrPrefix {
    /// The prefix `address/len` in the family's own notation. Lengths past the family's
    /// maximum are cut to it.
    pub fn new(address: IpAddr, len: u8) -> Self {
        let prefix_len = match address {
            IpAddr::V4(_) => 96 + u32::from(len.min(32)),
            IpAddr::V6(_) => u32::from(len.min(128)),
        };
        Self {
            prefix_len,
            addr: address.into(),
        }
    }

    /// The prefix as `(address, length)` in the family's own notation.
    pub fn to_ip(self) -> (IpAddr, u8) {
        let len = self.prefix_len.min(128) as u8;
        if self.addr.is_ipv4() && len >= 96 {
            (self.addr.to_ip(), len - 96)
        } else {
            (Ipv6Addr::from(self.addr.bytes).into(), len)
        }
    }
}
