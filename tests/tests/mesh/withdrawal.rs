//! What is taken away is gone at once, and an address that changes hands takes no grant along.

use std::time::Duration;

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

#[test]
fn an_address_given_to_another_workload_inherits_nothing() -> Result<()> {
    if !bin::root_or_skip("an address given to another workload") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    let (v4, v6) = (
        lab.address("shop/web", Family::V4)?,
        lab.address("shop/web", Family::V6)?,
    );
    netns::tcp_echo(&lab.netns("shop/web")?, db, b"mine", Duration::from_secs(5))?;

    let web = shop::pod("shop", "web", "web", "node1", &[("app", "web")]);
    let heir = shop::pod_with(
        "other",
        "heir",
        "stray",
        "node1",
        &[("app", "web")],
        &[&v4.to_string(), &v6.to_string()],
    );
    let after = shop::base().replace(&web, &heir);
    assert_ne!(after, shop::base());
    lab.apply(&after)?;
    assert_eq!(
        lab.address("other/heir", Family::V4)?,
        v4,
        "the address was to change hands"
    );
    let heir = lab.netns("other/heir")?;
    netns::tcp_echo(&heir, db, b"still mine?", Duration::from_secs(1)).unwrap_err();
    netns::udp_echo(&heir, db, b"still mine?", Duration::from_secs(1), 4).unwrap_err();
    let audit = lab.ask("node2", &["audit", "peers"])?.to_string();
    assert!(
        !audit.contains("/ns/shop/sa/web"),
        "the old grant is still listed: {audit}"
    );
    Ok(())
}

#[test]
fn a_removed_node_is_cut_off() -> Result<()> {
    if !bin::root_or_skip("a removed node") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", Duration::from_secs(5))?;

    // The Node object and the pods on it go from what the services watch; its processes live on, as a stolen node's would.
    let dir = lab.describe()?["manifests_dir"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    remove_node(&dir, "node1")?;
    wait(
        "node2 to drop what node1 says",
        Duration::from_secs(10),
        || Ok(netns::udp_echo(&web, db, b"am I still in?", Duration::from_millis(300), 1).is_err()),
    )?;
    wait("node2 to forget node1", Duration::from_secs(10), || {
        Ok(!lab
            .ask("node2", &["audit", "peers"])?
            .to_string()
            .contains("/ns/shop/sa/web"))
    })
}

/// Deletes a Node and its pods from every file of a manifests directory, each replaced in one step.
fn remove_node(dir: &str, node: &str) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        {
            continue;
        }
        let kept: Vec<&str> = text
            .split("---\n")
            .filter(|doc| {
                let its_pod = doc.contains(&format!("nodeName: {node}"));
                let itself =
                    doc.contains("kind: Node\n") && doc.contains(&format!("name: {node}\n"));
                !its_pod && !itself
            })
            .collect();
        if kept.iter().all(|doc| doc.trim().is_empty()) {
            std::fs::remove_file(&path)?;
        } else if kept.len() != text.split("---\n").count() {
            let draft = path.with_extension("new");
            std::fs::write(&draft, kept.join("---\n"))?;
            std::fs::rename(&draft, &path)?;
        }
    }
    Ok(())
}
