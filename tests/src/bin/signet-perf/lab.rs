//! What the processes of a lab cost when nothing happens.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signet_tests::{
    lab::{Family, Lab},
    netns, shop,
};

use crate::{interrupt::pause, report::Row, usage};

/// How long nothing happens, before and while it is measured.
const REST: Duration = Duration::from_secs(5);
const PORT: u16 = 7777;

/// Measures the lab `running`, or one of three nodes that is made for it and removed.
pub(crate) fn at_rest(running: Option<&str>) -> Result<Vec<Row>> {
    if let Some(name) = running {
        return measure(&describe(name)?);
    }
    crate::say("bringing up a lab of three nodes");
    let lab = Lab::up(3, &shop::base())?;
    // One authenticated pair, so that there is a channel, a slot and a label to keep.
    let (web, db) = (lab.netns("shop/web")?, lab.netns("shop/db")?);
    netns::serve_echo(&db, PORT)?;
    for family in [Family::V4, Family::V6] {
        let to = lab.socket("shop/db", family, PORT)?;
        netns::tcp_echo(&web, to, b"once", Duration::from_secs(30))
            .with_context(|| format!("shop/web to {to}"))?;
    }
    pause(REST)?;
    measure(&lab.describe()?)
}

/// What `signetctl lab up` wrote down about a lab.
pub(crate) fn describe(name: &str) -> Result<Value> {
    let path = Path::new("/run/signet/lab").join(name).join("state.json");
    let text = fs::read(&path).with_context(|| format!("no lab {name:?}: {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// The processes of one kind, and what their rows are called.
struct Kind {
    pids: Vec<u32>,
    memory: (&'static str, &'static str),
    cpu: (&'static str, &'static str),
}

/// Of several processes of a kind, the costliest one counts.
fn measure(lab: &Value) -> Result<Vec<Row>> {
    let of_nodes = |process: &str| -> Result<Vec<u32>> {
        let nodes = lab["nodes"].as_object().context("nodes of the lab")?;
        nodes.values().map(|node| pid(&node[process])).collect()
    };
    let kinds = [
        Kind {
            pids: vec![pid(&lab["identity"]["process"])?],
            memory: ("lab: signet-identity, memory", ""),
            cpu: ("lab: signet-identity, at rest", ""),
        },
        Kind {
            pids: of_nodes("agent")?,
            memory: ("lab: signet-agent, memory", "<= 30"),
            cpu: ("lab: signet-agent, at rest", "<= 0.5"),
        },
        Kind {
            pids: of_nodes("tunnel")?,
            memory: ("lab: signet-tunnel, memory", ""),
            cpu: ("lab: signet-tunnel, at rest", ""),
        },
    ];
    let before = kinds.iter().map(spent).collect::<Result<Vec<_>>>()?;
    pause(REST)?;
    let after = kinds.iter().map(spent).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for ((kind, before), after) in kinds.iter().zip(before).zip(after) {
        let spent = before
            .iter()
            .zip(&after)
            .map(|(before, after)| *after - *before);
        let share = spent.max().unwrap_or_default().as_secs_f64() / REST.as_secs_f64();
        let mut memory = 0;
        for pid in &kind.pids {
            memory = memory.max(usage::memory(*pid)?.now);
        }
        let (name, bar) = kind.memory;
        rows.push(Row::alone(name, "MB", bar, vec![memory as f64 / 1e6]));
        let (name, bar) = kind.cpu;
        rows.push(Row::alone(name, "% of a core", bar, vec![share * 100.0]));
    }
    Ok(rows)
}

fn spent(kind: &Kind) -> Result<Vec<Duration>> {
    kind.pids.iter().map(|pid| usage::cpu(*pid)).collect()
}

fn pid(process: &Value) -> Result<u32> {
    let pid = process["pid"]
        .as_u64()
        .context("a process id in the lab's state")?;
    ensure!(
        Path::new("/proc").join(pid.to_string()).exists(),
        "process {pid} of the lab does not run; see `signetctl lab status`"
    );
    Ok(u32::try_from(pid)?)
}
