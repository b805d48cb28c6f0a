//! Numbered packets as ICMP echo requests (RFC 792, RFC 4443), on a raw socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv,
    send, socket,
};
use nix::sys::time::TimeSpec;

use super::send::Line;

const ECHO_HEADER: usize = 8;

/// A raw ICMP socket that talks to one address.
pub(super) struct Icmp {
    socket: OwnedFd,
    ipv4: bool,
    /// Tells our echoes from those of others in the same namespace.
    identifier: u16,
    sequence: u16,
    buffer: Vec<u8>,
}

impl Icmp {
    pub(super) fn open(to: IpAddr) -> Result<Self> {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .context("open a raw ICMP socket; this needs root")?;
        connect(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(to, 0)),
        )
        .with_context(|| format!("send to {to}"))?;
        let identifier = std::process::id() as u16 ^ (socket.as_raw_fd() as u16).rotate_left(11);
        Ok(Self {
            socket,
            ipv4: to.is_ipv4(),
            identifier,
            sequence: 0,
            buffer: vec![0; 65_536],
        })
    }
}

impl Line for Icmp {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut packet = vec![if self.ipv4 { 8 } else { 128 }, 0, 0, 0];
        packet.extend(self.identifier.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        if self.ipv4 {
            // For ICMPv6 the kernel does it: its checksum covers the addresses too.
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        send(self.socket.as_raw_fd(), &packet, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> io::Result<Option<&[u8]>> {
        let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut wait, Some(TimeSpec::from_duration(patience)), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let length = match recv(
            self.socket.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(length) => length,
            // EAGAIN, or an ICMP error about an earlier packet.
            Err(_) => return Ok(None),
        };
        Ok(reply(&self.buffer[..length], self.ipv4, self.identifier))
    }
}

/// The payload of an echo reply that is ours. A raw IPv4 socket delivers the IP header too.
fn reply(packet: &[u8], ipv4: bool, identifier: u16) -> Option<&[u8]> {
    let start = if ipv4 {
        usize::from(packet.first()? & 0xf) * 4
    } else {
        0
    };
    let icmp = packet.get(start..)?;
    let expected = if ipv4 { 0 } else { 129 };
    let ours = *icmp.first()? == expected && icmp.get(4..6)? == identifier.to_be_bytes();
    if ours { icmp.get(ECHO_HEADER..) } else { None }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_replies_count() {
        let mut packet = vec![0x46; 24]; // IPv4 header with an option
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        packet.extend(b"payload");
        assert_eq!(reply(&packet, true, 0x1234), Some(&b"payload"[..]));
        assert_eq!(reply(&packet, true, 0x1235), None);
        packet[24] = 8;
        assert_eq!(reply(&packet, true, 0x1234), None);
        assert_eq!(
            reply(&[129, 0, 0, 0, 0, 7, 0, 0, 9], false, 7),
            Some(&[9][..])
        );
        assert_eq!(reply(&[0x4f], true, 7), None);
        assert_eq!(reply(&[], false, 7), None);
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[0xff]), !0xff00);
    }
}
