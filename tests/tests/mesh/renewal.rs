//! Certificates are short-lived: renewed without a gap while the service lives, and the end of the road when it does not.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

const TTL: Duration = Duration::from_secs(12);

#[test]
fn renewals_lose_nothing_and_expiry_stops_everything() -> Result<()> {
    if !bin::root_or_skip("renewals lose nothing") {
        return Ok(());
    }
    let lab = Lab::up_with(2, &shop::base(), &["--svid-ttl", "12s"])?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::udp_echo(&web, db, b"first", Duration::from_secs(5), 5)?;
    let certificate = |node: &str| -> Result<String> {
        let audit = lab.ask(node, &["audit", "peers"])?;
        let pair = audit["pairs"][0]["local_certificate"].as_str();
        Ok(pair.context("a pair")?.to_owned())
    };
    let before = certificate("node1")?;

    // Two lifetimes: every certificate in sight has been replaced, node SVIDs and authenticators included.
    let start = Instant::now();
    let (mut sent, mut lost) = (0, Vec::new());
    while start.elapsed() < TTL * 2 {
        sent += 1;
        if netns::udp_echo(&web, db, b"still here", Duration::from_millis(500), 1).is_err() {
            lost.push(start.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!(
        "{sent} datagrams over two certificate lifetimes, lost {}",
        lost.len()
    );
    assert!(lost.is_empty(), "lost {} of {sent} at {lost:?}", lost.len());
    assert_ne!(
        before,
        certificate("node1")?,
        "the certificate was never renewed"
    );

    // Without the service nothing is renewed; after the last certificate has run out nothing passes.
    let pid = lab.describe()?["identity"]["process"]["pid"]
        .as_i64()
        .context("pid")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL)?;
    netns::udp_echo(&web, db, b"goes on", Duration::from_secs(1), 1)?;
    thread::sleep(TTL + Duration::from_secs(1));
    netns::udp_echo(&web, db, b"too late", Duration::from_millis(500), 3).unwrap_err();
    netns::tcp_echo(&web, db, b"too late", Duration::from_millis(500)).unwrap_err();

    // And it comes back by itself when the service does.
    lab.ctl(&["lab", "restart", "--name", &lab.name, "identity"])?;
    wait(
        "traffic after the service is back",
        Duration::from_secs(60),
        || Ok(netns::udp_echo(&web, db, b"back", Duration::from_millis(500), 1).is_ok()),
    )
}
