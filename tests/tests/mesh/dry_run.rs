//! A policy is tried out: nothing is dropped, and what would be is told by name and number.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

const SOON: Duration = Duration::from_secs(5);

fn breaks(lab: &Lab, node: &str) -> Result<(Option<i32>, Value)> {
    let ctl = bin::dir()?.join("signetctl");
    let out = lab.exec(
        node,
        &[&ctl.to_string_lossy(), "policy", "impact", "-o", "json"],
    )?;
    let impact = serde_json::from_slice(&out.stdout)
        .with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())?;
    Ok((out.status.code(), impact))
}

/// Flows that would break from one pod to another on a port, and what is said of them.
fn find<'a>(impact: &'a Value, from: &str, to: &str, port: u16) -> Option<&'a Value> {
    impact["breaks"].as_array()?.iter().find(|broken| {
        broken["source"]["pod"] == from
            && broken["destination"]["pod"] == to
            && broken["destination"]["port"] == port
    })
}

#[test]
fn a_dry_run_drops_nothing_and_tells_who_would_be_cut_off() -> Result<()> {
    if !bin::root_or_skip("a dry run drops nothing") {
        return Ok(());
    }
    // In force: nothing isolates db. Tried out: only web reaches it, on 3306.
    let tight = "---\napiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {name: tight, namespace: shop}\n\
                 spec:\n  endpointSelector: {matchLabels: {app: db}}\n  enforcement: DryRun\n  ingress:\n  - from:\n    - serviceAccounts: [{namespace: shop, name: web}]\n    ports: [{port: 3306}]\n\
                 ---\napiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {name: quiet, namespace: other}\n\
                 spec:\n  endpointSelector: {}\n  enforcement: DryRun\n  egress: []\n";
    let base = shop::base().replace(&shop::allow("db", "web"), "");
    let lab = Lab::up(2, &(base.clone() + tight))?;
    for port in [3306, 3307] {
        netns::serve_echo(&lab.netns("shop/db")?, port)?;
    }
    let (code, impact) = breaks(&lab, "node2")?;
    assert_eq!(code, Some(0), "nothing has been sent yet: {impact:#}");

    let db = |port| lab.socket("shop/db", Family::V4, port);
    let talk = |from: &str, port, times: u32| -> Result<()> {
        for _ in 0..times {
            netns::tcp_echo(&lab.netns(from)?, db(port)?, b"as before", SOON)?;
        }
        Ok(())
    };
    // Across nodes, on the same node, and on a port that the dry run does not know.
    talk("shop/web", 3306, 3)?;
    talk("other/stray", 3306, 3)?;
    talk("shop/idle", 3306, 1)?;
    talk("shop/web", 3307, 1)?;

    wait("the impact to be told", SOON, || {
        let (_, impact) = breaks(&lab, "node2")?;
        Ok(find(&impact, "shop/idle", "shop/db", 3306).is_some()
            && find(&impact, "shop/web", "shop/db", 3307).is_some())
    })?;
    let (code, impact) = breaks(&lab, "node2")?;
    assert_eq!(code, Some(1), "{impact:#}");
    assert!(
        find(&impact, "shop/web", "shop/db", 3306).is_none(),
        "it would still pass: {impact:#}"
    );
    for (from, port, id) in [
        ("other/stray", 3306, "/ns/other/sa/stray"),
        ("shop/idle", 3306, "/ns/shop/sa/idle"),
        ("shop/web", 3307, "/ns/shop/sa/web"),
    ] {
        let broken = find(&impact, from, "shop/db", port).context(impact.to_string())?;
        assert_eq!(broken["because_of"][0], "AuthenticatedPolicy shop/tight");
        assert_eq!(broken["reason"], "DEFAULT_DENY_INGRESS");
        assert_eq!(broken["direction"], "ingress");
        let found = broken["source"]["spiffe_id"].as_str().unwrap_or_default();
        assert!(found.ends_with(id), "{broken:#}");
        assert!(broken["flows"].as_u64() >= Some(1), "{broken:#}");
    }
    // The sender's own node tells what the sender's dry run would stop.
    let (code, impact) = breaks(&lab, "node1")?;
    assert_eq!(code, Some(1));
    let broken = find(&impact, "other/stray", "shop/db", 3306).context(impact.to_string())?;
    assert_eq!(broken["because_of"][0], "AuthenticatedPolicy other/quiet");
    assert_eq!(broken["reason"], "DEFAULT_DENY_EGRESS");

    let ctl = bin::dir()?.join("signetctl");
    let ctl = ctl.to_string_lossy();
    let seen = lab.exec("node2", &[&ctl, "observe", "--verdict", "would-drop"])?;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(
        seen.contains("WOULD-DROP TCP other/stray")
            && seen.contains("by AuthenticatedPolicy shop/tight (dry run)"),
        "{seen}"
    );
    let table = lab.exec("node2", &[&ctl, "policy", "impact"])?;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.starts_with("FROM "), "{table}");
    for node in ["node1", "node2"] {
        assert_eq!(lab.dropped(node, "DEFAULT_DENY_INGRESS")?, 0);
        assert_eq!(lab.dropped(node, "DEFAULT_DENY_EGRESS")?, 0);
    }

    // Loosened, the flows that were seen are judged anew, without being sent again.
    let loose = tight.replace("    ports: [{port: 3306}]\n", "");
    lab.apply(&(base.clone() + &loose))?;
    wait("the looser rule to be held against old flows", SOON, || {
        let (_, impact) = breaks(&lab, "node2")?;
        Ok(find(&impact, "shop/web", "shop/db", 3307).is_none()
            && find(&impact, "other/stray", "shop/db", 3306).is_some())
    })?;

    // Enforced, it does what was foretold.
    let enforced = loose.replace("  enforcement: DryRun\n  ingress", "  ingress");
    lab.apply(&(base + &enforced))?;
    let (stray, idle) = (lab.netns("other/stray")?, lab.netns("shop/idle")?);
    let short = Duration::from_millis(500);
    wait("the policy to be enforced", SOON, || {
        let target = db(3306)?;
        Ok(netns::tcp_echo(&stray, target, b"x", short).is_err()
            && netns::tcp_echo(&idle, target, b"x", short).is_err())
    })?;
    talk("shop/web", 3306, 1)
}

#[test]
fn lint_names_each_object_and_the_way_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let lint = |text: &str, more: &[&str]| -> Result<(Option<i32>, String)> {
        std::fs::write(dir.path().join("all.yaml"), text)?;
        let out = bin::command("signetctl")?
            .args(["policy", "lint"])
            .arg(dir.path())
            .args(more)
            .output()?;
        Ok((
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
        ))
    };
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: node1, uid: n1}\nspec: {podCIDRs: [10.0.0.0/24]}\n\
                status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n";
    let with_uids: String = (shop::base().replace("node2", "node1"))
        .split("metadata: {name: ")
        .enumerate()
        .map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => format!("metadata: {{uid: u{at}, name: {part}"),
        })
        .collect();
    let good = node.to_owned() + &with_uids;
    let (code, out) = lint(&good, &["--trust-domain", "lab.signet"])?;
    assert_eq!((code, out.as_str()), (Some(0), ""));

    let odd = good.clone() + &shop::allow("typo", "wbe");
    let (code, out) = lint(&odd, &[])?;
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(
        out,
        "warning SelectsNothing: AuthenticatedPolicy shop/typo ingress[0]: there is no ServiceAccount shop/wbe; create it or correct its name\n"
    );
    assert_eq!(lint(&odd, &["--warnings-ok"])?.0, Some(0));

    // A refused object is a problem, and hides nothing of the others.
    let refused = odd.clone() + &shop::allow("field", "web").replace("ingress:", "ingres:");
    let (code, out) = lint(&refused, &["-o", "json", "--warnings-ok"])?;
    assert_eq!(code, Some(1), "{out}");
    let report: Value = serde_json::from_str(&out)?;
    assert_eq!(
        (&report["problems"], &report["warnings"]),
        (&1.into(), &1.into()),
        "{out}"
    );
    let findings = report["findings"].as_array().context("findings")?;
    assert!(
        findings
            .iter()
            .any(|finding| finding["severity"] == "problem"
                && finding["object"] == "AuthenticatedPolicy shop/field"
                && finding["what"]
                    .as_str()
                    .is_some_and(|what| what.contains("spec.ingres"))),
        "{out}"
    );

    let foreign = good
        + &shop::allow("far", "web").replace(
            "serviceAccounts: [{namespace: shop, name: web}]",
            "spiffeIDs: [\"spiffe://far.example/ns/shop/sa/web\"]",
        );
    let (code, out) = lint(&foreign, &["--trust-domain", "lab.signet"])?;
    assert_eq!(code, Some(1));
    assert!(out.contains("FederatedPeerUnsupported"), "{out}");
    assert_eq!(lint(&foreign, &["--trust-domain", "No Name"])?.0, Some(2));
    Ok(())
}
