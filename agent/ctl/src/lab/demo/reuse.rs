//! A pod is deleted, and its addresses are given to somebody else: what it might do is gone with it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use signet_agent_core::status::{AuditPeers, Request};

use super::report::Report;
use super::stage::{PATIENCE, Question, SILENCE, Stage};
use crate::agent::Agent;
use crate::commands::observe;
use crate::lab::apply;
use crate::lab::interrupt;
use crate::lab::progress::Progress;
use crate::lab::state::Lab;

const OLD: &str = "shop/batch";
const NEW: &str = "street/newcomer";
const DATABASE: &str = "shop/database";
const QUESTION: Question<'_> = Question::Table("COUNT");

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    stage.heading("shop/batch is deleted, and its addresses go to street/newcomer");
    let mut before = 0;
    for ipv4 in [true, false] {
        let answer = stage.ask(OLD, DATABASE, ipv4, QUESTION, PATIENCE);
        before += u64::from(answer.is_ok());
        let address = stage.address(OLD, ipv4)?;
        println!(
            "  {} {OLD} at {address} asks the database: {}",
            stage.mark(answer.is_ok()),
            told(&answer)
        );
    }
    exchange(stage)?;
    let (mut stopped, mut welcome) = (0, 0);
    for ipv4 in [true, false] {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let address = stage.address(NEW, ipv4)?;
        let answer = stage.ask(NEW, DATABASE, ipv4, QUESTION, SILENCE);
        interrupt::check()?;
        stopped += u64::from(answer.is_err());
        println!(
            "  {} {NEW} at {address} asks the database: {}",
            stage.mark(answer.is_err()),
            told(&answer)
        );
        let since = u64::try_from(began.as_millis()).unwrap_or(0);
        if let Some(event) = stage.latest_drop(NEW, DATABASE, QUESTION, ipv4, since)? {
            println!("       {}", observe::render(&event, false, stage.paint));
        }
        // What the street may do, it still may: it is not just that nothing works any more.
        let answer = stage.ask(NEW, "shop/frontend-2", ipv4, Question::Page, PATIENCE);
        welcome += u64::from(answer.is_ok());
        println!(
            "  {} {NEW} at {address} looks at the shop window: {}",
            stage.mark(answer.is_ok()),
            told(&answer)
        );
    }
    let left = grants_left(stage)?;
    println!(
        "  {} pairs of {OLD} that the database's node still lists: {left}",
        stage.mark(left == 0)
    );
    report.ratio("grants of a deleted pod that were there before", before, 2);
    report.ratio(
        "  that the next holder of its addresses did not get",
        stopped,
        2,
    );
    report.ratio("  while it may do what is its own right", welcome, 2);
    report.zero(
        "  pairs of the deleted pod still in the audit list",
        left,
        "",
    );
    Ok(())
}

/// Applies the same manifests with one pod in place of another.
fn exchange(stage: &mut Stage) -> Result<()> {
    let directory = stage.lab.state_dir.join("second-act");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    for (from, skip) in [("manifests", "batch.yaml"), ("later", "")] {
        let from = stage.scene.join(from);
        for entry in fs::read_dir(&from).with_context(|| format!("read {}", from.display()))? {
            let entry = entry.with_context(|| format!("read {}", from.display()))?;
            if entry.file_name() != skip {
                fs::copy(entry.path(), directory.join(entry.file_name()))
                    .with_context(|| format!("copy {}", entry.path().display()))?;
            }
        }
    }
    apply::apply(&stage.lab.name, Some(&directory), &Progress::quiet())?;
    stage.lab = Lab::load(&stage.lab.name)?;
    Ok(())
}

fn grants_left(stage: &Stage) -> Result<u64> {
    let node = &stage.lab.pod(DATABASE)?.node;
    let node = stage.lab.nodes.get(node).context("the database's node")?;
    let audit: AuditPeers = Agent::new(&node.status_socket).ask(&Request::AuditPeers)?;
    Ok(audit
        .pairs
        .iter()
        .filter(|pair| pair.remote_pod == OLD)
        .count() as u64)
}

fn told(answer: &Result<(String, std::time::Duration)>) -> String {
    match answer {
        Ok((answer, _)) => answer.lines().next().unwrap_or_default().to_owned(),
        Err(_) => "no answer".to_owned(),
    }
}
