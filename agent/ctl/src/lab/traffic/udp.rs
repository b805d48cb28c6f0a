//! Numbered packets over UDP.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::send::Line;

/// A connected UDP socket.
pub(super) struct Udp {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Udp {
    pub(super) fn open(to: IpAddr, port: u16) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("open a UDP socket")?;
        socket
            .connect((to, port))
            .with_context(|| format!("send to {to}"))?;
        socket
            .set_nonblocking(true)
            .context("a socket that does not wait")?;
        Ok(Self {
            socket,
            buffer: vec![0; 65_536],
        })
    }
}

impl Line for Udp {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.socket.send(payload).map(|_| ())
    }

    fn receive(&mut self, patience: Duration) -> io::Result<Option<&[u8]>> {
        receive(&self.socket, &mut self.buffer, patience)
    }
}

/// Receives within `patience`. What ICMP says about earlier packets is no answer and no failure.
fn receive<'a>(
    socket: &UdpSocket,
    buffer: &'a mut [u8],
    patience: Duration,
) -> io::Result<Option<&'a [u8]>> {
    // Not the socket's own timeout: that is rounded up to the kernel's tick.
    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut wait, Some(TimeSpec::from_duration(patience)), None) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match socket.recv(buffer) {
        Ok(length) => Ok(Some(&buffer[..length])),
        Err(error) if is_no_answer(error.kind()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_no_answer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    )
}

/// Sends every datagram back, until killed.
pub(super) fn echo(port: u16) -> Result<u8> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let socket = UdpSocket::bind(any).with_context(|| format!("listen on UDP port {port}"))?;
    println!("echoing on UDP port {port}");
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}
