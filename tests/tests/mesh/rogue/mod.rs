//! A node that somebody took over: with all that its agent had, it gets what its own pods may have.
//!
//! The agent of node3 is stopped and its key and certificate used by hand, against the real service and
//! the real agents. What lies inside of packets is in `hostile.rs`.

mod channel;
mod floods;
mod packets;
mod service;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use signet_tests::{
    lab::{Family, Lab, wait},
    load::{Load, Tally},
    netns, shop,
};

/// For what an honest agent does within a moment.
const SOON: Duration = Duration::from_secs(10);

/// `thief` and `thief2` on node3 run as `web` and may reach `db` and `idle` on node2; `loot` there may
/// reach nobody.
fn objects() -> String {
    let idle = shop::allow("idle", "web").replace("app: db", "app: idle");
    [
        shop::base(),
        idle,
        shop::isolate("other"),
        shop::pod("shop", "thief", "web", "node3", &[("app", "web")]),
        shop::pod("shop", "thief2", "web", "node3", &[("app", "web")]),
        shop::pod("other", "loot", "stray", "node3", &[("app", "stray")]),
    ]
    .concat()
}

/// The lab, with the honest pair of node1 and node2 under load.
fn up() -> Result<(Lab, Load)> {
    let lab = Lab::up(3, &objects())?;
    for pod in ["shop/db", "shop/idle"] {
        netns::serve_echo(&lab.netns(pod)?, 3306)?;
    }
    let (web, db) = (
        lab.netns("shop/web")?,
        lab.socket("shop/db", Family::V4, 3306)?,
    );
    netns::udp_echo(&web, db, b"first contact", SOON, 10)?;
    let load = Load::start(&web, db, b"honest", Duration::from_millis(10))?;
    Ok((lab, load))
}

fn uid(lab: &Lab, pod: &str) -> Result<String> {
    let found = lab.pod(pod)?;
    Ok(found["uid"].as_str().context("uid")?.to_owned())
}

/// Does `lie` and waits until `place` has counted it.
fn counted<T>(
    lab: &Lab,
    place: &str,
    (metric, label): (&str, &str),
    lie: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = lab.metric(place, metric, label)?;
    let done = lie()?;
    wait(&format!("{metric} {label} of {place}"), SOON, || {
        Ok(lab.metric(place, metric, label)? > before)
    })?;
    Ok(done)
}

/// Nothing of what the honest pair said was lost.
fn unharmed(load: Load) -> Result<Tally> {
    let tally = load.stop()?;
    ensure!(tally.sent.len() > 20, "only {} sent", tally.sent.len());
    ensure!(
        tally.lost.is_empty(),
        "the honest pair lost {} of {}: {:?}",
        tally.lost.len(),
        tally.sent.len(),
        &tally.lost[..tally.lost.len().min(20)]
    );
    Ok(tally)
}
