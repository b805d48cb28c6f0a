//! What the verifier says of logs that are as they should be, and of those that are not.

use proptest::prelude::*;

use super::*;
use crate::verify::Verifier;

fn full(world: &World) -> Writer {
    let mut writer = Writer::new(world.node("a"));
    writer.fill(3, 3);
    writer
}

fn what(report: &Report) -> &str {
    report
        .broken
        .as_ref()
        .map_or("nothing", |found| &found.what)
}

#[test]
fn a_log_as_it_was_written_is_whole_and_says_who_talked() {
    let world = World::new();
    let writer = full(&world);
    for bundle in [None, Some(world.bundle())] {
        let report = writer.log.verify(bundle.as_deref());
        assert_whole(&report);
        assert_eq!((report.segments, report.last), (3, report.lines));
        assert_eq!(report.proven, report.last);
        assert_eq!((report.checkpoints_known, report.after_mark), (1, 0));
        assert_eq!(report.pairs.len(), 1);
        let pair = &report.pairs[0];
        assert_eq!(pair.local, Some(workload("web")));
        assert_eq!(pair.remote, Some(workload("db")));
        assert_eq!(pair.records["opened"], 27);
        assert_eq!(report.vouchers.len(), 1);
        assert_eq!(report.vouchers[0].checked, bundle.is_some());
        assert_eq!(report.node.as_ref(), Some(writer.svid.id()));
    }
    // The same as one file, as `audit export` gives it.
    let mut verifier = Verifier::new(None);
    verifier.segment("export", &writer.log.joined());
    assert_whole(&verifier.finish());
}

#[test]
fn what_nobody_signed_is_said_and_not_taken() {
    let mut writer = full(&World::new());
    writer.record(opened(1));
    let report = writer.log.verify(None);
    assert_eq!(report.verdict(), Verdict::Unsigned);
    assert_eq!((report.unsigned, report.proven), (1, report.last - 1));
    writer.batch();
    assert_whole(&writer.log.verify(None));
    writer.push(b"{\"kind\":\"rec");
    let report = writer.log.verify(None);
    assert_eq!(
        (report.verdict(), report.torn_bytes),
        (Verdict::Unsigned, 12)
    );
}

#[test]
fn the_end_may_be_cut_behind_the_last_checkpoint_only() {
    let mut writer = full(&World::new());
    let marked = writer.log.clone();
    writer.record(opened(1));
    writer.batch();
    // Nobody can see this; the report says how many lines are in that place.
    assert_eq!(writer.log.verify(None).after_mark, 2);
    assert_whole(&marked.verify(None));
    // A checkpoint kept elsewhere sees it.
    writer.checkpoint();
    assert_eq!(writer.log.verify(None).after_mark, 0);
    let length = writer.log.joined().len();
    writer.checkpoint();
    assert_eq!(writer.log.joined().len(), length, "nothing new to mark");
    let cut = Log {
        checkpoint: writer.log.checkpoint.clone(),
        ..marked
    };
    assert!(what(&cut.verify(None)).contains("its end was cut off"));
}

#[test]
fn whoever_has_the_nodes_key_cannot_change_what_a_checkpoint_covers() {
    let world = World::new();
    let mut writer = full(&world);
    let at = writer.chain.position();
    let before = writer.log.clone();
    writer.record(opened(1));
    writer.checkpoint();
    let kept = writer.log.checkpoint.clone();
    // The same key writes another history from there.
    writer.chain.rewind(at);
    writer.log = before;
    writer.record(opened(2));
    writer.checkpoint();
    assert_whole(&writer.log.verify(None));
    writer.log.checkpoint = kept;
    let bundle = world.bundle();
    assert!(what(&writer.log.verify(Some(&bundle))).contains("forked"));
}

#[test]
fn a_stranger_cannot_go_on_with_the_log_or_make_one() {
    let world = World::new();
    let bundle = world.bundle();
    let stranger = World::new().node("a");
    let mut forged = Writer::new(stranger.clone());
    forged.fill(1, 1);
    assert_whole(&forged.log.verify(None));
    assert!(what(&forged.log.verify(Some(&bundle))).contains("was not the node's"));

    let mut writer = full(&world);
    let key = SigningKey::generate().unwrap();
    writer.chain = Chain::new(key, owner(&stranger), writer.chain.position());
    writer.svid = stranger;
    writer.segment();
    writer.record(opened(1));
    writer.batch();
    assert!(what(&writer.log.verify(None)).contains("another key"));
    assert!(what(&writer.log.verify(Some(&bundle))).contains("was not the node's"));
}

#[test]
fn a_node_that_lost_its_key_goes_on_with_another_if_a_bundle_vouches_for_it() {
    let world = World::new();
    let mut writer = full(&world);
    let at = writer.chain.position();
    writer.chain = Chain::new(SigningKey::generate().unwrap(), owner(&writer.svid), at);
    writer.svid = world.node("a");
    writer.segment();
    writer.record(opened(1));
    writer.checkpoint();
    assert!(what(&writer.log.verify(None)).contains("another key"));
    let report = writer.log.verify(Some(&world.bundle()));
    assert_whole(&report);
    assert_eq!(report.vouchers.len(), 2);
}

#[test]
fn another_nodes_svid_or_a_workloads_vouches_for_nobody() {
    let world = World::new();
    let bundle = world.bundle();
    let mut writer = Writer::new(world.node("a"));
    writer.svid = world.node("b");
    writer.fill(1, 1);
    assert!(what(&writer.log.verify(Some(&bundle))).contains("was not the node's"));
}

#[test]
fn the_oldest_may_be_gone_if_the_log_says_so() {
    let mut writer = full(&World::new());
    let second = parsed(
        &writer.log.lines()[writer.log.segments[0].split(|byte| *byte == b'\n').count() - 1],
    )
    .seq();
    let later = |log: &Log| {
        Log {
            segments: log.segments[1..].to_vec(),
            ..log.clone()
        }
        .verify_as((2..9).map(file_name), None)
    };
    assert!(what(&later(&writer.log)).contains("nothing in it says"));
    writer.record(Facts {
        through: Some(second - 1),
        ..Facts::new(Event::Pruned)
    });
    // Not before it is signed.
    assert!(what(&later(&writer.log)).contains("nothing in it says"));
    writer.batch();
    let report = later(&writer.log);
    assert_whole(&report);
    assert_eq!(report.pruned, second - 1);
    let more = Log {
        segments: writer.log.segments[2..].to_vec(),
        ..writer.log.clone()
    };
    let report = more.verify_as((3..9).map(file_name), None);
    assert!(what(&report).contains("nothing in it says"));
}

#[test]
fn what_the_agent_found_damaged_stays_broken() {
    let mut writer = full(&World::new());
    writer.record(Facts::counted(Event::Damaged, 0, "line 3: it is no line"));
    writer.batch();
    assert!(what(&writer.log.verify(None)).contains("line 3: it is no line"));
}

#[test]
fn a_break_names_its_place() {
    let writer = full(&World::new());
    let mut log = writer.log.clone();
    let text = String::from_utf8(log.segments[1].clone()).unwrap();
    log.segments[1] = text
        .replacen("\"local_pod\":\"web-100\"", "\"local_pod\":\"web-101\"", 1)
        .into();
    assert_ne!(log.segments[1], writer.log.segments[1]);
    let found = log.verify(None).broken.unwrap();
    // The line after the changed one is the first that does not fit.
    assert_eq!(
        (found.segment.as_str(), found.line),
        ("segment-00000002.log", 3)
    );
    let before = writer.log.segments[0].split(|byte| *byte == b'\n').count() as u64 - 1;
    assert_eq!(found.seq, before + 3);
}

#[test]
fn a_checkpoint_that_was_changed_or_is_anothers_is_refused() {
    let world = World::new();
    let writer = full(&world);
    let mut other = Writer::new(world.node("b"));
    other.fill(1, 1);
    let mut log = writer.log.clone();
    log.checkpoint = other.log.checkpoint.clone();
    assert_eq!(log.verify(None).verdict(), Verdict::Broken);
    let mut verifier = Verifier::new(None);
    let mut line = writer.log.checkpoint.clone().unwrap();
    line[40] ^= 1;
    verifier.checkpoint("x", &line).unwrap_err();
    verifier.checkpoint("x", b"").unwrap_err();
    verifier
        .checkpoint("x", &writer.log.lines()[1])
        .unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_makes_the_verifier_or_the_repair_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..4000) {
        let mut verifier = Verifier::new(Some(&bytes));
        let _ = verifier.checkpoint("x", &bytes);
        verifier.segment(&file_name(1), &bytes);
        let _ = verifier.finish();
        let _ = crate::recover::examine(&bytes);
        thread_local! { static LOG: Vec<u8> = { let mut writer = Writer::new(World::new().node("a")); writer.fill(1, 1); writer.log.joined() } }
        LOG.with(|log| {
            let cut = cut.min(log.len());
            let mixed = [&log[..cut], &bytes, &log[cut..]].concat();
            let mut verifier = Verifier::new(None);
            verifier.segment(&file_name(1), &mixed);
            let report = verifier.finish();
            let _ = crate::recover::examine(&mixed);
            if !bytes.is_empty() {
                assert_ne!(report.verdict(), Verdict::Whole);
            }
        });
    }
}
