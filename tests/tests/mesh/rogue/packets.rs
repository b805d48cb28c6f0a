//! Labels of others, in a tunnel that is the node's own and properly keyed.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signet_tests::{
    bin,
    lab::{Family, Lab},
    netns,
    packet::{Udp, tag4},
};

use super::{SOON, unharmed, up};
use crate::hostile::told;

/// What is in the tag of a packet.
#[derive(Clone, Copy, Debug)]
struct Tag {
    slot: u64,
    epoch: u8,
    label: u64,
}

#[test]
fn a_label_is_of_no_use_to_another() -> Result<()> {
    if !bin::root_or_skip("a rogue with others' labels") {
        return Ok(());
    }
    let (lab, load) = up()?;
    let v4 = |pod: &str| lab.address(pod, Family::V4);
    let thief = tag_of(&lab, "node3", ("shop/thief", "shop/db"))?;
    // So that node2 knows these addresses as the node's own.
    tag_of(&lab, "node3", ("shop/thief2", "shop/idle"))?;
    let web = tag_of(&lab, "node1", ("shop/web", "shop/db"))?;
    ensure!(web.label != thief.label, "{web:?} {thief:?}");
    let through = |tag: Tag, source: IpAddr, destination: IpAddr| -> Result<()> {
        let lie = Udp {
            ethernet: ([0; 6], [0; 6]),
            source,
            destination,
            ports: (4000, 3306),
            options: tag4(tag.epoch, tag.label),
            extension: None,
            payload: b"a lie".to_vec(),
        };
        let device = format!("sgslot{}", thief.slot);
        netns::send_packets(&lab.netns("node3")?, &device, vec![lie.packet()])
    };

    // web's label, seen on node1 by whatever means.
    let reason = if web.slot == thief.slot {
        "INNER_SOURCE_MISMATCH"
    } else {
        "SLOT_MISMATCH"
    };
    told(&lab, "node2", reason, || {
        through(web, v4("shop/thief")?, v4("shop/db")?)
    })?;
    // The same with web's address.
    told(&lab, "node2", "WG_SOURCE_NOT_ALLOWED", || {
        through(web, v4("shop/web")?, v4("shop/db")?)
    })?;
    // A label of its own in another pod's hands, and towards another pod.
    told(&lab, "node2", "INNER_SOURCE_MISMATCH", || {
        through(thief, v4("shop/thief2")?, v4("shop/db")?)
    })?;
    told(&lab, "node2", "DST_IDENTITY_MISMATCH", || {
        through(thief, v4("shop/thief")?, v4("shop/idle")?)
    })?;
    // Numbers beside its own.
    for guess in [thief.label ^ 1, thief.label.wrapping_add(1), 0] {
        told(&lab, "node2", "UNKNOWN_LABEL", || {
            let label = guess & 0xff_ffff_ffff;
            through(Tag { label, ..thief }, v4("shop/thief")?, v4("shop/db")?)
        })?;
    }

    unharmed(load).map(drop)
}

/// The tag that a node puts into packets of a pair, read from its slot devices as root there can.
fn tag_of(lab: &Lab, node: &str, (from, to): (&str, &str)) -> Result<Tag> {
    let (client, server) = (lab.netns(from)?, lab.socket(to, Family::V4, 3306)?);
    netns::udp_echo(&client, server, b"first contact", SOON, 10)?;
    let peers = lab.ask(node, &["peers"])?;
    let target = lab.pod(to)?["node"].as_str().context("node")?.to_owned();
    let slot = peers["peers"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|peer| peer.to_string().contains(&target))
        .and_then(|peer| peer["slot"].as_u64())
        .with_context(|| format!("the slot of {target} in {peers}"))?;
    let frames = netns::capture(&lab.netns(node)?, &format!("sgslot{slot}"), || {
        netns::udp_echo(&client, server, b"look at me", SOON, 10).map(drop)
    })?;
    let IpAddr::V4(server) = server.ip() else {
        anyhow::bail!("an address of IPv4");
    };
    frames
        .iter()
        .find(|packet| {
            packet.len() > 28
                && packet[0] == 0x47
                && packet[16..20] == server.octets()
                && packet[20..22] == [0x9e, 8]
                && packet.ends_with(b"look at me")
        })
        .map(|packet| Tag {
            slot,
            epoch: packet[22],
            label: packet[23..28]
                .iter()
                .fold(0, |label, byte| label << 8 | u64::from(*byte)),
        })
        .with_context(|| {
            format!(
                "no tag in {} packets of {}",
                frames.len(),
                Value::from(slot)
            )
        })
}
