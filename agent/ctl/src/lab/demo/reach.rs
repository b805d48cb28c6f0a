//! Who reaches whom, who does not, and why.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};

use super::report::Report;
use super::stage::{PATIENCE, Question, SILENCE, Stage};
use crate::commands::observe;

struct Case {
    from: &'static str,
    to: &'static str,
    what: &'static str,
    question: Question<'static>,
    allowed: bool,
}

const fn case(
    from: &'static str,
    to: &'static str,
    what: &'static str,
    question: Question<'static>,
) -> Case {
    Case {
        from,
        to,
        what,
        question,
        allowed: true,
    }
}

const fn never(
    from: &'static str,
    to: &'static str,
    what: &'static str,
    question: Question<'static>,
) -> Case {
    Case {
        from,
        to,
        what,
        question,
        allowed: false,
    }
}

const CASES: [Case; 14] = [
    case(
        "shop/frontend-1",
        "shop/database",
        "TCP 3306",
        Question::Table("GET lamp"),
    ),
    case(
        "shop/frontend-2",
        "shop/database",
        "TCP 3306",
        Question::Table("GET lamp"),
    ),
    case(
        "shop/frontend-1",
        "shop/names",
        "DNS over UDP",
        Question::Name("lamp.shop"),
    ),
    case(
        "shop/batch",
        "shop/database",
        "TCP 3306",
        Question::Table("COUNT"),
    ),
    case(
        "shop/batch",
        "shop/names",
        "DNS over UDP",
        Question::Name("lamp.shop"),
    ),
    case("street/visitor", "shop/frontend-1", "HTTP", Question::Page),
    case("shop/frontend-1", "shop/frontend-2", "ping", Question::Ping),
    case("shop/frontend-2", "shop/database", "ping", Question::Ping),
    never(
        "street/visitor",
        "shop/database",
        "TCP 3306",
        Question::Table("GET lamp"),
    ),
    never(
        "street/visitor",
        "shop/names",
        "DNS over UDP",
        Question::Name("lamp.shop"),
    ),
    never("street/visitor", "shop/frontend-1", "ping", Question::Ping),
    never("shop/batch", "shop/database", "ping", Question::Ping),
    never("shop/batch", "shop/frontend-2", "HTTP", Question::Page),
    never("shop/database", "shop/batch", "ping", Question::Ping),
];

/// What one case came to.
struct Outcome {
    answer: Result<(String, Duration)>,
    began_ms: u64,
}

/// Plays all cases, in both families.
pub(super) fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    stage.heading("Who reaches whom: every packet authenticated and encrypted");
    let mut first_contacts = Vec::new();
    let (mut reached, mut stopped, mut explained) = (0, 0, 0);
    let (mut may, mut may_not) = (0, 0);
    for ipv4 in [true, false] {
        for case in CASES.iter().filter(|case| case.allowed) {
            may += 1;
            let outcome = attempt(stage, case, ipv4);
            match &outcome.answer {
                Ok((answer, time)) => {
                    reached += 1;
                    first_contacts.push(*time);
                    let answer = answer.lines().next().unwrap_or_default();
                    line(
                        stage,
                        true,
                        case,
                        ipv4,
                        &format!("{answer:<20} {:>7.1} ms", time.as_secs_f64() * 1e3),
                    );
                }
                Err(error) => line(stage, false, case, ipv4, &format!("{error:#}")),
            }
        }
    }
    stage.heading("Who does not, and why");
    for ipv4 in [true, false] {
        let cases: Vec<&Case> = CASES.iter().filter(|case| !case.allowed).collect();
        // All at once: each of them only waits for an answer that must not come.
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let running: Vec<_> = cases
                .iter()
                .map(|case| scope.spawn(move || attempt(stage, case, ipv4)))
                .collect();
            running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| broken()))
                .collect()
        });
        for (case, outcome) in cases.into_iter().zip(outcomes) {
            may_not += 1;
            match outcome.answer {
                Ok((answer, _)) => {
                    line(stage, false, case, ipv4, &format!("got through: {answer}"))
                }
                Err(_) => {
                    stopped += 1;
                    line(stage, true, case, ipv4, "stopped");
                    match stage.latest_drop(
                        case.from,
                        case.to,
                        case.question,
                        ipv4,
                        outcome.began_ms,
                    )? {
                        Some(event) => {
                            explained += 1;
                            println!("       {}", observe::render(&event, false, stage.paint));
                        }
                        None => println!("    {} no agent says why", stage.mark(false)),
                    }
                }
            }
        }
    }
    report.ratio(
        "allowed flows that got through (TCP, UDP, ICMP; IPv4, IPv6)",
        reached,
        may,
    );
    report.ratio("forbidden flows that were stopped", stopped, may_not);
    report.ratio(
        "  of these, explained by a numbered reason",
        explained,
        may_not,
    );
    if let Some(longest) = first_contacts.iter().max() {
        report.note(
            "slowest first contact, proofs and keys included",
            format!("{:.1} ms", longest.as_secs_f64() * 1e3),
        );
    }
    Ok(())
}

fn attempt(stage: &Stage, case: &Case, ipv4: bool) -> Outcome {
    let began = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let patience = if case.allowed { PATIENCE } else { SILENCE };
    let answer = stage.ask(case.from, case.to, ipv4, case.question, patience);
    Outcome {
        answer,
        began_ms: u64::try_from(began.as_millis()).unwrap_or(0),
    }
}

/// A thread that failed has neither got through nor been stopped: an answer makes the case fail.
fn broken() -> Outcome {
    Outcome {
        answer: Ok((
            anyhow!("the attempt itself failed").to_string(),
            Duration::ZERO,
        )),
        began_ms: 0,
    }
}

fn line(stage: &Stage, good: bool, case: &Case, ipv4: bool, text: &str) {
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    println!(
        "  {} {:<16} -> {:<16} {:<13} {family}  {text}",
        stage.mark(good),
        case.from,
        case.to,
        case.what
    );
}
