use std::{
    fs,
    path::Path,
    sync::mpsc::{self, SyncSender},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use signet_audit::{chain::Moment, verify::Verdict};
use signet_telemetry::Catalog;

use super::*;
use crate::audit::files::tests::{setup, verify};

struct Stage {
    writer: Writer,
    catalog: Catalog,
    health: Health,
    left: Arc<Left>,
}

fn stage(data: &Path) -> Stage {
    let mut catalog = Catalog::default();
    let (health, left) = (Health::new(), Arc::new(Left::default()));
    let writer = Writer::new(
        setup(data),
        TimeSource::new(crate::clock::boot, 1_900_000_000_000),
        Metrics::new(&mut catalog),
        health.clone(),
        Arc::clone(&left),
    );
    Stage {
        writer,
        catalog,
        health,
        left,
    }
}

impl Stage {
    fn metric(&self, name: &str) -> u64 {
        let text = self.catalog.encode().unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    fn fine(&self) -> bool {
        let checks = self.health.checks();
        checks.iter().any(|check| check.name == "audit" && check.ok)
    }

    /// As if the time to try again had come.
    fn retry(&mut self) {
        if let State::Closed { retry_at, .. } = &mut self.writer.state {
            *retry_at = Instant::now();
        }
        self.writer.work();
    }

    fn write(&mut self, records: usize) {
        for _ in 0..records {
            self.writer.record(Facts::new(Event::Opened));
        }
        self.writer.flush();
        self.writer.sign();
    }
}

fn message() -> Message {
    Message {
        at: Moment::default(),
        facts: Box::new(Facts::new(Event::Opened)),
    }
}

/// Runs until `sender` is dropped by `with`.
fn run(stage: &mut Stage, with: impl FnOnce(SyncSender<Message>) + Send) {
    let (sender, messages) = mpsc::sync_channel(64);
    thread::scope(|scope| {
        scope.spawn(move || with(sender));
        stage.writer.run(&messages);
    });
}

#[test]
fn a_stopped_writer_leaves_a_signed_log_with_a_checkpoint_at_its_end() {
    let root = tempfile::tempdir().unwrap();
    let mut stage = stage(root.path());
    stage.left.behind.store(4, Ordering::Relaxed);
    run(&mut stage, |sender| {
        for _ in 0..200 {
            sender.send(message()).unwrap();
        }
    });
    let report = verify(&root.path().join("audit"));
    assert_eq!(report.verdict(), Verdict::Whole, "{:?}", report.broken);
    assert_eq!((report.records["opened"], report.records["lost"]), (200, 1));
    assert_eq!(
        (report.records["started"], report.records["stopped"]),
        (1, 1)
    );
    assert_eq!((report.after_mark, report.checkpoints), (0, 1));
    assert!(stage.fine());
    assert_eq!(stage.metric("signet_audit_up"), 1);
    assert_eq!(stage.metric("signet_audit_records_total"), 203);
    assert_eq!(stage.metric("signet_audit_lost_records_total"), 4);
}

#[test]
fn a_batch_is_signed_though_nothing_more_comes() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("audit");
    let mut stage = stage(root.path());
    run(&mut stage, |sender| {
        sender.send(message()).unwrap();
        // The sender is still there: only the clock can make it sign.
        let start = Instant::now();
        loop {
            if !folder.join(signet_audit::segment::file_name(1)).exists() {
                continue;
            }
            let report = verify(&folder);
            if report.verdict() == Verdict::Whole && report.records.contains_key("opened") {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{report:?}");
            thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn an_unwritable_folder_is_told_and_the_log_begins_when_it_can() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("audit");
    fs::write(&folder, b"in the way").unwrap();
    let mut stage = stage(root.path());
    stage.writer.work();
    stage.write(3);
    assert!(!stage.fine());
    assert_eq!(stage.metric("signet_audit_up"), 0);
    assert_eq!(stage.metric("signet_audit_lost_records_total"), 3);
    fs::remove_file(&folder).unwrap();
    stage.retry();
    stage.write(1);
    assert!(stage.fine());
    let report = verify(&folder);
    assert_eq!(report.verdict(), Verdict::Whole, "{:?}", report.broken);
    assert_eq!((report.records["started"], report.records["lost"]), (1, 1));
    assert_eq!(report.records["opened"], 1);
}

#[test]
fn a_full_disk_loses_records_and_never_the_log() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a full disk: needs root to mount one");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    // A disk of 128 KiB that only this thread sees.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let disk = mount(
        Some("disk"),
        root.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=128k"),
    );
    disk.unwrap();
    let folder = root.path().join("audit");
    let mut stage = stage(root.path());
    stage.writer.work();
    stage.write(10);
    let good = stage.metric("signet_audit_records_total");
    fs::write(root.path().join("ballast"), vec![0; 100 << 10]).unwrap();
    while matches!(stage.writer.state, State::Open(_)) {
        stage.write(10);
    }
    let full = stage.metric("signet_audit_records_total");
    assert!(full >= good);
    stage.write(7);
    assert!(!stage.fine());
    assert_eq!(stage.metric("signet_audit_up"), 0);
    // Still full: it fails again, and says nothing more.
    stage.retry();
    assert!(matches!(
        stage.writer.state,
        State::Closed { told: true, .. }
    ));

    fs::remove_file(root.path().join("ballast")).unwrap();
    stage.retry();
    stage.write(5);
    assert!(stage.fine());
    let report = verify(&folder);
    assert_eq!(report.verdict(), Verdict::Whole, "{:?}", report.broken);
    let lost = stage.metric("signet_audit_lost_records_total");
    assert!(lost >= 7, "{lost}");
    let text: String = (1..9)
        .filter_map(|n| fs::read_to_string(folder.join(signet_audit::segment::file_name(n))).ok())
        .collect();
    assert!(text.contains(&format!(
        "\"event\":\"lost\",\"reason\":\"the log could not be written\",\"count\":{lost}}}"
    )));
    umount2(root.path(), MntFlags::MNT_DETACH).unwrap();
}
