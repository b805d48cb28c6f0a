//! The process as an operator sees it: start, refusal, privileges, end.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{Net, Tunnel, command, is_possible, sh, uninterrupted, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signet_wg::control::Event;

const PROGRAM: &str = env!("CARGO_BIN_EXE_signet-tunnel");

/// Runs a tunnel that cannot start; its status and what it said.
fn refused(netns: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(netns, "env")
        .arg(PROGRAM)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default().to_owned();
    (output.status.code(), last)
}

#[test]
fn wrong_usage_is_status_2() {
    for arguments in [
        ["--slot-ports", "1"],
        ["--slot-names", "a,a"],
        ["--slot-ports", "x,y"],
        ["--no-such-flag", ""],
    ] {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn every_metric_can_be_listed() {
    let output = Command::new(PROGRAM).arg("metrics").output().unwrap();
    assert!(output.status.success());
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(
        list.contains("signet_tunnel_dropped_packets_total"),
        "{list}"
    );
}

#[test]
fn what_is_taken_is_named() {
    if !is_possible("what_is_taken_is_named", &[]) {
        return;
    }
    let net = Net::new();
    let tunnel = Tunnel::start(&net.a);
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("t.sock").display().to_string();
    let theirs = tunnel.socket().display().to_string();
    let nowhere = folder.path().join("no/t.sock").display().to_string();
    let names = ["--slot-names", "x0,x1"];
    let ports = ["--slot-ports", "700,701"];
    let metrics = ["--metrics", "127.0.0.1:9999"];
    let with = |parts: &[&[&str]]| -> Vec<String> {
        parts.concat().iter().map(ToString::to_string).collect()
    };
    for (arguments, expected) in [
        (
            with(&[&["--control-socket", &theirs]]),
            "another signet-tunnel serves",
        ),
        (
            with(&[&["--control-socket", &nowhere]]),
            "does its folder exist",
        ),
        (
            with(&[&["--control-socket", &ours]]),
            "network device sgslot0 exists already",
        ),
        (
            with(&[&["--control-socket", &ours], &names]),
            "51830 is in use",
        ),
        (
            with(&[&["--control-socket", &ours], &names, &ports]),
            "127.0.0.1:9448 is in use",
        ),
        (
            with(&[
                &["--control-socket", &ours, "--bind", "198.51.100.1"],
                &names,
                &ports,
            ]),
            "198.51.100.1:700 is not on this host",
        ),
        (
            with(&[&[
                "--control-socket",
                &ours,
                "--slot-names",
                "way-too-long-a-name,x1",
            ]]),
            "is no name for a network device",
        ),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (status, said) = refused(&net.a, &arguments);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!fs::exists(&ours).unwrap(), "a socket stayed behind");
    }
    fs::write(&ours, "somebody's").unwrap();
    let (status, said) = refused(&net.a, &["--control-socket", &ours]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("is no socket"), "{said}");
    assert_eq!(fs::read(&ours).unwrap(), b"somebody's");
    let unprivileged = command(&net.a, "setpriv")
        .args([
            "--reuid",
            "65534",
            "--clear-groups",
            PROGRAM,
            "--control-socket",
        ])
        .args(["/tmp/sgt-unprivileged.sock"])
        .args(names)
        .args(metrics)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&unprivileged.stderr).into_owned();
    // The binary itself may lie where that user cannot reach it.
    if unprivileged.status.code() == Some(1) {
        assert!(
            said.contains("run as root") || said.contains("are you root"),
            "{said}"
        );
    }
    // None of that disturbed the one that runs.
    assert!(UnixStream::connect(tunnel.socket()).is_ok());
}

#[test]
fn no_privilege_is_left() {
    if !is_possible("no_privilege_is_left", &[]) {
        return;
    }
    let net = Net::new();
    let tunnel = Tunnel::start(&net.a);
    let mode = fs::metadata(tunnel.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The filter is the last thing before it is ready.
    let threads = format!("/proc/{}/task", tunnel.child.id());
    wait_for("the filter", || {
        let status = fs::read_to_string(format!("{threads}/{}/status", tunnel.child.id())).unwrap();
        status.contains("Seccomp:\t2").then_some(())
    });
    let mut count = 0;
    for thread in fs::read_dir(threads).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in [
            "CapEff:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line} is missing in:\n{status}");
        }
        assert!(status.contains("Seccomp:\t2"), "{status}");
        count += 1;
    }
    assert!(count >= 6, "{count} threads");
}

#[test]
fn the_end_is_clean_and_a_socket_left_behind_is_replaced() {
    if !is_possible("the_end_is_clean_and_a_socket_left_behind_is_replaced", &[]) {
        return;
    }
    let net = Net::new();
    let mut tunnel = Tunnel::start(&net.a);
    let socket = tunnel.socket();
    kill(Pid::from_raw(tunnel.child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(tunnel.child.wait().unwrap().success());
    assert!(!socket.exists());
    assert!(
        !sh(&net.a, "ip link show sgslot0").status.success(),
        "the device stayed behind"
    );

    let start = || {
        let mut tunnel = command(&net.a, PROGRAM);
        tunnel
            .arg("--control-socket")
            .arg(&socket)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut killed = start();
    wait_for("the control socket", || UnixStream::connect(&socket).ok());
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(socket.exists());
    wait_for("the devices to go", || {
        (!sh(&net.a, "ip link show sgslot0").status.success()).then_some(())
    });
    let mut again = start();
    wait_for("the control socket", || UnixStream::connect(&socket).ok());
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn a_second_agent_takes_over() {
    if !is_possible("a_second_agent_takes_over", &[]) {
        return;
    }
    let received = |stream: &mut UnixStream| {
        let mut buffer = [0; 4096];
        uninterrupted(|| stream.read(&mut buffer)).unwrap()
    };
    let net = Net::new();
    let tunnel = Tunnel::start(&net.a);
    let say = |message: &signet_wg::control::Command| {
        let mut stream = UnixStream::connect(tunnel.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .write_all(&signet_wg::control::encode(message).unwrap())
            .unwrap();
        stream
    };
    let mut first = say(&signet_wg::control::Command::Hello {
        version: signet_wg::control::VERSION,
    });
    assert!(received(&mut first) > 0);
    let mut second = say(&signet_wg::control::Command::Hello {
        version: signet_wg::control::VERSION,
    });
    assert!(received(&mut second) > 0);
    assert_eq!(received(&mut first), 0, "the first is let go");

    // Who speaks another version, or does not greet, is turned away; the second stays.
    let mut other = say(&signet_wg::control::Command::Hello { version: 99 });
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).unwrap();
    let mut decoder = signet_wg::control::Decoder::default();
    decoder.push(&answer);
    let refusal: Event = decoder.next_message().unwrap().unwrap();
    assert!(
        matches!(refusal, Event::Failed { seq: 0, .. }),
        "{refusal:?}"
    );
    let mut rude = say(&signet_wg::control::Command::Status { seq: 1 });
    assert_eq!(received(&mut rude), 0);
    let status = signet_wg::control::Command::Status { seq: 5 };
    second
        .write_all(&signet_wg::control::encode(&status).unwrap())
        .unwrap();
    assert!(received(&mut second) > 0);
}
