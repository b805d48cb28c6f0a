//! Real packets through two real engines.

use std::{net::UdpSocket, time::Duration};

use crate::support::{
    DEVICE, Net, PORT, Tunnel, address, inner_addresses, is_possible, joined, run, sh, sh_ok,
    uninterrupted, wait_for, within,
};
use signet_abi::DropReason;
use signet_wg::control::{Command, Event};

#[test]
fn every_kind_of_traffic_passes_in_both_families() {
    if !is_possible(
        "every_kind_of_traffic_passes_in_both_families",
        &["iperf3", "ping"],
    ) {
        return;
    }
    let net = Net::new();
    let (a, b) = joined(&net, 7, 7);
    // The first packet of all waits for the handshake rather than being lost.
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 10.77.0.2 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 fd77::2 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.b,
        "ping -c 3 -i 0.2 -W 5 10.77.0.1 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 -s 9000 10.77.0.2 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 -s 9000 fd77::2 | grep ' 0% packet loss'",
    );
    for inner in ["10.77.0.2", "fd77::2"] {
        for direction in ["", "-R"] {
            sh_ok(&net.b, "iperf3 -s -1 -D >/dev/null");
            let line = format!("iperf3 -c {inner} -n 50M {direction}");
            wait_for("iperf3", || {
                sh(&net.a, &line).status.success().then_some(())
            });
        }
    }
    let received = b.metric("signet_tunnel_received_bytes_total{slot=\"0\"}");
    assert!(
        received > 100_000_000,
        "{received} bytes went through the tunnel"
    );
    for tunnel in [&a, &b] {
        assert!(tunnel.metric("signet_tunnel_handshakes_total{slot=\"0\"}") >= 1);
        for reason in [
            DropReason::WgInvalid,
            DropReason::WgReplay,
            DropReason::WgMalformed,
        ] {
            assert_eq!(tunnel.dropped(reason), 0, "{reason:?}");
        }
    }
}

#[test]
fn an_ipv6_underlay_carries_as_well() {
    if !is_possible("an_ipv6_underlay_carries_as_well", &["ping"]) {
        return;
    }
    let net = Net::new();
    let (mut a, mut b) = joined(&net, 7, 7);
    a.set_peer(
        b.key(),
        7,
        address("fd99::2"),
        &["10.77.0.2/32", "fd77::2/128"],
    );
    b.set_peer(
        a.key(),
        7,
        address("fd99::1"),
        &["10.77.0.1/32", "fd77::1/128"],
    );
    sh_ok(
        &net.a,
        "ip addr flush dev under scope global && ip addr add fd99::1/64 dev under nodad",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 10.77.0.2 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 -s 9000 fd77::2 | grep ' 0% packet loss'",
    );
}

#[test]
fn udp_super_packets_keep_their_datagrams() {
    if !is_possible("udp_super_packets_keep_their_datagrams", &[]) {
        return;
    }
    const DATAGRAMS: usize = 30;
    const ROUNDS: usize = 50;
    let net = Net::new();
    let (_a, _b) = joined(&net, 7, 7);
    for (from, to) in [
        ("10.77.0.1:0", "10.77.0.2:9"),
        ("[fd77::1]:0", "[fd77::2]:9"),
    ] {
        let receiver = within(&net.b, || UdpSocket::bind(to).unwrap());
        receiver
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let sender = within(&net.a, || UdpSocket::bind(from).unwrap());
        let segment = nix::sys::socket::sockopt::UdpGsoSegment;
        nix::sys::socket::setsockopt(&sender, segment, &1000).unwrap();
        for round in 0..ROUNDS {
            // The last datagram is shorter, which ends a super-packet.
            let mut payload = vec![0; DATAGRAMS * 1000 - 300];
            for (at, datagram) in payload.chunks_mut(1000).enumerate() {
                datagram.fill((round + at) as u8);
            }
            assert_eq!(sender.send_to(&payload, to).unwrap(), payload.len());
            for expected in payload.chunks(1000) {
                let mut datagram = [0; 2000];
                let length = uninterrupted(|| receiver.recv(&mut datagram));
                let length = length.expect("every datagram arrives");
                assert_eq!(&datagram[..length], expected, "round {round}");
            }
        }
    }
}

#[test]
fn a_replayed_datagram_is_dropped_counted_and_told() {
    if !is_possible("a_replayed_datagram_is_dropped_counted_and_told", &["ping"]) {
        return;
    }
    let net = Net::new();
    let (mut a, mut b) = joined(&net, 7, 7);
    // Somebody on the path: it passes on what it gets, and keeps a copy.
    let middle = within(&net.b, || UdpSocket::bind("192.0.2.2:6000").unwrap());
    middle
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    a.set_peer(b.key(), 7, middle.local_addr().unwrap(), &["10.77.0.2/32"]);
    let relay = std::thread::spawn(move || {
        let mut copies = Vec::new();
        let mut datagram = [0; 2000];
        while let Ok(length) = uninterrupted(|| middle.recv(&mut datagram)) {
            copies.push(datagram[..length].to_vec());
            middle
                .send_to(&datagram[..length], address("192.0.2.2"))
                .unwrap();
        }
        (middle, copies)
    });
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 10.77.0.2 | grep ' 0% packet loss'",
    );
    let (middle, copies) = relay.join().unwrap();
    let data: Vec<_> = copies.iter().filter(|datagram| datagram[0] == 4).collect();
    assert!(data.len() >= 3);
    let before = b.metric("signet_tunnel_received_packets_total{slot=\"0\"}");
    for datagram in &data {
        middle.send_to(datagram, address("192.0.2.2")).unwrap();
    }
    let replays = data.len() as u64;
    wait_for("all replays to be counted", || {
        (b.dropped(DropReason::WgReplay) == replays).then_some(())
    });
    assert_eq!(
        b.metric("signet_tunnel_received_packets_total{slot=\"0\"}"),
        before
    );
    let Event::Dropped {
        slot,
        peer,
        underlay,
        ..
    } = b.wait_for_drop(DropReason::WgReplay)
    else {
        unreachable!("wait_for_drop gives drops");
    };
    assert_eq!((slot, peer), (0, Some(a.key())));
    assert_eq!(underlay, Some("192.0.2.2:6000".parse().unwrap()));

    // Forged, truncated and meaningless datagrams, each under its own reason.
    let mut forged = data[0].clone();
    forged[8..16].copy_from_slice(&1_000_000u64.to_le_bytes());
    let mut unknown = data[0].clone();
    unknown[4..8].copy_from_slice(&[0xff; 4]);
    for (reason, datagram) in [
        (DropReason::WgInvalid, forged),
        (DropReason::WgUnknownPeer, unknown),
        (DropReason::WgMalformed, data[0][..20].to_vec()),
        (DropReason::WgMalformed, b"GET / HTTP/1.1".to_vec()),
    ] {
        let before = b.dropped(reason);
        middle.send_to(&datagram, address("192.0.2.2")).unwrap();
        wait_for("the drop", || {
            (b.dropped(reason) == before + 1).then_some(())
        });
    }
}

#[test]
fn a_foreign_inner_source_is_dropped() {
    if !is_possible("a_foreign_inner_source_is_dropped", &["ping"]) {
        return;
    }
    let net = Net::new();
    let (a, mut b) = joined(&net, 7, 7);
    sh_ok(&net.a, "ping -c 1 -W 5 10.77.0.2");
    run(&[
        "ip",
        "-n",
        &net.a,
        "addr",
        "add",
        "10.88.0.1/32",
        "dev",
        DEVICE,
    ]);
    assert!(
        !sh(&net.a, "ping -c 2 -i 0.2 -W 1 -I 10.88.0.1 10.77.0.2")
            .status
            .success()
    );
    assert_eq!(b.dropped(DropReason::WgSourceNotAllowed), 2);
    let Event::Dropped { peer, inner, .. } = b.wait_for_drop(DropReason::WgSourceNotAllowed) else {
        unreachable!("wait_for_drop gives drops");
    };
    assert_eq!(peer, Some(a.key()));
    assert_eq!(
        inner,
        Some(("10.88.0.1".parse().unwrap(), "10.77.0.2".parse().unwrap()))
    );

    // Allowed from now on: the same packets pass.
    let key = a.key();
    let done = b.ask(|seq| Command::SetAllowedIps {
        seq,
        slot: 0,
        peer: key,
        allowed_ips: vec![
            "10.77.0.1/32".parse().unwrap(),
            "10.88.0.1/32".parse().unwrap(),
        ],
    });
    assert!(matches!(done, Event::Done { .. }));
    run(&[
        "ip",
        "-n",
        &net.b,
        "route",
        "add",
        "10.88.0.1",
        "dev",
        DEVICE,
    ]);
    sh_ok(&net.a, "ping -c 2 -i 0.2 -W 5 -I 10.88.0.1 10.77.0.2");
}

#[test]
fn losing_the_agent_loses_no_packet() {
    if !is_possible("losing_the_agent_loses_no_packet", &["ping"]) {
        return;
    }
    let net = Net::new();
    let (mut a, mut b) = joined(&net, 7, 7);
    sh_ok(&net.a, "ping -c 1 -W 5 10.77.0.2");
    let netns = net.a.clone();
    let pings = std::thread::spawn(move || {
        sh_ok(
            &netns,
            "ping -c 200 -i 0.01 -W 5 10.77.0.2 | grep 'packets transmitted'",
        )
    });
    for _ in 0..20 {
        a.reconnect();
        b.reconnect();
        std::thread::sleep(Duration::from_millis(50));
    }
    let summary = pings.join().unwrap();
    assert!(summary.contains("200 received"), "{summary}");
    // The new agent is told what is there.
    let [peer] = a.peers.as_slice() else {
        panic!("peers of a: {:?}", a.peers);
    };
    assert_eq!(
        (peer.public_key, peer.epoch, peer.underlay),
        (b.key(), 1, address("192.0.2.2"))
    );
    let Event::Status { peers, .. } = a.ask(|seq| Command::Status { seq }) else {
        panic!("no status");
    };
    assert!(peers[0].last_handshake_secs.is_some() && peers[0].rx_packets >= 200);
}

#[test]
fn different_psks_carry_nothing() {
    if !is_possible("different_psks_carry_nothing", &["ping"]) {
        return;
    }
    let net = Net::new();
    let (mut a, mut b) = joined(&net, 7, 8);
    assert!(
        !sh(&net.a, "ping -c 2 -i 0.2 -W 1 10.77.0.2")
            .status
            .success()
    );
    assert!(
        a.dropped(DropReason::WgInvalid) >= 1,
        "the answer to the handshake is no good"
    );
    assert_eq!(
        b.metric("signet_tunnel_received_packets_total{slot=\"0\"}"),
        0
    );
    assert_eq!(a.metric("signet_tunnel_handshakes_total{slot=\"0\"}"), 0);
    // The right one, with a fresh handshake on both sides.
    let (key_a, key_b) = (a.key(), b.key());
    a.set_peer(key_b, 9, address("192.0.2.2"), &["10.77.0.2/32"]);
    b.set_peer(key_a, 9, address("192.0.2.1"), &["10.77.0.1/32"]);
    sh_ok(&net.a, "ping -c 2 -i 0.2 -W 5 10.77.0.2");
}

#[test]
fn an_independent_implementation_understands_us() {
    let test = "an_independent_implementation_understands_us";
    if !is_possible(test, &["wireguard-go", "wg", "iperf3", "ping"]) {
        return;
    }
    let net = Net::new();
    let mut a = Tunnel::start(&net.a);
    let name = format!("sgt{}", std::process::id());
    sh_ok(&net.b, &format!("wireguard-go {name}"));
    let key_file = tempfile::NamedTempFile::new().unwrap();
    let psk_file = tempfile::NamedTempFile::new().unwrap();
    let (key, psk) = (key_file.path().display(), psk_file.path().display());
    sh_ok(&net.b, &format!("wg genkey > {key}"));
    // 32 bytes of 7, as `joined` has them.
    let seven = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    sh_ok(&net.b, &format!("echo {seven} > {psk}"));
    let ours = a.key();
    sh_ok(
        &net.b,
        &format!(
            "wg set {name} listen-port {PORT} private-key {key} peer {ours} preshared-key {psk} \
             allowed-ips 10.77.0.1/32,fd77::1/128 endpoint 192.0.2.1:{PORT}"
        ),
    );
    let theirs = sh_ok(&net.b, &format!("wg show {name} public-key"))
        .trim()
        .parse()
        .unwrap();
    a.set_peer(
        theirs,
        7,
        address("192.0.2.2"),
        &["10.77.0.2/32", "fd77::2/128"],
    );
    inner_addresses(&net.a, DEVICE, 1);
    inner_addresses(&net.b, &name, 2);
    sh_ok(
        &net.b,
        "ping -c 3 -i 0.2 -W 5 10.77.0.1 | grep ' 0% packet loss'",
    );
    sh_ok(
        &net.a,
        "ping -c 3 -i 0.2 -W 5 -s 5000 fd77::2 | grep ' 0% packet loss'",
    );
    for direction in ["", "-R"] {
        sh_ok(&net.b, "iperf3 -s -1 -D >/dev/null");
        let line = format!("iperf3 -c 10.77.0.2 -n 20M {direction}");
        wait_for("iperf3", || {
            sh(&net.a, &line).status.success().then_some(())
        });
    }
    assert_eq!(a.dropped(DropReason::WgInvalid), 0);
}
