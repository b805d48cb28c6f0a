//! `signetctl audit export`: the log as one stream.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::files;
use super::verify::{self, Sources};
use crate::agent::Agent;
use crate::output::{self, Format};

/// Options of `audit export`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Folder of the log; the agent's if left out
    dir: Option<PathBuf>,
}

/// Prints every line that is signed. A log that is broken is printed too, and said to be.
pub(super) fn run(agent: &Agent, options: &Options, format: Format) -> Result<u8> {
    let folder = files::place(agent, options.dir.as_deref())?;
    let report = verify::check(&folder, &Sources::default())?;
    let numbers = files::segments(&folder)?;
    let last = numbers.last().copied();
    for number in numbers {
        // Removed meanwhile, as the oldest may be: what comes after says so.
        let Some(mut bytes) = files::read(&folder, number)? else {
            continue;
        };
        if Some(number) == last && report.broken.is_none() {
            bytes.truncate(files::signed_len(&bytes));
        }
        print(&bytes, format)?;
    }
    match &report.broken {
        None => Ok(0),
        Some(found) => {
            eprintln!("signetctl: the log is broken at {}", verify::shown(found));
            Ok(1)
        }
    }
}

fn print(bytes: &[u8], format: Format) -> Result<()> {
    if format != Format::Yaml {
        return std::io::stdout()
            .lock()
            .write_all(bytes)
            .context("write to the standard output");
    }
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let value: serde_json::Value =
            serde_json::from_slice(line).context("a line of the log is no JSON; see -o json")?;
        output::item(format, &value)?;
    }
    Ok(())
}
