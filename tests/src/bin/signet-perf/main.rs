//! `signet-perf`: what the tunnel costs beside other user-space WireGuards in the same run, how long first contact takes,
//! and what a node costs at rest.
//!
//! It measures and prints; no figure makes it fail. What the figures mean is in `docs/performance.md`.

mod aead;
mod contacts;
mod interrupt;
mod lab;
mod load;
mod machine;
mod net;
mod picture;
mod report;
mod rounds;
mod tunnels;
mod usage;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::{contacts::Contacts, machine::Machine, net::Net, report::Report, tunnels::Contender};

/// Measures CPU, latency and memory of signet-tunnel beside others that are given, first contact, and a node at rest.
///
/// Needs root for network namespaces, iperf3 and ping.
#[derive(Debug, Parser)]
#[command(name = "signet-perf", version, about, max_term_width = 100)]
struct Options {
    /// Paired rounds; the printed figures are medians over them.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Bytes that each TCP transfer moves, such as 500M or 2G (powers of ten).
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = bytes)]
    bytes: u64,
    /// One round of 100 MB and a few contacts: does it run at all?
    #[arg(long, conflicts_with_all = ["rounds", "bytes"])]
    short: bool,
    /// The boringtun-cli to measure beside.
    #[arg(long, value_name = "PATH")]
    boringtun: Option<PathBuf>,
    /// The wireguard-go to measure beside.
    #[arg(long, value_name = "PATH")]
    wireguard_go: Option<PathBuf>,
    /// Threads of boringtun-cli; 4 is its own default.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    boringtun_threads: u8,
    /// Measure the processes of this running lab, rather than of one made for it.
    #[arg(long, value_name = "NAME", conflicts_with = "no_lab")]
    lab: Option<String>,
    /// Leave out what a node costs at rest.
    #[arg(long)]
    no_lab: bool,
    /// Leave out first contact.
    #[arg(long)]
    no_contact: bool,
    /// Leave out the tunnels.
    #[arg(long)]
    no_tunnel: bool,
    /// Write the histograms of first contact here, as PNG.
    #[arg(long, value_name = "FILE", conflicts_with = "no_contact")]
    picture: Option<PathBuf>,
    /// Replace the figures and the picture in the repository's docs/performance.md.
    #[arg(long, conflicts_with_all = ["short", "no_lab", "no_contact", "no_tunnel"])]
    bless: bool,
    /// Form of the figures on the standard output; progress goes to the standard error.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces need root; run it as root"
    );
    load::need_programs()?;
    if let Some(name) = &options.lab {
        // Now rather than after the rounds.
        lab::describe(name)?;
    }
    interrupt::watch()?;
    let (rounds, bytes) = match options.short {
        true => (1, 100_000_000),
        false => (options.rounds, options.bytes),
    };
    let machine = Machine::before(rounds, bytes, options)?;
    let mut report = Report {
        machine,
        contenders: Vec::new(),
        rows: Vec::new(),
        contacts: None,
    };
    // What was found is printed, also if the rest cannot be measured.
    let outcome = measure(options, rounds, bytes, &mut report);
    report.machine = report.machine.after();
    let text = match options.output {
        Format::Table => report.tables(),
        Format::Json => report.json()?,
    };
    io::stdout().write_all(text.as_bytes())?;
    outcome?;
    let picture = report.contacts.as_ref().map(picture::draw).transpose()?;
    if let (Some(path), Some(picture)) = (&options.picture, &picture) {
        fs::write(path, picture).with_context(|| path.display().to_string())?;
    }
    if options.bless {
        report.bless(picture.as_deref())?;
    }
    Ok(())
}

fn measure(options: &Options, rounds: u32, bytes: u64, report: &mut Report) -> Result<()> {
    if !options.no_tunnel {
        side_by_side(options, rounds, bytes, report)?;
    }
    if !options.no_lab {
        report.rows.extend(lab::at_rest(options.lab.as_deref())?);
    }
    if !options.no_contact {
        report.contacts = Some(Contacts::measure(options.short)?);
    }
    Ok(())
}

/// All tunnels in the same two namespaces; they go with this function, whatever its outcome.
fn side_by_side(options: &Options, rounds: u32, bytes: u64, report: &mut Report) -> Result<()> {
    let net = Net::new()?;
    let mut tunnels = vec![Contender::signet(&net)?];
    if let Some(program) = &options.boringtun {
        let threads = options.boringtun_threads;
        tunnels.push(Contender::boringtun(&net, program, threads)?);
    }
    if let Some(program) = &options.wireguard_go {
        tunnels.push(Contender::wireguard_go(&net, program)?);
    }
    report.contenders = tunnels.iter().map(|tunnel| tunnel.name).collect();
    report.rows = rounds::run(&net, &tunnels, rounds, bytes)?;
    Ok(())
}

/// `500M` as 500,000,000.
fn bytes(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        other => bail!("{other:?} is no unit; use K, M or G"),
    };
    match digits.parse::<u64>()?.checked_mul(unit) {
        Some(bytes @ 1_000_000..) => Ok(bytes),
        _ => bail!("a transfer has at least 1M bytes"),
    }
}

/// A line for the person who waits.
fn say(line: &str) {
    // Standard error may be closed; measuring goes on.
    let _ = writeln!(io::stderr(), "signet-perf: {line}");
}
