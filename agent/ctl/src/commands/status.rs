//! `signetctl status`: how this node's agent is, in blocks.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use signet_agent_core::status::{Request, Status};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format, Paint};

/// Options of `status`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Wait until everything is as it should be
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, default_value_t = 60, requires = "wait")]
    timeout: u64,
}

/// Prints the agent's status; 1 if it is missing something.
pub(crate) fn run(agent: &Agent, options: &Options, format: Format) -> Result<u8> {
    let status = if options.wait {
        wait(agent, Duration::from_secs(options.timeout))?
    } else {
        ask(agent)?
    };
    match format {
        Format::Json | Format::Yaml => output::data(format, &status)?,
        Format::Table | Format::Wide => {
            output::print_text(&render(&status, human::now(), format, Paint::stdout()))?;
        }
    }
    Ok(u8::from(!healthy(&status)))
}

fn ask(agent: &Agent) -> Result<Status> {
    agent.ask(&Request::Status)
}

/// The first good status, or the last one there was when time is up.
fn wait(agent: &Agent, patience: Duration) -> Result<Status> {
    let end = Instant::now() + patience;
    loop {
        match ask(agent) {
            Ok(status) if healthy(&status) => return Ok(status),
            last if Instant::now() >= end => return last,
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn healthy(status: &Status) -> bool {
    status.checks.iter().all(|check| check.ok)
}

fn render(status: &Status, now: u64, format: Format, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{}{value}", paint.strong(&format!("{name:<16}")));
    };
    let mark = |ok: bool| {
        if ok {
            paint.good("OK")
        } else {
            paint.bad("DOWN")
        }
    };
    line(
        "Node:",
        format!(
            "{} ({}, up {})",
            status.node,
            status.mode,
            human::span(status.uptime_secs)
        ),
    );
    line("Agent:", format!("signet-agent {}", status.version));
    line(
        "SPIFFE ID:",
        status
            .node_spiffe_id
            .clone()
            .unwrap_or_else(|| "none until attested".to_owned()),
    );

    let identity = &status.identity;
    let since = identity
        .since
        .map(|then| format!(" since {}", human::ago(then, now)))
        .unwrap_or_default();
    line(
        "Identity:",
        format!(
            "{} {}{since}{}",
            mark(identity.connected),
            identity.address,
            because(identity.problem.as_ref())
        ),
    );
    line(
        "",
        format!(
            "trust bundle {}, {} subscriptions",
            identity.bundle_sequence, identity.subscriptions
        ),
    );

    let tunnel = &status.tunnel;
    let since = tunnel
        .since
        .map(|then| format!(" since {}", human::ago(then, now)))
        .unwrap_or_default();
    line(
        "Tunnel:",
        format!(
            "{} {}{since}{}",
            mark(tunnel.connected),
            tunnel.backend,
            because(tunnel.problem.as_ref())
        ),
    );
    for slot in &tunnel.slots {
        line(
            "",
            format!(
                "slot {} on {}, UDP {}, {}",
                slot.slot,
                slot.interface,
                slot.port,
                count(slot.peers, "peer")
            ),
        );
    }

    line("Pods:", format!("{} enforced", status.endpoints));
    line("Peers:", count(status.peers, "node"));
    let pairs = &status.pairs;
    let mut states = vec![format!("{} open", pairs.open)];
    for (number, name) in [
        (pairs.pending, "pending"),
        (pairs.refused, "refused"),
        (pairs.adopted, "adopted"),
    ] {
        if number > 0 {
            states.push(format!("{number} {name}"));
        }
    }
    line("Pairs:", states.join(", "));
    let held = &status.held;
    line(
        "Held packets:",
        format!(
            "{} now, {} released, {} dropped",
            held.packets, held.released_total, held.dropped_total
        ),
    );
    let policies = &status.policies;
    line(
        "Policies:",
        format!(
            "{} AuthenticatedPolicy, {} NetworkPolicy, {} compiled entries",
            policies.authenticated, policies.network, policies.map_entries
        ),
    );
    if let Some(first) = status.svids.first() {
        line(
            "SVIDs:",
            format!(
                "{}, first expires {}",
                status.svids.len(),
                human::until(first.not_after, now)
            ),
        );
    }
    if format == Format::Wide {
        for svid in &status.svids {
            let pod = svid.pod.as_deref().unwrap_or("node");
            line(
                "",
                format!(
                    "{} {pod} {} {}",
                    human::until(svid.not_after, now),
                    svid.spiffe_id,
                    short(&svid.sha256)
                ),
            );
        }
    }
    let total: u64 = status.drops.iter().map(|drop| drop.packets).sum();
    line("Drops:", count(total, "packet"));
    for drop in &status.drops {
        line(
            "",
            format!("{:>8} {} ({})", drop.packets, drop.name, drop.reason),
        );
    }
    troubles(&mut text, status, paint);
    text
}

fn troubles(text: &mut String, status: &Status, paint: Paint) {
    for problem in &status.manifest_problems {
        let object = problem
            .object
            .as_deref()
            .map(|object| format!("{object}: "))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "\n{} {}: {object}{}",
            paint.unsure("manifest"),
            problem.file,
            problem.message
        );
    }
    for problem in &status.policies.problems {
        let _ = writeln!(
            text,
            "\n{} {}: {}",
            paint.unsure("policy"),
            problem.object,
            problem.message
        );
    }
    let _ = writeln!(text);
    for check in &status.checks {
        let sign = if check.ok {
            paint.good("ok")
        } else {
            paint.bad("!!")
        };
        let _ = writeln!(text, "{sign} {}: {}", check.name, check.detail);
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "   {}", paint.faint(&format!("hint: {hint}")));
        }
    }
}

fn because(problem: Option<&String>) -> String {
    problem
        .map(|problem| format!(": {problem}"))
        .unwrap_or_default()
}

fn count(number: u64, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use signet_agent_core::status::HealthCheck;

    use super::*;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "node": "node1", "node_uid": null, "node_spiffe_id": null,
            "boot_id": "b", "mode": "strict", "uptime_secs": 61,
            "identity": {"address": "198.18.0.1:7448", "connected": false, "since": 10, "trust_domain": null,
                "bundle_sequence": 0, "subscriptions": 0, "problem": "connection refused"},
            "tunnel": {"backend": "userspace", "connected": true, "since": 90, "socket": "s", "slots": [], "problem": null},
            "endpoints": 2, "peers": 1,
            "pairs": {"open": 3, "pending": 1, "refused": 0, "adopted": 0},
            "held": {"packets": 0, "bytes": 0, "held_total": 4, "released_total": 4, "dropped_total": 0},
            "svids": [], "drops": [{"reason": 17, "name": "POLICY_INGRESS_DENIED", "packets": 5}],
            "policies": {"authenticated": 1, "network": 2, "map_entries": 9, "problems": []},
            "manifest_problems": [{"file": "a.yaml", "object": null, "message": "broken"}],
            "checks": [],
        }))
        .unwrap()
    }

    #[test]
    fn what_is_wrong_can_be_seen() {
        let mut status = status();
        let check = HealthCheck {
            name: "identity".into(),
            ok: false,
            detail: "not reachable".into(),
            hint: Some("start signet-identity".into()),
        };
        status.checks.push(check);
        assert!(!healthy(&status));
        let text = render(&status, 100, Format::Table, Paint::none());
        for words in [
            "Identity:       DOWN 198.18.0.1:7448 since 1m30s ago: connection refused",
            "Pairs:          3 open, 1 pending\n",
            "       5 POLICY_INGRESS_DENIED (17)",
            "manifest a.yaml: broken",
            "!! identity: not reachable\n   hint: start signet-identity",
        ] {
            assert!(text.contains(words), "{words:?} in\n{text}");
        }
    }
}
