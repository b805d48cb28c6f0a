//! `signetctl policy`: what policy thinks of a flow, without sending a packet.

mod impact;
mod lint;

use std::fmt::Write as _;

use anyhow::Result;
use clap::{Args, Subcommand};
use signet_agent_core::status::{
    ExplainQuery, ExplainedDirection, Explanation, Party, Policies, Request,
};

use crate::agent::Agent;
use crate::output::{self, Format, Paint};

/// Options of `policy`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// What is in force, and whom it concerns
    List,
    /// Whether a flow may pass, and which rule decides
    Explain {
        /// A pod (NAMESPACE/NAME) or an address
        #[arg(long, value_name = "WHO")]
        from: String,
        /// A pod (NAMESPACE/NAME) or an address
        #[arg(long, value_name = "WHO")]
        to: String,
        /// PORT/PROTOCOL, such as 3306/tcp; icmp without a port
        #[arg(long, value_name = "PORT/PROTO", value_parser = flow)]
        port: (u16, String),
    },
    /// What would break if the dry runs were enforced, by the traffic that this node has seen
    Impact,
    /// What is wrong or odd in a folder of manifests, without an agent
    Lint(lint::Options),
}

/// 1 if an object is refused (list), the flow would be stopped (explain), something would break
/// (impact), or there is something to say (lint).
pub(crate) fn run(agent: &Agent, options: Options, format: Format) -> Result<u8> {
    match options.what {
        What::List => list(agent, format),
        What::Impact => impact::run(agent, format),
        What::Lint(options) => lint::run(&options, format),
        What::Explain {
            from,
            to,
            port: (port, proto),
        } => {
            let query = ExplainQuery {
                from,
                to,
                port,
                proto,
            };
            let answer: Explanation = agent.ask(&Request::Explain(query.clone()))?;
            match format {
                Format::Json | Format::Yaml => output::data(format, &answer)?,
                Format::Table | Format::Wide => {
                    output::print_text(&render(&query, &answer, Paint::stdout()))?;
                }
            }
            Ok(u8::from(!answer.allowed))
        }
    }
}

fn list(agent: &Agent, format: Format) -> Result<u8> {
    let policies: Policies = agent.ask(&Request::Policies)?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &policies)?,
        Format::Table | Format::Wide => {
            if policies.policies.is_empty() {
                eprintln!(
                    "no policies: pods of the mesh may all talk with one another, authenticated; the world may not"
                );
            } else {
                output::print_text(&table(&policies, format == Format::Wide))?;
            }
            for problem in &policies.problems {
                eprintln!("refused: {}: {}", problem.object, problem.message);
            }
        }
    }
    Ok(u8::from(!policies.problems.is_empty()))
}

fn table(policies: &Policies, wide: bool) -> String {
    let rows = policies.policies.iter().map(|policy| {
        let shown = if wide {
            &policy.selects
        } else {
            &policy.selects_here
        };
        vec![
            format!("{}/{}", policy.namespace, policy.name),
            policy.kind.clone(),
            policy.enforcement.clone(),
            policy.ingress_rules.to_string(),
            policy.egress_rules.to_string(),
            policy.selects.len().to_string(),
            if shown.is_empty() {
                "-".to_owned()
            } else {
                shown.join(",")
            },
        ]
    });
    let last = if wide { "SELECTS" } else { "ON THIS NODE" };
    output::table(
        &[
            "POLICY",
            "KIND",
            "ENFORCEMENT",
            "INGRESS",
            "EGRESS",
            "PODS",
            last,
        ],
        rows.collect(),
    )
}

fn render(query: &ExplainQuery, answer: &Explanation, paint: Paint) -> String {
    let port = if query.port == 0 {
        String::new()
    } else {
        format!(" port {}", query.port)
    };
    let verdict = match (answer.allowed, answer.authentication_required) {
        (true, true) => paint.good("ALLOWED, authenticated"),
        (true, false) => paint.good("ALLOWED"),
        (false, _) => paint.bad("DENIED"),
    };
    let mut text = format!(
        "{verdict}: {} -> {}, {}{port}\n\n",
        name(&query.from, &answer.source),
        name(&query.to, &answer.destination),
        query.proto
    );
    direction(&mut text, "egress", &answer.egress, paint);
    direction(&mut text, "ingress", &answer.ingress, paint);
    if !answer.path.is_empty() {
        let _ = writeln!(text, "{}", paint.strong("on the wire:"));
    }
    for (number, step) in answer.path.iter().enumerate() {
        let _ = writeln!(text, "  {}. {step}", number + 1);
    }
    text
}

fn direction(text: &mut String, what: &str, side: &ExplainedDirection, paint: Paint) {
    let sign = if side.allowed {
        paint.good("ok")
    } else {
        paint.bad("!!")
    };
    let by = side
        .policy
        .as_deref()
        .map(|policy| format!(" by {policy}"))
        .unwrap_or_default();
    let _ = writeln!(text, "{sign} {what}: {}{by}", side.decision);
    for reason in &side.reasons {
        let _ = writeln!(text, "   {}", paint.faint(reason));
    }
}

fn name(asked: &str, party: &Party) -> String {
    let pod = party.pod.as_deref().unwrap_or(asked);
    match &party.spiffe_id {
        Some(id) => format!("{pod} ({id})"),
        None => pod.to_owned(),
    }
}

/// `3306/tcp`, `53/UDP`, `icmp`.
fn flow(text: &str) -> Result<(u16, String), String> {
    let wrong = || format!("{text:?}: use PORT/PROTOCOL such as 3306/tcp, or icmp");
    let (port, proto) = match text.split_once('/') {
        Some((port, proto)) => (Some(port.parse().map_err(|_| wrong())?), proto),
        None => (None, text),
    };
    let proto = proto.to_ascii_lowercase();
    match (proto.as_str(), port) {
        ("tcp" | "udp" | "sctp", Some(port)) if port > 0 => Ok((port, proto.to_ascii_uppercase())),
        (number, Some(port)) if number.parse::<u8>().is_ok() => Ok((port, proto)),
        ("icmp", None) => Ok((0, "ICMP".to_owned())),
        ("icmpv6", None) => Ok((0, "ICMPv6".to_owned())),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_in_kubernetes() {
        assert_eq!(flow("3306/tcp").unwrap(), (3306, "TCP".into()));
        assert_eq!(flow("53/UDP").unwrap(), (53, "UDP".into()));
        assert_eq!(flow("0/47").unwrap(), (0, "47".into()));
        assert_eq!(flow("icmpv6").unwrap(), (0, "ICMPv6".into()));
        for bad in [
            "3306",
            "x/tcp",
            "70000/tcp",
            "0/tcp",
            "tcp",
            "8/icmp",
            "33/foo",
            "1/",
            "",
            "/tcp",
        ] {
            flow(bad).unwrap_err();
        }
    }

    #[test]
    fn a_policy_says_whom_it_concerns() {
        let policies: Policies = serde_json::from_value(serde_json::json!({
            "policies": [{"kind": "NetworkPolicy", "namespace": "shop", "name": "db", "enforcement": "enforce",
                "ingress_rules": 2, "egress_rules": 0, "selects": ["shop/a", "shop/b"], "selects_here": ["shop/b"]}],
            "problems": [],
        }))
        .unwrap();
        let words = |wide| -> Vec<String> {
            let text = table(&policies, wide);
            text.lines()
                .nth(1)
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(
            words(false),
            [
                "shop/db",
                "NetworkPolicy",
                "enforce",
                "2",
                "0",
                "2",
                "shop/b"
            ]
        );
        assert_eq!(words(true).last().unwrap(), "shop/a,shop/b");
    }

    #[test]
    fn a_denial_names_the_side_that_denies() {
        let answer = Explanation {
            allowed: false,
            authentication_required: false,
            source: Party::default(),
            destination: Party {
                pod: Some("shop/db".into()),
                ..Party::default()
            },
            egress: ExplainedDirection {
                allowed: true,
                decision: "default allow".into(),
                ..Default::default()
            },
            ingress: ExplainedDirection {
                decision: "default deny".into(),
                reasons: vec!["no rule of AuthenticatedPolicy shop/db matches".into()],
                ..Default::default()
            },
            path: vec!["it would be dropped".into()],
        };
        let query = ExplainQuery {
            from: "10.0.0.1".into(),
            to: "x".into(),
            port: 3306,
            proto: "TCP".into(),
        };
        let text = render(&query, &answer, Paint::none());
        assert_eq!(
            text,
            "DENIED: 10.0.0.1 -> shop/db, TCP port 3306\n\nok egress: default allow\n!! ingress: default deny\n   no rule of AuthenticatedPolicy shop/db matches\non the wire:\n  1. it would be dropped\n"
        );
    }
}
