//! 10,000 random tamperings. Each is found, but for one kind that nothing can find: cutting the end
//! off behind the last checkpoint.

use signet_crypto::random::{Random as _, SeededRandom};

use super::*;

const TAMPERINGS: usize = 10_000;

struct Dice(SeededRandom);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        (u64::from_be_bytes(self.0.bytes()) % end as u64) as usize
    }

    /// Two places with the first not behind the second.
    fn range(&mut self, end: usize) -> (usize, usize) {
        let (one, other) = (self.below(end), self.below(end));
        (one.min(other), one.max(other))
    }
}

/// The log that is tampered with; another of another node, and one that the same key wrote from
/// the middle on.
struct Stage {
    log: Log,
    other: Log,
    fork: Log,
    /// Bytes up to and with the last checkpoint.
    marked: usize,
}

fn stage(world: &World) -> Stage {
    let mut writer = Writer::new(world.node("a"));
    writer.fill(2, 2);
    let (at, so_far) = (writer.chain.position(), writer.log.clone());
    writer.fill(2, 2);
    let log = writer.log.clone();
    writer.chain.rewind(at);
    writer.log = so_far;
    writer.clock += 1_000;
    writer.fill(2, 2);
    let mut other = Writer::new(world.node("b"));
    other.fill(4, 2);
    let joined = log.joined();
    let line = log.checkpoint.clone().unwrap();
    let marked = joined.windows(line.len()).position(|part| part == line);
    Stage {
        marked: marked.unwrap() + line.len(),
        log,
        other: other.log,
        fork: writer.log,
    }
}

const KINDS: [&str; 14] = [
    "flip a bit",
    "change a byte",
    "flip a bit of the checkpoint",
    "delete a line",
    "delete lines",
    "swap two lines",
    "repeat a line",
    "move a line",
    "delete a segment",
    "swap two segments",
    "repeat a segment",
    "splice with another node's log",
    "fork",
    "cut the end",
];

fn tamper(kind: &str, stage: &Stage, dice: &mut Dice) -> Log {
    let mut log = stage.log.clone();
    let segments = log.segments.len();
    let s = dice.below(segments);
    let mut lines: Vec<Vec<u8>> = log.segments[s]
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let n = lines.len();
    match kind {
        "flip a bit" => {
            let at = dice.below(log.segments[s].len());
            log.segments[s][at] ^= 1 << dice.below(8);
            return log;
        }
        "change a byte" => {
            let at = dice.below(log.segments[s].len());
            log.segments[s][at] = dice.below(256) as u8;
            return log;
        }
        "flip a bit of the checkpoint" => {
            let line = log.checkpoint.as_mut().unwrap();
            // Without its line feed, which says nothing.
            let at = dice.below(line.len() - 1);
            line[at] ^= 1 << dice.below(8);
            return log;
        }
        "delete a line" => drop(lines.remove(dice.below(n))),
        "delete lines" => {
            let (from, to) = dice.range(n);
            lines.drain(from..=to);
        }
        "swap two lines" => {
            let (one, other) = (dice.below(n), dice.below(n));
            lines.swap(one, other);
        }
        "repeat a line" => {
            let line = lines[dice.below(n)].clone();
            lines.insert(dice.below(n + 1), line);
        }
        "move a line" => {
            let line = lines.remove(dice.below(n));
            lines.insert(dice.below(n), line);
        }
        "delete a segment" => {
            log.segments.remove(s);
            return log;
        }
        "swap two segments" => {
            let other = dice.below(segments);
            log.segments.swap(s, other);
            return log;
        }
        "repeat a segment" => {
            let segment = log.segments[s].clone();
            log.segments.insert(dice.below(segments + 1), segment);
            return log;
        }
        "splice with another node's log" => {
            let theirs = stage.other.segments[dice.below(segments)].clone();
            if dice.below(3) == 0 {
                log.segments[s] = theirs;
                return log;
            }
            let theirs: Vec<Vec<u8>> = theirs
                .split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            let (from, to) = dice.range(n);
            let (their_from, their_to) = dice.range(theirs.len());
            lines.splice(from..=to, theirs[their_from..=their_to].iter().cloned());
        }
        "fork" => {
            // Some segments or lines of the other history, or its end instead of ours.
            if dice.below(2) == 0 {
                let from = dice.below(segments);
                log.segments.truncate(from);
                log.segments.extend_from_slice(&stage.fork.segments[from..]);
                return log;
            }
            let theirs = stage.fork.lines();
            let at = dice.below(n + 1);
            let line = theirs[dice.below(theirs.len())].clone();
            if at < n && dice.below(2) == 0 {
                lines[at] = line;
            } else {
                lines.insert(at, line);
            }
        }
        "cut the end" => {
            let keep = dice.below(log.joined().len());
            return cut(&log, keep);
        }
        other => panic!("{other}?"),
    }
    log.segments[s] = lines.concat();
    log
}

/// The first `keep` bytes; segments of which nothing is left are gone.
fn cut(log: &Log, keep: usize) -> Log {
    let mut left = keep;
    let mut segments = Vec::new();
    for segment in &log.segments {
        let part = left.min(segment.len());
        left -= part;
        if part > 0 {
            segments.push(segment[..part].to_vec());
        }
    }
    Log {
        segments,
        checkpoint: log.checkpoint.clone(),
    }
}

#[test]
fn ten_thousand_random_tamperings_are_found() {
    let world = World::new();
    let bundle = world.bundle();
    let stage = stage(&world);
    assert_whole(&stage.log.verify(Some(&bundle)));
    assert_whole(&stage.other.verify(Some(&bundle)));
    assert_whole(&stage.fork.verify(Some(&bundle)));
    let original = stage.log.joined();
    assert!(stage.marked < original.len(), "lines behind the checkpoint");

    let mut dice = Dice(SeededRandom::new(20_260_520));
    let (mut done, mut unseen) = (0, 0);
    while done < TAMPERINGS {
        let kind = KINDS[done % KINDS.len()];
        let log = tamper(kind, &stage, &mut dice);
        if log == stage.log {
            continue;
        }
        done += 1;
        let report = log.verify(Some(&bundle));
        let joined = log.joined();
        let cut_behind_mark = log.checkpoint == stage.log.checkpoint
            && joined.len() >= stage.marked
            && original.starts_with(&joined);
        if report.verdict() == Verdict::Whole {
            assert!(cut_behind_mark, "{kind} was not found");
            assert_eq!(report.mark.map(|mark| mark.seq), Some(last_mark(&stage)));
            unseen += 1;
        } else if report.verdict() == Verdict::Unsigned {
            assert!(report.unsigned > 0 || report.torn_bytes > 0);
        }
    }
    assert!(unseen < TAMPERINGS / 100, "{unseen} cuts were exempt");
    println!(
        "{} tamperings found; {unseen} cuts behind the last checkpoint cannot be",
        done - unseen
    );
}

fn last_mark(stage: &Stage) -> u64 {
    parsed(&stage.log.checkpoint.clone().unwrap()).seq()
}

#[test]
fn a_cut_behind_the_last_checkpoint_is_the_one_thing_that_is_not_seen() {
    let world = World::new();
    let stage = stage(&world);
    let original = stage.log.joined();
    let mut ends = 0;
    for (at, byte) in original.iter().enumerate() {
        if *byte != b'\n' || at + 1 == original.len() {
            continue;
        }
        let verdict = cut(&stage.log, at + 1).verify(None).verdict();
        if at + 1 < stage.marked {
            assert_eq!(verdict, Verdict::Broken, "cut at {at}");
        }
        ends += usize::from(verdict == Verdict::Whole);
    }
    // After the checkpoint itself, and after nothing else: what follows is one batch.
    assert_eq!(ends, 1);
}
