//! Sockets that tell more than whether something came back: from where, at which try, in which order, how large.
#![allow(
    unsafe_code,
    reason = "socket options without a safe wrapper; each block says why it is sound"
)]

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::netns;

/// Sends one datagram from a socket that hears everybody, and returns who answered with the same bytes.
///
/// # Errors
/// If nothing came back in time.
pub fn answered_from(
    netns: &str,
    to: SocketAddr,
    text: &[u8],
    timeout: Duration,
) -> Result<SocketAddr> {
    let text = text.to_vec();
    netns::within(netns, move || {
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send_to(&text, to)?;
        let mut back = vec![0; 70_000];
        let (n, from) = socket
            .recv_from(&mut back)
            .with_context(|| format!("{to}"))?;
        ensure!(back[..n] == text[..], "other bytes came back from {from}");
        Ok(from)
    })
}

/// Opens a TCP connection from here and returns how many segments had to be sent again for it.
///
/// # Errors
/// If it does not open in time.
pub fn tcp_retransmits(to: SocketAddr, timeout: Duration) -> Result<u32> {
    let stream = TcpStream::connect_timeout(&to, timeout).with_context(|| format!("{to}"))?;
    // SAFETY: an all-zero tcp_info is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: both pointers are to values that outlive the call, and the length is the value's own.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    ensure!(got == 0, "TCP_INFO: {}", io::Error::last_os_error());
    Ok(info.tcpi_total_retrans)
}

/// As [`tcp_retransmits`], from a namespace.
///
/// # Errors
/// If it does not open in time.
pub fn tcp_first(netns: &str, to: SocketAddr, timeout: Duration) -> Result<u32> {
    netns::within(netns, move || tcp_retransmits(to, timeout))
}

/// As [`icmp_echo`], from a namespace.
///
/// # Errors
/// If no answer came in time.
pub fn icmp_first(netns: &str, to: IpAddr, timeout: Duration) -> Result<()> {
    netns::within(netns, move || icmp_echo(to, timeout))
}

/// Sends one echo request from here and waits for its answer; it is not sent again.
///
/// # Errors
/// If no answer came in time.
pub fn icmp_echo(to: IpAddr, timeout: Duration) -> Result<()> {
    let (domain, protocol, kind, answer, header) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0, 20),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129, 0),
    };
    // SAFETY: plain system call; the result is checked before it is owned.
    let fd = unsafe { libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    ensure!(fd >= 0, "raw socket: {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and belongs to nobody else. The type asked for is a raw socket's, but
    // what is used of it here (connect, send, receive, timeout) is the same system call for any datagram socket.
    let socket = unsafe { UdpSocket::from(OwnedFd::from_raw_fd(fd)) };
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(SocketAddr::new(to, 0))?;
    let mut request = vec![kind, 0, 0, 0, 0x53, 0x47, 0, 1];
    request.extend(b"first contact");
    if to.is_ipv4() {
        let sum = crate::packet::checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send(&request)?;
    let start = Instant::now();
    let mut back = vec![0; 2000];
    while start.elapsed() < timeout {
        let n = socket.recv(&mut back).with_context(|| format!("{to}"))?;
        let message = back[..n].get(header..).unwrap_or_default();
        if message.first() == Some(&answer) && message.get(4..) == request.get(4..) {
            return Ok(());
        }
    }
    Err(anyhow!("no answer from {to}"))
}

/// Sends one datagram to a port that nobody serves, and waits until the sender hears so.
///
/// # Errors
/// If anything else happens, or nothing.
pub fn refused(netns: &str, to: SocketAddr, timeout: Duration) -> Result<()> {
    netns::within(netns, move || {
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.connect(to)?;
        socket.send(b"anybody there?")?;
        match socket.recv(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(anyhow!("{to} was not refused: {other:?}")),
        }
    })
}

/// Sends datagrams that fill a wire of 1500 bytes and may not be fragmented, until one came back; returns the path's
/// MTU as the sender was told.
///
/// # Errors
/// If it is never told, or what fits then does not come back.
pub fn told_mtu(netns: &str, to: SocketAddr, timeout: Duration) -> Result<usize> {
    netns::within(netns, move || {
        let (level, discover, always, mtu, headers) = match to {
            SocketAddr::V4(_) => (
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DO,
                libc::IP_MTU,
                28,
            ),
            SocketAddr::V6(_) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DO,
                libc::IPV6_MTU,
                48,
            ),
        };
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        socket.set_read_timeout(Some(timeout))?;
        // SAFETY: the option's value is an i32 that outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                discover,
                (&raw const always).cast(),
                4,
            )
        };
        ensure!(set == 0, "IP_MTU_DISCOVER: {}", io::Error::last_os_error());
        socket.connect(to)?;
        socket.send(&vec![1; 1500 - headers])?;
        let start = Instant::now();
        let told = loop {
            let (mut value, mut len) = (0i32, 4);
            // SAFETY: both pointers are to values that outlive the call, and the length is the value's own.
            let got = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    level,
                    mtu,
                    (&raw mut value).cast(),
                    &raw mut len,
                )
            };
            ensure!(got == 0, "IP_MTU: {}", io::Error::last_os_error());
            if value < 1500 {
                break usize::try_from(value)?;
            }
            ensure!(start.elapsed() < timeout, "{to}: nobody said \"too big\"");
            thread::sleep(Duration::from_millis(10));
        };
        // The error itself waits in the socket.
        let _ = socket.take_error();
        let fits = vec![2; told - headers];
        socket.send(&fits)?;
        let mut back = vec![0; 2000];
        let n = socket
            .recv(&mut back)
            .with_context(|| format!("{told} bytes to {to}"))?;
        ensure!(back[..n] == fits[..], "other bytes came back");
        Ok(told)
    })
}

/// Sends `count` numbered datagrams back to back from one processor, and returns the numbers in the order in which
/// they came to `to`, a free port of `server`, reached by `by`.
///
/// # Errors
/// If a socket cannot be made.
pub fn burst(
    (client, server): (&str, &str),
    by: SocketAddr,
    to: SocketAddr,
    count: u32,
    pause: Duration,
) -> Result<Vec<u32>> {
    let (ready, is_ready) = mpsc::channel();
    let receiver = netns::spawn(server, move || {
        let socket = UdpSocket::bind(SocketAddr::new(netns::any(to.ip()).ip(), to.port()))?;
        receive_buffer(&socket)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        ready.send(())?;
        let (mut seen, mut buffer) = (Vec::new(), [0; 64]);
        while seen.len() < count as usize {
            let Ok(n) = socket.recv(&mut buffer) else {
                break;
            };
            seen.push(u32::from_be_bytes(
                buffer[..n].try_into().context("a number")?,
            ));
        }
        Ok(seen)
    })?;
    is_ready.recv().context("the receiver did not start")?;
    netns::within(client, move || {
        // Packets of one flow on two processors at once have no order to keep.
        let mut one = nix::sched::CpuSet::new();
        one.set(0)?;
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one)?;
        let socket = UdpSocket::bind(netns::any(by.ip()))?;
        socket.connect(by)?;
        for n in 0..count {
            socket.send(&n.to_be_bytes())?;
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
        Ok(())
    })?;
    receiver
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))?
}

/// Room for a burst, so that what is lost was not lost at the last step.
fn receive_buffer(socket: &UdpSocket) -> Result<()> {
    let size: i32 = 16 << 20;
    // SAFETY: the option's value is an i32 that outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            4,
        )
    };
    ensure!(set == 0, "SO_RCVBUFFORCE: {}", io::Error::last_os_error());
    Ok(())
}
