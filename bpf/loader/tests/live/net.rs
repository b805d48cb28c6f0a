//! A node, a pod and the world as network namespaces of their own, gone when dropped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Namespaces `<id>n` (node), `<id>p` (pod), `<id>w` (world).
pub(crate) struct Net {
    id: String,
    pub(crate) bpf_root: PathBuf,
}

impl Net {
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("sglt{}x{count}", std::process::id());
        let net = Self {
            bpf_root: PathBuf::from(format!("/sys/fs/bpf/{id}")),
            id,
        };
        for part in ["n", "p", "w"] {
            run(&format!("ip netns add {}{part}", net.id));
            net.ip(part, "link set lo up");
        }
        net.ip(
            "n",
            &format!("link add pod type veth peer name eth0 netns {}p", net.id),
        );
        net.ip(
            "n",
            &format!("link add uplink type veth peer name eth0 netns {}w", net.id),
        );
        for (part, dev, addrs) in [
            ("n", "pod", ["10.1.0.1/32", "fd00:1::1/128"]),
            ("p", "eth0", ["10.1.0.2/32", "fd00:1::2/128"]),
            ("n", "uplink", ["192.0.2.1/24", "2001:db8::1/64"]),
            ("w", "eth0", ["192.0.2.2/24", "2001:db8::2/64"]),
        ] {
            for addr in addrs {
                let nodad = if addr.contains(':') { "nodad" } else { "" };
                net.ip(part, &format!("addr add {addr} dev {dev} {nodad}"));
            }
            net.ip(part, &format!("link set {dev} up"));
        }
        net.ip("n", "route add 10.1.0.2/32 dev pod");
        net.ip("n", "-6 route add fd00:1::2/128 dev pod");
        net.ip("p", "route add 10.1.0.1/32 dev eth0");
        net.ip("p", "route add default via 10.1.0.1");
        net.ip("p", "-6 route add fd00:1::1/128 dev eth0");
        net.ip("p", "-6 route add default via fd00:1::1");
        net.ip("w", "-6 route add fd00:1::/32 via 2001:db8::1");
        net.within("n", || {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
            }
            for name in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
                std::fs::write(path, "0").unwrap();
            }
        });
        net
    }

    pub(crate) fn ip(&self, part: &str, args: &str) {
        run(&format!("ip -n {}{part} {args}", self.id));
    }

    pub(crate) fn nft(&self, part: &str, script: &str) {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &format!("{}{part}", self.id),
                "nft",
                script,
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "nft: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs `work` in a thread of its own that is in this namespace.
    pub(crate) fn within<T: Send>(&self, part: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}{part}", self.id);
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let namespace = File::open(path).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn ifindex(&self, part: &str, name: &str) -> u32 {
        self.within(part, || nix::net::if_::if_nametoindex(name).unwrap())
    }

    pub(crate) fn mac(&self, part: &str, name: &str) -> [u8; 6] {
        let output = Command::new("ip")
            .args([
                "-n",
                &format!("{}{part}", self.id),
                "-br",
                "link",
                "show",
                name,
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mac = text.split_whitespace().nth(2).unwrap().to_owned();
        let bytes = mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap());
        bytes.collect::<Vec<_>>().try_into().unwrap()
    }

    /// A TUN without packet information in the node, up.
    pub(crate) fn tun(&self, name: &str) -> File {
        let tun = self.within("n", || open_tun(name).unwrap());
        self.ip("n", &format!("link set {name} up mtu 1400"));
        tun
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = signet_loader::DataPlane::remove(&self.bpf_root);
        let _ = std::fs::remove_dir(&self.bpf_root);
        for part in ["n", "p", "w"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &format!("{}{part}", self.id)])
                .output();
        }
    }
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
}

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TUN: i16 = 1;
const IFF_NO_PI: i16 = 0x1000;

#[allow(unsafe_code, reason = "creating a TUN is an ioctl")]
fn open_tun(name: &str) -> io::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // struct ifreq: 16 bytes of name, then a union whose first 16 bits are the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: the descriptor is open and the request is as long as struct ifreq, which is all the
    // kernel reads and writes.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tun)
}
