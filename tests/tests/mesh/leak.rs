//! Nothing of what pods say, and no pod's address, is ever on a wire between nodes.

use std::time::Duration;

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab},
    netns,
    packet::octets,
    shop,
};

const CANARY: &[u8] = b"canary-7f3a91-in-plain-sight";

#[test]
fn the_wire_has_neither_payload_nor_pod_addresses() -> Result<()> {
    if !bin::root_or_skip("the wire has neither payload nor pod addresses") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let (web, stray) = (lab.netns("shop/web")?, lab.netns("other/stray")?);
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let node = lab.node("node1")?;
    let (wire, interface) = (
        node["netns"].as_str().unwrap_or(""),
        node["underlay_interface"].as_str().unwrap_or(""),
    );

    let frames = netns::capture(wire, interface, || {
        for family in [Family::V4, Family::V6] {
            let db = lab.socket("shop/db", family, 3306)?;
            // First contact, the refused ones, fragments and an agent that dies are all under the eye.
            netns::tcp_echo(&web, db, &CANARY.repeat(200), Duration::from_secs(5))?;
            netns::udp_echo(&web, db, CANARY, Duration::from_secs(2), 3)?;
            netns::udp_echo(&web, db, &CANARY.repeat(150), Duration::from_secs(2), 3)?;
            let _ = netns::tcp_echo(&stray, db, CANARY, Duration::from_millis(400));
            let _ = netns::udp_echo(&stray, db, CANARY, Duration::from_millis(400), 2);
        }
        lab.kill("node1", "agent")?;
        for family in [Family::V4, Family::V6] {
            let db = lab.socket("shop/db", family, 3306)?;
            netns::tcp_echo(&web, db, &CANARY.repeat(50), Duration::from_secs(5))?;
            let _ = netns::udp_echo(&stray, db, CANARY, Duration::from_millis(400), 2);
        }
        Ok(())
    })?;

    assert!(
        frames.len() > 50,
        "only {} frames seen: the capture did not work",
        frames.len()
    );
    assert!(
        contains(&frames, &[0x04, 0, 0, 0]) > 0,
        "no WireGuard transport message seen"
    );
    assert_eq!(contains(&frames, CANARY), 0, "payload on the wire");
    for family in [Family::V4, Family::V6] {
        let (a, b) = (
            octets(lab.address("shop/web", family)?),
            octets(lab.address("shop/db", family)?),
        );
        for pair in [[a.clone(), b.clone()].concat(), [b, a].concat()] {
            assert_eq!(
                contains(&frames, &pair),
                0,
                "a pair of pod addresses on the wire"
            );
        }
    }
    Ok(())
}

fn contains(frames: &[Vec<u8>], needle: &[u8]) -> usize {
    frames
        .iter()
        .filter(|frame| frame.windows(needle.len()).any(|window| window == needle))
        .count()
}
