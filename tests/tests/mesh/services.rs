//! Services translate addresses on the way; who may talk to whom is still a matter of who is behind them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
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
const SHORT: Duration = Duration::from_millis(500);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const CANARY: &[u8] = b"canary-0b51d2-at-your-service";

/// Port of the services, and of the pods behind them.
const PORT: u16 = 80;
const BACKEND: u16 = 3306;
/// A port of the services behind which nobody listens.
const CLOSED: u16 = 81;

/// Last byte of each service's address.
const REMOTE: u8 = 10;
const LOCAL: u8 = 11;
const SELF: u8 = 12;
const ALL: u8 = 13;
/// Ports of every node for the first of them.
const NODE_PORT: u16 = 30080;

/// The shop, with a second database beside the client and a third far away, and clients that have never met anybody.
fn objects() -> String {
    let mut objects = shop::base();
    objects += &shop::pod("shop", "db-near", "db", "node1", &[("app", "db")]);
    objects += &shop::pod("shop", "db-far", "db", "node2", &[("app", "db")]);
    for n in 0..6 {
        objects += &shop::pod(
            "shop",
            &format!("new{n}"),
            "web",
            "node1",
            &[("app", "web")],
        );
    }
    objects
}

/// A lab in which every node knows the services.
fn lab() -> Result<Lab> {
    let lab = Lab::up(2, &objects())?;
    let mut all = Vec::new();
    for family in FAMILIES {
        let pods = |names: &[&str], port| -> Result<Vec<SocketAddr>> {
            names
                .iter()
                .map(|pod| lab.socket(pod, family, port))
                .collect()
        };
        let remote = Service::new(REMOTE, PORT, pods(&["shop/db"], BACKEND)?);
        all.extend([
            remote.on_node_port(NODE_PORT),
            Service::new(LOCAL, PORT, pods(&["shop/db-near"], BACKEND)?),
            Service::new(SELF, PORT, pods(&["shop/web"], BACKEND)?),
            Service::new(
                ALL,
                PORT,
                pods(&["shop/db", "shop/db-near", "shop/db-far"], BACKEND)?,
            ),
            Service::new(REMOTE, CLOSED, pods(&["shop/db"], 9)?),
            Service::new(LOCAL, CLOSED, pods(&["shop/db-near"], 9)?),
        ]);
    }
    for node in ["node1", "node2"] {
        services::install(&lab, node, &all)?;
    }
    for server in ["shop/db", "shop/db-near", "shop/db-far", "shop/web"] {
        netns::serve_echo(&lab.netns(server)?, BACKEND)?;
    }
    Ok(lab)
}

fn service(n: u8, family: Family, port: u16) -> SocketAddr {
    let like = match family {
        Family::V4 => SocketAddr::from(([0; 4], BACKEND)),
        Family::V6 => SocketAddr::from(([0u16; 8], BACKEND)),
    };
    Service::new(n, port, vec![like]).address
}

/// No packet of a pod was ever seen under an address that is not its own.
fn never_translated(lab: &Lab) -> Result<()> {
    for node in ["node1", "node2"] {
        for reason in ["SOURCE_TRANSLATED", "NO_SOURCE_INDEX", "CLEAR_POD_ADDRESS"] {
            let drops = lab.dropped(node, reason)?;
            assert_eq!(drops, 0, "{reason} on {node}: {:#?}", lab.observed(node)?);
        }
    }
    Ok(())
}

#[test]
fn services_lead_to_their_pods_and_nothing_is_in_clear() -> Result<()> {
    if !bin::root_or_skip("services lead to their pods") {
        return Ok(());
    }
    let lab = lab()?;
    let web = lab.netns("shop/web")?;
    let node = lab.node("node1")?;
    let wire = node["netns"].as_str().context("netns")?;
    let interface = node["underlay_interface"].as_str().context("interface")?;
    let frames = netns::capture(wire, interface, || talk(&lab, &web))?;
    never_translated(&lab)?;
    unseen(&lab, &frames)?;
    control(&lab, &web)
}

/// Everything a client may do with services.
fn talk(lab: &Lab, web: &str) -> Result<()> {
    let node = lab.netns("node1")?;
    netns::udp_echo(web, service(REMOTE, Family::V4, PORT), CANARY, SOON, 1)?;
    let slot = lab.ask("node1", &["peers"])?;
    let slot = slot.pointer("/peers/0/slot").and_then(Value::as_u64);
    let slot = format!("sgslot{}", slot.context("slot")?);
    let large: Vec<u8> = (0..1_000_000u32)
        .flat_map(|n| (n % 65_521).to_be_bytes())
        .take(1_000_000)
        .collect();
    for family in FAMILIES {
        for n in [REMOTE, LOCAL, SELF, ALL] {
            let to = service(n, family, PORT);
            let what = || format!("service {to}");
            let from = probe::answered_from(web, to, CANARY, SOON).with_context(what)?;
            assert_eq!(from, to, "answered under another address");
            netns::tcp_echo(web, to, &CANARY.repeat(500), SOON).with_context(what)?;
        }
        for n in [REMOTE, LOCAL, SELF] {
            let to = service(n, family, PORT);
            let frames = netns::capture(&node, &slot, || {
                netns::tcp_echo(web, to, &large, Duration::from_secs(60))
                    .with_context(|| format!("1 MB through {to}"))
            })?;
            // What is for another node is whole when the engine gets it, and when it is back from there.
            for side in [true, false] {
                let longest = frames
                    .iter()
                    .filter(|frame| source_is(frame, &lab.address("shop/web", family).ok()) == side)
                    .map(Vec::len)
                    .max();
                assert_eq!(
                    longest.is_some_and(|longest| longest > 9000),
                    n == REMOTE,
                    "{longest:?} bytes through {to} (out: {side})"
                );
            }
            // 40 datagrams in one super-packet.
            assert_eq!(
                netns::udp_segments(web, to, 1200, 40, SOON)?,
                40,
                "segmented UDP through {to}"
            );
        }
        // Each of several pods is reached, some of them in the end.
        for _ in 0..20 {
            let to = service(ALL, family, PORT);
            assert_eq!(netns::udp_echo(web, to, CANARY, SOON, 1)?, 1);
            netns::tcp_echo(web, to, CANARY, SOON)?;
        }
        // Errors find their way back through the translation.
        for n in [REMOTE, LOCAL] {
            probe::refused(web, service(n, family, CLOSED), SOON)?;
        }
        let told = probe::told_mtu(web, service(REMOTE, family, PORT), SOON)?;
        assert!((1280..1500).contains(&told), "told {told}");
        // A port of the client's own node, to a pod of another.
        let node = lab.node("node1")?["underlay_addresses"].take();
        let address = node
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str()?.parse::<IpAddr>().ok())
            .find(|address| address.is_ipv4() == (family == Family::V4))
            .context("an address of the node")?;
        let to = SocketAddr::new(address, NODE_PORT);
        assert_eq!(probe::answered_from(web, to, CANARY, SOON)?, to);
        netns::tcp_echo(web, to, &CANARY.repeat(500), SOON)?;
        // Without a service between them, as behind a headless one.
        let db = lab.socket("shop/db", family, BACKEND)?;
        netns::tcp_echo(web, db, CANARY, SOON)?;
    }
    Ok(())
}

/// Whether a bare IP packet is from this address.
fn source_is(packet: &[u8], address: &Option<IpAddr>) -> bool {
    let at = if packet[0] >> 4 == 4 { 12 } else { 8 };
    address.is_some_and(|address| packet[at..].starts_with(&octets(address)))
}

/// Neither payload, nor pods, nor services are on the wire.
fn unseen(lab: &Lab, frames: &[Vec<u8>]) -> Result<()> {
    let contains = |needle: &[u8]| {
        frames
            .iter()
            .filter(|frame| frame.windows(needle.len()).any(|window| window == needle))
            .count()
    };
    assert!(frames.len() > 500, "only {} frames seen", frames.len());
    assert!(
        contains(&[0x04, 0, 0, 0]) > 0,
        "no WireGuard transport message seen"
    );
    assert_eq!(contains(CANARY), 0, "payload on the wire");
    for family in FAMILIES {
        let web = octets(lab.address("shop/web", family)?);
        for n in [REMOTE, ALL] {
            let of_service = octets(service(n, family, PORT).ip());
            let db = octets(lab.address("shop/db", family)?);
            for other in [of_service, db] {
                for pair in [
                    [web.clone(), other.clone()].concat(),
                    [other.clone(), web.clone()].concat(),
                ] {
                    assert_eq!(contains(&pair), 0, "a pair of addresses on the wire");
                }
            }
        }
    }
    Ok(())
}

/// Without the rules that keep sources, the CNI's masquerading does hide pods: this test could fail.
fn control(lab: &Lab, web: &str) -> Result<()> {
    services::nft(
        lab,
        "node1",
        &["flush", "chain", "inet", "signet", "keep_source"],
    )?;
    for family in FAMILIES {
        let answer = netns::udp_echo(web, service(REMOTE, family, PORT), CANARY, SHORT, 2);
        assert!(
            answer.is_err(),
            "{family:?} went through without keep_source"
        );
    }
    wait("SOURCE_TRANSLATED to be counted", SOON, || {
        Ok(lab.dropped("node1", "SOURCE_TRANSLATED")? > 0)
    })
}

#[test]
fn a_service_lets_in_nobody_whom_its_pods_do_not() -> Result<()> {
    if !bin::root_or_skip("a service lets in nobody") {
        return Ok(());
    }
    let lab = lab()?;
    let stray = lab.netns("other/stray")?;
    for family in FAMILIES {
        for n in [REMOTE, LOCAL, ALL] {
            let to = service(n, family, PORT);
            let tcp = netns::tcp_echo(&stray, to, b"let me in", SHORT);
            assert!(tcp.is_err(), "TCP through {to}");
            let udp = netns::udp_echo(&stray, to, b"let me in", SHORT, 2);
            assert!(udp.is_err(), "UDP through {to}");
        }
        for (node, pod) in [("node2", "shop/db"), ("node1", "shop/db-near")] {
            let address = lab.address(pod, family)?.to_string();
            wait(&format!("the refusal of stray by {pod}"), SOON, || {
                Ok(lab.observed(node)?.iter().any(|event| {
                    let (from, to) = (&event["source"], &event["destination"]);
                    from["pod"] == "other/stray"
                        && from["spiffe_id"]
                            .as_str()
                            .is_some_and(|id| id.ends_with("/ns/other/sa/stray"))
                        && to["pod"] == pod
                        && to["address"] == address.as_str()
                        && event["reason"]["name"] == "DEFAULT_DENY_INGRESS"
                }))
            })?;
        }
        // The service of one's own is nobody else's.
        let to = service(SELF, family, PORT);
        netns::tcp_echo(&lab.netns("shop/web")?, to, b"it is me", SOON)?;
    }
    never_translated(&lab)
}

#[test]
fn the_first_packet_through_a_service_is_held() -> Result<()> {
    if !bin::root_or_skip("the first packet through a service") {
        return Ok(());
    }
    let lab = lab()?;
    for n in 0..6 {
        let client = lab.netns(&format!("shop/new{n}"))?;
        let family = FAMILIES[n % 2];
        let to = service(REMOTE, family, PORT);
        match n / 2 {
            0 => assert_eq!(netns::udp_echo(&client, to, b"hello", SOON, 1)?, 1),
            1 => assert_eq!(probe::tcp_first(&client, to, SOON)?, 0, "a SYN was lost"),
            // More at once, the later ones in order behind the first.
            _ => {
                assert_eq!(netns::udp_segments(&client, to, 1200, 40, SOON)?, 40);
            }
        }
    }
    for reason in ["HOLD_OVERFLOW", "HOLD_TIMEOUT"] {
        assert_eq!(lab.dropped("node1", reason)?, 0, "{reason}");
    }
    never_translated(&lab)
}
