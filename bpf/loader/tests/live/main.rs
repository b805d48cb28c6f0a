//! The programs where they belong: on devices, with the kernel's stack between them. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says loudly what it skips"
)]

mod net;
mod pins;
mod stack;

use net::Net;
use signet_abi::*;
use signet_loader::{DataPlane, Globals};

/// The namespaces, or `None` with a loud word where they may not be made.
fn net() -> Option<Net> {
    if let Err(error) = signet_loader::probe() {
        println!("SKIPPED: {error}");
        return None;
    }
    for tool in ["ip", "nft"] {
        if std::process::Command::new(tool).arg("-V").output().is_err() {
            println!("SKIPPED: {tool} is not installed: apt-get install iproute2 nftables");
            return None;
        }
    }
    Some(Net::new())
}

fn open(net: &Net, globals: &Globals) -> DataPlane {
    net.within("n", || DataPlane::open(&net.bpf_root, globals).unwrap())
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// Rows and programs for the pod, as endpoint 1.
fn enroll(net: &Net, plane: &mut DataPlane) {
    let ifindex = net.ifindex("n", "pod");
    let mut endpoint = Endpoint {
        generation: 5,
        ifindex,
        class: 20,
        identity: 1000,
        policy_generation: 1,
        mac: net.mac("p", "eth0"),
        index: 1,
        ..Endpoint::default()
    };
    assert!(endpoint.set_addrs(&[addr("10.1.0.2"), addr("fd00:1::2")]));
    plane.maps.endpoints.upsert(&1, &endpoint).unwrap();
    plane.maps.interfaces.upsert(&ifindex, &1).unwrap();
    for local in ["10.1.0.2", "fd00:1::2"] {
        plane.maps.local_addresses.upsert(&addr(local), &1).unwrap();
    }
    for (range, len) in [
        ("10.1.0.0", 16),
        ("10.2.0.0", 16),
        ("fd00:1::", 32),
        ("fd00:2::", 32),
    ] {
        let key = AddrPrefix::new(range.parse().unwrap(), len);
        plane
            .maps
            .pod_ranges
            .upsert(key, &pod_range_flags::LOCAL)
            .unwrap();
    }
    net.within("n", || plane.attach_endpoint(1, ifindex).unwrap());
}

fn dropped(plane: &DataPlane, reason: DropReason) -> u64 {
    let drops = plane.drops().unwrap();
    drops.iter().find(|(known, _)| *known == reason).unwrap().1
}

/// Polls a condition the kernel brings about soon after.
fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not happen");
}
