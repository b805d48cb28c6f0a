//! `signetctl policy impact`: which flows would break, by whose doing.

use anyhow::Result;
use signet_agent_core::status::{BrokenFlow, Impact, Party, Request};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format};

/// 1 if something would break.
pub(super) fn run(agent: &Agent, format: Format) -> Result<u8> {
    let impact: Impact = agent.ask(&Request::Impact)?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &impact)?,
        Format::Table | Format::Wide => {
            if !impact.breaks.is_empty() {
                output::print_text(&table(&impact.breaks, format == Format::Wide))?;
            }
            eprint!("{}", remarks(&impact));
        }
    }
    Ok(u8::from(breaks(&impact)))
}

fn breaks(impact: &Impact) -> bool {
    !impact.breaks.is_empty() || !impact.without_svid.is_empty()
}

fn table(breaks: &[BrokenFlow], wide: bool) -> String {
    let mut head = vec![
        "FROM",
        "TO",
        "PORT",
        "FLOWS",
        "SIDE",
        "REASON",
        "BECAUSE OF",
    ];
    if wide {
        head.extend(["FROM ID", "TO ID", "LAST SEEN", "WHY"]);
    }
    let rows = breaks.iter().map(|broken| {
        let port = match broken.destination.port {
            0 => broken.protocol.clone(),
            port => format!("{port}/{}", broken.protocol.to_lowercase()),
        };
        let mut row = vec![
            name(&broken.source),
            name(&broken.destination),
            port,
            broken.flows.to_string(),
            broken.direction.clone(),
            broken.reason.clone(),
            broken.because_of.join(", "),
        ];
        if wide {
            let id = |party: &Party| party.spiffe_id.clone().unwrap_or_else(|| "-".to_owned());
            row.extend([
                id(&broken.source),
                id(&broken.destination),
                human::clock(broken.last_ms),
                broken.why.clone(),
            ]);
        }
        row
    });
    output::table(&head, rows.collect())
}

/// The pod, or the address with what it is.
fn name(party: &Party) -> String {
    let address = || {
        party
            .address
            .map_or_else(|| "?".to_owned(), |address| address.to_string())
    };
    match (&party.pod, &party.class) {
        (Some(pod), _) => pod.clone(),
        (None, Some(class)) => format!("{} ({class})", address()),
        (None, None) => address(),
    }
}

fn remarks(impact: &Impact) -> String {
    let mut text = match impact.dry_runs.as_slice() {
        [] => "no policy is a dry run: set `enforcement: DryRun` in one to try it out\n".to_owned(),
        runs if impact.breaks.is_empty() => format!(
            "nothing that node {} has seen would break under {}\n",
            impact.node,
            runs.join(", ")
        ),
        _ => String::new(),
    };
    for pod in &impact.without_svid {
        text.push_str(&format!(
            "pod {pod} has no certificate yet: see `signetctl endpoints`\n"
        ));
    }
    if impact.forgotten > 0 {
        text.push_str(&format!(
            "{} kinds of flows were forgotten for want of room\n",
            impact.forgotten
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> BrokenFlow {
        let end = |pod: &str, port| Party {
            pod: Some(format!("shop/{pod}")),
            spiffe_id: Some(format!("spiffe://lab/ns/shop/sa/{pod}")),
            port,
            ..Party::default()
        };
        BrokenFlow {
            source: end("web", 0),
            destination: end("db", 3306),
            protocol: "TCP".into(),
            direction: "ingress".into(),
            because_of: vec!["AuthenticatedPolicy shop/db".into()],
            reason: "DEFAULT_DENY_INGRESS".into(),
            why: "no rule allows it".into(),
            flows: 7,
            first_ms: 1,
            last_ms: 2,
        }
    }

    #[test]
    fn a_row_says_who_whom_how_often_and_by_whose_doing() {
        let text = table(&[broken()], false);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "shop/web",
                "shop/db",
                "3306/tcp",
                "7",
                "ingress",
                "DEFAULT_DENY_INGRESS",
                "AuthenticatedPolicy",
                "shop/db"
            ]
        );
        let wide = table(&[broken()], true);
        assert!(wide.contains("spiffe://lab/ns/shop/sa/web") && wide.contains("no rule allows it"));
        let world = BrokenFlow {
            source: Party {
                address: "192.0.2.1".parse().ok(),
                class: Some("World".into()),
                ..Party::default()
            },
            ..broken()
        };
        assert!(table(&[world], false).contains("192.0.2.1 (World)"));
    }

    #[test]
    fn a_pod_without_a_certificate_breaks_as_well() {
        let mut impact = Impact {
            node: "node1".into(),
            dry_runs: vec!["AuthenticatedPolicy shop/db".into()],
            ..Impact::default()
        };
        assert!(!breaks(&impact));
        assert_eq!(
            remarks(&impact),
            "nothing that node node1 has seen would break under AuthenticatedPolicy shop/db\n"
        );
        impact.without_svid.push("shop/new".into());
        assert!(breaks(&impact));
        assert!(remarks(&impact).contains("pod shop/new has no certificate yet"));
    }
}
