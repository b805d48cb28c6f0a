//! Checks a log from the outside, as somebody who has the files and perhaps a trust bundle.
//!
//! Found: every change of a byte, every line or segment that is missing, twice, in another place or
//! from another log, and an end that lies before a checkpoint that is known. Not found, because
//! nothing can tell: an end that lies behind the last known checkpoint, and what somebody writes
//! there who has the node's key.

mod report;
mod state;

use signet_crypto::bundle::TrustBundle;

pub use report::{Break, Marked, Pair, Report, Verdict, Voucher};

use crate::{
    key::signed,
    line::{Checkpoint, Hash, Header, Line, signed_part},
    segment::number_of,
};
use state::State;

/// Pairs that a report lists; more are counted.
pub const MAX_PAIRS: usize = 10_000;

/// A checkpoint that was kept somewhere, and where.
#[derive(Clone, Debug)]
struct Known {
    origin: String,
    hash: Hash,
    checkpoint: Checkpoint,
    seen: bool,
}

/// Takes a log line by line, oldest first.
#[derive(Debug)]
pub struct Verifier {
    bundle_pem: Option<Vec<u8>>,
    known: Vec<Known>,
    state: State,
    report: Report,
    /// Bytes behind the last line feed of the segment before.
    torn: bool,
}

impl Verifier {
    /// A verifier that believes the authorities in `bundle` (PEM) to say who may sign for a node.
    /// Without them it takes the certificate in the first header as it is.
    #[must_use]
    pub fn new(bundle: Option<&[u8]>) -> Self {
        Self {
            bundle_pem: bundle.map(<[u8]>::to_vec),
            known: Vec::new(),
            state: State::default(),
            report: Report::default(),
            torn: false,
        }
    }

    /// A checkpoint that was kept outside the log, one line; `origin` names it in the report. To be
    /// told before the first segment.
    ///
    /// # Errors
    /// When it is no checkpoint, or its signature is not that of the key it names.
    pub fn checkpoint(&mut self, origin: &str, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let parsed = Line::parse(line).map_err(|error| format!("{origin}: {error}"))?;
        let Line::Checkpoint(checkpoint) = parsed else {
            return Err(format!("{origin}: it is no checkpoint"));
        };
        if !is_signed(line, &checkpoint) {
            return Err(format!(
                "{origin}: its signature does not fit: it was changed"
            ));
        }
        self.known.push(Known {
            origin: origin.to_owned(),
            hash: Hash::of(line),
            checkpoint: *checkpoint,
            seen: false,
        });
        Ok(())
    }

    /// Something that makes the log broken before a line of it is read, such as a damaged checkpoint.
    pub fn reject(&mut self, place: &str, what: &str) {
        self.break_at(place, 0, what.to_owned());
    }

    /// The next segment, or several that were put together. If `name` is a segment's file name, it
    /// must be that segment.
    pub fn segment(&mut self, name: &str, bytes: &[u8]) {
        if self.torn {
            self.break_at(name, 0, "the segment before ends within a line".to_owned());
        }
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        let mut number = 0;
        while let Some(text) = lines.next() {
            let is_last = lines.peek().is_none();
            if is_last {
                self.torn = !text.is_empty();
                self.report.torn_bytes = text.len() as u64;
                break;
            }
            number += 1;
            if self.report.broken.is_some() {
                continue;
            }
            if let Err(what) = self.line(name, number, text) {
                self.break_at(name, number, what);
            }
        }
        if number == 0 && self.report.broken.is_none() && !self.torn {
            self.break_at(name, 0, "it is empty".to_owned());
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if self.report.broken.is_none()
            && let Err((place, what)) = self.close()
        {
            self.break_at(&place, 0, what);
        }
        self.state.tell(&mut self.report);
        self.report
    }

    fn break_at(&mut self, segment: &str, line: u64, what: String) {
        if self.report.broken.is_none() {
            let seq = self.state.seq() + 1;
            self.report.broken = Some(Break {
                segment: segment.to_owned(),
                line,
                seq,
                what,
            });
        }
    }

    fn line(&mut self, name: &str, number: u64, text: &[u8]) -> Result<(), String> {
        let line = Line::parse(text).map_err(|error| error.to_string())?;
        let hash = Hash::of(text);
        match &line {
            Line::Header(header) => {
                if let Some(wanted) = number_of(name)
                    && (wanted != header.segment || number != 1)
                {
                    return Err(format!(
                        "this is the header of segment {}: the file was put in another's place",
                        header.segment
                    ));
                }
                let voucher = self.header(header, text)?;
                self.state.header(header, voucher)?;
            }
            Line::Record(_) | Line::Batch(_) | Line::Checkpoint(_)
                if number == 1 && number_of(name).is_some() =>
            {
                return Err("the first line of a segment must be its header".to_owned());
            }
            Line::Record(record) => self.state.record(record)?,
            Line::Batch(batch) => {
                self.state.follows(batch.seq, batch.prev)?;
                self.state.signed(text, &batch.signature)?;
            }
            Line::Checkpoint(checkpoint) => {
                self.state.follows(checkpoint.seq, checkpoint.prev)?;
                self.state.owned_by(&checkpoint.node, &checkpoint.key)?;
                self.state.signed(text, &checkpoint.signature)?;
                self.state.marked(checkpoint);
            }
        }
        self.compare(&line, hash)?;
        self.state.advance(&line, hash);
        self.report.count(&line);
        Ok(())
    }

    /// Who vouches for the key in a header.
    fn header(&self, header: &Header, text: &[u8]) -> Result<Voucher, String> {
        let part = signed_part(text).unwrap_or_default();
        let bundle = match &self.bundle_pem {
            None => None,
            Some(pem) => {
                let domain = header.node.trust_domain().clone();
                let bundle = TrustBundle::from_pem(domain, 0, pem);
                Some(bundle.map_err(|error| format!("trust bundle: {error}"))?)
            }
        };
        state::voucher(header, part, bundle.as_ref())
    }

    /// Whether a line is the one that a known checkpoint stands at.
    fn compare(&mut self, line: &Line, hash: Hash) -> Result<(), String> {
        for known in &mut self.known {
            if known.checkpoint.seq != line.seq() {
                continue;
            }
            if known.hash != hash {
                return Err(format!(
                    "the checkpoint in {} has another line here: the log was forked",
                    known.origin
                ));
            }
            known.seen = true;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), (String, String)> {
        let end = || "end of the log".to_owned();
        if self.report.lines == 0 {
            return Err((end(), "there is no log".to_owned()));
        }
        self.state.start().map_err(|what| (end(), what))?;
        for known in &self.known {
            let at = known.checkpoint.seq;
            if known.seen {
                self.report.checkpoints_known += 1;
            } else if at > self.state.seq() {
                let what = format!(
                    "the log ends at line {} of it, before the checkpoint in {} at {at}: its end was cut off",
                    self.state.seq(),
                    known.origin
                );
                return Err((end(), what));
            } else if self.state.node() != Some(&known.checkpoint.node) {
                let what = format!("the checkpoint in {} is of another node", known.origin);
                return Err((end(), what));
            } else {
                self.report.checkpoints_too_old += 1;
            }
        }
        Ok(())
    }
}

/// Whether the key that a checkpoint names signed it.
fn is_signed(text: &[u8], checkpoint: &Checkpoint) -> bool {
    signed_part(text).is_some_and(|part| signed(&checkpoint.key, part, &checkpoint.signature))
}
