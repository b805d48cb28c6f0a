//! Every fuzz target over its checked-in seeds and some mutations of them. `scripts/fuzz` runs the
//! same targets for as long as one likes, led by coverage.
//!
//! `SIGNET_FUZZ_SEED` repeats a run, `SIGNET_FUZZ_FACTOR` multiplies the mutations, and
//! `SIGNET_BLESS=1` writes the seeds anew.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests speak to the person who runs them"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use signet_fuzz::{
    TARGETS, Target, audit, authenticator, csr,
    mutate::{Dice, mutate},
    svid,
};
use signet_tests::repo;

fn folder(target: &Target) -> PathBuf {
    repo::root().join("fuzz/seeds").join(target.name)
}

/// The checked-in inputs, in the order of their names.
fn checked_in(target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    let mut seeds = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.context("a name")?.to_owned();
        seeds.push((name, fs::read(&path)?));
    }
    seeds.sort();
    Ok(seeds)
}

/// Runs a target; a panic is told with what repeats it.
fn run(target: &Target, input: &[u8], what: &str) -> Result<()> {
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let hex = || -> String { input.iter().map(|byte| format!("{byte:02x}")).collect() };
    ensure!(
        result.is_ok(),
        "{}: broken by {what}; the input is {}",
        target.name,
        hex()
    );
    Ok(())
}

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
fn a_the_seeds_are_those_that_the_targets_make() -> Result<()> {
    let bless = env::var_os("SIGNET_BLESS").is_some();
    if bless {
        signet_fuzz::write_fixtures()?;
    }
    for target in TARGETS {
        let made = (target.seeds)();
        if bless {
            fs::create_dir_all(folder(target))?;
            for (name, bytes) in &made {
                fs::write(folder(target).join(name), bytes)?;
            }
        }
        let made: BTreeSet<String> = made.iter().map(|(name, _)| (*name).to_owned()).collect();
        let found: BTreeSet<String> = checked_in(target)?
            .into_iter()
            .map(|(name, _)| name)
            // What a run found and was worth keeping.
            .filter(|name| !name.starts_with("found-"))
            .collect();
        assert_eq!(found, made, "seeds of {}; SIGNET_BLESS=1", target.name);
    }
    Ok(())
}

/// A target that refuses everything would hold every promise.
#[test]
fn what_is_good_is_believed_and_nothing_else() -> Result<()> {
    type Accepts = fn(&[u8]) -> bool;
    let believing: [(&str, Accepts); 4] = [
        ("audit", audit::accepts),
        ("authenticator", authenticator::accepts),
        ("csr", csr::accepts),
        ("svid", svid::accepts),
    ];
    for (name, accepts) in believing {
        let target = TARGETS.iter().find(|target| target.name == name);
        let seeds = checked_in(target.context("a target")?)?;
        let good = seeds.iter().filter(|(seed, _)| seed.starts_with("good"));
        assert!(good.count() >= 2, "{name} has no good seeds");
        for (seed, input) in seeds {
            assert_eq!(accepts(&input), seed.starts_with("good"), "{name}/{seed}");
        }
    }
    Ok(())
}

#[test]
fn no_mutation_breaks_a_promise() -> Result<()> {
    let seed = match number("SIGNET_FUZZ_SEED")? {
        Some(seed) => seed,
        None => u64::from(std::process::id()) << 32 | u64::from(rand_from_time()),
    };
    let factor = number("SIGNET_FUZZ_FACTOR")?.unwrap_or(1);
    println!("SIGNET_FUZZ_SEED={seed}");
    for target in TARGETS {
        let mut seeds = Vec::new();
        for (name, input) in checked_in(target)? {
            run(target, &input, &format!("its seed {name}"))?;
            seeds.push(input);
        }
        let rounds = u64::from(target.short) * factor;
        let mut dice = Dice(seed);
        for round in 0..rounds {
            let input = mutate(&mut dice, &seeds, target.max_len);
            run(target, &input, &format!("mutation {round} of seed {seed}"))?;
        }
        println!("{}: {} seeds, {rounds} mutations", target.name, seeds.len());
    }
    Ok(())
}

fn rand_from_time() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.subsec_nanos())
}
