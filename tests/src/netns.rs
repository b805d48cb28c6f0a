//! Running a closure inside a network namespace, on a thread of its own.
#![allow(
    unsafe_code,
    reason = "raw packet sockets have no safe wrapper; each block says why it is sound"
)]

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Runs `work` with the network of `/run/netns/<netns>`; sockets made there stay there.
///
/// # Errors
/// If the namespace is gone, or whatever `work` returns.
pub fn within<T: Send + 'static>(
    netns: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn(netns, work)?
        .join()
        .map_err(|_| anyhow!("the thread in a namespace panicked"))?
}

/// As [`within`], without waiting.
///
/// # Errors
/// If the namespace cannot be opened.
pub fn spawn<T: Send + 'static>(
    netns: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<thread::JoinHandle<Result<T>>> {
    let path = format!("/run/netns/{netns}");
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    Ok(thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {path}"))?;
        work()
    }))
}

/// Opens a TCP connection, sends `text`, and waits for the same bytes back.
///
/// # Errors
/// If any of it takes longer than `timeout` or fails.
pub fn tcp_echo(netns: &str, to: SocketAddr, text: &[u8], timeout: Duration) -> Result<()> {
    use std::io::{Read, Write};
    let text = text.to_vec();
    within(netns, move || {
        let mut stream = std::net::TcpStream::connect_timeout(&to, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(&text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        anyhow::ensure!(back == text, "other bytes came back");
        Ok(())
    })
}

/// Sends one datagram and waits for it to come back, again each `timeout / tries`.
///
/// # Errors
/// If nothing came back.
pub fn udp_echo(
    netns: &str,
    to: SocketAddr,
    text: &[u8],
    timeout: Duration,
    tries: u32,
) -> Result<u32> {
    let text = text.to_vec();
    within(netns, move || {
        let socket = std::net::UdpSocket::bind(any(to.ip()))?;
        socket.set_read_timeout(Some(timeout / tries))?;
        socket.connect(to)?;
        let mut back = vec![0; 70_000];
        for sent in 1..=tries {
            // A refusal by ICMP shows up here; it is an answer like silence.
            if socket.send(&text).is_ok()
                && socket.recv(&mut back).is_ok_and(|n| back[..n] == text[..])
            {
                return Ok(sent);
            }
        }
        Err(anyhow!("no answer from {to} to {tries} datagrams"))
    })
}

/// Sends `count` datagrams of `size` bytes in one call by UDP segmentation (UDP_SEGMENT), each with its number first,
/// and returns how many came back whole within `timeout`.
///
/// # Errors
/// If the socket cannot be made or the call fails.
pub fn udp_segments(
    netns: &str,
    to: SocketAddr,
    size: u16,
    count: u16,
    timeout: Duration,
) -> Result<usize> {
    within(netns, move || {
        let socket = std::net::UdpSocket::bind(any(to.ip()))?;
        socket.connect(to)?;
        let segment = i32::from(size);
        // SAFETY: the option's value is an i32 that outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const segment).cast(),
                4,
            )
        };
        anyhow::ensure!(set == 0, "UDP_SEGMENT: {}", io::Error::last_os_error());
        let datagram = |n: u16| {
            let mut bytes = vec![n as u8; usize::from(size)];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            bytes
        };
        socket.send(&(0..count).flat_map(datagram).collect::<Vec<_>>())?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (start, mut seen, mut buffer) = (Instant::now(), BTreeSet::new(), vec![0; 70_000]);
        while seen.len() < usize::from(count) && start.elapsed() < timeout {
            let Ok(n) = socket.recv(&mut buffer) else {
                continue;
            };
            let number = u16::from_be_bytes([buffer[0], buffer[1]]);
            anyhow::ensure!(
                buffer[..n] == datagram(number),
                "datagram {number} came back as {n} other bytes"
            );
            seen.insert(number);
        }
        Ok(seen.len())
    })
}

/// Serves TCP and UDP echo on `port`, both families, until the process ends.
///
/// # Errors
/// If the ports cannot be bound.
pub fn serve_echo(netns: &str, port: u16) -> Result<()> {
    use std::io::{Read, Write};
    within(netns, move || {
        let listener = std::net::TcpListener::bind(("::", port))?;
        let socket = std::net::UdpSocket::bind(("::", port))?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut buffer = [0; 16_384];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..n], from);
            }
        });
        Ok(())
    })
}

/// Sends whole Ethernet frames out of `interface`, as a workload with CAP_NET_RAW can.
///
/// # Errors
/// If the interface does not exist or a frame cannot be sent.
pub fn send_frames(netns: &str, interface: &str, frames: Vec<Vec<u8>>) -> Result<()> {
    send(netns, interface, frames, false)
}

/// Sends bare IP packets out of a device without Ethernet, such as a slot.
///
/// # Errors
/// If the interface does not exist or a packet cannot be sent.
pub fn send_packets(netns: &str, interface: &str, packets: Vec<Vec<u8>>) -> Result<()> {
    send(netns, interface, packets, true)
}

fn send(netns: &str, interface: &str, frames: Vec<Vec<u8>>, l3: bool) -> Result<()> {
    let interface = interface.to_owned();
    within(netns, move || {
        let ifindex = nix::net::if_::if_nametoindex(interface.as_str()).context("interface")?;
        let socket = packet_socket(0)?;
        for frame in &frames {
            // SAFETY: an all-zero sockaddr_ll is a valid value; its fields are set below.
            let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = i32::try_from(ifindex)?;
            to.sll_halen = 6;
            to.sll_addr[..6].copy_from_slice(&frame[..6]);
            // A device without Ethernet takes bare packets, and wants to be told of which kind.
            to.sll_protocol = match frame[0] >> 4 {
                4 if l3 => (libc::ETH_P_IP as u16).to_be(),
                6 if l3 => (libc::ETH_P_IPV6 as u16).to_be(),
                _ => 0,
            };
            // SAFETY: the frame and the address outlive the call, and their lengths are their own.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            let error = io::Error::last_os_error();
            // ENOBUFS is how a sender hears that a program on the device's egress dropped its frame.
            let dropped = sent < 0 && error.raw_os_error() == Some(libc::ENOBUFS);
            anyhow::ensure!(
                dropped || sent == frame.len() as isize,
                "send a frame: {error}"
            );
        }
        Ok(())
    })
}

/// Collects every frame seen on `interface`, both ways, while `during` runs.
///
/// # Errors
/// If the interface does not exist, or whatever `during` returns.
pub fn capture(
    netns: &str,
    interface: &str,
    during: impl FnOnce() -> Result<()>,
) -> Result<Vec<Vec<u8>>> {
    let interface = interface.to_owned();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel::<()>();
    let reader = spawn(netns, move || {
        let ifindex = nix::net::if_::if_nametoindex(interface.as_str()).context("interface")?;
        let socket = packet_socket(i32::try_from(ifindex)?)?;
        ready.send(())?;
        let mut frames = Vec::new();
        let mut buffer = vec![0u8; 70_000];
        loop {
            // SAFETY: the buffer is writable for its whole length.
            let n = unsafe {
                libc::recv(
                    socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(n @ 1..) = usize::try_from(n) {
                frames.push(buffer[..n].to_vec());
            } else if stopped.try_recv().is_ok() {
                return Ok(frames);
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
    })?;
    is_ready.recv().context("the capture did not start")?;
    let result = during();
    thread::sleep(Duration::from_millis(50));
    stop.send(())?;
    let frames = reader
        .join()
        .map_err(|_| anyhow!("the capture panicked"))??;
    result.map(|()| frames)
}

/// The unspecified address of the family of `like`, port 0.
#[must_use]
pub fn any(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A raw packet socket; bound to `ifindex` for all protocols unless 0.
pub(crate) fn packet_socket(ifindex: i32) -> Result<OwnedFd> {
    let protocol = if ifindex == 0 {
        0
    } else {
        (libc::ETH_P_ALL as u16).to_be()
    };
    // SAFETY: plain system call; the result is checked before it is owned.
    let fd = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(protocol),
        )
    };
    anyhow::ensure!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if ifindex != 0 {
        let size: i32 = 64 << 20;
        // SAFETY: the option's value is an i32 that outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const size).cast(),
                4,
            );
        }
        // SAFETY: an all-zero sockaddr_ll is a valid value; its fields are set below.
        let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_protocol = protocol;
        at.sll_ifindex = ifindex;
        // SAFETY: the address outlives the call, and its length is its own.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const at).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        anyhow::ensure!(
            bound == 0,
            "bind a packet socket: {}",
            io::Error::last_os_error()
        );
    }
    Ok(socket)
}
