use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use rustls_pki_types::UnixTime;
use signet_audit::verify::{Report, Verdict, Verifier};
use signet_crypto::{
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    x509::{
        build::{LeafSpec, RootAuthority},
        csr,
        profile::Purpose,
    },
};

use super::*;

const START: Why = Why {
    start: true,
    lost: 0,
};

const NOW: Moment = Moment {
    wall_ms: 1_900_000_000_000,
    boot_ms: 77,
};

fn svid() -> X509Svid {
    let domain = TrustDomain::new("td.test").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_millis(NOW.wall_ms));
    let root = RootAuthority::generate(&domain, now, Duration::from_secs(9000)).unwrap();
    let issuing = root
        .issue_intermediate(now, Duration::from_secs(8000))
        .unwrap();
    let id = SpiffeId::node(&domain, "a").unwrap();
    let key = SvidKey::generate().unwrap();
    let spec = LeafSpec {
        public_key: csr::parse(&key.csr(&id).unwrap()).unwrap(),
        id,
        purpose: Purpose::NodeAgent,
        binding: None,
        not_before: now,
        not_after: UnixTime::since_unix_epoch(Duration::from_millis(NOW.wall_ms + 60_000)),
        serial: [1; 16],
    };
    X509Svid::new(issuing.issue_leaf(&spec).unwrap(), key).unwrap()
}

pub(in crate::audit) fn setup(data: &Path) -> Setup {
    let svid = svid();
    Setup {
        folder: data.join("audit"),
        key: data.join("audit.key"),
        owner: Owner {
            node: svid.id().clone(),
            boot_id: "boot".to_owned(),
        },
        svid: SvidStore::new(svid),
        segment: 16_384,
        keep: 1 << 20,
    }
}

pub(in crate::audit) fn verify(folder: &Path) -> Report {
    let mut verifier = Verifier::new(None);
    if let Some(line) = read(&folder.join(CHECKPOINT_FILE)).unwrap() {
        verifier.checkpoint(CHECKPOINT_FILE, &line).unwrap();
    }
    for number in sizes(folder).unwrap().into_keys() {
        let name = file_name(number);
        verifier.segment(&name, &fs::read(folder.join(&name)).unwrap());
    }
    verifier.finish()
}

fn whole(setup: &Setup) -> Report {
    let report = verify(&setup.folder);
    assert_eq!(report.verdict(), Verdict::Whole, "{:?}", report.broken);
    report
}

fn broken(setup: &Setup) -> String {
    let report = verify(&setup.folder);
    let found = report.broken.unwrap();
    format!("{} {} {}", found.segment, found.line, found.what)
}

fn write(log: &mut Log, setup: &Setup, records: usize) {
    for _ in 0..records {
        log.make_room(setup, NOW).unwrap();
        log.record(NOW, Facts::new(Event::Opened));
    }
    log.sign(NOW).unwrap();
}

#[test]
fn a_log_is_private_and_goes_on_under_the_same_key_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 2);
    let line = log.checkpoint(&setup, NOW).unwrap().unwrap();
    assert_eq!(log.checkpoint(&setup, NOW).unwrap(), None);
    assert_eq!(log.take_signed(), 3);
    drop(log);
    let key = whole(&setup).key;
    assert_eq!(
        read(&setup.folder.join(CHECKPOINT_FILE)).unwrap(),
        Some(line)
    );
    for (path, mode) in [
        (setup.folder.clone(), 0o700),
        (setup.key.clone(), 0o600),
        (setup.folder.join(file_name(1)), 0o600),
        (setup.folder.join(CHECKPOINT_FILE), 0o600),
    ] {
        let found = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }

    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 1);
    let report = whole(&setup);
    assert_eq!((report.segments, report.key), (1, key));
    assert_eq!(
        (report.records["started"], report.records["opened"]),
        (2, 3)
    );
    assert!(!report.records.contains_key("recovered"));
}

#[test]
fn segments_follow_each_other_and_the_oldest_go() {
    let root = tempfile::tempdir().unwrap();
    let setup = Setup {
        keep: 60_000,
        ..setup(root.path())
    };
    let mut log = Log::open(&setup, START, NOW).unwrap();
    for _ in 0..60 {
        write(&mut log, &setup, 5);
        let on_disk: u64 = sizes(&setup.folder).unwrap().values().sum();
        assert_eq!(log.size().0, on_disk);
        // What a batch is longer than the segment.
        assert!(on_disk <= setup.keep + 2048, "{on_disk}");
    }
    log.checkpoint(&setup, NOW).unwrap();
    let report = whole(&setup);
    assert!(report.pruned > 0 && report.segments > 2, "{report:?}");
    drop(log);
    Log::open(&setup, START, NOW).unwrap();
    assert!(whole(&setup).last > report.last);
}

#[test]
fn what_a_crash_tore_is_cut_and_the_log_says_so() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 1);
    let signed = log.position().seq;
    log.record(NOW, Facts::new(Event::Opened));
    log.record(NOW, Facts::new(Event::Closed));
    // Dies in the middle of the second line.
    log.pending.truncate(log.pending.len() - 20);
    log.flush().unwrap();
    drop(log);
    assert_eq!(verify(&setup.folder).verdict(), Verdict::Unsigned);

    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 1);
    let report = whole(&setup);
    assert_eq!(report.records["recovered"], 1);
    assert_eq!(
        (report.records["opened"], report.records.get("closed")),
        (2, None)
    );
    let text = fs::read_to_string(setup.folder.join(file_name(1))).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("recovered"))
        .unwrap();
    assert!(line.contains("\"count\":2"), "{line}");
    assert!(line.contains(&format!("\"seq\":{},", signed + 1)), "{line}");
}

#[test]
fn a_segment_of_which_nothing_was_signed_is_begun_again() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    drop(Log::open(&setup, START, NOW).unwrap());
    for (number, bytes) in [(2, &b""[..]), (2, b"{\"kind\":\"header\",\"se")] {
        fs::write(setup.folder.join(file_name(number)), bytes).unwrap();
        drop(Log::open(&setup, START, NOW).unwrap());
        assert_eq!(sizes(&setup.folder).unwrap().len(), 1);
        whole(&setup);
    }
}

#[test]
fn a_damaged_log_is_left_as_it_is_and_stays_broken() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 3);
    drop(log);
    let path = setup.folder.join(file_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|part| part == b"opened").unwrap();
    bytes[at] = b'O';
    fs::write(&path, &bytes).unwrap();
    for start in 2..4 {
        drop(Log::open(&setup, START, NOW).unwrap());
        assert_eq!(fs::read(&path).unwrap(), bytes, "the evidence was changed");
        assert_eq!(sizes(&setup.folder).unwrap().len(), 2, "start {start}");
        let found = broken(&setup);
        assert!(found.starts_with("segment-00000001.log"), "{found}");
    }
    // The agent says it too, for whoever has only what came after.
    let text = fs::read_to_string(setup.folder.join(file_name(2))).unwrap();
    assert!(text.contains("\"event\":\"damaged\""), "{text}");
}

#[test]
fn an_end_before_the_checkpoint_leaves_a_hole_that_stays() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    let mut log = Log::open(&setup, START, NOW).unwrap();
    let path = setup.folder.join(file_name(1));
    let early = fs::read(&path).unwrap();
    write(&mut log, &setup, 3);
    log.checkpoint(&setup, NOW).unwrap();
    drop(log);
    fs::write(&path, &early).unwrap();
    let mut log = Log::open(&setup, START, NOW).unwrap();
    write(&mut log, &setup, 1);
    log.checkpoint(&setup, NOW).unwrap();
    let found = broken(&setup);
    assert!(found.contains("lines are missing"), "{found}");
}

#[test]
fn a_lost_key_means_a_new_segment_and_a_damaged_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    drop(Log::open(&setup, START, NOW).unwrap());
    fs::write(&setup.key, b"junk").unwrap();
    let error = Log::open(&setup, START, NOW).err().unwrap();
    assert!(
        error.contains("audit.key") && error.contains("remove it"),
        "{error}"
    );
    fs::remove_file(&setup.key).unwrap();
    drop(Log::open(&setup, START, NOW).unwrap());
    assert_eq!(sizes(&setup.folder).unwrap().len(), 2);
    assert!(broken(&setup).contains("another key"));
}
