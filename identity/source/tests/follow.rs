//! A directory that changes while it is watched: by renames, in place, badly.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use common::{BASE, base, pod, put};
use signet_source::{Snapshot, Watcher};

const PATIENCE: Duration = Duration::from_secs(20);

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .pods
        .keys()
        .map(|(_, name)| name.as_str())
        .collect()
}

fn address(snapshot: &Snapshot, name: &str) -> String {
    snapshot.pods[&("shop".to_owned(), name.to_owned())].addresses[0].to_string()
}

fn problems(snapshot: &Snapshot) -> Vec<String> {
    snapshot.problems.iter().map(ToString::to_string).collect()
}

fn follow(dir: &Path) -> Watcher {
    let watcher = Watcher::open(dir).unwrap();
    assert_eq!(watcher.deaf(), None);
    watcher
}

#[test]
fn pods_come_change_and_go() {
    let dir = base();
    let mut watcher = follow(dir.path());
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.5"));
    assert_eq!(names(&watcher.wait(PATIENCE).unwrap()), ["web"]);
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.6"));
    assert_eq!(address(&watcher.wait(PATIENCE).unwrap(), "web"), "10.1.1.6");
    fs::write(
        dir.path().join("web.yaml"),
        pod("web", "p1", "a", "10.1.1.7"),
    )
    .unwrap();
    assert_eq!(address(&watcher.wait(PATIENCE).unwrap(), "web"), "10.1.1.7");
    fs::remove_file(dir.path().join("web.yaml")).unwrap();
    assert!(names(&watcher.wait(PATIENCE).unwrap()).is_empty());
    assert!(watcher.poll().is_none(), "nothing happened since");
}

#[test]
fn a_file_that_goes_bad_changes_nothing_but_is_said_until_mended() {
    let dir = base();
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.5"));
    let mut watcher = follow(dir.path());
    for (bad, said) in [
        ("a: [", "web.yaml: not YAML"),
        ("", "web.yaml: became empty; delete the file"),
        ("kind: Nonsense", "web.yaml: Nonsense (unnamed): kind"),
    ] {
        put(dir.path(), "web.yaml", bad);
        let snapshot = watcher.wait(PATIENCE).unwrap();
        assert_eq!(names(&snapshot), ["web"], "{bad:?}");
        assert!(
            problems(&snapshot)[0].starts_with(said),
            "{:?}",
            snapshot.problems
        );
    }
    // Another file goes on meanwhile.
    put(dir.path(), "job.yaml", &pod("job", "p2", "b", "10.1.2.5"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (names(&snapshot), snapshot.problems.len()),
        (vec!["job", "web"], 1)
    );

    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.9"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (address(&snapshot, "web").as_str(), snapshot.problems.len()),
        ("10.1.1.9", 0)
    );
}

#[test]
fn a_newcomer_with_a_taken_address_is_refused_and_the_holder_stays() {
    let dir = base();
    put(
        dir.path(),
        "zz-first.yaml",
        &pod("first", "p1", "a", "10.1.1.5"),
    );
    let mut watcher = follow(dir.path());
    // Sorts before the holder's file, and still loses.
    put(
        dir.path(),
        "aa-second.yaml",
        &pod("second", "p2", "a", "10.1.1.5"),
    );
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(names(&snapshot), ["first"]);
    assert_eq!(
        problems(&snapshot),
        [
            "aa-second.yaml: Pod shop/second: address 10.1.1.5 is already that of Pod shop/first; give each its own"
        ]
    );
    // Nor can a pod that is there take it: it keeps what it had.
    put(
        dir.path(),
        "aa-second.yaml",
        &pod("second", "p2", "a", "10.1.1.6"),
    );
    assert_eq!(names(&watcher.wait(PATIENCE).unwrap()), ["first", "second"]);
    put(
        dir.path(),
        "aa-second.yaml",
        &pod("second", "p2", "a", "10.1.1.5"),
    );
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (address(&snapshot, "first"), address(&snapshot, "second")),
        ("10.1.1.5".into(), "10.1.1.6".into())
    );
    assert_eq!(snapshot.problems.len(), 1);
    // The holder goes: the address is free.
    fs::remove_file(dir.path().join("zz-first.yaml")).unwrap();
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (
            address(&snapshot, "second").as_str(),
            snapshot.problems.len()
        ),
        ("10.1.1.5", 0)
    );
}

#[test]
fn an_address_changes_hands_in_one_change() {
    let dir = base();
    put(dir.path(), "pods.yaml", &pod("old", "p1", "a", "10.1.1.5"));
    let mut watcher = follow(dir.path());
    put(dir.path(), "pods.yaml", &pod("new", "p2", "a", "10.1.1.5"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (names(&snapshot), snapshot.problems.len()),
        (vec!["new"], 0)
    );
}

#[test]
fn a_pod_does_not_move_under_its_uid() {
    let dir = base();
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.5"));
    let mut watcher = follow(dir.path());
    put(dir.path(), "web.yaml", &pod("web", "p1", "b", "10.1.2.5"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(address(&snapshot, "web"), "10.1.1.5");
    assert!(
        problems(&snapshot)[0].contains("spec.nodeName changed"),
        "{:?}",
        snapshot.problems
    );
    put(dir.path(), "web.yaml", &pod("web", "p2", "b", "10.1.2.5"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(
        (address(&snapshot, "web").as_str(), snapshot.problems.len()),
        ("10.1.2.5", 0)
    );
}

#[test]
fn a_slip_in_a_nodes_range_costs_no_pod_but_removing_the_node_does() {
    let dir = base();
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.5"));
    let mut watcher = follow(dir.path());
    put(
        dir.path(),
        "base.yaml",
        &BASE.replace("10.1.1.0/24", "10.1.7.0/24"),
    );
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(names(&snapshot), ["web"]);
    assert_eq!(
        problems(&snapshot),
        ["base.yaml: Node a: podCIDRs leave out 10.1.1.5 of Pod shop/web; remove the pod first"]
    );
    let without = BASE
        .split("---")
        .filter(|part| !part.contains("node-a"))
        .collect::<Vec<_>>();
    put(dir.path(), "base.yaml", &without.join("---"));
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!((names(&snapshot).len(), snapshot.nodes.len()), (0, 1));
    assert!(
        problems(&snapshot)[0].contains("Node a does not exist"),
        "{:?}",
        snapshot.problems
    );
}

#[test]
fn a_swapped_link_replaces_everything_at_once() {
    let top = tempfile::TempDir::new().unwrap();
    for (version, uid) in [("..1", "p1"), ("..2", "p2")] {
        let dir = top.path().join(version);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("base.yaml"), BASE).unwrap();
        fs::write(dir.join("web.yaml"), pod("web", uid, "a", "10.1.1.5")).unwrap();
    }
    symlink("..1", top.path().join("..data")).unwrap();
    for name in ["base.yaml", "web.yaml"] {
        symlink(format!("..data/{name}"), top.path().join(name)).unwrap();
    }
    let mut watcher = follow(top.path());
    symlink("..2", top.path().join("..next")).unwrap();
    fs::rename(top.path().join("..next"), top.path().join("..data")).unwrap();
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!(snapshot.pods[&("shop".into(), "web".into())].uid, "p2");
    assert!(snapshot.problems.is_empty());
}

#[test]
fn a_directory_that_vanishes_takes_nothing_with_it() {
    let top = tempfile::TempDir::new().unwrap();
    let dir = top.path().join("m");
    fs::create_dir(&dir).unwrap();
    put(&dir, "base.yaml", BASE);
    let mut watcher = follow(&dir);
    fs::rename(&dir, top.path().join("away")).unwrap();
    let snapshot = watcher.wait(PATIENCE).unwrap();
    assert_eq!((snapshot.nodes.len(), snapshot.problems.len()), (2, 1));
    fs::rename(top.path().join("away"), &dir).unwrap();
    assert!(watcher.wait(PATIENCE).unwrap().problems.is_empty());
}

#[test]
fn a_thread_follows_until_its_handle_is_dropped() {
    let dir = base();
    let (sender, changes) = mpsc::channel::<Arc<Snapshot>>();
    let watching = follow(dir.path())
        .spawn(move |snapshot| sender.send(snapshot).unwrap())
        .unwrap();
    put(dir.path(), "web.yaml", &pod("web", "p1", "a", "10.1.1.5"));
    assert_eq!(names(&changes.recv_timeout(PATIENCE).unwrap()), ["web"]);
    drop(watching);
    // The thread ends and drops its sender.
    assert!(
        changes
            .recv_timeout(PATIENCE)
            .is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected)
    );
}
