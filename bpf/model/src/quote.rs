//! The packet an ICMP error is about. The error belongs to that packet's flow.

use signet_abi::Addr;

use crate::address;
use crate::parse::{Family, IPV4_LEN, IPV6_LEN, SCTP, TCP, UDP, be16};

/// The quoted packet, as it was when it went the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its source: the one the error must go to.
    pub src: Addr,
    /// Its destination.
    pub dst: Addr,
    /// Its protocol.
    pub proto: u8,
    /// Its source port, or the identifier of its echo.
    pub sport: u16,
    /// Its destination port, or the identifier of its echo.
    pub dport: u16,
}

/// The quote in what follows the error's own eight bytes. `None` if it cannot be tied to a flow:
/// then the error is an ICMP packet like any other.
pub(crate) fn read(family: Family, quoted: &[u8]) -> Option<Quote> {
    let (proto, addresses, transport) = match family {
        Family::V4 => {
            let header = quoted.get(..IPV4_LEN)?;
            let header_len = usize::from(header[0] & 15) * 4;
            // A later fragment has no ports to go by.
            if header[0] >> 4 != 4 || header_len < IPV4_LEN || be16(header, 6) & 0x1fff != 0 {
                return None;
            }
            (header[9], &header[12..20], quoted.get(header_len..))
        }
        Family::V6 => {
            let header = quoted.get(..IPV6_LEN)?;
            if header[0] >> 4 != 6 {
                return None;
            }
            (header[6], &header[8..40], quoted.get(IPV6_LEN..))
        }
    };
    let (src, dst) = address::pair(family, addresses)?;
    let (sport, dport) = match proto {
        TCP | UDP | SCTP => {
            let ports = transport?.get(..4)?;
            (be16(ports, 0), be16(ports, 2))
        }
        proto if proto == family.icmp() => {
            let echo = transport?.get(..6)?;
            if !family.is_echo(echo[0]) {
                return None;
            }
            (be16(echo, 4), be16(echo, 4))
        }
        _ => (0, 0),
    };
    Some(Quote {
        src,
        dst,
        proto,
        sport,
        dport,
    })
}
