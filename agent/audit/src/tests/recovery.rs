//! What is left of a segment at a start.

use super::*;
use crate::{
    line::Hex,
    recover::{Tail, examine},
};

fn written() -> (Writer, Hex<32>) {
    let mut writer = Writer::new(World::new().node("a"));
    writer.fill(1, 2);
    let Line::Header(header) = parsed(&writer.log.lines()[0]) else {
        panic!("no header first")
    };
    (writer, header.key)
}

#[test]
fn a_signed_end_is_gone_on_from() {
    let (writer, key) = written();
    let at = writer.chain.position();
    assert_eq!(
        examine(&writer.log.segments[0]),
        (Tail::Whole(at), Some(key))
    );
}

#[test]
fn any_cut_leaves_what_was_signed_and_the_log_goes_on_whole() {
    let (mut writer, key) = written();
    writer.record(opened(1));
    writer.record(opened(2));
    let bytes = writer.log.segments[0].clone();
    for cut in (0..=bytes.len()).step_by(37).chain([bytes.len()]) {
        let torn = &bytes[..cut];
        let (tail, _) = examine(torn);
        let (at, keep) = match tail {
            Tail::Whole(at) => (at, torn.len()),
            Tail::Torn { at, keep, lines } => {
                let behind = torn[keep..].split(|byte| *byte == b'\n');
                let behind = behind.filter(|line| !line.is_empty()).count();
                assert_eq!(lines, behind as u64, "cut at {cut}");
                (at, keep)
            }
            Tail::Damaged { problem, .. } => panic!("a crash is no damage: {problem}"),
        };
        if keep == 0 {
            assert_eq!(at, Position::START);
            continue;
        }
        let mut log = Log {
            segments: vec![torn[..keep].to_vec()],
            checkpoint: None,
        };
        assert_whole(&log.verify(None));
        // A new agent with the same key goes on there.
        writer.chain.rewind(at);
        let line = writer
            .chain
            .record(Moment::default(), Facts::new(Event::Recovered));
        let signature = writer.chain.batch(Moment::default()).unwrap();
        log.segments[0].extend([line, signature].concat());
        let report = log.verify(None);
        assert_whole(&report);
        assert_eq!(report.key, Some(key));
    }
}

#[test]
fn garbage_of_a_crash_is_cut_and_a_change_of_what_was_signed_is_not() {
    let (writer, _) = written();
    let good = &writer.log.segments[0];
    let zeros = [good.as_slice(), &[0; 512]].concat();
    assert!(matches!(examine(&zeros).0, Tail::Torn { keep, lines: 1, .. } if keep == good.len()));
    assert!(matches!(
        examine(b"").0,
        Tail::Torn {
            keep: 0,
            lines: 0,
            ..
        }
    ));
    assert!(matches!(
        examine(&[0; 99]).0,
        Tail::Torn {
            keep: 0,
            lines: 1,
            ..
        }
    ));

    for index in [0, good.len() / 3, good.len() / 2] {
        let mut changed = good.clone();
        changed[index] ^= 1;
        let Tail::Damaged { at, problem } = examine(&changed).0 else {
            panic!("byte {index} was not missed")
        };
        assert_eq!(at.seq, writer.chain.position().seq);
        assert_eq!(at.hash, writer.chain.position().hash);
        assert!(problem.contains("line"), "{problem}");
    }
}
