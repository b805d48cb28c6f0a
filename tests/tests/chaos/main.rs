//! Everything that goes wrong in a cluster, at random, while pods talk: nothing may leak, and nothing may
//! be lost but what the event itself cuts off.
//!
//! `SIGNET_CHAOS_SEED` draws the same events again, `SIGNET_CHAOS_EVENTS` says how many.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is for the person who runs it"
)]

mod deck;
mod deeds;
mod report;
mod stage;

use std::{
    env,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use signet_fuzz::mutate::Dice;
use signet_tests::bin;

use crate::{deck::Deck, report::Report, stage::Stage};

/// With a debug build on a busy machine about five seconds each.
const EVENTS: usize = 28;

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else {
        return Ok(None);
    };
    let number = text.parse();
    number
        .map(Some)
        .with_context(|| format!("{variable}={text} is no number"))
}

#[test]
fn whatever_happens_nothing_leaks_and_only_what_is_cut_is_lost() -> Result<()> {
    if !bin::root_or_skip("chaos") {
        return Ok(());
    }
    let seed = match number("SIGNET_CHAOS_SEED")? {
        Some(seed) => seed,
        None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    let events = match number("SIGNET_CHAOS_EVENTS")? {
        Some(events) => usize::try_from(events)?,
        None => EVENTS,
    };
    println!("SIGNET_CHAOS_SEED={seed} SIGNET_CHAOS_EVENTS={events}");
    let mut dice = Dice(seed);
    let mut deck = Deck::new();
    let mut stage = Stage::up()?;
    let start = Instant::now();
    let mut trouble = None;
    for number in 1..=events {
        let deed = deck.draw(&mut dice);
        println!(
            "{:7.1} s  {number:3}  {deed}",
            start.elapsed().as_secs_f64()
        );
        let done = stage.carry_out(&deed);
        println!("{:7.1} s       done", start.elapsed().as_secs_f64());
        if let Err(error) = done {
            trouble = Some(error.context(format!("event {number}: {deed}")));
            break;
        }
        stage.rest(&mut dice);
    }
    let report = Report::of(stage.end()?, seed, start.elapsed());
    println!("{report}");
    // What was seen counts more than what stopped it.
    let verdict = report.verdict();
    match (trouble, verdict) {
        (Some(error), Err(verdict)) => Err(error.context(format!("{verdict:#}"))),
        (Some(error), Ok(())) => Err(error),
        (None, verdict) => verdict,
    }?;
    ensure!(report.happened() == events, "not everything happened");
    Ok(())
}
