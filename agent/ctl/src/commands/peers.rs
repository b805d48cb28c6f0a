//! `signetctl peers`: remote nodes, readable like `wg show`.

use std::fmt::Write as _;

use anyhow::Result;
use signet_agent_core::status::{Peer, Peers, Request};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format, Paint};

/// Prints the peers.
pub(crate) fn run(agent: &Agent, format: Format) -> Result<u8> {
    let peers: Peers = agent.ask(&Request::Peers)?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &peers)?,
        Format::Table | Format::Wide if peers.peers.is_empty() => {
            eprintln!("no peers: no pod of this node has talked with a pod of another node yet");
        }
        Format::Table => output::print_text(&blocks(&peers, human::now(), Paint::stdout()))?,
        Format::Wide => output::print_text(&rows(&peers, human::now()))?,
    }
    Ok(0)
}

fn blocks(peers: &Peers, now: u64, paint: Paint) -> String {
    let all: Vec<String> = peers
        .peers
        .iter()
        .map(|peer| block(peer, now, paint))
        .collect();
    all.join("\n")
}

fn block(peer: &Peer, now: u64, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.strong("peer:"), paint.unsure(&peer.node));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {} {value}", paint.strong(&format!("{name}:")));
    };
    line("identity", &peer.spiffe_id);
    if let Some(underlay) = peer.underlay {
        line("underlay", &underlay.to_string());
    }
    match &peer.channel {
        Some(channel) => {
            line(
                "channel",
                &format!(
                    "{} as {}, {}",
                    channel.state,
                    channel.role,
                    human::ago(channel.since, now)
                ),
            );
            line(
                "handshake",
                &format!(
                    "{}, {}, {}",
                    channel.tls_version, channel.key_exchange, channel.cipher
                ),
            );
            line("session", &channel.session_id);
        }
        None => line("channel", peer.problem.as_deref().unwrap_or("none")),
    }
    if let (Some(epoch), Some(slot)) = (peer.epoch, peer.slot) {
        line("epoch", &epoch_line(peer, epoch, slot));
    }
    if let Some(key) = &peer.public_key {
        line("public key", key);
    }
    line("latest handshake", &handshake(peer));
    let (received, sent) = (human::bytes(peer.rx_bytes), human::bytes(peer.tx_bytes));
    line("transfer", &format!("{received} received, {sent} sent"));
    line("allowed ips", &list(&peer.allowed_ips));
    line("pairs", &pairs(peer));
    text
}

/// Which keys, how old, and when there will be others.
fn epoch_line(peer: &Peer, epoch: u64, slot: u8) -> String {
    let mut text = format!("{epoch} in slot {slot}");
    if let Some(age) = peer.epoch_age_secs {
        let _ = write!(text, ", {} old", human::span(age));
    }
    if peer.overdue {
        text.push_str(", TOO OLD: nothing passes until it is renewed");
    } else if let Some(next) = peer.next_switch_secs {
        let _ = match next {
            0 => write!(text, ", being renewed"),
            next => write!(text, ", next in {}", human::span(next)),
        };
    }
    text
}

fn rows(peers: &Peers, now: u64) -> String {
    let rows = peers.peers.iter().map(|peer| {
        let channel = peer.channel.as_ref();
        vec![
            peer.node.clone(),
            peer.underlay
                .map_or_else(|| "-".to_owned(), |underlay| underlay.to_string()),
            channel.map_or_else(|| "-".to_owned(), |channel| channel.state.clone()),
            channel.map_or_else(|| "-".to_owned(), |channel| human::ago(channel.since, now)),
            channel.map_or_else(|| "-".to_owned(), |channel| channel.key_exchange.clone()),
            peer.epoch
                .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            handshake(peer),
            human::bytes(peer.rx_bytes),
            human::bytes(peer.tx_bytes),
            peer.pairs.open.to_string(),
            list(&peer.allowed_ips).replace(' ', ""),
            peer.spiffe_id.clone(),
            peer.problem.clone().unwrap_or_default(),
        ]
    });
    let head = [
        "NODE",
        "UNDERLAY",
        "CHANNEL",
        "SINCE",
        "KEY EXCHANGE",
        "EPOCH",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
        "PAIRS",
        "ALLOWED IPS",
        "IDENTITY",
        "PROBLEM",
    ];
    output::table(&head, rows.collect())
}

fn handshake(peer: &Peer) -> String {
    match peer.last_handshake_secs {
        None => "never".to_owned(),
        Some(0) => "now".to_owned(),
        Some(seconds) => format!("{} ago", human::span(seconds)),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn pairs(peer: &Peer) -> String {
    let pairs = &peer.pairs;
    let mut parts = vec![format!("{} open", pairs.open)];
    for (number, name) in [
        (pairs.pending, "pending"),
        (pairs.refused, "refused"),
        (pairs.adopted, "adopted"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {name}"));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use signet_agent_core::status::{Channel, PairCounts};

    use super::*;

    fn peer() -> Peer {
        Peer {
            node: "node2".into(),
            node_uid: "u".into(),
            spiffe_id: "spiffe://lab/node/u".into(),
            underlay: Some("198.18.0.12:51830".parse().unwrap()),
            channel: Some(Channel {
                state: "ready".into(),
                role: "client".into(),
                since: 40,
                session_id: "ab".into(),
                tls_version: "TLSv1.3".into(),
                key_exchange: "X25519MLKEM768".into(),
                cipher: "TLS_AES_256_GCM_SHA384".into(),
                remote: None,
            }),
            problem: None,
            epoch: Some(7),
            slot: Some(1),
            epoch_age_secs: Some(65),
            next_switch_secs: Some(3535),
            overdue: false,
            public_key: Some("KEY=".into()),
            last_handshake_secs: Some(75),
            rx_bytes: 2048,
            tx_bytes: 10,
            allowed_ips: vec!["10.61.2.2/32".into()],
            pairs: PairCounts {
                open: 2,
                ..PairCounts::default()
            },
        }
    }

    #[test]
    fn a_peer_reads_like_wg_show() {
        let text = block(&peer(), 100, Paint::none());
        for line in [
            "peer: node2\n",
            "  channel: ready as client, 1m ago\n",
            "  handshake: TLSv1.3, X25519MLKEM768, TLS_AES_256_GCM_SHA384\n",
            "  epoch: 7 in slot 1, 1m5s old, next in 58m55s\n",
            "  latest handshake: 1m15s ago\n",
            "  transfer: 2.0 KiB received, 10 B sent\n",
            "  pairs: 2 open\n",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn keys_that_are_renewed_or_too_old_are_told() {
        let renewed = Peer {
            next_switch_secs: Some(0),
            ..peer()
        };
        assert!(block(&renewed, 100, Paint::none()).contains("old, being renewed\n"));
        let overdue = Peer {
            overdue: true,
            ..peer()
        };
        assert!(block(&overdue, 100, Paint::none()).contains("TOO OLD"));
    }

    #[test]
    fn a_peer_without_channel_says_why() {
        let peer = Peer {
            channel: None,
            problem: Some("refused; next try in 3s".into()),
            ..peer()
        };
        assert!(block(&peer, 100, Paint::none()).contains("  channel: refused; next try in 3s\n"));
        assert!(rows(&Peers { peers: vec![peer] }, 100).contains("refused; next try in 3s"));
    }
}
