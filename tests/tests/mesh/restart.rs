//! Killing what is not the agent, and removing what is the agent's: it is put back, and nothing leaks meanwhile.

use std::time::Duration;

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

#[test]
fn a_killed_tunnel_is_keyed_anew_and_leaks_nothing() -> Result<()> {
    if !bin::root_or_skip("a killed tunnel") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", Duration::from_secs(5))?;
    lab.kill("node1", "tunnel")?;
    netns::udp_echo(
        &web,
        db,
        b"nobody carries this",
        Duration::from_millis(500),
        2,
    )
    .unwrap_err();
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "tunnel"])?;
    wait(
        "traffic through the new engine",
        Duration::from_secs(20),
        || Ok(netns::tcp_echo(&web, db, b"after", Duration::from_secs(1)).is_ok()),
    )
}

#[test]
fn what_somebody_removes_from_the_host_is_put_back_or_told() -> Result<()> {
    if !bin::root_or_skip("what somebody removes from the host") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", Duration::from_secs(5))?;
    let links = lab.node("node1")?["bpf_root"]
        .as_str()
        .unwrap_or("")
        .to_owned()
        + "/v1/links";

    let pins = format!("rm {links}/*");
    for removal in [
        "ip rule del pref 100; ip rule del pref 101",
        "ip route flush table 7447; ip route flush table 7449",
        "ip link set signet0 down",
        "ip link del signet0",
        "ip link del sghold",
        "ip link set sgslot0 down; ip link set sgslot1 down",
        &pins,
    ] {
        let out = lab.exec("node1", &["sh", "-c", removal])?;
        assert!(out.status.success(), "{removal}: {out:?}");
        wait(
            &format!("traffic after {removal:?}"),
            Duration::from_secs(15),
            || Ok(netns::tcp_echo(&web, db, b"again", Duration::from_secs(1)).is_ok()),
        )?;
    }
    for word in ["rule 100", "signet0", "sghold", "underlay_guard of"] {
        wait(
            &format!("{word} to be told as put back"),
            Duration::from_secs(5),
            || {
                let log = lab.log("node1", "agent")?;
                Ok(log
                    .lines()
                    .any(|line| line.contains("from outside") && line.contains(word)))
            },
        )?;
    }
    // A first contact needs the hold device, and programs in every place.
    let v6 = lab.socket("shop/db", Family::V6, 3306)?;
    netns::tcp_echo(&web, v6, b"first", Duration::from_secs(5))?;

    // The engine has given up the privilege to make devices: it ends, and says why.
    let out = lab.exec("node1", &["ip", "link", "del", "sgslot1"])?;
    assert!(out.status.success(), "{out:?}");
    wait("the engine to end", Duration::from_secs(5), || {
        Ok(lab
            .log("node1", "tunnel")?
            .contains("slot device was removed from outside"))
    })?;
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "tunnel"])?;
    wait(
        "traffic through the new engine",
        Duration::from_secs(20),
        || Ok(netns::tcp_echo(&web, db, b"after", Duration::from_secs(1)).is_ok()),
    )
}

#[test]
fn pods_whose_objects_come_back_talk_again() -> Result<()> {
    if !bin::root_or_skip("pods whose objects come back") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", Duration::from_secs(5))?;
    let dir = lab.describe()?["manifests_dir"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    let aside = format!("{dir}.aside");
    let swap = format!(
        "mkdir -p {aside}; mv {dir}/* {aside}/; sleep 2; ! nc -z -w 1 {} 3306",
        db.ip()
    );
    let out = lab.exec("shop/web", &["sh", "-c", &swap])?;
    assert!(out.status.success(), "talks without an object: {out:?}");
    // The host itself, over the cluster's own routes, is held back by the guard still.
    let clear = format!("ip rule del pref 101; ! nc -z -w 1 {} 3306", db.ip());
    let out = lab.exec("node1", &["sh", "-c", &clear])?;
    assert!(out.status.success(), "the host talks in the clear: {out:?}");
    let guarded = lab.observed("node1")?;
    assert!(
        guarded
            .iter()
            .any(|event| event["reason"]["name"] == "CLEAR_POD_ADDRESS"),
        "{guarded:?}"
    );
    let out = lab.exec("shop/web", &["sh", "-c", &format!("mv {aside}/* {dir}/")])?;
    assert!(out.status.success(), "{out:?}");
    wait(
        "traffic of pods that are back",
        Duration::from_secs(20),
        || Ok(netns::tcp_echo(&web, db, b"again", Duration::from_secs(1)).is_ok()),
    )
}
