//! Agents die by kill -9 and come back after no time, five seconds and a minute, while a channel elsewhere is cut:
//! what is authenticated keeps flowing, and nothing else does.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signet_tests::{
    bin,
    lab::{Family, Lab, Running, wait},
    load::Both,
    netns, services, shop,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn agents_killed_for_no_time_five_seconds_and_a_minute_lose_nothing() -> Result<()> {
    if !bin::root_or_skip("agents killed under load") {
        return Ok(());
    }
    let leaver = shop::pod("shop", "leaver", "web", "node1", &[("app", "leaver")]);
    let far = shop::pod("shop", "far", "web", "node3", &[("app", "far")]);
    let objects = [shop::base(), leaver, far].concat();
    // Renewals of both nodes fall due within the minute, and no certificate ends in it.
    let lab = Lab::up_with(3, &objects, &["--svid-ttl", "150s"])?;
    for pod in ["shop/web", "shop/db", "shop/idle"] {
        netns::serve_echo(&lab.netns(pod)?, 3306)?;
    }
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    let start = |pod: &str, to| -> Result<Both> { Both::start(pod, &lab.netns(pod)?, to) };
    let loads = [
        start("shop/web", db)?,
        start("shop/web", lab.socket("shop/db", Family::V6, 3306)?)?,
        // Nobody isolates web: the other way round, from the node whose agent lives on.
        start("shop/db", lab.socket("shop/web", Family::V4, 3306)?)?,
        start("shop/far", db)?,
    ];
    let leaver_ns = lab.netns("shop/leaver")?;
    let [v4, v6] = [Family::V4, Family::V6].map(|family| lab.address("shop/leaver", family));
    let addresses = [v4?.to_string(), v6?.to_string()];
    let addresses = addresses.each_ref().map(String::as_str);
    let interface = lab.pod("shop/leaver")?["host_interface"].take();
    let interface = interface.as_str().context("host_interface")?.to_owned();
    netns::udp_echo(&leaver_ns, db, b"still here", PATIENCE, 20)?;

    lab.kill("node2", "agent")?;
    let _node2 = come_back(&lab, "node2")?;
    lab.kill("node1", "agent")?;
    thread::sleep(Duration::from_secs(5));
    let node1 = come_back(&lab, "node1")?;

    let before = certificate(&lab)?;
    drop(node1);
    let dead = Instant::now();
    // New pairs are nobody's to open, from either side.
    let idle = lab.socket("shop/idle", Family::V4, 3306)?;
    let web = lab.socket("shop/web", Family::V4, 3306)?;
    let (web_ns, idle_ns) = (lab.netns("shop/web")?, lab.netns("shop/idle")?);
    let second = Duration::from_secs(1);
    netns::udp_echo(&web_ns, idle, b"new", second, 4).unwrap_err();
    netns::udp_echo(&idle_ns, web, b"new", second, 4).unwrap_err();
    // A pod is deleted whose node cannot hear of it: the other end no longer takes what it still sends.
    netns::udp_echo(&leaver_ns, db, b"still here", second, 2)?;
    let dir = lab.describe()?["manifests_dir"].take();
    let dir = dir.as_str().context("manifests_dir")?;
    fs::remove_file(format!("{dir}/Pod.shop.leaver.yaml"))?;
    wait("a deleted pod to be cut off", PATIENCE, || {
        Ok(netns::udp_echo(&leaver_ns, db, b"still here", second, 4).is_err())
    })?;
    // Elsewhere the channel is cut without a word: it is found dead, and traffic does not notice.
    assert!(has_channel(&lab, "node3", "node2")?);
    let cut = "table inet cut { chain output { type filter hook output priority 0; tcp dport 7447 drop; \
               tcp sport 7447 drop; }; chain input { type filter hook input priority 0; tcp dport 7447 drop; \
               tcp sport 7447 drop; }; }";
    services::nft(&lab, "node3", &[cut])?;
    let since = Instant::now();
    wait(
        "a silent channel to be found dead",
        Duration::from_secs(50),
        || Ok(!has_channel(&lab, "node3", "node2")?),
    )?;
    eprintln!("silent channel found dead after {:?}", since.elapsed());
    services::nft(&lab, "node3", &["delete", "table", "inet", "cut"])?;
    wait("another channel", Duration::from_secs(40), || {
        has_channel(&lab, "node3", "node2")
    })?;
    thread::sleep(Duration::from_secs(60).saturating_sub(dead.elapsed()));
    let _node1 = come_back(&lab, "node1")?;

    wait("a renewal that fell due", Duration::from_secs(40), || {
        Ok(certificate(&lab)? != before)
    })?;
    netns::udp_echo(&web_ns, idle, b"new", PATIENCE, 20)?;
    netns::udp_echo(&idle_ns, web, b"new", PATIENCE, 20)?;
    netns::udp_echo(&leaver_ns, db, b"still here", second, 4).unwrap_err();
    for load in loads {
        load.lost_nothing()?;
    }

    // Its address goes to another pod, and even its interface: that one inherits nothing.
    let uid = "00000000-0000-4000-8000-00000000be15";
    let heir = shop::pod_with("other", "heir", "stray", "node1", &[], &addresses);
    let heir = heir.replacen("metadata: {", &format!("metadata: {{uid: {uid}, "), 1);
    fs::write(format!("{dir}/.heir.new"), heir)?;
    fs::rename(
        format!("{dir}/.heir.new"),
        format!("{dir}/Pod.other.heir.yaml"),
    )?;
    add_endpoint(&lab, "node1", uid, &interface)?;
    netns::udp_echo(&leaver_ns, idle, b"I am", PATIENCE, 20)?;
    netns::udp_echo(&leaver_ns, db, b"still mine?", second, 4).unwrap_err();
    netns::tcp_echo(&leaver_ns, db, b"still mine?", second).unwrap_err();
    Ok(())
}

/// Hands an interface to the agent, as a CNI plug-in does.
fn add_endpoint(lab: &Lab, node: &str, uid: &str, interface: &str) -> Result<()> {
    let socket = lab.node(node)?["status_socket"].take();
    let stream = UnixStream::connect(socket.as_str().context("status_socket")?)?;
    let request = json!({"cmd": "endpoint_add", "pod_uid": uid, "ifname": interface});
    writeln!(&stream, "{request}")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["endpoint"]["pod_uid"] == uid, "{answer}");
    Ok(())
}

/// Starts the agent of a node again, and waits until it has taken its pairs over. Nobody tells it of its pods.
fn come_back(lab: &Lab, node: &str) -> Result<Running> {
    let since = Instant::now();
    let agent = lab.start_again(node, "agent", None)?;
    wait("pairs to be taken over", PATIENCE, || {
        let status = lab.ask(node, &["status"])?;
        let pairs = &status["pairs"];
        Ok(status["identity"]["connected"] == true
            && pairs["open"].as_u64() > Some(0)
            && pairs["adopted"] == 0)
    })?;
    eprintln!("{node}: taken over {:?} after the start", since.elapsed());
    Ok(agent)
}

fn has_channel(lab: &Lab, node: &str, peer: &str) -> Result<bool> {
    let peers = lab.ask(node, &["peers"])?;
    let mut peers = peers["peers"].as_array().context("peers")?.iter();
    Ok(peers.any(|other| other["node"] == peer && other["channel"]["state"] == "ready"))
}

/// Which certificate `shop/web` is known by.
fn certificate(lab: &Lab) -> Result<String> {
    let audit = lab.ask("node2", &["audit", "peers"])?;
    let pairs = audit["pairs"].as_array().context("pairs")?;
    let pair = pairs.iter().find(|pair| pair["remote_pod"] == "shop/web");
    let certificate = pair.context("no pair of shop/web")?["remote_certificate"].as_str();
    Ok(certificate.context("certificate")?.to_owned())
}
