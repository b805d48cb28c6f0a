//! `signetctl observe`: what became of packets, and why.

use anyhow::Result;
use clap::{Args, ValueEnum};
use signet_agent_core::status::{FlowEvent, ObserveFilter, ObserveLine, Request, Verdict};

use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format, Paint};

/// Options of `observe`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Go on until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only packets with this verdict
    #[arg(long, value_enum)]
    verdict: Option<VerdictArg>,
    /// Only from this pod (NAMESPACE/NAME), namespace, address or SPIFFE ID
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
    /// Only to this pod (NAMESPACE/NAME), namespace, address or SPIFFE ID
    #[arg(long, value_name = "WHO")]
    to: Option<String>,
    /// How many remembered events to begin with; all if left out
    #[arg(long, value_name = "N")]
    last: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VerdictArg {
    Forwarded,
    Held,
    Dropped,
    WouldDrop,
}

/// Prints events as they come.
pub(crate) fn run(agent: &Agent, options: Options, format: Format) -> Result<u8> {
    let filter = ObserveFilter {
        follow: options.follow,
        verdict: options.verdict.map(|verdict| match verdict {
            VerdictArg::Forwarded => Verdict::Forwarded,
            VerdictArg::Held => Verdict::Held,
            VerdictArg::Dropped => Verdict::Dropped,
            VerdictArg::WouldDrop => Verdict::WouldDrop,
        }),
        from: options.from,
        to: options.to,
        last: options.last,
    };
    let paint = Paint::stdout();
    let wide = format == Format::Wide;
    for line in agent.stream::<ObserveLine>(&Request::Observe(filter))? {
        match (line?, format) {
            (ObserveLine::Flow(event), Format::Json | Format::Yaml) => {
                output::item(format, &event)?
            }
            (ObserveLine::Flow(event), Format::Table | Format::Wide) => {
                output::print_text(&(render(&event, wide, paint) + "\n"))?;
            }
            (ObserveLine::Lost(count), _) => eprintln!("{count} events were lost on the way"),
        }
    }
    Ok(0)
}

/// One line: when, verdict, who to whom, why.
pub(crate) fn render(event: &FlowEvent, wide: bool, paint: Paint) -> String {
    let verdict = match event.verdict {
        Verdict::Forwarded => paint.good("FORWARDED"),
        Verdict::Held => paint.unsure("HELD     "),
        Verdict::Dropped => paint.bad("DROPPED  "),
        Verdict::WouldDrop => paint.unsure("WOULD-DROP"),
    };
    let mut line = format!(
        "{} {verdict} {} {} -> {}",
        paint.faint(&human::clock(event.time_ms)),
        event.protocol,
        human::party(&event.source),
        human::party(&event.destination),
    );
    if let Some(reason) = &event.reason {
        line.push_str(&format!(
            "  {} ({})",
            paint.strong(&reason.name),
            reason.number
        ));
    }
    let ids = [
        ("from", &event.source.spiffe_id),
        ("to", &event.destination.spiffe_id),
    ];
    for (word, id) in ids {
        if let Some(id) = id {
            line.push_str(&format!("  {word} {id}"));
        }
    }
    if let Some(policy) = &event.policy {
        line.push_str(&format!("  by {policy}"));
    }
    if event.verdict == Verdict::Forwarded {
        line.push_str(if event.encrypted {
            "  encrypted"
        } else {
            "  local"
        });
    }
    if event.suppressed > 0 {
        line.push_str(&format!("  (+{} alike)", event.suppressed));
    }
    if wide {
        let direction = event.direction.as_deref().unwrap_or("-");
        line.push_str(&format!("  [{} {} {direction}]", event.node, event.hook));
        if let Some(reason) = &event.reason {
            line.push_str(&format!("\n    {}", paint.faint(&reason.explain)));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use signet_agent_core::status::{Party, Reason};

    use super::*;

    #[test]
    fn a_drop_names_its_reason_and_both_identities() {
        let end = |pod: &str, port| Party {
            pod: Some(format!("shop/{pod}")),
            spiffe_id: Some(format!("spiffe://lab/ns/shop/sa/{pod}")),
            port,
            ..Party::default()
        };
        let event = FlowEvent {
            time_ms: 45_296_789,
            node: "node1".into(),
            verdict: Verdict::Dropped,
            reason: Some(Reason {
                number: 19,
                name: "POLICY_INGRESS_DENIED".into(),
                explain: "No rule.".into(),
            }),
            direction: Some("ingress".into()),
            hook: "from_tunnel".into(),
            ip_version: 4,
            protocol: "TCP".into(),
            source: end("job", 40_000),
            destination: end("db", 3306),
            encrypted: true,
            policy: None,
            suppressed: 2,
        };
        assert_eq!(
            render(&event, false, Paint::none()),
            "12:34:56.789 DROPPED   TCP shop/job:40000 -> shop/db:3306  POLICY_INGRESS_DENIED (19)  from spiffe://lab/ns/shop/sa/job  to spiffe://lab/ns/shop/sa/db  (+2 alike)"
        );
        assert!(
            render(&event, true, Paint::none())
                .ends_with("[node1 from_tunnel ingress]\n    No rule.")
        );
    }
}
