//! IP addresses as the messages carry them.

use std::net::IpAddr;

/// The 4 or 16 bytes of `address`; IPv4-mapped IPv6 becomes IPv4.
#[must_use]
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes, canonical; `None` for any other length.
#[must_use]
pub fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(v6).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_wire_and_mapped_ones_become_ipv4() {
        for (given, back, length) in [
            ("10.1.2.3", "10.1.2.3", 4),
            ("::ffff:10.1.2.3", "10.1.2.3", 4),
            ("fd00::1", "fd00::1", 16),
        ] {
            let bytes = address_bytes(given.parse().unwrap());
            assert_eq!(bytes.len(), length, "{given}");
            assert_eq!(parse_address(&bytes), Some(back.parse().unwrap()));
        }
        let mapped: std::net::Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(
            parse_address(&mapped.octets()),
            Some("10.1.2.3".parse().unwrap())
        );
        assert_eq!(parse_address(&[1, 2, 3]), None);
    }
}
