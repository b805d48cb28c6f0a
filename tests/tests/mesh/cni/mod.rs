//! Pods that `signet-cni` attaches behind the plug-ins of others, chained as a container runtime does it.

mod before;
mod ears;
mod runtime;
mod starts;

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns,
    services::{self, Service},
    shop,
};

use ears::Ears;
use runtime::{Guest, ip};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_pod_behind_ptp_is_enforced_before_it_speaks() -> Result<()> {
    if !bin::root_or_skip("a pod behind the ptp plug-in") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    live_twice(
        &lab,
        &Ears::new(&lab)?,
        &json!({"type": "ptp", "ipMasq": true, "mtu": 1500}),
    )
    .map(drop)
}

#[test]
fn a_pod_behind_a_bridge_is_enforced_before_it_speaks() -> Result<()> {
    if !bin::root_or_skip("a pod behind the bridge plug-in") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let main = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "mtu": 1500,
    });
    let ears = Ears::new(&lab)?;
    let guest = live_twice(&lab, &ears, &main)?;
    loses_its_port(&lab, &guest)?;
    has_a_neighbour(&lab, &ears, &guest, &main)
}

/// From the first plug-in to the second pod of the same name.
fn live_twice<'a>(lab: &'a Lab, ears: &Ears, main: &Value) -> Result<Guest<'a>> {
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let mut guest = Guest::new(lab, "guest", 200, main)?;
    ears.hear(
        &lab.netns("node1")?,
        "from the node",
        Duration::from_millis(100),
    )?;
    wait("the node to be heard", PATIENCE, || {
        let who = ears.who_heard("from the node");
        Ok(who.contains("node") && who.contains("world"))
    })?;

    // It has a network that nothing enforces yet, masqueraded, and calls everybody.
    let made = guest.add_network()?;
    ears.hear(&guest.netns(), "too early", Duration::from_secs(1))?;
    assert!(
        ears.nobody_heard("too early")?,
        "{:?}",
        ears.who_heard("too early")
    );

    // Strict: no agent, no pod. What was made is removed without one.
    lab.kill("node1", "agent")?;
    let error = guest.add_last(&made)?.err();
    let error = error.context("ADD went well without an agent")?;
    assert_eq!(
        (&error["code"], &error["cniVersion"]),
        (&json!(100), &json!("1.0.0"))
    );
    let details = error["details"].as_str().context("details")?;
    for word in ["agent.sock", "start signet-agent", "statusSocket"] {
        assert!(details.contains(word), "{details}");
    }
    ears.hear(
        &guest.netns(),
        "without an agent",
        Duration::from_millis(300),
    )?;
    assert!(ears.nobody_heard("without an agent")?);
    guest.del(Some(&made))?;
    guest.del(None)?;
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;

    let made = guest.add_network()?;
    let result = guest.add_last(&made)?.map_err(|error| anyhow!("{error}"))?;
    assert_eq!(
        result, made,
        "the result of the plug-ins before is not ours to change"
    );
    talks(lab, &guest)?;
    ears.hear(&guest.netns(), "enforced", Duration::from_secs(1))?;
    let who = ears.who_heard("enforced");
    assert!(who.contains("remote") && !who.contains("world"), "{who:?}");
    // To a pod on a bridge the node's whole range is on the bridge, and the lab's pods are not.
    assert_eq!(who.contains("local"), main["type"] == "ptp", "{who:?}");
    guest.check(&result)?.map_err(|error| anyhow!("{error}"))?;

    // The agent alone is told: what is left is a network without a pod.
    guest.del_last(Some(&result))?;
    assert!(guest.endpoint()?.is_none(), "the endpoint outlived DEL");
    let error = guest.check(&result)?.err();
    let error = error.context("CHECK went well without an endpoint")?;
    assert_eq!(error["code"], json!(104), "{error}");
    ears.hear(&guest.netns(), "too late", Duration::from_millis(300))?;
    assert!(
        ears.nobody_heard("too late")?,
        "{:?}",
        ears.who_heard("too late")
    );
    guest.del(Some(&result))?;
    guest.del(Some(&result))?;

    guest.become_new(2)?;
    guest.add_all()?;
    talks(lab, &guest)?;
    Ok(guest)
}

/// What the pod may reach on another node it reaches, authenticated.
fn talks(lab: &Lab, guest: &Guest<'_>) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let db = lab.socket("shop/db", family, 3306)?;
        let text = b"hello".repeat(2_000);
        netns::tcp_echo(&guest.netns(), db, &text, PATIENCE).with_context(|| format!("{db}"))?;
        netns::udp_echo(&guest.netns(), db, b"hello", PATIENCE, 5)?;
    }
    let audit = lab.ask("node2", &["audit", "peers"])?;
    let pairs = audit["pairs"].as_array().context("pairs")?;
    let found = pairs
        .iter()
        .any(|pair| pair["local_pod"] == "shop/db" && pair["remote_pod_uid"] == guest.uid());
    assert!(found, "no pair of {} and shop/db: {audit}", guest.name);
    Ok(())
}

/// A bridge may lose a port and get it back; the pod behind it stays who it is.
fn loses_its_port(lab: &Lab, guest: &Guest<'_>) -> Result<()> {
    let node = lab.netns("node1")?;
    let endpoint = guest.endpoint()?.context("no endpoint")?;
    let port = endpoint["interface"].as_str().context("interface")?;
    ip(&["-n", &node, "link", "set", port, "nomaster"])?;
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        guest.endpoint()?.context("forgotten with its port")?["index"],
        endpoint["index"]
    );
    ip(&["-n", &node, "link", "set", port, "master", "cni0"])?;
    talks(lab, guest)
}

/// Two pods of one bridge: no route leads from one to the other, and still nothing is taken on trust.
fn has_a_neighbour(lab: &Lab, ears: &Ears, guest: &Guest<'_>, main: &Value) -> Result<()> {
    let second = Guest::new(lab, "second", 201, main)?;
    second.add_all()?;
    netns::serve_echo(&second.netns(), 9000)?;
    let (own, theirs) = (guest.addresses()?, second.addresses()?);
    let to: Vec<_> = theirs.iter().map(|ip| (*ip, 9000).into()).collect();
    for to in &to {
        netns::tcp_echo(&guest.netns(), *to, b"neighbour", PATIENCE)?;
        netns::udp_echo(&guest.netns(), *to, b"neighbour", PATIENCE, 5)?;
    }
    // Back through the bridge alone: the kernel must undo the translation there.
    let service = Service::new(7, 80, vec![to[0]]);
    services::install(lab, "node1", std::slice::from_ref(&service))?;
    netns::tcp_echo(&guest.netns(), service.address, b"service", PATIENCE)?;

    for (ip_of_other, prefix) in own.iter().zip(["32", "128"]) {
        let address = format!("{ip_of_other}/{prefix}");
        ip(&[
            "-n",
            &second.netns(),
            "addr",
            "add",
            &address,
            "dev",
            "eth0",
            "nodad",
        ])?;
        ears.hear_as(
            &second.netns(),
            *ip_of_other,
            "as another",
            Duration::from_millis(300),
        )?;
        ip(&[
            "-n",
            &second.netns(),
            "addr",
            "del",
            &address,
            "dev",
            "eth0",
        ])?;
    }
    assert!(ears.nobody_heard("as another")?);
    assert!(lab.dropped("node1", "SOURCE_SPOOFED")? > 0);
    Ok(())
}
