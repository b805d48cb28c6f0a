//! Nodes in the address space: what they send themselves, what they forward under their own name, and what is sent to
//! them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns,
    packet::octets,
    probe,
    services::{self, Service},
    shop,
};

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(600);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const CANARY: &[u8] = b"canary-c91d04-from-the-house-itself";
const PORT: u16 = 3306;
const NODE_PORT: u16 = 30080;

/// A rule for pods labelled `app: db`, on top of what lets in `shop/web`.
fn admit(entity: &str) -> String {
    format!(
        "---\napiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {{name: house, namespace: shop}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: db}}}}\n  ingress:\n  - from:\n    - entities: [{entity}]\n    \
         authentication: Required\n"
    )
}

/// A node's own address.
fn node_address(lab: &Lab, node: &str, family: Family) -> Result<IpAddr> {
    let addresses = lab.node(node)?["underlay_addresses"].take();
    addresses
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str()?.parse::<IpAddr>().ok())
        .find(|address| address.is_ipv4() == (family == Family::V4))
        .with_context(|| format!("{node} has no address of {family:?}"))
}

fn node_id(lab: &Lab, node: &str) -> Result<String> {
    let status = lab.ask(node, &["status"])?;
    let id = status["node_spiffe_id"].as_str();
    Ok(id.context("the node's SPIFFE ID")?.to_owned())
}

/// What was on the wire of node1 meanwhile holds neither the payload nor these two addresses side by side.
fn watched(lab: &Lab, pairs: &[(IpAddr, IpAddr)], act: impl FnOnce() -> Result<()>) -> Result<()> {
    let node = lab.node("node1")?;
    let wire = node["netns"].as_str().context("netns")?;
    let interface = node["underlay_interface"].as_str().context("interface")?;
    let frames = netns::capture(wire, interface, act)?;
    let contains = |needle: &[u8]| {
        let hits = |frame: &&Vec<u8>| frame.windows(needle.len()).any(|window| window == needle);
        frames.iter().filter(hits).count()
    };
    assert!(
        contains(&[0x04, 0, 0, 0]) > 0,
        "no WireGuard transport message seen"
    );
    assert_eq!(contains(CANARY), 0, "payload on the wire");
    for (a, b) in pairs {
        let (a, b) = (octets(*a), octets(*b));
        for pair in [[a.clone(), b.clone()].concat(), [b, a].concat()] {
            assert_eq!(contains(&pair), 0, "a pair of addresses on the wire");
        }
    }
    Ok(())
}

/// A drop that a node has shown, with who sent and why.
fn refused(lab: &Lab, node: &str, from: &str, to: &str, reason: &str) -> Result<()> {
    wait(&format!("{reason} of {from} on {node}"), SOON, || {
        Ok(lab.observed(node)?.iter().any(|event| {
            event["source"]["spiffe_id"] == from
                && event["destination"]["pod"] == to
                && event["reason"]["name"] == reason
                && event["reason"]["number"].as_u64().is_some_and(|n| n > 0)
        }))
    })
}

#[test]
fn a_node_reaches_remote_pods_by_the_tunnel_as_itself_if_a_rule_says_so() -> Result<()> {
    if !bin::root_or_skip("a node reaches remote pods") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let house = lab.netns("node1")?;
    netns::serve_echo(&lab.netns("shop/db")?, PORT)?;
    let id = node_id(&lab, "node1")?;
    let mut pairs = Vec::new();
    for family in FAMILIES {
        pairs.push((
            node_address(&lab, "node1", family)?,
            lab.address("shop/db", family)?,
        ));
    }

    // No rule is about nodes: refused where it arrives, under a name and a number, and nothing of it in clear.
    watched(&lab, &pairs, || {
        for family in FAMILIES {
            let db = lab.socket("shop/db", family, PORT)?;
            netns::tcp_echo(&house, db, CANARY, SHORT).unwrap_err();
            netns::udp_echo(&house, db, CANARY, SHORT, 2).unwrap_err();
            probe::icmp_first(&house, db.ip(), SHORT).unwrap_err();
        }
        Ok(())
    })?;
    refused(&lab, "node2", &id, "shop/db", "DEFAULT_DENY_INGRESS")?;
    let explain = |from: &str| {
        let port = format!("{PORT}/tcp");
        let ask = [
            "policy", "explain", "--from", from, "--to", "shop/db", "--port", &port,
        ];
        let ctl = bin::dir()?.join("signetctl");
        let ctl = ctl.to_string_lossy();
        lab.exec("node1", &[&[&*ctl], &ask[..]].concat())
    };
    let said = explain("node1")?;
    assert_eq!(said.status.code(), Some(1), "{said:?}");

    // A rule about nodes is about this one. The very first packet of each kind is held, not lost.
    lab.apply(&(shop::base() + &admit("RemoteNode")))?;
    wait("the rule to be known", SOON, || {
        Ok(explain("node1")?.status.code() == Some(0))
    })?;
    let said = explain("node1")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        text.contains("shop/house ingress[0]") && text.contains("node channel"),
        "{text}"
    );
    watched(&lab, &pairs, || {
        for family in FAMILIES {
            let db = lab.socket("shop/db", family, PORT)?;
            wait("the rule to be in force", SOON, || {
                Ok(netns::udp_echo(&house, db, CANARY, SHORT, 1).is_ok())
            })?;
            probe::icmp_first(&house, db.ip(), SOON)?;
            netns::tcp_echo(&house, db, &CANARY.repeat(5000), SOON)?;
            // In fragments (of which the pod first learns how large they may be), and in one super-packet.
            netns::udp_echo(&house, db, &CANARY.repeat(150), SHORT, 5)?;
            assert_eq!(netns::udp_segments(&house, db, 1200, 40, SOON)?, 40);
            // Errors come back to who caused them.
            probe::refused(&house, SocketAddr::new(db.ip(), 9), SOON)?;
        }
        // Pods go on as before.
        let web = lab.netns("shop/web")?;
        netns::tcp_echo(&web, lab.socket("shop/db", Family::V4, PORT)?, CANARY, SOON)
    })?;
    let peers = lab.ask("node2", &["audit", "peers"])?;
    assert!(peers.to_string().contains(&id), "{peers:#}");

    // The agents are not needed for it to go on.
    lab.kill("node1", "agent")?;
    lab.kill("node2", "agent")?;
    for family in FAMILIES {
        let db = lab.socket("shop/db", family, PORT)?;
        netns::tcp_echo(&house, db, CANARY, SOON)?;
        assert_eq!(netns::udp_echo(&house, db, CANARY, SOON, 1)?, 1);
    }
    Ok(())
}

#[test]
fn a_pod_reaches_a_remote_node_by_the_tunnel() -> Result<()> {
    if !bin::root_or_skip("a pod reaches a remote node") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    // As a pod with its node's network would.
    netns::serve_echo(&lab.netns("node2")?, 9100)?;
    let mut pairs = Vec::new();
    for family in FAMILIES {
        pairs.push((
            lab.address("shop/web", family)?,
            node_address(&lab, "node2", family)?,
        ));
    }
    watched(&lab, &pairs, || {
        for family in FAMILIES {
            let to = SocketAddr::new(node_address(&lab, "node2", family)?, 9100);
            assert_eq!(probe::answered_from(&web, to, CANARY, SOON)?, to);
            netns::tcp_echo(&web, to, &CANARY.repeat(2000), SOON)?;
            probe::icmp_first(&web, to.ip(), SOON)?;
        }
        Ok(())
    })
}

#[test]
fn what_a_node_masquerades_is_the_nodes() -> Result<()> {
    if !bin::root_or_skip("what a node masquerades") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    netns::serve_echo(&lab.netns("shop/db")?, PORT)?;
    let mut all = Vec::new();
    for family in FAMILIES {
        let db = lab.socket("shop/db", family, PORT)?;
        all.push(Service::new(10, 80, vec![db]).on_node_port(NODE_PORT));
    }
    services::install(&lab, "node1", &all)?;
    let outside = lab.describe()?["identity"]["netns"]
        .as_str()
        .context("netns")?
        .to_owned();
    let id = node_id(&lab, "node1")?;

    for family in FAMILIES {
        let port = SocketAddr::new(node_address(&lab, "node1", family)?, NODE_PORT);
        netns::udp_echo(&outside, port, b"let me in", SHORT, 2).unwrap_err();
    }
    refused(&lab, "node2", &id, "shop/db", "DEFAULT_DENY_INGRESS")?;

    lab.apply(&(shop::base() + &admit("RemoteNode")))?;
    // From outside, from another node, and by the node's own processes.
    for place in [&outside, &lab.netns("node2")?, &lab.netns("node1")?] {
        for family in FAMILIES {
            let port = SocketAddr::new(node_address(&lab, "node1", family)?, NODE_PORT);
            wait("the rule to be in force", SOON, || {
                Ok(netns::udp_echo(place, port, b"hello", SHORT, 1).is_ok())
            })?;
            assert_eq!(probe::answered_from(place, port, b"hello", SOON)?, port);
            netns::tcp_echo(place, port, &b"hello".repeat(50_000), SOON)?;
        }
    }
    assert_eq!(lab.dropped("node1", "NO_SOURCE_INDEX")?, 0);
    Ok(())
}

/// Who may talk to whom on which port, tried with packets: the same between two pods of a node and of two.
#[test]
fn one_node_or_two_make_no_difference() -> Result<()> {
    if !bin::root_or_skip("one node or two") {
        return Ok(());
    }
    // Each kind of client and server, on both nodes; two ports of which one has a rule, once by its name.
    let mut objects = shop::namespace("shop", &["web", "batch", "db", "vault"]);
    for node in ["node1", "node2"] {
        for account in ["web", "batch", "db", "vault"] {
            let name = format!("{account}-{node}");
            let pod = shop::pod("shop", &name, account, node, &[("app", account)]);
            objects += &pod.replace(
                "name: main,",
                "name: main, ports: [{name: mysql, containerPort: 3306}],",
            );
        }
    }
    objects += "---\napiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {name: db, namespace: shop}\n\
                spec:\n  endpointSelector: {matchLabels: {app: db}}\n  ingress:\n  - from:\n    - serviceAccounts: \
                [{namespace: shop, name: web}]\n    ports: [{protocol: TCP, port: 3306}]\n    authentication: Required\n  \
                - from:\n    - serviceAccounts: [{namespace: shop, name: batch}]\n    action: Deny\n";
    objects += "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: batch, namespace: shop}\n\
                spec: {podSelector: {matchLabels: {app: batch}}, policyTypes: [Egress], egress: [{to: [{podSelector: \
                {matchLabels: {app: vault}}}], ports: [{protocol: TCP, port: mysql}]}]}\n";
    let lab = Lab::up(2, &objects)?;
    for node in ["node1", "node2"] {
        for server in ["db", "vault"] {
            let netns = lab.netns(&format!("shop/{server}-{node}"))?;
            for port in [PORT, 9000] {
                netns::serve_echo(&netns, port)?;
            }
        }
    }
    let mut verdicts = std::collections::BTreeMap::new();
    for client in ["web", "batch"] {
        for server in ["db", "vault"] {
            for node in ["node1", "node2"] {
                let netns = lab.netns(&format!("shop/{client}-node1"))?;
                let mut outcome = Vec::new();
                for family in FAMILIES {
                    for port in [PORT, 9000] {
                        let to = lab.socket(&format!("shop/{server}-{node}"), family, port)?;
                        outcome.push(netns::tcp_echo(&netns, to, b"hello", SHORT).is_ok());
                        outcome.push(netns::udp_echo(&netns, to, b"hello", SHORT, 2).is_ok());
                    }
                }
                verdicts.insert((client, server, node), outcome);
            }
            let of = |node| &verdicts[&(client, server, node)];
            assert_eq!(of("node1"), of("node2"), "{client} to {server}");
        }
    }
    // TCP and UDP on the port with rules, TCP and UDP on the other one; IPv4, then IPv6.
    let twice = |four: [bool; 4]| [four, four].concat();
    for (client, server, expected) in [
        ("web", "db", [true, false, false, false]),
        ("web", "vault", [true; 4]),
        ("batch", "db", [false; 4]),
        ("batch", "vault", [true, false, false, false]),
    ] {
        assert_eq!(
            verdicts[&(client, server, "node1")],
            twice(expected),
            "{client} to {server}"
        );
    }
    Ok(())
}
