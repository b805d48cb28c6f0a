//! The model of the node channel, `tests/model/channel.pml`, searched to its end by Spin; and the
//! same with one mistake made in it, which the search must find. docs/model.md says what the model
//! covers.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests speak to the person who runs them"
)]

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use signet_tests::repo;

/// What the protocol is searched under: one fault with a pod withdrawn, two without.
const ONE_FAULT: &[&str] = &["FAULTS=1"];
const TWO_FAULTS: &[&str] = &["FAULTS=2", "NO_WITHDRAWAL"];

/// Mistakes, where they show, and a word of the assertion that they break.
const MISTAKES: &[(&str, &[&str], &str)] = &[
    ("GRANT_EARLY", ONE_FAULT, "verified"),
    ("ANY_CHANNEL", ONE_FAULT, "verified"),
    ("KEEP_ROW", ONE_FAULT, "withdrawn"),
    ("STALE_ANSWER", ONE_FAULT, "withdrawn"),
    ("PSK_IN_PLACE", ONE_FAULT, "psk==0"),
    ("FORGET_EPOCH", TWO_FAULTS, ".psk==node[1].slot[0].psk"),
    ("OLD_FRAMES", TWO_FAULTS, "granted_"),
    ("ASK_ONCE", ONE_FAULT, "send[placed]"),
];

/// Lines with this mark are steps that must occur in some run.
const HAPPENS: &str = "/* happens */";

#[test]
fn one_fault_and_a_withdrawn_pod_break_nothing() -> Result<()> {
    let Some(said) = search(ONE_FAULT, None)? else {
        return Ok(());
    };
    exhausted(&said);
    let model = fs::read_to_string(repo::root().join("tests/model/channel.pml"))?;
    let marked: Vec<usize> = (1..)
        .zip(model.lines())
        .filter(|(_, line)| line.contains(HAPPENS))
        .map(|(number, _)| number)
        .collect();
    assert!(marked.len() >= 20, "the model has lost its marks");
    let unreached: Vec<&str> = said
        .lines()
        .filter(|line| {
            let number = line.trim().strip_prefix("channel.pml:");
            let number = number.and_then(|rest| rest.split(',').next());
            number.is_some_and(|number| marked.iter().any(|at| at.to_string() == number))
        })
        .collect();
    assert!(unreached.is_empty(), "never happens: {unreached:#?}");
    Ok(())
}

#[test]
fn two_faults_break_nothing() -> Result<()> {
    if let Some(said) = search(TWO_FAULTS, None)? {
        exhausted(&said);
    }
    Ok(())
}

/// A search that would not find these would say nothing about the protocol.
#[test]
fn every_mistake_is_found() -> Result<()> {
    for (mistake, under, word) in MISTAKES {
        let Some(said) = search(under, Some(mistake))? else {
            return Ok(());
        };
        let broken = said.lines().find(|line| line.starts_with("pan:1:"));
        let broken = broken.with_context(|| format!("{mistake} is not found:\n{said}"))?;
        assert!(
            broken.contains("assertion violated") && broken.contains(word),
            "{mistake} is found by another assertion: {broken}"
        );
        println!("{mistake}: {broken}");
    }
    Ok(())
}

fn exhausted(said: &str) {
    assert!(said.contains("errors: 0"), "{said}");
    for trouble in [
        "Search not completed",
        "max search depth too small",
        "out of memory",
    ] {
        assert!(!said.contains(trouble), "{trouble}:\n{said}");
    }
    let states = said.lines().find(|line| line.contains("states, stored"));
    println!("{}", states.unwrap_or_default().trim());
}

/// What the verifier says; `None` if there is no Spin.
fn search(under: &[&str], mistake: Option<&str>) -> Result<Option<String>> {
    if Command::new("spin").arg("-V").output().is_err() {
        eprintln!("SKIPPED: model of the channel: needs spin (apt-get install spin)");
        return Ok(None);
    }
    let dir = tempfile::tempdir()?;
    let model = repo::root().join("tests/model/channel.pml");
    fs::copy(&model, dir.path().join("channel.pml"))?;
    let mut spin = Command::new("spin");
    spin.arg("-a");
    for switch in under.iter().copied().chain(mistake) {
        spin.arg(format!("-D{switch}"));
    }
    let said = run(spin.arg("channel.pml"), dir.path())?;
    ensure!(
        dir.path().join("pan.c").exists() && !said.contains("Error"),
        "spin: {said}"
    );
    // Megabytes; a run needs a third of it. -w: the pan.c that Spin writes is not ours to mend.
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=1024"]);
    run(cc.args(["-o", "pan", "pan.c"]), dir.path())?;
    let mut verifier = Command::new(dir.path().join("pan"));
    run(verifier.args(["-m20000", "-w22"]), dir.path()).map(Some)
}

fn run(command: &mut Command, dir: &Path) -> Result<String> {
    let out = command
        .current_dir(dir)
        .output()
        .with_context(|| format!("{command:?}"))?;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(out.status.success(), "{command:?}: {said}");
    Ok(said)
}
