//! `signetctl audit verify`: is a log what the agent wrote?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use signet_audit::segment::{CHECKPOINT_FILE, file_name};
use signet_audit::verify::{Break, Report, Verdict, Verifier};
use signet_crypto::spiffe_id::SpiffeId;

use super::files;
use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format, Paint};

/// An agent signs what it has written within this.
const SIGNED_WITHIN: Duration = Duration::from_millis(1200);
/// Looks at a log that is being written.
const LOOKS: usize = 3;

/// Options of `audit verify`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Folder of a log, or a file that `audit export` has written; the agent's log if left out
    path: Option<PathBuf>,
    /// The trust domain's authorities, PEM: without them nobody says that the signing key is the
    /// node's
    #[arg(long, value_name = "FILE")]
    trust_bundle: Option<PathBuf>,
    /// File with checkpoints of this log that were kept elsewhere, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// What a log is checked against.
#[derive(Debug, Default)]
pub(super) struct Sources {
    bundle: Option<Vec<u8>>,
    checkpoints: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    log: String,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints what was found.
pub(super) fn run(agent: &Agent, options: &Options, format: Format) -> Result<u8> {
    let path = files::place(agent, options.path.as_deref())?;
    let report = check(&path, &sources(options)?)?;
    let verdict = report.verdict();
    match format {
        Format::Json | Format::Yaml => {
            let answer = Answer {
                verdict,
                log: path.display().to_string(),
                report: &report,
            };
            output::data(format, &answer)?;
        }
        Format::Table | Format::Wide => {
            output::print_text(&render(&path, &report, Paint::stdout()))?;
        }
    }
    Ok(u8::from(verdict != Verdict::Whole))
}

fn sources(options: &Options) -> Result<Sources> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("read {}", path.display()));
    let bundle = options.trust_bundle.as_ref().map(read).transpose()?;
    let mut checkpoints = Vec::new();
    for path in &options.checkpoint {
        let bytes = read(path)?;
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            checkpoints.push((path.display().to_string(), line.to_vec()));
        }
        if checkpoints.is_empty() {
            bail!("{} has no checkpoint", path.display());
        }
    }
    Ok(Sources {
        bundle,
        checkpoints,
    })
}

/// Checks the log in a folder or a file. One that is being written is looked at again until its end
/// is signed.
pub(super) fn check(path: &Path, sources: &Sources) -> Result<Report> {
    let mut report = look(path, sources)?;
    for _ in 1..LOOKS {
        if report.verdict() != Verdict::Unsigned || !path.is_dir() {
            break;
        }
        thread::sleep(SIGNED_WITHIN);
        report = look(path, sources)?;
    }
    Ok(report)
}

fn look(path: &Path, sources: &Sources) -> Result<Report> {
    for _ in 1..LOOKS {
        if let Some(report) = look_once(path, sources)? {
            return Ok(report);
        }
    }
    bail!("segments of {} vanish while they are read", path.display())
}

/// `None` if a segment was removed meanwhile.
fn look_once(path: &Path, sources: &Sources) -> Result<Option<Report>> {
    let mut verifier = Verifier::new(sources.bundle.as_deref());
    for (origin, line) in &sources.checkpoints {
        take(&mut verifier, origin, line);
    }
    if !path.is_dir() {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy());
        verifier.segment(&name.unwrap_or_default(), &bytes);
        return Ok(Some(verifier.finish()));
    }
    // First the checkpoint: the log may grow meanwhile, and is then still ahead of it.
    match fs::read(path.join(CHECKPOINT_FILE)) {
        Ok(line) => take(&mut verifier, CHECKPOINT_FILE, &line),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("read the file checkpoint"),
    }
    for number in files::segments(path)? {
        let Some(bytes) = files::read(path, number)? else {
            return Ok(None);
        };
        verifier.segment(&file_name(number), &bytes);
    }
    Ok(Some(verifier.finish()))
}

fn take(verifier: &mut Verifier, origin: &str, line: &[u8]) {
    if let Err(what) = verifier.checkpoint(origin, line) {
        verifier.reject(origin, &what);
    }
}

/// The place of a break and what it is.
pub(super) fn shown(found: &Break) -> String {
    let mut place = found.segment.clone();
    if found.line > 0 {
        place.push_str(&format!(" line {}", found.line));
    }
    format!("{place} (number {} of the log): {}", found.seq, found.what)
}

fn render(path: &Path, report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        text.push_str(&format!(
            "{} {value}\n",
            paint.strong(&format!("{name:<13}"))
        ));
    };
    row("log", path.display().to_string());
    row("node", name(report.node.as_ref()));
    if let Some(key) = &report.key {
        row("signing key", format!("Ed25519 {key}"));
    }
    for voucher in &report.vouchers {
        let checked = if voucher.checked {
            paint.good("checked against the trust bundle")
        } else {
            paint.unsure("not checked: give --trust-bundle")
        };
        let certificate: String = voucher.certificate.to_string().chars().take(16).collect();
        row(
            "vouched for",
            format!(
                "from segment {} by certificate {certificate}, {checked}",
                voucher.segment
            ),
        );
    }
    let records: u64 = report.records.values().sum();
    row(
        "lines",
        format!(
            "{} in {} segments: {records} records, {} batch signatures, {} checkpoints",
            report.lines, report.segments, report.batches, report.checkpoints
        ),
    );
    row(
        "time",
        format!(
            "{} to {}",
            human::date(report.from_ms / 1000),
            human::date(report.to_ms / 1000)
        ),
    );
    if report.pruned > 0 {
        row(
            "before",
            format!(
                "lines up to {} were removed, as the log says",
                report.pruned
            ),
        );
    }
    for pair in &report.pairs {
        let counts = pair
            .records
            .iter()
            .map(|(event, count)| format!("{event} {count}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let (local, remote) = (name(pair.local.as_ref()), name(pair.remote.as_ref()));
        row("who", format!("{local} with {remote}: {counts}"));
    }
    if report.pairs_left_off > 0 {
        row(
            "who",
            format!("{} records of further pairs", report.pairs_left_off),
        );
    }
    row("kept", kept(report));
    let verdict = match (&report.broken, report.verdict()) {
        (Some(found), _) => format!("{} at {}", paint.bad("broken"), shown(found)),
        (None, Verdict::Whole) => paint.good("whole: nothing was changed, dropped or put in"),
        (None, Verdict::Unsigned | Verdict::Broken) => format!(
            "{}: {} lines and {} bytes after line {} are not signed: the agent died, or somebody put them there",
            paint.bad("unsigned end"),
            report.unsigned,
            report.torn_bytes,
            report.proven
        ),
    };
    row("verdict", verdict);
    text
}

/// What the checkpoints say of the end.
fn kept(report: &Report) -> String {
    let end = match report.mark {
        None => "no checkpoint in it: its end can be cut off without a trace".to_owned(),
        Some(mark) => format!(
            "checkpoint at line {} ({}); the {} lines after it can be cut off without a trace",
            mark.seq,
            human::date(mark.wall_ms / 1000),
            report.after_mark
        ),
    };
    match report.checkpoints_known {
        0 => format!("{end}; no checkpoint from elsewhere to compare"),
        count => format!("{end}; agrees with {count} kept beside it"),
    }
}

fn name(id: Option<&SpiffeId>) -> String {
    id.map_or_else(|| "?".to_owned(), ToString::to_string)
}
