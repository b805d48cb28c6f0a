//! Traffic through a tunnel, and what both ends spent on it.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    interrupt::{check, patiently},
    net::{Net, Process},
    tunnels::Contender,
    usage,
};

/// 64-byte datagrams each second: what both carry on two busy cores without loss.
const UDP_RATE: u64 = 30_000;
const UDP_SIZE: u64 = 64;
/// Nothing that is measured here takes longer, unless it hangs.
const LIMIT: &str = "900";

/// Fails if a program that makes the traffic is not installed.
pub(crate) fn need_programs() -> Result<()> {
    for (program, flag) in [("iperf3", "--version"), ("ping", "-V")] {
        let found = Command::new(program).arg(flag).output();
        found.with_context(|| format!("{program} is not installed; run `make setup`"))?;
    }
    Ok(())
}

/// The iperf3 server on the far host.
pub(crate) fn serve(net: &Net) -> Result<Process> {
    let mut command = net.command(1);
    command.args(["iperf3", "-s"]).stdout(Stdio::null());
    Process::start("iperf3", &mut command)
}

/// A TCP transfer from near to far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    /// CPU seconds of both ends for each GB that arrived.
    pub(crate) cpu_per_gb: f64,
    /// What arrived in a second, Gbit.
    pub(crate) gbit: f64,
}

/// Moves `bytes` by TCP.
pub(crate) fn tcp(net: &Net, tunnel: &Contender, streams: u8, bytes: u64) -> Result<Tcp> {
    let flags = format!("-P {streams} -n {bytes}");
    let (cpu, end) = iperf(net, tunnel, &flags)?;
    let moved = number(&end, "sum_received", "bytes")?;
    Ok(Tcp {
        cpu_per_gb: cpu / (moved / 1e9),
        gbit: moved * 8.0 / 1e9 / number(&end, "sum_received", "seconds")?,
    })
}

/// Small datagrams from near to far, at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Udp {
    /// CPU microseconds of both ends for each datagram that arrived.
    pub(crate) cpu_per_packet: f64,
    /// Datagrams that did not arrive, percent.
    pub(crate) lost: f64,
}

/// Sends 64-byte datagrams for `seconds`.
pub(crate) fn udp(net: &Net, tunnel: &Contender, seconds: u64) -> Result<Udp> {
    let rate = UDP_RATE * UDP_SIZE * 8;
    let bytes = UDP_RATE * UDP_SIZE * seconds;
    let flags = format!("-u -l {UDP_SIZE} -b {rate} -n {bytes}");
    let (cpu, end) = iperf(net, tunnel, &flags)?;
    let sent = number(&end, "sum", "packets")?;
    let lost = number(&end, "sum", "lost_packets")?;
    Ok(Udp {
        cpu_per_packet: cpu * 1e6 / (sent - lost),
        lost: lost / sent * 100.0,
    })
}

/// Round trips of an otherwise idle tunnel, microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Sends `count` echo requests, one each 2 ms.
pub(crate) fn ping(net: &Net, tunnel: &Contender, count: u32) -> Result<RoundTrip> {
    let line = format!("ping -n -i 0.002 -W 1 -c {count} {}", tunnel.far);
    let output = run(net.command(0).args(line.split(' ')))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            line.split_once("time=")?
                .1
                .strip_suffix(" ms")?
                .parse()
                .ok()
        })
        .map(|milliseconds: f64| milliseconds * 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    let Some(last) = times.len().checked_sub(1) else {
        bail!("no echo through {}: {text}", tunnel.name);
    };
    Ok(RoundTrip {
        p50: times[last / 2],
        p99: times[last * 99 / 100],
    })
}

/// Runs an iperf3 client; CPU seconds of both ends meanwhile, and the `end` of its report.
fn iperf(net: &Net, tunnel: &Contender, flags: &str) -> Result<(f64, Value)> {
    let spent = || -> Result<f64> {
        let [near, far] = &tunnel.ends;
        Ok((usage::cpu(near.pid())? + usage::cpu(far.pid())?).as_secs_f64())
    };
    let line = format!("timeout {LIMIT} iperf3 -J -c {} {flags}", tunnel.far);
    // The server needs a moment after the last client, and turns the next one away until then.
    patiently(&format!("iperf3 through {}", tunnel.name), || {
        let before = spent()?;
        let output = run(net.command(0).args(line.split(' ')))?;
        let mut report: Value =
            serde_json::from_slice(&output.stdout).context("the report of iperf3")?;
        if let Some(error) = report["error"].as_str() {
            bail!("iperf3: {error}");
        }
        Ok((spent()? - before, report["end"].take()))
    })
}

fn run(command: &mut Command) -> Result<Output> {
    check()?;
    let output = command.output().context("run ip")?;
    check()?;
    Ok(output)
}

fn number(end: &Value, part: &str, field: &str) -> Result<f64> {
    end[part][field]
        .as_f64()
        .filter(|value| value.is_finite())
        .with_context(|| format!("iperf3 reported no {part}.{field}"))
}
