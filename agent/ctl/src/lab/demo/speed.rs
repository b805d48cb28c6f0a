//! iperf3 through the tunnel.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::report::Report;
use super::stage::Stage;
use crate::lab::interrupt;

const FROM: &str = "shop/frontend-1";
const TO: &str = "shop/frontend-2";

/// One TCP stream, three seconds, in each family.
pub(super) fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    stage.heading("iperf3 through the tunnel, one TCP stream from node to node");
    for ipv4 in [true, false] {
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        let gigabits = measure(stage, ipv4, &["-t", "3"])?;
        println!(
            "  {} {FROM} -> {TO} {family}  {gigabits:.2} Gbit/s",
            stage.mark(gigabits > 0.0)
        );
        report.note(
            &format!("TCP through the tunnel, {family}"),
            format!("{gigabits:.2} Gbit/s"),
        );
    }
    Ok(())
}

/// Runs iperf3 for a time or an amount (its own options), and gives Gbit/s as received.
pub(super) fn measure(stage: &Stage, ipv4: bool, amount: &[&str]) -> Result<f64> {
    interrupt::check()?;
    let to = stage.address(TO, ipv4)?.to_string();
    let mut command = vec!["iperf3", "-J", "-c", &to, "-p", "5201"];
    command.extend(amount);
    let mut tries = 0;
    loop {
        let output = stage.run(FROM, &command)?;
        let answer: Value = serde_json::from_slice(&output.stdout).context("iperf3's answer")?;
        let error = answer["error"].as_str().unwrap_or("no result");
        match answer
            .pointer("/end/sum_received/bits_per_second")
            .and_then(Value::as_f64)
        {
            Some(bits) if output.status.success() => return Ok(bits / 1e9),
            _ if between_tests(error) && tries < 20 => tries += 1,
            _ => bail!("iperf3 to {to} failed: {error}"),
        }
        interrupt::pause(Duration::from_millis(100))?;
    }
}

/// iperf3's server closes its port for a moment after each test.
fn between_tests(error: &str) -> bool {
    ["busy", "refused", "reset by peer"]
        .iter()
        .any(|word| error.contains(word))
}
