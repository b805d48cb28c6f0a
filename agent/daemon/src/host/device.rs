//! Persistent TUN and TAP devices.
#![allow(unsafe_code, reason = "TUN devices are made by ioctl")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

const TUN_PATH: &str = "/dev/net/tun";

/// Offloads of the hold device, so that super-packets stay whole while they wait.
const OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// UDP segmentation (Linux 6.2), asked for first.
const OFFLOADS_UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Makes a persistent TUN that nobody reads, or finds it.
///
/// # Errors
/// One line.
pub(crate) fn persistent_tun(name: &str) -> Result<(), String> {
    let file = open(name, libc::IFF_TUN | libc::IFF_NO_PI)?;
    persist(&file, name)
    // Dropping the file leaves the device without a reader, which is what is wanted.
}

/// Opens the persistent TAP `name` with virtio headers, making it if it is not there. Reads and
/// writes are non-blocking.
///
/// # Errors
/// One line.
pub(crate) fn hold_tap(name: &str) -> Result<File, String> {
    let file = open(name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
    persist(&file, name)?;
    if set_offloads(&file, OFFLOADS | OFFLOADS_UDP).is_err() {
        set_offloads(&file, OFFLOADS)
            .map_err(|error| format!("device {name} takes no offloads: {error}"))?;
    }
    Ok(file)
}

fn open(name: &str, flags: libc::c_int) -> Result<File, String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(TUN_PATH)
        .map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                "load the kernel module tun (modprobe tun)"
            } else {
                "run as root, with CAP_NET_ADMIN"
            };
            format!("{TUN_PATH} cannot be opened ({error}): {hint}")
        })?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: `request` is a valid ifreq that lives through the call; TUNSETIFF reads and writes it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 {
        return Ok(file);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EBUSY) => {
            format!(
                "device {name} is in use: does another signet-agent run in this network namespace?"
            )
        }
        Some(libc::EINVAL) => {
            format!(
                "device {name} exists and is of another kind: remove it with `ip link del {name}`"
            )
        }
        Some(libc::EPERM) => {
            format!("device {name} may not be made: run as root, with CAP_NET_ADMIN")
        }
        _ => format!("device {name} cannot be made: {error}"),
    })
}

fn request(name: &str) -> Result<libc::ifreq, String> {
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(format!("device name {name} is too long"));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    Ok(request)
}

fn persist(file: &File, name: &str) -> Result<(), String> {
    // SAFETY: TUNSETPERSIST takes an integer by value.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) };
    if result == 0 {
        Ok(())
    } else {
        let error = io::Error::last_os_error();
        Err(format!("device {name} cannot be made persistent: {error}"))
    }
}

fn set_offloads(file: &File, offloads: libc::c_uint) -> io::Result<()> {
    let offloads = libc::c_ulong::from(offloads);
    // SAFETY: TUNSETOFFLOAD takes an integer by value.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
