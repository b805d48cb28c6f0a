//! Keys between nodes are renewed on schedule, under load, without anybody noticing.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

const CANARY: &[u8; 16] = b"canary-of-epochs";
const NODES: [&str; 2] = ["node1", "node2"];

/// How many switches the test waits for: `SIGNET_SWITCHES`, or what a test run has time for.
fn switches() -> usize {
    let asked = std::env::var("SIGNET_SWITCHES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(50)
}

#[test]
fn switches_of_epochs_under_load_lose_nothing() -> Result<()> {
    if !bin::root_or_skip("switches of epochs lose nothing") {
        return Ok(());
    }
    let lab = Lab::up_with(2, &shop::base(), &["--epoch-length", "3s"])?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut datagrams, mut streams) = (Vec::new(), Vec::new());
    for family in [Family::V4, Family::V6] {
        let db = lab.socket("shop/db", family, 3306)?;
        netns::udp_echo(&web, db, b"first contact", Duration::from_secs(5), 5)?;
        datagrams.push(echoed_datagrams(&web, db, &stop)?);
        streams.push(echoed_stream(&web, db, &stop)?);
    }

    let node = lab.node("node1")?;
    let (wire, device) = (
        node["netns"].as_str().context("netns")?,
        node["underlay_interface"].as_str().context("device")?,
    );
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let frames = netns::capture(wire, device, || watch(&lab, &mut seen, 4))?;
    ensure!(frames.len() > 100, "{} frames: no capture", frames.len());
    let in_clear = |frame: &&Vec<u8>| frame.windows(CANARY.len()).any(|at| at == CANARY);
    assert_eq!(frames.iter().filter(in_clear).count(), 0, "in the clear");

    watch(&lab, &mut seen, switches())?;

    stop.store(true, Ordering::SeqCst);
    for load in datagrams {
        whole(&format!("{} switches", switches()), load)?;
    }
    for load in streams {
        let messages = joined(load)?;
        eprintln!("{messages} messages over one TCP connection");
        assert!(messages > 500, "only {messages}");
    }
    for node in NODES {
        for reason in [
            "UNTAGGED",
            "EPOCH_TOO_OLD",
            "CLEAR_POD_ADDRESS",
            "NO_SEND_ROW",
        ] {
            assert_eq!(lab.dropped(node, reason)?, 0, "{reason} on {node}");
        }
        let metrics = metrics(&lab, node)?;
        let count = |name: &str| metric(&metrics, name);
        assert!(count("signet_epoch_switches_total")? >= 3, "on {node}");
        assert_eq!(count("signet_epoch_overdue_peers")?, 0, "on {node}");
        let age = count("signet_epoch_current_number")? - count("signet_epoch_oldest_number")?;
        assert!((0..=1).contains(&age), "keys {age} epochs old on {node}");
    }
    Ok(())
}

#[test]
fn an_agent_that_dies_in_the_middle_of_a_switch_loses_nothing() -> Result<()> {
    if !bin::root_or_skip("an agent that dies in the middle of a switch") {
        return Ok(());
    }
    let lab = Lab::up_with(2, &shop::base(), &["--epoch-length", "30s"])?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::udp_echo(&web, db, b"first contact", Duration::from_secs(5), 5)?;
    let stop = Arc::new(AtomicBool::new(false));
    let datagrams = echoed_datagrams(&web, db, &stop)?;
    let stream = echoed_stream(&web, db, &stop)?;

    // New keys are there, and packets still leave under the old ones.
    let ready =
        || Ok::<_, anyhow::Error>(lab.log("node1", "agent")?.matches("slot is ready").count());
    let before = ready()?;
    let start = Instant::now();
    while ready()? == before {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "no switch begins"
        );
        thread::sleep(Duration::from_millis(1));
    }
    lab.kill("node1", "agent")?;
    let epoch = epoch_of(&lab, "node2")?;
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;
    wait("keys of a new agent", Duration::from_secs(60), || {
        let renewed = epoch_of(&lab, "node2")? != epoch;
        Ok(renewed && epoch_of(&lab, "node1")? == epoch_of(&lab, "node2")?)
    })?;
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::SeqCst);
    whole("an agent killed in a switch", datagrams)?;
    joined(stream).map(drop)
}

#[test]
fn epochs_go_on_while_the_identity_service_is_away() -> Result<()> {
    if !bin::root_or_skip("epochs go on while the identity service is away") {
        return Ok(());
    }
    let lab = Lab::up_with(2, &shop::base(), &["--epoch-length", "4s"])?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::udp_echo(&web, db, b"first contact", Duration::from_secs(5), 5)?;
    let pid = lab.describe()?["identity"]["process"]["pid"]
        .as_i64()
        .context("pid")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL)?;
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    watch(&lab, &mut seen, 4)?;
    netns::udp_echo(&web, db, b"still", Duration::from_secs(1), 1)?;
    Ok(())
}

/// Looks at both nodes until each has sent in so many epochs.
fn watch(lab: &Lab, seen: &mut [BTreeSet<u64>; 2], count: usize) -> Result<()> {
    let limit = Duration::from_secs(20 + 8 * count as u64);
    wait(&format!("{count} epochs"), limit, || {
        for (node, seen) in NODES.into_iter().zip(&mut *seen) {
            seen.extend(epoch_of(lab, node).ok().flatten());
        }
        thread::sleep(Duration::from_millis(400));
        Ok(seen.iter().all(|epochs| epochs.len() >= count))
    })
}

fn epoch_of(lab: &Lab, node: &str) -> Result<Option<u64>> {
    let peers: Value = lab.ask(node, &["peers"])?;
    Ok(peers["peers"][0]["epoch"].as_u64())
}

type Datagrams = JoinHandle<Result<(u64, Vec<u64>, u64)>>;

/// 200 numbered datagrams a second, each echoed: how many were sent, which did not come back, how
/// many came back more than once.
fn echoed_datagrams(netns: &str, to: SocketAddr, stop: &Arc<AtomicBool>) -> Result<Datagrams> {
    let stop = Arc::clone(stop);
    netns::spawn(netns, move || {
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        let (mut sent, mut twice, mut seen) = (0u64, 0, BTreeSet::new());
        let (mut buffer, mut last) = ([0; 64], Instant::now());
        loop {
            if !stop.load(Ordering::SeqCst) {
                socket.send(&[&sent.to_be_bytes()[..], CANARY].concat())?;
                sent += 1;
                last = Instant::now();
            } else if last.elapsed() > Duration::from_secs(2) {
                break;
            }
            while let Ok(length) = socket.recv(&mut buffer) {
                ensure!(length == 24, "{length} bytes came back");
                let number = u64::from_be_bytes(buffer[..8].try_into()?);
                twice += u64::from(!seen.insert(number));
            }
        }
        let lost = (0..sent).filter(|number| !seen.contains(number));
        Ok((sent, lost.collect(), twice))
    })
}

/// Every datagram came back, once.
fn whole(what: &str, load: Datagrams) -> Result<()> {
    let (sent, lost, twice) = joined(load)?;
    let count = lost.len();
    eprintln!("{what}: {sent} datagrams, {count} lost, {twice} twice");
    ensure!(sent > 500, "only {sent} sent");
    ensure!(lost.is_empty(), "{:?} ...", &lost[..count.min(20)]);
    ensure!(twice == 0, "{twice} came twice");
    Ok(())
}

/// Numbered messages over one TCP connection, each awaited: how many came back, in order.
fn echoed_stream(
    netns: &str,
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<Result<u64>>> {
    let stop = Arc::clone(stop);
    netns::spawn(netns, move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut number = 0u64;
        while !stop.load(Ordering::SeqCst) {
            let message = [&number.to_be_bytes()[..], CANARY].concat().repeat(100);
            stream.write_all(&message)?;
            let mut back = vec![0; message.len()];
            stream.read_exact(&mut back)?;
            ensure!(back == message, "other bytes came back");
            number += 1;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(number)
    })
}

fn joined<T>(load: JoinHandle<Result<T>>) -> Result<T> {
    load.join().map_err(|_| anyhow!("the load panicked"))?
}

/// What a node's agent shows to Prometheus.
fn metrics(lab: &Lab, node: &str) -> Result<String> {
    netns::within(&lab.netns(node)?, || {
        let at = SocketAddr::from(([127, 0, 0, 1], 9447));
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

fn metric(text: &str, name: &str) -> Result<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| name.to_owned())?.trim().parse()?)
}
