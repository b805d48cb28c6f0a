//! The slot's TUN device: super-packets in and out, gone with the process.
#![allow(unsafe_code, reason = "TUN devices are made by ioctl")]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    ptr,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{gro::FrameSink, vnet::VNET_LEN};

const DEVICE: &str = "/dev/net/tun";
/// Redirected packets are not held against the MTU, routed ones are; nothing is routed here
/// but by mistake, and the packets that are redirected may be as large as packets get.
const MTU: libc::c_int = 65_535;
/// Super-packets that wait while the engine is scheduled out.
const QUEUE: libc::c_int = 1_000;
/// `IN6_ADDR_GEN_MODE_NONE`: no link-local address, so the device says nothing by itself.
const ADDR_GEN_MODE_NONE: &str = "1";

/// Why a slot device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel has no TUN support, or the container no device node.
    #[error("{DEVICE} does not exist; run `modprobe tun`, or give the container the device")]
    NoDevice,
    /// Not root.
    #[error("TUN device {0} cannot be made without CAP_NET_ADMIN; run as root")]
    NotPermitted(String),
    /// Another program has a device of that name.
    #[error(
        "network device {0} exists already; stop what uses it, or choose others with --slot-names"
    )]
    NameTaken(String),
    /// Not a device name.
    #[error("{0:?} is no name for a network device; use 1 to 15 letters, digits, - or _")]
    BadName(String),
    /// The kernel lacks `IFF_VNET_HDR` or refuses a step.
    #[error("TUN device {name}: {step}: {error}")]
    Other {
        /// The device.
        name: String,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// One slot's TUN device, up, without addresses and routes.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    ifindex: u32,
    offloads: Offloads,
}

/// Which super-packets the kernel gives us and takes from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// TCP and UDP.
    TcpAndUdp,
    /// TCP only: kernels before 6.2.
    TcpOnly,
    /// None.
    Nothing,
}

impl Tun {
    /// Makes the device in the network namespace of the calling thread and sets it up.
    ///
    /// # Errors
    /// If the name is bad or taken, or the caller may not.
    pub fn create(name: &str) -> Result<Self, TunError> {
        check_name(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => TunError::NoDevice,
                Some(libc::EACCES | libc::EPERM) => TunError::NotPermitted(name.into()),
                _ => other(name, "opening /dev/net/tun", error),
            })?;
        // An existing persistent TUN would be joined rather than refused.
        if Path::new("/proc/sys/net/ipv4/conf").join(name).exists() {
            return Err(TunError::NameTaken(name.into()));
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let mut request = request(name);
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        interface_ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPERM) => TunError::NotPermitted(name.into()),
                Some(libc::EBUSY | libc::EEXIST) => TunError::NameTaken(name.into()),
                _ => other(name, "making it", error),
            }
        })?;
        let mut size = VNET_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int, which lives during the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw mut size) };
        if result != 0 {
            return Err(other(
                name,
                "setting the vnet header",
                io::Error::last_os_error(),
            ));
        }
        let offloads = offer_offloads(&file);
        let ifindex = bring_up(name)?;
        Ok(Self {
            file,
            name: name.into(),
            ifindex,
            offloads,
        })
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's index in its network namespace.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// What the kernel agreed to.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Reads one frame without waiting; `None` if there is none.
    pub(crate) fn read(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(frame) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes frames to a TUN and counts those the kernel refused.
pub(crate) struct TunSink<'a> {
    pub(crate) tun: &'a Tun,
    pub(crate) refused: u64,
}

impl FrameSink for TunSink<'_> {
    fn write(&mut self, frame: &[u8]) {
        // EIO while the device is down, EINVAL for a packet the kernel finds malformed, ENOMEM:
        // in each case this packet is lost and the next may not be.
        if (&self.tun.file).write(frame).is_err() {
            self.refused += 1;
        }
    }
}

fn check_name(name: &str) -> Result<(), TunError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..libc::IFNAMSIZ).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(TunError::BadName(name.into()))
    }
}

fn offer_offloads(file: &File) -> Offloads {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6;
    for (offloads, bits) in [(Offloads::TcpAndUdp, udp), (Offloads::TcpOnly, tcp)] {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe {
            libc::ioctl(
                file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(bits),
            )
        };
        if result == 0 {
            return offloads;
        }
    }
    Offloads::Nothing
}

/// No IPv6 address of its own, MTU, queue, up; its index.
fn bring_up(name: &str) -> Result<u32, TunError> {
    // Before it is up: the kernel makes the link-local address when the device comes up. The
    // file is missing where IPv6 is off, and then there is nothing to prevent.
    let mode = format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode");
    if Path::new(&mode).exists() {
        std::fs::write(&mode, ADDR_GEN_MODE_NONE)
            .map_err(|error| other(name, "switching off its link-local address", error))?;
    }
    let control = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|error| other(name, "opening a socket to configure it", error.into()))?;
    let fd = control.as_raw_fd();
    let apply = |step, command, request: &mut libc::ifreq| {
        interface_ioctl(fd, command, request).map_err(|error| other(name, step, error))
    };

    let mut mtu = request(name);
    mtu.ifr_ifru.ifru_mtu = MTU;
    apply("setting its MTU", libc::SIOCSIFMTU as libc::Ioctl, &mut mtu)?;
    let mut queue = request(name);
    queue.ifr_ifru.ifru_metric = QUEUE;
    apply(
        "setting its queue",
        libc::SIOCSIFTXQLEN as libc::Ioctl,
        &mut queue,
    )?;
    let mut up = request(name);
    up.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    apply("bringing it up", libc::SIOCSIFFLAGS as libc::Ioctl, &mut up)?;
    let mut index = request(name);
    apply(
        "reading its index",
        libc::SIOCGIFINDEX as libc::Ioctl,
        &mut index,
    )?;
    // SAFETY: SIOCGIFINDEX has filled in this member of the union.
    let index = unsafe { index.ifr_ifru.ifru_ifindex };
    Ok(index.unsigned_abs())
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid `ifreq`: an empty name and a zero union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn interface_ioctl(fd: i32, command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all commands used here take a pointer to an `ifreq`, which lives during the call.
    let result = unsafe { libc::ioctl(fd, command, ptr::from_mut(request)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn other(name: &str, step: &'static str, error: io::Error) -> TunError {
    TunError::Other {
        name: name.into(),
        step,
        error,
    }
}
