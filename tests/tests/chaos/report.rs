//! What it comes to.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Result, bail, ensure};

use crate::stage::{Outcome, Talk};

pub(crate) struct Report {
    outcome: Outcome,
    seed: u64,
    took: Duration,
    /// By talk: how many each event explains, and numbers that nothing does.
    losses: Vec<(BTreeMap<String, usize>, Vec<usize>)>,
}

impl Report {
    pub(crate) fn of(outcome: Outcome, seed: u64, took: Duration) -> Self {
        let losses = (outcome.tallies.iter())
            .map(|(talk, tally)| {
                let (mut explained, mut not) = (BTreeMap::new(), Vec::new());
                for number in &tally.lost {
                    let at = tally.sent[*number];
                    let leave = outcome.leaves.iter().find(|leave| {
                        talk.may_lose(leave.loss) && leave.from <= at && at <= leave.until
                    });
                    match leave {
                        Some(leave) => *explained.entry(leave.why.clone()).or_default() += 1,
                        None => not.push(*number),
                    }
                }
                (explained, not)
            })
            .collect();
        Self {
            outcome,
            seed,
            took,
            losses,
        }
    }

    pub(crate) fn happened(&self) -> usize {
        self.outcome.happened
    }

    /// # Errors
    /// Says what must not have been.
    pub(crate) fn verdict(&self) -> Result<()> {
        let outcome = &self.outcome;
        let seen = &outcome.seen;
        ensure!(seen.payload + seen.pairs == 0, "leaked: {:02x?}", seen.kept);
        ensure!(
            seen.frames > 1000 && seen.sealed > 500,
            "the eyes were shut: {} frames, {} sealed",
            seen.frames,
            seen.sealed
        );
        let (asked, refused) = (outcome.stray.sent.len(), outcome.stray.lost.len());
        ensure!(asked > 20 && asked == refused, "the stray was answered");
        for ((talk, tally), (_, lost)) in outcome.tallies.iter().zip(&self.losses) {
            let at = |number: &usize| {
                let at = tally.sent[*number].duration_since(outcome.began);
                format!("{number} at {:.2} s", at.as_secs_f64())
            };
            let first = lost.iter().take(20).map(at).collect::<Vec<_>>();
            ensure!(
                lost.is_empty(),
                "{} without leave lost {} of {}: {first:?}",
                Name(talk),
                lost.len(),
                tally.sent.len(),
            );
            ensure!(
                tally.lost.len() < tally.sent.len(),
                "{} is silent",
                Name(talk)
            );
        }
        if let Err(error) = &outcome.stream {
            bail!("the TCP connection broke: {error:#}");
        }
        ensure!(outcome.panics.is_empty(), "{:?}", outcome.panics);
        Ok(())
    }
}

struct Name<'a>(&'a Talk);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Talk {
            client,
            server,
            nodes: [from, to],
            family,
            by_service,
        } = self.0;
        let way = if *by_service { " by a service" } else { "" };
        write!(f, "{client}@{from} to {server}@{to} {family:?}{way}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.outcome;
        let seconds = self.took.as_secs();
        writeln!(
            f,
            "chaos: seed {}, {} events in {seconds} s",
            self.seed, outcome.happened
        )?;
        let (mut sent, mut lost, mut without) = (0, 0, 0);
        for ((talk, tally), (explained, not)) in outcome.tallies.iter().zip(&self.losses) {
            writeln!(
                f,
                "  {:58} {:6} sent {:5} lost, {} without leave",
                Name(talk).to_string(),
                tally.sent.len(),
                tally.lost.len(),
                not.len()
            )?;
            for (why, count) in explained {
                writeln!(f, "      {count:5} by: {why}")?;
            }
            sent += tally.sent.len();
            lost += tally.lost.len();
            without += not.len();
        }
        match &outcome.stream {
            Ok(records) => writeln!(
                f,
                "  one TCP connection through all of it: {records} records, all back"
            )?,
            Err(error) => writeln!(f, "  the TCP connection broke: {error:#}")?,
        }
        let (asked, silent) = (outcome.stray.sent.len(), outcome.stray.lost.len());
        writeln!(
            f,
            "  a stranger asked {asked} times and was answered {} times",
            asked - silent
        )?;
        writeln!(f, "  dropped: {}", outcome.drops.join(", "))?;
        let seen = &outcome.seen;
        writeln!(
            f,
            "  on the wires {} frames, {} of them sealed; {} with payload, {} with pods' addresses",
            seen.frames, seen.sealed, seen.payload, seen.pairs
        )?;
        write!(
            f,
            "chaos: {sent} packets sent, {lost} lost, {without} of these without leave, {} leaked",
            seen.payload + seen.pairs
        )
    }
}
