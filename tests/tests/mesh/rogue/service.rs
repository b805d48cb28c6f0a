//! Lies to the identity service.

use anyhow::{Context, Result, ensure};
use signet_tests::{bin, rogue::Rogue};

use super::{counted, objects, uid};
use signet_tests::lab::Lab;

#[test]
fn the_service_signs_for_nothing_that_a_node_does_not_run() -> Result<()> {
    if !bin::root_or_skip("a rogue asks the identity service") {
        return Ok(());
    }
    let lab = Lab::up(3, &objects())?;
    lab.kill("node3", "agent")?;
    let rogue = Rogue::of(&lab, "node3")?;
    let web = rogue.workload_id("shop", "web")?;
    let db = rogue.workload_id("shop", "db")?;
    let thief = uid(&lab, "shop/thief")?;

    // Its own pod's certificate is its own, or this test would prove nothing.
    let own = rogue.issue(&thief, &web)?;
    let own = own.map_err(|(code, text)| anyhow::anyhow!("{code}: {text}"))?;
    assert_eq!(own.id(), &web);

    let foreign = uid(&lab, "shop/web")?;
    for (what, pod, id, reason) in [
        (
            "a pod of another node",
            foreign.as_str(),
            &web,
            "other_node",
        ),
        ("a pod that nobody has", "no-such-pod", &web, "unknown_pod"),
        ("an identity that its pod has not", &thief, &db, "other_id"),
    ] {
        let label = format!("reason=\"{reason}\"");
        let refused = counted(
            &lab,
            "identity",
            ("signet_identity_svids_refused_total", &label),
            || rogue.issue(pod, id),
        )
        .context(what)?;
        ensure!(refused.is_err(), "{what}: signed");
        eprintln!("{what}: {:?}", refused.err());
    }

    // It is no other node either: neither by its own key, nor by tokens that were used.
    let nodes = ("signet_identity_nodes_refused_total", "");
    let refused = counted(&lab, "identity", nodes, || rogue.attest("node1", ""))?;
    ensure!(refused.is_err(), "in as node1 by another key");
    eprintln!("node1's name, its own key: {:?}", refused.err());
    for node in ["node1", "node3"] {
        let dir = lab.node(node)?;
        let dir = dir["config_dir"].as_str().context("config_dir")?;
        let token = std::fs::read_to_string(format!("{dir}/join-token"))?;
        let used = (
            "signet_identity_join_tokens_refused_total",
            "reason=\"used\"",
        );
        let refused = counted(&lab, "identity", used, || rogue.attest(node, token.trim()))?;
        ensure!(refused.is_err(), "in as {node} by a used token");
    }

    // Who was refused is in the service's log.
    let log = lab.log("identity", "process")?;
    let node = lab.node("node3")?;
    let node = node["uid"].as_str().context("uid")?;
    ensure!(
        log.lines()
            .any(|line| line.contains(node) && line.contains(&foreign)),
        "the log does not tell that {node} asked for {foreign}"
    );
    Ok(())
}
