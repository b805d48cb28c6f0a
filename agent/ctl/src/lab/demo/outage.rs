//! Agents killed with -9 under traffic: established pairs lose nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use super::report::Report;
use super::stage::Stage;
use crate::commands::observe;
use crate::human;
use crate::lab::interrupt;
use crate::lab::progress::Progress;
use crate::lab::restart;
use crate::lab::state::{self, Lab};
use crate::lab::traffic::{self, Protocol, SendOptions};

const FROM: &str = "shop/frontend-1";
const TO: &str = "shop/database";
const RATE: u32 = 250;
/// Packets of each kind: eight seconds' worth.
const COUNT: u64 = 2000;

/// Kills the agents at both ends, lets them be gone for a while, starts them again; all under traffic.
pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    stage.heading("The agents of both ends are killed with -9 under traffic, and started again");
    let mut kinds = Vec::new();
    for ipv4 in [true, false] {
        for protocol in [Protocol::Udp, Protocol::Icmp] {
            let to = stage.address(TO, ipv4)?;
            let size = if protocol == Protocol::Udp { 600 } else { 64 };
            let options = SendOptions {
                to,
                port: Some(4000),
                protocol,
                rate: RATE,
                count: COUNT,
                size,
                linger: 3.0,
            };
            kinds.push(stage.probe(FROM, &options)?);
        }
    }
    let running: Vec<_> = kinds
        .into_iter()
        .map(|probe| std::thread::spawn(move || probe.run(interrupt::happened)))
        .collect();
    let disturbed = disturb(stage);
    let mut reports: Vec<traffic::Report> = Vec::new();
    for thread in running {
        reports.push(thread.join().map_err(|_| anyhow!("a sender failed"))??);
    }
    disturbed?;
    let (mut sent, mut lost, mut reordered) = (0, 0, 0);
    for one in &reports {
        let good = one.lost == 0 && one.duplicates == 0;
        println!(
            "  {} {:<6} {FROM} -> {:<18} {} sent, {} lost, {} reordered, {} doubled, round trip {:.2} ms (p99 {:.2})",
            stage.mark(good),
            one.protocol,
            one.to,
            one.sent,
            one.lost,
            one.reordered,
            one.duplicates,
            one.rtt_us_p50 as f64 / 1e3,
            one.rtt_us_p99 as f64 / 1e3,
        );
        if one.lost > 0 {
            println!("       lost were numbers {:?}", one.lost_numbers);
            explain(stage, &one.protocol)?;
        }
        sent += one.sent;
        lost += one.lost;
        reordered += one.reordered;
    }
    report.zero(
        "packets lost while the agents were killed and started again",
        lost,
        &format!("of {sent}"),
    );
    report.note("  of these, reordered", reordered.to_string());
    Ok(())
}

/// What the agents say of packets of this flow, or of its answers.
fn explain(stage: &Stage, protocol: &str) -> Result<()> {
    let mut events = stage.drops(FROM, TO, protocol)?;
    events.extend(stage.drops(TO, FROM, protocol)?);
    for event in events.iter().take(4) {
        println!("       {}", observe::render(event, true, stage.paint));
    }
    Ok(())
}

fn now() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    human::clock(u64::try_from(now.as_millis()).unwrap_or(0))
}

fn disturb(stage: &mut Stage) -> Result<()> {
    interrupt::pause(Duration::from_millis(1500))?;
    let ends = [
        stage.lab.pod(FROM)?.node.clone(),
        stage.lab.pod(TO)?.node.clone(),
    ];
    for node in &ends {
        let agent = stage
            .lab
            .nodes
            .get(node)
            .and_then(|node| node.agent.as_ref())
            .context("an agent")?;
        agent.signal(Signal::SIGKILL);
        println!("     {} killed signet-agent {} on {node}", now(), agent.pid);
    }
    interrupt::pause(Duration::from_millis(2000))?;
    let _lock = state::lock(&stage.lab.name)?;
    let mut lab = Lab::load(&stage.lab.name)?;
    for node in &ends {
        restart::agent(&mut lab, node, &Progress::quiet())?;
        println!("     {} started signet-agent on {node} again", now());
    }
    stage.lab = lab;
    Ok(())
}
