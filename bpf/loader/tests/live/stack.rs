//! From a pod's socket through the host's stack, and back.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use signet_abi::*;
use signet_loader::prog_test::frame::{Frame, Transport, tag_extension, tag_option};
use signet_loader::{DataPlane, Globals, boot_time_ns};

use crate::net::Net;
use crate::{addr, dropped, enroll, net, open, until};

const HOUR: u64 = 3_600_000_000_000;
const WAIT: Duration = Duration::from_secs(5);

fn socket(net: &Net, part: &str, bind: &str) -> UdpSocket {
    let socket = net.within(part, || {
        UdpSocket::bind(bind.parse::<SocketAddr>().unwrap()).unwrap()
    });
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn guard(net: &Net, plane: &mut DataPlane) {
    let up = net.ifindex("n", "uplink");
    net.within("n", || plane.attach_guard(up).unwrap());
}

/// The flow hash outlives routing, masquerading and service translation.
#[test]
fn a_masqueraded_pod_reaches_the_world_and_hears_its_answer() {
    let Some(net) = net() else { return };
    net.nft(
        "n",
        "table ip t { \
           chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 192.0.2.2; }; \
           chain post { type nat hook postrouting priority 100; oifname \"uplink\" masquerade; }; }",
    );
    let mut plane = open(&net, &Globals::default());
    enroll(&net, &mut plane);
    guard(&net, &mut plane);
    let policy = PolicyKey::new(PolicyPrefix {
        endpoint: 1,
        direction: Direction::Egress,
        proto: 17,
        class: CLASS_WORLD,
        port: 5353,
        port_bits: 16,
    });
    plane
        .maps
        .policy
        .upsert(policy, &PolicyValue::new(1, Action::Allow, false))
        .unwrap();

    for (pod, server, called) in [
        ("10.1.0.2:4000", "192.0.2.2", "192.0.2.2"),
        ("10.1.0.2:4001", "192.0.2.2", "10.96.0.1"),
        ("[fd00:1::2]:4000", "2001:db8::2", "2001:db8::2"),
    ] {
        let client = socket(&net, "p", pod);
        let bind = SocketAddr::new(server.parse::<IpAddr>().unwrap(), 5353).to_string();
        let echo = socket(&net, "w", &bind);
        client.send_to(b"question", to(called, 5353)).unwrap();
        let mut bytes = [0; 64];
        let (len, seen) = echo
            .recv_from(&mut bytes)
            .unwrap_or_else(|error| panic!("{called}: {error}: {:?}", plane.drops().unwrap()));
        assert_eq!(bytes.get(..len), Some(&b"question"[..]));
        echo.send_to(b"answer", seen).unwrap();
        let (len, from) = client.recv_from(&mut bytes).unwrap_or_else(|error| {
            panic!("{called}: no answer: {error}: {:?}", plane.drops().unwrap())
        });
        assert_eq!(bytes.get(..len), Some(&b"answer"[..]));
        assert_eq!(from, to(called, 5353));
    }

    // Another port is not allowed, and the world may not begin.
    let client = socket(&net, "p", "10.1.0.2:4005");
    client.send_to(b"question", to("192.0.2.2", 5354)).unwrap();
    let stranger = socket(&net, "w", "[2001:db8::2]:6000");
    stranger.send_to(b"hello", to("fd00:1::2", 4000)).unwrap();
    until(|| dropped(&plane, DropReason::DefaultDenyEgress) == 1);
    until(|| dropped(&plane, DropReason::DefaultDenyIngress) == 1);
}

/// One packet of `tun`, other than the kernel's own chatter.
fn read(tun: &mut File, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    for _ in 0..50 {
        let mut fds = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, 5000u16).unwrap();
        assert_eq!(ready, 1, "nothing came");
        let mut packet = vec![0; 2000];
        let len = tun.read(&mut packet).unwrap();
        packet.truncate(len);
        if wanted(&packet) {
            return packet;
        }
    }
    panic!("only other packets came");
}

#[test]
fn a_pods_packet_leaves_tagged_and_the_tagged_answer_arrives() {
    let Some(net) = net() else { return };
    let _signet0 = net.tun("signet0");
    let mut slot = net.tun("sgslot0");
    let globals = Globals {
        slot_ifindex: [net.ifindex("n", "sgslot0"), 0],
        signet0_ifindex: net.ifindex("n", "signet0"),
        ..Globals::default()
    };
    net.ip("n", "route add 10.2.0.0/16 dev signet0");
    net.ip("n", "-6 route add fd00:2::/32 dev signet0");
    let mut plane = open(&net, &globals);
    enroll(&net, &mut plane);
    let slots = [globals.slot_ifindex[0]];
    net.within("n", || {
        plane
            .attach_tunnel(globals.signet0_ifindex, &slots)
            .unwrap()
    });
    let not_after = boot_time_ns() + HOUR;
    plane
        .maps
        .peers
        .upsert(
            &7,
            &Peer {
                lease_until: not_after,
                slot_epoch: [6, 0],
                slot_until: [u64::MAX; 2],
                ..Peer::default()
            },
        )
        .unwrap();
    let mut recv = RecvRow {
        epoch: 6,
        not_after,
        peer: 7,
        class: 30,
        remote: 77,
        identity: 1000,
        ..RecvRow::default()
    };
    assert!(recv.set_addrs(&[addr("10.2.0.2"), addr("fd00:2::2")]));
    plane
        .maps
        .recv_rows
        .upsert(&RecvKey { label: 0x22 }, &recv)
        .unwrap();

    for (pod, remote) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        let key = SendKey {
            endpoint: 1,
            generation: 5,
            dst: addr(remote),
        };
        let row = SendRow {
            label: [0x11, 0],
            epoch: [6, 0],
            not_after,
            peer: 7,
            class: 30,
            remote: 77,
            reserved: 0,
            state: send_state::PAIRED,
            reason: 0,
        };
        plane.maps.send_rows.upsert(&key, &row).unwrap();
        let (src, dst): (IpAddr, IpAddr) = (pod.parse().unwrap(), remote.parse().unwrap());
        let client = socket(&net, "p", &SocketAddr::new(src, 4000).to_string());
        client.send_to(b"question", to(remote, 53)).unwrap();

        let carrier = if src.is_ipv4() {
            tag_option(6, 0x11)
        } else {
            tag_extension(6, 0x11).1[2..].to_vec()
        };
        let at = if src.is_ipv4() { 20 } else { 42 };
        let sent = read(&mut slot, |packet| {
            packet.get(at..at + carrier.len()) == Some(&carrier)
        });
        assert!(sent.ends_with(b"question"));

        let mut answer = Frame::new(
            dst,
            src,
            Transport::Udp {
                sport: 53,
                dport: 4000,
            },
        );
        answer.payload = b"answer".to_vec();
        // Untagged first: it must not arrive.
        slot.write_all(&answer.build_ip()).unwrap();
        if src.is_ipv4() {
            answer.options = tag_option(6, 0x22);
        } else {
            answer.extensions = vec![tag_extension(6, 0x22)];
        }
        slot.write_all(&answer.build_ip()).unwrap();
        let mut bytes = [0; 64];
        let (len, from) = client
            .recv_from(&mut bytes)
            .unwrap_or_else(|error| panic!("{remote}: {error}: {:?}", plane.drops().unwrap()));
        assert_eq!(
            (bytes.get(..len), from),
            (Some(&b"answer"[..]), to(remote, 53))
        );
    }
    assert_eq!(dropped(&plane, DropReason::Untagged), 2);
    let passed = plane.passed().unwrap();
    let of = |hook| {
        passed
            .iter()
            .find(|(known, _)| *known == hook)
            .unwrap()
            .1
            .packets
    };
    assert_eq!((of(Hook::ToTunnel), of(Hook::FromTunnel)), (2, 2));
}

#[test]
fn an_unknown_pair_waits_on_the_hold_device() {
    let Some(net) = net() else { return };
    let _signet0 = net.tun("signet0");
    let mut hold = net.tun("sghold");
    let globals = Globals {
        signet0_ifindex: net.ifindex("n", "signet0"),
        hold_ifindex: net.ifindex("n", "sghold"),
        ..Globals::default()
    };
    net.ip("n", "route add 10.2.0.0/16 dev signet0");
    let mut plane = open(&net, &globals);
    enroll(&net, &mut plane);
    net.within("n", || {
        plane.attach_tunnel(globals.signet0_ifindex, &[]).unwrap()
    });
    let mut events = plane.take_events().unwrap();
    let client = socket(&net, "p", "10.1.0.2:4000");
    client.send_to(b"question", to("10.2.0.9", 53)).unwrap();
    // A TUN here, for want of a link layer the header is stripped; the packet is what counts.
    let held = read(&mut hold, |packet| packet.ends_with(b"question"));
    assert_eq!(held.get(16..20), Some(&[10, 2, 0, 9][..]));
    let mut kinds = Vec::new();
    while let Some(event) = events.next_event() {
        kinds.extend(event.event_kind());
    }
    assert!(kinds.contains(&EventKind::Miss), "{kinds:?}");
}
