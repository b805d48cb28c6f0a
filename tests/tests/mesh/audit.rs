//! The audit log, as an auditor has it: who talked, on both nodes, over a crash, and not to be changed.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

const SOON: Duration = Duration::from_secs(5);

/// Folder of a node's log.
fn folder(lab: &Lab, node: &str) -> Result<PathBuf> {
    let dir = lab.node(node)?;
    let dir = dir["config_dir"].as_str().context("config_dir")?;
    Ok(PathBuf::from(dir).join("data/audit"))
}

/// The log as `audit export` gives it, line by line.
fn exported(lab: &Lab, node: &str) -> Result<Vec<Value>> {
    let out = signetctl(lab, node, &["audit", "export"])?;
    ensure!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn signetctl(lab: &Lab, node: &str, command: &[&str]) -> Result<Output> {
    let ctl = bin::dir()?.join("signetctl");
    let ctl = ctl.to_string_lossy();
    let args: Vec<_> = [&*ctl].into_iter().chain(command.iter().copied()).collect();
    lab.exec(node, &args)
}

/// Waits until a node's signed log has a record of which this is true.
fn await_record(lab: &Lab, node: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut found = None;
    wait(what, SOON, || {
        found = exported(lab, node)?.into_iter().find(&is);
        Ok(found.is_some())
    })?;
    found.context("a record")
}

fn has(record: &Value, field: &str, end: &str) -> bool {
    record[field]
        .as_str()
        .is_some_and(|text| text.ends_with(end))
}

#[test]
fn the_log_tells_who_talked_survives_a_crash_and_cannot_be_changed() -> Result<()> {
    if !bin::root_or_skip("the audit log") {
        return Ok(());
    }
    let lab = Lab::up(2, &(shop::base() + &shop::isolate("other")))?;
    let (web, stray) = (lab.netns("shop/web")?, lab.netns("other/stray")?);
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"query", SOON)?;
    netns::tcp_echo(&stray, db, b"let me in", Duration::from_millis(700)).unwrap_err();

    // Both nodes tell of the same session, with the ends and certificates exchanged.
    let opened = |local: &'static str| {
        move |record: &Value| record["event"] == "opened" && has(record, "local_id", local)
    };
    let here = await_record(
        &lab,
        "node1",
        "the pair on node1",
        opened("/ns/shop/sa/web"),
    )?;
    let there = await_record(&lab, "node2", "the pair on node2", opened("/ns/shop/sa/db"))?;
    assert_eq!(here["session_id"], there["session_id"]);
    assert_eq!(here["epoch"], there["epoch"]);
    assert_ne!(here["role"], there["role"]);
    for field in ["id", "pod", "certificate", "wireguard"] {
        let (local, remote) = (format!("local_{field}"), format!("remote_{field}"));
        assert!(here[&local].is_string(), "{local} in {here:#}");
        assert_eq!(here[&local], there[&remote], "{field}");
        assert_eq!(here[&remote], there[&local], "{field}");
    }
    assert_eq!(here["verdict"], "allowed");
    assert_eq!(here["key_exchange"], "X25519MLKEM768");
    assert_eq!(here["local_pod"], lab.pod("shop/web")?["uid"]);
    assert_eq!(here["remote_node"], there["node"]);
    let peers = lab.ask("node1", &["audit", "peers"])?;
    assert_eq!(here["session_id"], peers["pairs"][0]["session_id"]);
    assert_eq!(
        here["local_certificate"],
        peers["pairs"][0]["local_certificate"]
    );

    let refused = await_record(&lab, "node1", "the refusal", |record| {
        record["event"] == "refused" && has(record, "local_id", "/ns/other/sa/stray")
    })?;
    assert!(has(&refused, "remote_id", "/ns/shop/sa/db"), "{refused:#}");
    assert_eq!(refused["remote_address"], db.ip().to_string());
    assert_eq!(refused["verdict"], "refused");
    assert!(
        refused["reason"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );

    // Killed in the middle of work, and back: what was signed is there, and the log goes on.
    lab.kill("node1", "agent")?;
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;
    netns::tcp_echo(&web, db, b"again", SOON)?;
    let session = here["session_id"].clone();
    await_record(&lab, "node1", "the pair after the restart", |record| {
        opened("/ns/shop/sa/web")(record) && record["session_id"] != session
    })?;
    let state = lab.describe()?;
    let bundle = state["identity"]["trust_bundle"]
        .as_str()
        .context("trust_bundle")?;
    let report = lab.ask("node1", &["audit", "verify", "--trust-bundle", bundle])?;
    assert_eq!(report["verdict"], "whole");
    assert_eq!(report["records"]["started"], 2);
    assert!(report["vouchers"][0]["checked"] == true, "{report:#}");
    let table = signetctl(&lab, "node1", &["audit", "verify"])?;
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success(), "{text}");
    for word in [
        "/ns/shop/sa/web with ",
        "/ns/shop/sa/db: ",
        "whole",
        "without a trace",
    ] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
    let tail = signetctl(&lab, "node1", &["audit", "tail"])?;
    let text = String::from_utf8_lossy(&tail.stdout).into_owned();
    assert!(
        text.contains("opened") && text.contains("/ns/other/sa/stray with "),
        "{text}"
    );

    // Nothing in it is a secret: no WireGuard key, no label.
    let status = lab.ask("node1", &["peers"])?;
    let key = status["peers"][0]["public_key"]
        .as_str()
        .context("public_key")?;
    let folder = folder(&lab, "node1")?;
    let path = folder.join("segment-00000001.log");
    let good = fs::read(&path)?;
    let text = String::from_utf8(good.clone())?;
    assert!(!text.contains(key) && !text.contains("label"), "{text}");

    // One byte anywhere, and the place is named. A copy: the agent writes on at its own.
    let copy = tempfile::tempdir()?;
    let at = text.find("/sa/web").context("web")? + 4;
    let mut bad = good.clone();
    bad[at] = b'W';
    fs::write(copy.path().join("segment-00000001.log"), &bad)?;
    let shown = copy.path().to_string_lossy().into_owned();
    let out = signetctl(&lab, "node1", &["audit", "verify", &shown])?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    let line = 1 + good[..at].iter().filter(|byte| **byte == b'\n').count();
    let named = [line, line + 1].map(|line| format!("broken at segment-00000001.log line {line} "));
    assert!(
        named.iter().any(|place| text.contains(place)),
        "not line {line}:\n{text}"
    );
    Ok(())
}

#[test]
fn a_stopped_agent_leaves_a_checkpoint_and_a_cut_before_it_is_found() -> Result<()> {
    if !bin::root_or_skip("a checkpoint of the audit log") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let (web, db) = (
        lab.netns("shop/web")?,
        lab.socket("shop/db", Family::V4, 3306)?,
    );
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    netns::tcp_echo(&web, db, b"query", SOON)?;
    await_record(&lab, "node1", "the pair", |record| {
        record["event"] == "opened"
    })?;
    let pid = lab.node("node1")?["agent"]["pid"].as_i64().context("pid")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let folder = folder(&lab, "node1")?;
    wait("a checkpoint", SOON, || {
        Ok(folder.join("checkpoint").exists())
    })?;

    // No agent is needed to check what it left.
    let shown = folder.to_string_lossy().into_owned();
    let report = lab.ask("identity", &["audit", "verify", &shown])?;
    assert_eq!(report["verdict"], "whole");
    assert_eq!(
        (&report["after_mark"], &report["checkpoints_known"]),
        (&0.into(), &1.into())
    );
    assert_eq!(report["records"]["stopped"], 1);
    // The agent's own log has it too, for whoever keeps that elsewhere.
    let checkpoint = fs::read_to_string(folder.join("checkpoint"))?;
    let hash = checkpoint.split('"').rev().nth(1).context("signature")?;
    assert!(lab.log("node1", "agent")?.contains(hash));

    let path = folder.join("segment-00000001.log");
    let text = fs::read_to_string(&path)?;
    let batch = text.find("{\"kind\":\"batch\"").context("a batch")?;
    let end = batch + text[batch..].find('\n').context("its end")? + 1;
    fs::write(&path, &text[..end])?;
    let out = signetctl(&lab, "identity", &["audit", "verify", &shown])?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("its end was cut off"), "{said}");

    // The agent that comes back does not paper over it.
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;
    let out = signetctl(&lab, "node1", &["audit", "verify"])?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("lines are missing"), "{said}");
    Ok(())
}
