//! Junk on every port, while others talk.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use signet_tests::{
    bin,
    lab::{Family, Lab},
    netns,
    rogue::Rogue,
};

use super::{SOON, counted, up};

#[test]
fn junk_on_every_port_is_counted_and_in_nobodys_way() -> Result<()> {
    if !bin::root_or_skip("junk on every port") {
        return Ok(());
    }
    let (lab, load) = up()?;
    lab.kill("node3", "agent")?;
    let rogue = Rogue::of(&lab, "node3")?;
    let from = rogue.netns();
    let node2 = lab.node("node2")?;
    let node2: IpAddr = node2["underlay_addresses"][0]
        .as_str()
        .context("address")?
        .parse()?;
    let at = |port| SocketAddr::new(node2, port);
    let before = memory(&lab)?;

    // The channel port: connections that say nothing, junk, and TLS without a certificate.
    let refused = |reason| ("signet_channel_refused_total", reason);
    counted(&lab, "node2", refused("handshake"), || {
        junk_tcp(from, at(7447), 50)
    })?;
    counted(&lab, "node2", refused("limit"), || {
        let all: Vec<_> = (0..60)
            .filter_map(|_| connected(from, at(7447)).ok())
            .collect();
        ensure!(all.len() > 16, "only {} connections", all.len());
        Ok(())
    })?;
    counted(&lab, "node2", refused("handshake"), || {
        for _ in 0..50 {
            let address = at(7447).to_string();
            let hello = ["openssl", "s_client", "-tls1_3", "-connect", &address];
            lab.exec("node3", &hello)?;
        }
        Ok(())
    })?;
    // The tunnel's ports: junk, and handshakes that nobody's key made.
    for (port, reason) in [(51830, "WG_MALFORMED"), (51831, "WG_MALFORMED")] {
        let label = format!("\"{reason}\"");
        counted(&lab, "node2", ("signet_drop_packets_total", &label), || {
            junk_udp(from, at(port), 3000, |n| vec![n as u8 | 0x80; 1 + n % 1400])
        })?;
        counted(
            &lab,
            "node2",
            ("signet_drop_packets_total", "\"WG_"),
            || {
                junk_udp(from, at(port), 3000, |n| {
                    let mut initiation = vec![n as u8; 148];
                    initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
                    initiation
                })
            },
        )?;
    }
    // The identity service's, and the agent's metrics, which only its own node reaches.
    let identity = lab.describe()?["identity"]["address"].take();
    let identity: SocketAddr = identity.as_str().context("address")?.parse()?;
    let failed = (
        "signet_identity_connections_total",
        "outcome=\"handshake_failed\"",
    );
    counted(&lab, "identity", failed, || junk_tcp(from, identity, 50))?;
    junk_tcp(&lab.netns("node2")?, ([127, 0, 0, 1], 9447).into(), 50)?;
    lab.metric("node2", "signet_agent_endpoints", "")?;

    // Between honest nodes everything goes on: what was there, and what is new.
    let v6 = lab.socket("shop/idle", Family::V6, 3306)?;
    netns::tcp_echo(&lab.netns("shop/web")?, v6, b"first contact", SOON)?;
    let tally = load.stop()?;
    eprintln!(
        "{} datagrams of others, {} lost",
        tally.sent.len(),
        tally.lost.len()
    );
    ensure!(
        tally.lost.len() * 20 <= tally.sent.len(),
        "{:?}",
        tally.lost
    );
    for ((what, before), (_, after)) in before.into_iter().zip(memory(&lab)?) {
        eprintln!("{what}: {before} KiB, then {after} KiB");
        ensure!(
            after < before + (32 << 10),
            "{what} keeps what strangers send"
        );
    }
    Ok(())
}

fn connected(netns: &str, to: SocketAddr) -> Result<TcpStream> {
    netns::within(netns, move || {
        Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2))?)
    })
}

fn junk_tcp(netns: &str, to: SocketAddr, connections: usize) -> Result<()> {
    netns::within(netns, move || {
        for n in 0..connections {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
            // The other side may close at the first byte.
            let _ = stream.write_all(&vec![n as u8 ^ 0xa5; 1 + 700 * n]);
        }
        Ok(())
    })
}

/// A few thousand a second: more than honest nodes send, less than fills a socket's buffer for them.
fn junk_udp(
    netns: &str,
    to: SocketAddr,
    count: usize,
    datagram: impl Fn(usize) -> Vec<u8> + Send + 'static,
) -> Result<()> {
    netns::within(netns, move || {
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        for n in 0..count {
            socket.send_to(&datagram(n), to)?;
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    })
}

/// Resident memory of what listens, in KiB.
fn memory(lab: &Lab) -> Result<Vec<(&'static str, u64)>> {
    let (node, all) = (lab.node("node2")?, lab.describe()?);
    [
        ("agent", &node["agent"]),
        ("tunnel", &node["tunnel"]),
        ("identity", &all["identity"]["process"]),
    ]
    .into_iter()
    .map(|(name, process)| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process["pid"]))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().nth(1));
        Ok((name, size.context("VmRSS")?.parse()?))
    })
    .collect()
}
