//! Who may talk, talks, over every protocol and family; who may not is told apart with a reason.

use std::time::Duration;

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn authenticated_pairs_talk_and_others_are_stopped_with_a_reason() -> Result<()> {
    if !bin::root_or_skip("authenticated pairs talk") {
        return Ok(());
    }
    // No rule admits stray and db in either direction, so they must never be authenticated at all.
    let lab = Lab::up(2, &(shop::base() + &shop::isolate("other")))?;
    let (web, stray, idle) = (
        lab.netns("shop/web")?,
        lab.netns("other/stray")?,
        lab.netns("shop/idle")?,
    );
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;

    for family in [Family::V4, Family::V6] {
        let db = lab.socket("shop/db", family, 3306)?;
        netns::tcp_echo(&web, db, &[7; 100_000], SOON)?;
        assert_eq!(
            netns::udp_echo(&web, db, b"a datagram", SOON, 5)?,
            1,
            "the first datagram was lost ({family:?})"
        );
        // 40 datagrams in one super-packet, through tag, engine and tag again.
        assert_eq!(
            netns::udp_segments(&web, db, 1200, 40, SOON)?,
            40,
            "segmented UDP ({family:?})"
        );
        let address = db.ip().to_string();
        let ping = lab.exec(
            "shop/web",
            &["ping", "-c", "3", "-i", "0.05", "-W", "2", &address],
        )?;
        assert!(
            ping.status.success(),
            "{}",
            String::from_utf8_lossy(&ping.stdout)
        );

        // Across nodes and on the same node: the same verdict.
        for outsider in [&stray, &idle] {
            netns::tcp_echo(outsider, db, b"let me in", Duration::from_millis(700)).unwrap_err();
            netns::udp_echo(outsider, db, b"let me in", Duration::from_millis(700), 3).unwrap_err();
        }
    }

    let drops = lab.observed("node2")?;
    let told = drops.iter().any(|event| {
        let (from, to) = (
            &event["source"]["spiffe_id"],
            &event["destination"]["spiffe_id"],
        );
        from.as_str()
            .is_some_and(|id| id.ends_with("/ns/shop/sa/idle"))
            && to.as_str().is_some_and(|id| id.ends_with("/ns/shop/sa/db"))
            && event["reason"]["name"] == "DEFAULT_DENY_INGRESS"
            && event["reason"]["number"] == 20
    });
    assert!(
        told,
        "no refusal of shop/idle with both SPIFFE IDs in {drops:#?}"
    );

    let drops = lab.observed("node1")?;
    let told = drops.iter().any(|event| {
        event["source"]["spiffe_id"]
            .as_str()
            .is_some_and(|id| id.ends_with("/ns/other/sa/stray"))
            && event["destination"]["pod"] == "shop/db"
    });
    assert!(told, "stray was not refused on its own node: {drops:#?}");

    for node in ["node1", "node2"] {
        let audit = lab.ask(node, &["audit", "peers"])?.to_string();
        for word in [
            "/ns/shop/sa/web",
            "/ns/shop/sa/db",
            "X25519MLKEM768",
            "TLS_AES_256_GCM_SHA384",
        ] {
            assert!(audit.contains(word), "{node}: no {word} in {audit}");
        }
        assert!(
            !audit.contains("/ns/other/sa/stray"),
            "a pair that was never authenticated is in {audit}"
        );
    }
    Ok(())
}

#[test]
fn a_policy_that_changes_takes_effect_on_running_pods() -> Result<()> {
    if !bin::root_or_skip("a policy that changes") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let (web, stray) = (lab.netns("shop/web")?, lab.netns("other/stray")?);
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    netns::tcp_echo(&web, db, b"before", SOON)?;
    netns::tcp_echo(&stray, db, b"before", Duration::from_millis(700)).unwrap_err();

    let open = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: open, namespace: shop}\n\
                spec:\n  podSelector: {matchLabels: {app: db}}\n  policyTypes: [Ingress]\n  ingress:\n  - from: [{namespaceSelector: {}}]\n    ports: [{protocol: TCP, port: 3306}]\n";
    lab.apply(&format!("{}{open}", shop::base()))?;
    wait("the stray to be let in", Duration::from_secs(10), || {
        Ok(netns::tcp_echo(&stray, db, b"after", Duration::from_millis(500)).is_ok())
    })?;
    let other_port = lab.socket("shop/db", Family::V4, 3307)?;
    netns::udp_echo(&stray, other_port, b"x", Duration::from_millis(500), 2).unwrap_err();

    let nobody = shop::base().replace("name: web}]", "name: nobody}]");
    assert_ne!(nobody, shop::base());
    lab.apply(&nobody)?;
    wait("everyone to be stopped", Duration::from_secs(10), || {
        Ok(
            netns::tcp_echo(&web, db, b"x", Duration::from_millis(500)).is_err()
                && netns::tcp_echo(&stray, db, b"x", Duration::from_millis(500)).is_err(),
        )
    })
}

#[test]
fn the_underlay_may_be_ipv6() -> Result<()> {
    if !bin::root_or_skip("the underlay may be IPv6") {
        return Ok(());
    }
    let lab = Lab::up_with(2, &shop::base(), &["--ipv6-underlay"])?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    for family in [Family::V4, Family::V6] {
        netns::tcp_echo(
            &lab.netns("shop/web")?,
            lab.socket("shop/db", family, 3306)?,
            &[1; 50_000],
            SOON,
        )?;
    }
    Ok(())
}
