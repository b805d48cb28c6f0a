//! Workloads, nodes and wires that lie: each lie is dropped, counted under its own reason, and seen in `observe`.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns,
    packet::{Udp, tag4, tag6},
    shop,
};

/// Does `lie`, and waits until `node` has counted and shown `reason`.
pub(super) fn told(
    lab: &Lab,
    node: &str,
    reason: &str,
    lie: impl Fn() -> Result<()>,
) -> Result<()> {
    let before = lab.dropped(node, reason)?;
    lie().with_context(|| format!("lie for {reason}"))?;
    wait(
        &format!("{reason} on {node}"),
        Duration::from_secs(5),
        || {
            let counted = lab.dropped(node, reason)? > before;
            Ok(counted
                && lab
                    .observed(node)?
                    .iter()
                    .any(|event| event.to_string().contains(reason)))
        },
    )
}

fn mac(lab: &Lab, place: &str, interface: &str) -> Result<[u8; 6]> {
    let out = lab.exec(place, &["ip", "-j", "link", "show", interface])?;
    let links: Value =
        serde_json::from_slice(&out.stdout).with_context(|| format!("{place} {interface}"))?;
    let text = links[0]["address"]
        .as_str()
        .context("a MAC address")?
        .to_owned();
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16)?;
    }
    Ok(mac)
}

#[test]
fn every_lie_is_dropped_under_its_own_reason() -> Result<()> {
    if !bin::root_or_skip("every lie is dropped") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    for family in [Family::V4, Family::V6] {
        netns::udp_echo(
            &web,
            lab.socket("shop/db", family, 3306)?,
            b"hello",
            Duration::from_secs(5),
            5,
        )?;
    }
    let pod = lab.pod("shop/web")?;
    let host_side = pod["host_interface"].as_str().context("host_interface")?;
    let ethernet = (
        mac(&lab, "node1", host_side)?,
        mac(&lab, "shop/web", "eth0")?,
    );
    let v4 = |from: &str, to: &str| -> Result<(IpAddr, IpAddr)> {
        Ok((lab.address(from, Family::V4)?, lab.address(to, Family::V4)?))
    };
    let honest = |family: Family| -> Result<Udp> {
        Ok(Udp {
            ethernet,
            source: lab.address("shop/web", family)?,
            destination: lab.address("shop/db", family)?,
            ports: (4000, 3306),
            options: vec![],
            extension: None,
            payload: b"a lie".to_vec(),
        })
    };
    let from_pod = |packet: Udp| netns::send_frames(&web, "eth0", vec![packet.frame()]);

    // A pod that claims another's address, or another's interface.
    told(&lab, "node1", "SOURCE_SPOOFED", || {
        from_pod(Udp {
            source: v4("other/stray", "shop/db")?.0,
            ..honest(Family::V4)?
        })
    })?;
    told(&lab, "node1", "SOURCE_SPOOFED", || {
        from_pod(Udp {
            source: lab.address("other/stray", Family::V6)?,
            ..honest(Family::V6)?
        })
    })?;
    told(&lab, "node1", "MAC_SPOOFED", || {
        from_pod(Udp {
            ethernet: (ethernet.0, [2, 0, 0, 0, 0, 9]),
            ..honest(Family::V4)?
        })
    })?;
    // A pod that writes the tag itself.
    told(&lab, "node1", "FOREIGN_TAG", || {
        from_pod(Udp {
            options: tag4(1, 0x12_3456_789a),
            ..honest(Family::V4)?
        })
    })?;
    told(&lab, "node1", "FOREIGN_TAG", || {
        from_pod(Udp {
            extension: Some(tag6(1, 0x12_3456_789a)),
            ..honest(Family::V6)?
        })
    })?;
    // A pod that chooses the way.
    told(&lab, "node1", "SOURCE_ROUTED", || {
        from_pod(Udp {
            options: vec![131, 7, 4, 10, 0, 0, 1, 0],
            ..honest(Family::V4)?
        })
    })?;
    told(&lab, "node1", "SOURCE_ROUTED", || {
        from_pod(Udp {
            extension: Some((43, [vec![0, 2, 0, 1, 0, 0, 0, 0], vec![0xfd; 16]].concat())),
            ..honest(Family::V6)?
        })
    })?;

    // A wire that carries a pod's packet in clear: from outside, and from a node whose own rules failed.
    let node2 = lab.node("node2")?;
    let (underlay, netns2) = (
        node2["underlay_interface"]
            .as_str()
            .context("underlay_interface")?
            .to_owned(),
        node2["netns"].as_str().context("netns")?.to_owned(),
    );
    let identity = lab.describe()?["identity"].take();
    let (bridge_ns, bridge) = (
        identity["netns"].as_str().context("netns")?.to_owned(),
        identity["underlay_interface"]
            .as_str()
            .context("underlay_interface")?
            .to_owned(),
    );
    let node2_mac = mac(&lab, "node2", &underlay)?;
    for family in [Family::V4, Family::V6] {
        told(&lab, "node2", "CLEAR_POD_ADDRESS", || {
            let lie = Udp {
                ethernet: (node2_mac, mac(&lab, "identity", &bridge)?),
                ..honest(family)?
            };
            netns::send_frames(&bridge_ns, &bridge, vec![lie.frame()])
        })?;
        told(&lab, "node1", "CLEAR_POD_ADDRESS", || {
            let wire1 = lab.node("node1")?["underlay_interface"]
                .as_str()
                .context("underlay_interface")?
                .to_owned();
            let lie = Udp {
                ethernet: (node2_mac, mac(&lab, "node1", &wire1)?),
                ..honest(family)?
            };
            netns::send_frames(&lab.netns("node1")?, &wire1, vec![lie.frame()])
        })?;
    }

    // A node that guesses a label, or sends none, through its own tunnel.
    let slot = lab
        .ask("node1", &["peers"])?
        .pointer("/peers/0/slot")
        .and_then(Value::as_u64)
        .context("slot")?;
    let device = format!("sgslot{slot}");
    let through =
        |packet: Udp| netns::send_packets(&lab.netns("node1")?, &device, vec![packet.packet()]);
    told(&lab, "node2", "UNKNOWN_LABEL", || {
        through(Udp {
            options: tag4(1, 0x12_3456_789a),
            ..honest(Family::V4)?
        })
    })?;
    told(&lab, "node2", "UNKNOWN_LABEL", || {
        through(Udp {
            extension: Some(tag6(1, 0x12_3456_789a)),
            ..honest(Family::V6)?
        })
    })?;
    told(&lab, "node2", "UNTAGGED", || through(honest(Family::V4)?))?;
    // And one that sends from an address that is not its pods'.
    told(&lab, "node2", "WG_SOURCE_NOT_ALLOWED", || {
        through(Udp {
            source: lab.address("shop/idle", Family::V4)?,
            options: tag4(1, 1),
            ..honest(Family::V4)?
        })
    })?;

    // A wire that sends a packet of the tunnel once more.
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    let frames = netns::capture(&netns2, &underlay, || {
        netns::udp_echo(&web, db, b"once", Duration::from_secs(2), 1).map(drop)
    })?;
    let mut replay: Vec<_> = frames
        .into_iter()
        .filter(|frame| frame[..6] == node2_mac && transport_message(frame))
        .collect();
    for frame in &mut replay {
        // Between virtual devices the sum is left for hardware to fill in; none at all is allowed (RFC 768).
        frame[40..42].fill(0);
    }
    assert!(
        !replay.is_empty(),
        "no WireGuard transport message towards node2 was seen"
    );
    told(&lab, "node2", "WG_REPLAY", || {
        netns::send_frames(&bridge_ns, &bridge, replay.clone())
    })?;

    // What `observe` shows, a scrape counts, a second later at the most.
    wait(
        "the scrape to count the replay",
        Duration::from_secs(5),
        || {
            let scrape = lab.exec("node2", &["curl", "-s", "127.0.0.1:9447/metrics"])?;
            let text = String::from_utf8_lossy(&scrape.stdout).into_owned();
            let line = text
                .lines()
                .find(|line| line.contains("reason=\"WG_REPLAY\""));
            Ok(line.is_some_and(|line| !line.ends_with(" 0")))
        },
    )?;

    // Through all of it the honest pair talks.
    netns::tcp_echo(&web, db, &[5; 20_000], Duration::from_secs(5))
}

/// True for UDP over IPv4 that carries a WireGuard transport message (type 4).
fn transport_message(frame: &[u8]) -> bool {
    frame.len() > 60 && frame[12..14] == [8, 0] && frame[23] == 17 && frame[42..46] == [4, 0, 0, 0]
}
