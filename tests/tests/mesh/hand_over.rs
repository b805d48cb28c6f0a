//! One agent takes over from another that still runs, and a node that has booted begins from nothing.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    load::Both,
    netns, shop,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_new_agent_takes_over_from_the_running_one_and_loses_nothing() -> Result<()> {
    if !bin::root_or_skip("an agent that takes over") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    let load = Both::start("shop/web", &lab.netns("shop/web")?, db)?;
    let mut old = Vec::new();
    for node in ["node1", "node2"] {
        let pid = lab.node(node)?["agent"]["pid"].as_i64().context("pid")?;
        let mut new = lab.start_again(node, "agent", None)?;
        wait("the new agent to wait", PATIENCE, || {
            Ok(lab
                .log(node, "agent")?
                .contains("this one waits for it to end"))
        })?;
        thread::sleep(Duration::from_secs(1));
        assert!(new.runs()?, "the new agent gave up");
        assert_eq!(lab.ask(node, &["status"])?["identity"]["connected"], true);
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        wait("the new agent to take over", PATIENCE, || {
            let status = lab.ask(node, &["status"])?;
            let uptime = status["uptime_secs"].as_u64();
            Ok(status["identity"]["connected"] == true
                && status["pairs"]["open"].as_u64() > Some(0)
                && status["pairs"]["adopted"] == 0
                && uptime.is_some())
        })?;
        assert!(new.runs()?, "the new agent ended");
        old.push(new);
    }
    load.lost_nothing()?;
    let v6 = lab.socket("shop/db", Family::V6, 3306)?;
    netns::tcp_echo(&lab.netns("shop/web")?, v6, b"after", PATIENCE)
}

#[test]
fn a_node_that_has_booted_finds_nothing_of_before_at_its_peers() -> Result<()> {
    if !bin::root_or_skip("a node that has booted") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", PATIENCE)?;
    let pairs = |node: &str| -> Result<usize> {
        let audit = lab.ask(node, &["audit", "peers"])?;
        Ok(audit["pairs"].as_array().context("pairs")?.len())
    };
    assert_eq!(pairs("node1")?, 1);

    // What a boot takes away: processes, keys, maps. What it brings: another id.
    let node = lab.node("node2")?;
    lab.kill("node2", "agent")?;
    lab.kill("node2", "tunnel")?;
    let path = |name: &str| node[name].as_str().map(str::to_owned).context("path");
    let agent = bin::dir()?
        .join("signet-agent")
        .to_string_lossy()
        .into_owned();
    let (root, socket) = (path("bpf_root")?, path("status_socket")?);
    let clean = [
        &agent,
        "cleanup",
        "--bpf-root",
        &root,
        "--status-socket",
        &socket,
    ];
    // It refuses while the killed agent still answers.
    wait("the node to be clean", PATIENCE, || {
        Ok(lab.exec("node2", &clean)?.status.success())
    })?;
    assert_eq!(pairs("node1")?, 1, "that a node is silent ends nothing");
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node2", "tunnel"])?;
    let boot_id = tempfile::NamedTempFile::new()?;
    fs::write(boot_id.path(), "0b007000-0000-4000-8000-000000000002\n")?;
    let booted = lab.start_again("node2", "agent", Some(boot_id.path()))?;
    wait("the agent of the new boot", PATIENCE, || {
        let status = lab.ask("node2", &["status"])?;
        Ok(status["boot_id"] == "0b007000-0000-4000-8000-000000000002"
            && status["identity"]["connected"] == true)
    })?;
    // None of its pods is started yet: nothing could be agreed anew.
    assert_eq!(lab.ask("node2", &["status"])?["endpoints"], 0);
    wait(
        "what was agreed with the boot before to be gone",
        PATIENCE,
        || Ok(pairs("node1")? == 0),
    )?;
    let log = lab.log("node1", "agent")?;
    assert!(log.contains("PeerBooted"), "{log}");
    netns::tcp_echo(&web, db, b"nobody", Duration::from_secs(1)).unwrap_err();

    drop(booted);
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node2", "agent"])?;
    netns::tcp_echo(&web, db, b"after", PATIENCE)
}
