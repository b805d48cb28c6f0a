//! `signetctl endpoints`: the pods of this node that are under enforcement.

use anyhow::Result;
use signet_agent_core::status::{Endpoint, Endpoints, Request};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format};

/// Prints the endpoints.
pub(crate) fn run(agent: &Agent, format: Format) -> Result<u8> {
    let endpoints: Endpoints = agent.ask(&Request::Endpoints)?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &endpoints)?,
        Format::Table | Format::Wide if endpoints.endpoints.is_empty() => {
            eprintln!("no pods on this node")
        }
        Format::Table | Format::Wide => {
            output::print_text(&render(&endpoints, human::now(), format == Format::Wide))?;
        }
    }
    Ok(0)
}

fn render(endpoints: &Endpoints, now: u64, wide: bool) -> String {
    let mut head = vec![
        "POD",
        "STATE",
        "ADDRESSES",
        "SPIFFE ID",
        "SVID",
        "ISOLATED",
        "PAIRS",
    ];
    if wide {
        head.extend(["INDEX", "GENERATION", "INTERFACE", "FOUND BY", "UID"]);
    }
    let rows = endpoints.endpoints.iter().map(|endpoint| {
        let mut row = vec![
            format!("{}/{}", endpoint.namespace, endpoint.name),
            state(endpoint),
            human::addresses(&endpoint.addresses),
            endpoint.spiffe_id.clone().unwrap_or_else(|| "-".to_owned()),
            endpoint
                .svid_not_after
                .map_or_else(|| "none".to_owned(), |end| human::until(end, now)),
            isolated(endpoint).to_owned(),
            endpoint.pairs.open.to_string(),
        ];
        if wide {
            row.extend([
                endpoint.index.to_string(),
                endpoint.generation.to_string(),
                endpoint.interface.clone(),
                endpoint.found_by.clone(),
                endpoint.pod_uid.clone(),
            ]);
        }
        row
    });
    output::table(&head, rows.collect())
}

fn state(endpoint: &Endpoint) -> String {
    if endpoint.is_ready() {
        "ready".to_owned()
    } else {
        endpoint.pending.join("; ")
    }
}

fn isolated(endpoint: &Endpoint) -> &'static str {
    match (endpoint.ingress_isolated, endpoint.egress_isolated) {
        (true, true) => "both",
        (true, false) => "ingress",
        (false, true) => "egress",
        (false, false) => "no",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_waits_says_for_what() {
        let endpoint: Endpoint = serde_json::from_value(serde_json::json!({
            "index": 3, "generation": 1, "pod_uid": "u", "name": "db", "namespace": "shop",
            "service_account": "db", "spiffe_id": null, "addresses": ["10.61.1.2", "fd61::2"],
            "interface": "sgv00", "ifindex": 9, "found_by": "discovery", "svid_not_after": null, "ingress_isolated": true,
            "egress_isolated": false, "pairs": {"open": 0, "pending": 0, "refused": 0, "adopted": 0},
            "pending": ["SVID"],
        }))
        .unwrap();
        let text = render(
            &Endpoints {
                endpoints: vec![endpoint],
            },
            0,
            true,
        );
        let line = text.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "shop/db",
                "SVID",
                "10.61.1.2,fd61::2",
                "-",
                "none",
                "ingress",
                "0",
                "3",
                "1",
                "sgv00",
                "discovery",
                "u"
            ]
        );
    }
}
