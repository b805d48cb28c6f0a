//! Whether this machine can run the data plane, asked before anything is changed.

use std::fs;
use std::path::Path;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::time::{ClockId, clock_gettime};

use crate::error::LoaderError;

/// The kernel that passed the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says.
    pub release: String,
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Checks privilege, kernel version, BTF, TCX and TUN.
///
/// # Errors
/// [`LoaderError::Missing`] names the first thing that is missing and what to do.
pub fn probe() -> Result<Kernel, LoaderError> {
    privilege(&fs::read_to_string("/proc/self/status").unwrap_or_default())?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    version(&release)?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(LoaderError::Missing {
            feature: "kernel type information (BTF)",
            remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        });
    }
    if SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_err() {
        return Err(LoaderError::Missing {
            feature: "TCX (tc programs as links)",
            remedy: "use Linux 6.6 or newer with CONFIG_NET_XGRESS=y, and CAP_NET_ADMIN in this \
                     network namespace",
        });
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(LoaderError::Missing {
            feature: "the TUN device /dev/net/tun",
            remedy: "load the module (modprobe tun) or give the container the device",
        });
    }
    Ok(Kernel { release })
}

fn privilege(status: &str) -> Result<(), LoaderError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    if (has(CAP_BPF) || has(CAP_SYS_ADMIN)) && has(CAP_NET_ADMIN) {
        return Ok(());
    }
    Err(LoaderError::Missing {
        feature: "the privilege to load eBPF programs",
        remedy: "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
    })
}

fn version(release: &str) -> Result<(), LoaderError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        // A name we can't read says nothing; the other checks will.
        return Ok(());
    };
    if (major, minor) >= (6, 6) {
        return Ok(());
    }
    Err(LoaderError::Missing {
        feature: "Linux 6.6 or newer",
        remedy: "update the node's kernel: older ones cannot replace a program without a gap",
    })
}

/// CLOCK_BOOTTIME in nanoseconds: the clock of every time in the maps.
pub fn boot_time_ns() -> u64 {
    // The call cannot fail with this clock on any kernel the probe lets pass; 0 would make every
    // row look unexpired to nobody, since the programs read the clock themselves.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(|time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privilege_is_read_from_the_effective_set() {
        assert!(privilege("CapEff:\t000001ffffffffff\n").is_ok());
        assert!(privilege("CapEff:\t0000000000001000\n").is_err());
        assert!(privilege("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n").is_err());
        let bpf_and_net_admin = 1u64 << 39 | 1 << 12;
        assert!(privilege(&format!("CapEff:\t{bpf_and_net_admin:016x}\n")).is_ok());
    }

    #[test]
    fn versions_compare_by_number() {
        for (release, fine) in [
            ("6.6.0", true),
            ("6.18.44-fc", true),
            ("7.0", true),
            ("6.1.0-44-amd64", false),
        ] {
            assert_eq!(version(release).is_ok(), fine, "{release}");
        }
    }
}
