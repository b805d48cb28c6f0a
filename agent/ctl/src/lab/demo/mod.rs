//! `lab demo`: a small shop over three nodes, put to the test before one's eyes.
//!
//! Every line that it prints is checked: if anything is not as it should be, the exit status says so.

mod outage;
mod reach;
mod report;
mod reuse;
mod speed;
mod stage;
mod wire;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use self::report::Report;
use self::stage::Stage;
use super::down;
use super::interrupt;
use super::progress::Progress;
use super::state::{self, Backend};
use super::up::{self, Up};

/// Options of `lab demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = super::names::lab_name)]
    name: String,
    /// Directory with the shop: manifests/ to begin with, later/ for the second act
    #[arg(long, value_name = "DIR", default_value = "deploy/demo")]
    scene: PathBuf,
    /// Leave the lab running at the end, to explore
    #[arg(long)]
    keep: bool,
    /// Let nodes talk over IPv6
    #[arg(long)]
    ipv6_underlay: bool,
}

/// Plays the demo; 1 if a check failed.
pub(crate) fn run(options: &Demo) -> Result<u8> {
    let up = Up {
        name: options.name.clone(),
        nodes: 3,
        manifests: Some(options.scene.join("manifests")),
        backend: Backend::Userspace,
        ipv6_underlay: options.ipv6_underlay,
        svid_ttl: None,
        epoch_length: None,
        keep_on_failure: options.keep,
    };
    let progress = Progress::new();
    let lab = up::up(&up, &progress)?;
    progress.finish();
    let outcome = play(Stage::new(lab, options.scene.clone()));
    interrupt::clear();
    let ended = if options.keep {
        invite(&options.name)
    } else {
        tear_down(&options.name)
    };
    let good = outcome?;
    ended?;
    Ok(u8::from(!good))
}

/// Plays all acts, and prints what was found even if one of them could not be played to its end.
fn play(mut stage: Stage) -> Result<bool> {
    let mut report = Report::default();
    let ended = acts(&mut stage, &mut report);
    report.memory(&stage.lab);
    report.print(ended.is_ok());
    ended?;
    Ok(report.good())
}

fn acts(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let evidence = wire::begin(stage)?;
    reach::play(stage, report)?;
    outage::play(stage, report)?;
    reuse::play(stage, report)?;
    wire::end(stage, evidence, report)?;
    speed::play(stage, report)
}

fn tear_down(name: &str) -> Result<()> {
    eprintln!("\nremoving the lab (KEEP=1 or --keep leaves it running)");
    let lock = state::lock(name)?;
    down::remove(name).context("remove the lab")?;
    lock.retire();
    Ok(())
}

fn invite(name: &str) -> Result<()> {
    let on =
        |place: &str, what: &str| println!("  signetctl lab exec --name {name} {place} -- {what}");
    println!("\nThe lab is still there. Try:");
    on("node1", "signetctl status");
    on("node1", "signetctl peers");
    on("node3", "signetctl audit peers");
    on("node3", "signetctl observe --follow");
    on(
        "node3",
        "signetctl policy explain --from street/visitor --to shop/database --port 3306/tcp",
    );
    on("shop/frontend-1", "sh");
    println!("  signetctl lab capture --name {name} --out /tmp --duration 5");
    println!("  signetctl lab down --name {name}");
    Ok(())
}
