//! The slot's UDP socket: many datagrams per system call, both ways.
//!
//! Sending uses `sendmmsg` with `UDP_SEGMENT`: equally long datagrams to one peer travel
//! through the kernel as one. Receiving uses `recvmmsg` with `UDP_GRO`, the same backwards.
//! Where the kernel or the network card cannot do that, datagrams go one by one.
#![allow(
    unsafe_code,
    reason = "sendmmsg and recvmmsg with control messages need raw structures"
)]

use std::{
    io, mem,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use crate::batch::{Batch, DatagramSink, MAX_MESSAGES, Message};

/// Socket buffers: what 64 KiB super-packets of a few flows need while a thread is scheduled
/// out.
const SOCKET_BUFFER: libc::c_int = 8 << 20;
/// The largest payload `UDP_GRO` gives.
const DATAGRAM_CAPACITY: usize = 65_535;
/// Buffers per `recvmmsg`.
const RECEIVE_BUFFERS: usize = 8;
/// Room for one control message of an `int`, aligned for `cmsghdr`.
type Control = [u64; 4];

/// Why a slot's socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// Somebody else has the port.
    #[error("UDP port {0} is in use; stop the other program or choose another with --slot-ports")]
    InUse(SocketAddr),
    /// The address is not on this host.
    #[error("address {0} is not on this host; choose another with --bind")]
    NotLocal(SocketAddr),
    /// Anything else.
    #[error("UDP socket {0} cannot be opened: {1}")]
    Other(SocketAddr, io::Error),
}

/// One slot's socket on the underlay.
pub struct Underlay {
    socket: UdpSocket,
    /// An IPv6 socket, which reaches IPv4 through mapped addresses.
    v6: bool,
    /// The kernel segments for us.
    segmentation: AtomicBool,
}

impl Underlay {
    /// Opens `port` on `bind`, or on every address of both families.
    ///
    /// # Errors
    /// If the port is taken or the address is not local.
    pub fn open(bind: Option<IpAddr>, port: u16) -> Result<Self, UnderlayError> {
        let wanted = bind.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let socket = match open_socket(SocketAddr::new(wanted, port)) {
            // A kernel without IPv6: all of IPv4 is what is left.
            Err(error) if bind.is_none() && is_without_ipv6(&error) => {
                open_socket(SocketAddr::from(([0, 0, 0, 0], port)))
            }
            other => other,
        }
        .map_err(|error| describe(SocketAddr::new(wanted, port), error))?;
        let v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
        Ok(Self {
            socket,
            v6,
            segmentation: AtomicBool::new(true),
        })
    }

    /// The port really bound.
    ///
    /// # Errors
    /// If the kernel does not say, which it always does.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Receives what is there, without waiting. The number of filled buffers; 0 if nothing
    /// came.
    pub(crate) fn receive(&self, into: &mut ReceiveBuffers) -> io::Result<usize> {
        into.arm();
        // SAFETY: `arm` pointed every header at memory that `into` owns and that outlives the
        // call; the count is the number of headers.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                into.headers.as_mut_ptr(),
                into.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The address as this socket's family writes it.
    fn reachable(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.v6 => {
                SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }

    /// Sends as many of the messages as the kernel takes in one call.
    fn send_some(&self, batch: &Batch, messages: &[Message]) -> io::Result<usize> {
        let mut names = [const { None::<SockaddrStorage> }; MAX_MESSAGES];
        let mut vectors = [EMPTY_VECTOR; MAX_MESSAGES];
        let mut controls: [Control; MAX_MESSAGES] = [[0; 4]; MAX_MESSAGES];
        // SAFETY: all-zero bytes are a valid `mmsghdr`: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; MAX_MESSAGES] = unsafe { mem::zeroed() };
        let count = messages.len().min(MAX_MESSAGES);
        for (at, message) in messages.iter().take(count).enumerate() {
            let payload = batch.payload(message);
            let name = names[at].insert(SockaddrStorage::from(self.reachable(message.to)));
            vectors[at] = libc::iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            };
            let header = &mut headers[at].msg_hdr;
            header.msg_name = ptr::from_ref(name).cast_mut().cast();
            header.msg_namelen = name.len();
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            if message.count > 1 {
                header.msg_control = controls[at].as_mut_ptr().cast();
                // SAFETY: the header's control buffer is `Control`, which is larger than
                // CMSG_SPACE of a u16 and aligned for `cmsghdr`.
                unsafe { write_segment(header, message.segment as u16) };
            }
        }
        // SAFETY: every header points at names, vectors, controls and payloads that live until
        // the end of this function; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Sends the datagrams of one message each on its own; how many the kernel refused.
    fn send_singly(&self, batch: &Batch, message: &Message) -> u64 {
        let datagrams = batch.payload(message).chunks(message.segment);
        let refused = datagrams.filter(|datagram| !self.send_one(message.to, datagram));
        refused.count() as u64
    }
}

impl DatagramSink for Underlay {
    fn send(&self, batch: &mut Batch) -> u64 {
        let mut refused = 0;
        let mut messages = batch.messages();
        while let Some(first) = messages.first() {
            if first.count > 1 && !self.segmentation.load(Ordering::Relaxed) {
                refused += self.send_singly(batch, first);
                messages = &messages[1..];
                continue;
            }
            match self.send_some(batch, messages) {
                Ok(sent) => messages = &messages[sent.max(1)..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // EIO: the route's device cannot checksum segments, so never again.
                    // EINVAL, EMSGSIZE: this segment is larger than the route's MTU.
                    match error.raw_os_error() {
                        Some(libc::EIO) if first.count > 1 => {
                            self.segmentation.store(false, Ordering::Relaxed);
                            refused += self.send_singly(batch, first);
                        }
                        Some(libc::EINVAL | libc::EMSGSIZE) if first.count > 1 => {
                            refused += self.send_singly(batch, first);
                        }
                        _ => refused += first.count as u64,
                    }
                    messages = &messages[1..];
                }
            }
        }
        batch.clear();
        refused
    }

    fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        self.socket.send_to(datagram, self.reachable(to)).is_ok()
    }
}

impl AsFd for Underlay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What [`Underlay::receive`] fills; reused from call to call.
pub(crate) struct ReceiveBuffers {
    payloads: Vec<Box<[u8]>>,
    names: [libc::sockaddr_storage; RECEIVE_BUFFERS],
    controls: [Control; RECEIVE_BUFFERS],
    vectors: [libc::iovec; RECEIVE_BUFFERS],
    headers: [libc::mmsghdr; RECEIVE_BUFFERS],
}

// SAFETY: the raw pointers inside point only into the structure's own memory and are set anew
// by `arm` before each use.
unsafe impl Send for ReceiveBuffers {}

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        let buffer = || vec![0; DATAGRAM_CAPACITY].into_boxed_slice();
        Self {
            payloads: (0..RECEIVE_BUFFERS).map(|_| buffer()).collect(),
            // SAFETY: all-zero bytes are a valid `sockaddr_storage` (AF_UNSPEC).
            names: unsafe { mem::zeroed() },
            controls: [[0; 4]; RECEIVE_BUFFERS],
            vectors: [EMPTY_VECTOR; RECEIVE_BUFFERS],
            // SAFETY: all-zero bytes are a valid `mmsghdr`.
            headers: unsafe { mem::zeroed() },
        }
    }

    /// What one filled buffer holds: sender, bytes, and the length of each datagram in it but
    /// perhaps the last. `None` if it was cut off or its sender is of no IP family.
    pub(crate) fn filled(&self, at: usize) -> Option<(SocketAddr, &[u8], usize)> {
        let header = &self.headers[at];
        let length = header.msg_len as usize;
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let sender = sender(&self.names[at], header.msg_hdr.msg_namelen)?;
        let segment = self.segment(at).unwrap_or(length).max(1);
        Some((sender, &self.payloads[at][..length], segment))
    }

    fn arm(&mut self) {
        for at in 0..RECEIVE_BUFFERS {
            self.vectors[at] = libc::iovec {
                iov_base: self.payloads[at].as_mut_ptr().cast(),
                iov_len: DATAGRAM_CAPACITY,
            };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
    }

    /// The length `UDP_GRO` reports, if the kernel merged datagrams.
    fn segment(&self, at: usize) -> Option<usize> {
        let header = &self.headers[at].msg_hdr;
        // SAFETY: the kernel wrote the control buffer that `header` points at, and
        // `msg_controllen` says how much of it.
        let control = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
        if (control.cmsg_level, control.cmsg_type) != (libc::SOL_UDP, libc::UDP_GRO) {
            return None;
        }
        // SAFETY: a UDP_GRO message holds an int (udp(7)); it may be unaligned.
        let size = unsafe { ptr::read_unaligned(libc::CMSG_DATA(control).cast::<libc::c_int>()) };
        usize::try_from(size).ok()
    }
}

const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    // std binds IPv6 sockets with the system's default for IPV6_V6ONLY, which a host may have
    // changed (net.ipv6.bindv6only), and it is fixed once bound.
    let socket = unbound(address)?;
    let fd = socket.as_raw_fd();
    if address.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    for (forced, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        set_option(fd, libc::SOL_SOCKET, forced, SOCKET_BUFFER)
            .or_else(|_| set_option(fd, libc::SOL_SOCKET, plain, SOCKET_BUFFER))?;
    }
    // Kernels before 5.0 give datagrams one by one, which works as well.
    let _ = set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    let name = SockaddrStorage::from(address);
    nix::sys::socket::bind(fd, &name)?;
    Ok(socket)
}

fn unbound(address: SocketAddr) -> io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    Ok(socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?.into())
}

fn set_option(fd: i32, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is a c_int that lives during the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes the `UDP_SEGMENT` control message.
///
/// # Safety
/// `header.msg_control` must point at a [`Control`].
unsafe fn write_segment(header: &mut libc::msghdr, segment: u16) {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute; `Control` has room for the message, so
    // CMSG_FIRSTHDR is not null, and CMSG_DATA is within it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let Some(control) = libc::CMSG_FIRSTHDR(header).as_mut() else {
            return;
        };
        control.cmsg_level = libc::SOL_UDP;
        control.cmsg_type = libc::UDP_SEGMENT;
        control.cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(control).cast::<u16>(), segment);
    }
}

/// The sender as an ordinary address: mapped IPv4 becomes IPv4.
fn sender(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    // SAFETY: `name` is a sockaddr_storage of which the kernel wrote `length` bytes; nix checks
    // the family and the length.
    let name = unsafe { SockaddrStorage::from_raw(ptr::from_ref(name).cast(), Some(length)) }?;
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    let v6 = name.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().to_canonical(), v6.port()))
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn describe(address: SocketAddr, error: io::Error) -> UnderlayError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => UnderlayError::InUse(address),
        Some(libc::EADDRNOTAVAIL) => UnderlayError::NotLocal(address),
        _ => UnderlayError::Other(address, error),
    }
}
