//! `signetctl audit peers`: who talks with whom, under which certificates, cipher and epoch, since when.

use anyhow::Result;
use signet_agent_core::status::{AuditPeers, Request};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format};

/// Prints the pairs.
pub(super) fn run(agent: &Agent, format: Format) -> Result<u8> {
    let audit: AuditPeers = agent.ask(&Request::AuditPeers)?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &audit)?,
        Format::Table | Format::Wide if audit.pairs.is_empty() => {
            eprintln!("no authenticated pairs")
        }
        Format::Table | Format::Wide => {
            output::print_text(&render(&audit, human::now(), format == Format::Wide))?;
        }
    }
    Ok(0)
}

fn render(audit: &AuditPeers, now: u64, wide: bool) -> String {
    let mut head = vec![
        "LOCAL",
        "REMOTE",
        "LOCAL SPIFFE ID",
        "REMOTE SPIFFE ID",
        "CERTIFICATES",
        "KEY EXCHANGE",
        "CIPHER",
        "EPOCH",
        "SINCE",
        "UNTIL",
    ];
    if wide {
        head.extend([
            "STATE",
            "NODE",
            "TLS",
            "TUNNEL",
            "SESSION",
            "AUTHENTICATED AT",
        ]);
    }
    let rows = audit.pairs.iter().map(|pair| {
        let hash = |text: &str| {
            if wide {
                text.to_owned()
            } else {
                text.chars().take(8).collect()
            }
        };
        let mut row = vec![
            pair.local_pod.clone(),
            format!("{}@{}", pair.remote_pod, pair.remote_node),
            pair.local_spiffe_id.clone(),
            pair.remote_spiffe_id.clone(),
            format!(
                "{}+{}",
                hash(&pair.local_certificate),
                hash(&pair.remote_certificate)
            ),
            pair.key_exchange.clone(),
            pair.cipher.clone(),
            pair.epoch.to_string(),
            human::ago(pair.since, now),
            human::until(pair.not_after, now),
        ];
        if wide {
            row.extend([
                pair.state.clone(),
                pair.remote_node.clone(),
                pair.tls_version.clone(),
                pair.tunnel.clone(),
                pair.session_id.clone(),
                human::date(pair.since),
            ]);
        }
        row
    });
    output::table(&head, rows.collect())
}

#[cfg(test)]
mod tests {
    use signet_agent_core::status::AuditPeer;

    use super::*;

    #[test]
    fn a_pair_shows_what_it_rests_on() {
        let pair: AuditPeer = serde_json::from_value(serde_json::json!({
            "local_pod": "shop/web", "local_pod_uid": "1", "local_spiffe_id": "spiffe://l/ns/shop/sa/web",
            "local_certificate": "0123456789abcdef", "remote_pod": "shop/db", "remote_pod_uid": "2",
            "remote_spiffe_id": "spiffe://l/ns/shop/sa/db", "remote_certificate": "fedcba9876543210",
            "remote_node": "node2", "tls_version": "TLSv1.3", "key_exchange": "X25519MLKEM768",
            "cipher": "TLS13_AES_256_GCM_SHA384", "session_id": "aa", "epoch": 5, "tunnel": "WireGuard",
            "since": 40, "not_after": 160, "state": "open",
        }))
        .unwrap();
        let audit = AuditPeers { pairs: vec![pair] };
        let text = render(&audit, 100, false);
        for word in [
            "shop/db@node2",
            "01234567+fedcba98",
            "X25519MLKEM768",
            "1m ago",
            "in 1m",
        ] {
            assert!(text.contains(word), "{word:?} in\n{text}");
        }
        assert!(render(&audit, 100, true).contains("0123456789abcdef+fedcba9876543210"));
    }
}
