//! What of a segment is good when an agent starts: after a crash its end may be torn or unsigned.

use crate::{
    chain::Position,
    key::signed,
    line::{Hex, Line, signed_part},
};

/// The state of a segment that is to be written on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Every byte is good and signed.
    Whole(Position),
    /// The first `keep` bytes are good and signed; behind them is what a crash left.
    Torn {
        /// After the last signature.
        at: Position,
        /// Bytes to keep. 0: nothing of this segment was ever signed, the file can go.
        keep: usize,
        /// Lines behind them, a torn one included.
        lines: u64,
    },
    /// Signed lines were changed: the file is to stay as it is, for whoever looks into it.
    Damaged {
        /// After the last complete line, to go on from in a new segment.
        at: Position,
        /// One line.
        problem: String,
    },
}

/// Looks at the newest segment. Beside its state: the key that signs it, if that can be read.
#[must_use]
pub fn examine(bytes: &[u8]) -> (Tail, Option<Hex<32>>) {
    let lines: Vec<&[u8]> = complete_lines(bytes);
    let key = match lines.first().map(|text| Line::parse(text)) {
        Some(Ok(Line::Header(header))) => Some(header.key),
        Some(Ok(Line::Record(_) | Line::Batch(_) | Line::Checkpoint(_)) | Err(_)) | None => None,
    };
    (examine_with(bytes, &lines, key.as_ref()), key)
}

fn examine_with(bytes: &[u8], lines: &[&[u8]], key: Option<&Hex<32>>) -> Tail {
    let mut good = Position::START;
    let (mut keep, mut kept, mut offset) = (0, 0, 0);
    let mut at = Position::START;
    for (index, text) in lines.iter().enumerate() {
        match follow(index, text, at, key) {
            Ok(next) => at = next,
            // A crash leaves no signature behind what it tore: if there is one, somebody changed
            // what had been signed.
            Err(problem) if lines.iter().skip(index).any(|text| is_signature(text, key)) => {
                return Tail::Damaged {
                    at: end(lines, at),
                    problem: format!("line {}: {problem}", index + 1),
                };
            }
            Err(_) => break,
        }
        offset += text.len() + 1;
        if at.unsigned == 0 {
            (good, keep, kept) = (at, offset, index + 1);
        }
    }
    if keep == bytes.len() && keep > 0 {
        return Tail::Whole(good);
    }
    let torn = u64::from(!bytes.ends_with(b"\n") && !bytes.is_empty());
    Tail::Torn {
        at: good,
        keep,
        lines: (lines.len() - kept) as u64 + torn,
    }
}

/// The lines that end with a line feed, without it.
fn complete_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.pop();
    lines
}

fn follow(
    index: usize,
    text: &[u8],
    at: Position,
    key: Option<&Hex<32>>,
) -> Result<Position, String> {
    let line = Line::parse(text).map_err(|error| error.to_string())?;
    if let Line::Header(_) = &line {
        if index > 0 {
            return Err("it is a header, but not the first line".to_owned());
        }
    } else {
        if index == 0 {
            return Err("the first line is no header".to_owned());
        }
        if line.seq() != at.seq + 1 || line.prev() != at.hash {
            return Err("it does not follow the line before".to_owned());
        }
    }
    if matches!(line, Line::Batch(_) | Line::Checkpoint(_)) && !is_signature(text, key) {
        return Err("its signature is not the log's key's".to_owned());
    }
    Ok(at.after(&line, text))
}

/// Whether it is a line with a signature by `key`; without a known key, any.
fn is_signature(text: &[u8], key: Option<&Hex<32>>) -> bool {
    let signature = match Line::parse(text) {
        Ok(Line::Batch(batch)) => batch.signature,
        Ok(Line::Checkpoint(checkpoint)) => checkpoint.signature,
        Ok(Line::Header(_) | Line::Record(_)) | Err(_) => return false,
    };
    key.is_none_or(|key| signed_part(text).is_some_and(|part| signed(key, part, &signature)))
}

/// After the last line that can be read at all.
fn end(lines: &[&[u8]], known: Position) -> Position {
    let last = lines
        .iter()
        .rev()
        .find_map(|text| Some((Line::parse(text).ok()?, text)));
    last.map_or(known, |(line, text)| Position {
        segment: known.segment,
        unsigned: 0,
        ..known.after(&line, text)
    })
}
