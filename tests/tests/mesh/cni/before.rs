//! Pods that were there before the agent, which no plug-in has told of: found by their cgroups.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

use super::{
    PATIENCE,
    ears::Ears,
    runtime::{Guest, ip},
    talks,
};

#[test]
fn pods_that_were_there_before_are_found_and_enforced() -> Result<()> {
    if !bin::root_or_skip("pods that were there before") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let ears = Ears::new(&lab)?;
    let main = json!({"type": "ptp", "ipMasq": true, "mtu": 1500});

    // Three pods start while nobody is there to enforce them. One has a process of another in it.
    lab.kill("node1", "agent")?;
    let names = ["before", "visited", "visitor"];
    let mut guests = Vec::new();
    for (name, host) in names.into_iter().zip(220..) {
        let guest = Guest::new(&lab, name, host, &main)?;
        guest.add_network()?;
        guests.push(guest);
    }
    let [before, visited, visitor] = &guests[..] else {
        return Err(anyhow!("three guests"));
    };
    let mut processes = vec![
        Process::start(&lab, before, &before.netns())?,
        Process::start(&lab, visited, &visited.netns())?,
        Process::start(&lab, visitor, &visited.netns())?,
    ];
    ears.hear(&before.netns(), "unenforced", Duration::from_millis(300))?;
    assert!(ears.nobody_heard("unenforced")?);

    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;
    wait("the pod to be found", Duration::from_secs(20), || {
        let endpoint = before.endpoint()?;
        Ok(endpoint.is_some_and(|endpoint| endpoint["found_by"] == "discovery"))
    })?;
    talks(&lab, before)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    for (guest, what) in [(visited, "visited"), (visitor, "a visitor")] {
        assert!(guest.endpoint()?.is_none(), "{what}: whose is it?");
    }
    netns::tcp_echo(&visited.netns(), db, b"whose?", Duration::from_secs(1)).unwrap_err();
    let log = lab.log("node1", "agent")?;
    assert!(log.contains("processes of several pods"), "{log}");

    // What is found is enforced like any other.
    let other = lab.address("other/stray", Family::V4)?.to_string() + "/32";
    ip(&["-n", &before.netns(), "addr", "add", &other, "dev", "eth0"])?;
    let from = lab.address("other/stray", Family::V4)?;
    ears.hear_as(
        &before.netns(),
        from,
        "as another",
        Duration::from_millis(300),
    )?;
    assert!(ears.nobody_heard("as another")?);
    ip(&["-n", &before.netns(), "addr", "del", &other, "dev", "eth0"])?;

    // The visitor leaves: what was in doubt is not any more.
    processes.pop();
    wait(
        "the pod without its visitor",
        Duration::from_secs(20),
        || Ok(visited.endpoint()?.is_some()),
    )?;
    netns::tcp_echo(&visited.netns(), db, b"mine", PATIENCE)?;

    // Another agent remembers how it knows.
    lab.kill("node1", "agent")?;
    lab.ctl(&["lab", "restart", "--name", &lab.name, "node1", "agent"])?;
    let endpoint = before.endpoint()?.context("forgotten")?;
    assert_eq!(endpoint["found_by"], "discovery");
    let told = lab.ask("node1", &["endpoints"])?;
    let by_cni =
        |endpoint: &serde_json::Value| endpoint["name"] == "web" && endpoint["found_by"] == "cni";
    assert!(
        told["endpoints"]
            .as_array()
            .is_some_and(|all| all.iter().any(by_cni))
    );

    // Taken away by its runtime, it stays away, whatever of it still runs.
    before.del_last(None)?;
    thread::sleep(Duration::from_secs(12));
    assert!(before.endpoint()?.is_none());
    Ok(())
}

/// A process of a pod, in a cgroup as the kubelet names it.
struct Process {
    child: Child,
    groups: Vec<PathBuf>,
}

impl Process {
    fn start(lab: &Lab, pod: &Guest<'_>, netns: &str) -> Result<Self> {
        let top = cgroups()?.join(format!("kubepods-{}.slice", lab.name));
        let uid = pod.uid().replace('-', "_");
        let of_pod = top.join(format!("kubepods-burstable-pod{uid}.slice"));
        let container = of_pod.join("cri-containerd-1f.scope");
        fs::create_dir_all(&container).with_context(|| container.display().to_string())?;
        let child = Command::new("ip")
            .args(["netns", "exec", netns, "sleep", "300"])
            .spawn()?;
        fs::write(container.join("cgroup.procs"), child.id().to_string())?;
        Ok(Self {
            child,
            groups: vec![container, of_pod, top],
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in &self.groups {
            // The topmost goes with the last pod.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Where cgroups of version 2 are.
fn cgroups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut found = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&"cgroup2"));
    let fields = found.next().context("no cgroup2 is mounted")?;
    Ok(Path::new(fields[1]).to_owned())
}
