//! Pods that were there before: found by their processes, since no CNI plug-in will tell of them.
//!
//! `/proc/*/cgroup` names the pod, `/proc/*/ns/net` its network namespace, and the kernel the host's
//! end of the veth that leads there. Whatever is not plain is not guessed: the pod stays silent.

mod cgroup;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

use crate::host::{Netlink, Veth};

/// What the CNI calls a pod's interface.
const USUAL: &str = "eth0";

/// What was found of one pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) pod_uid: String,
    /// Name of the host's end, or why there is none to be told.
    pub(crate) interface: Result<String, String>,
}

/// Device and inode: what makes a namespace that one.
type Namespace = (u64, u64);

/// Looks for these pods.
///
/// # Errors
/// If the kernel cannot be asked.
pub(crate) async fn look(netlink: Netlink, wanted: BTreeSet<String>) -> Result<Vec<Found>, String> {
    let processes = tokio::task::spawn_blocking(move || namespaces(&wanted));
    let places = processes
        .await
        .map_err(|error| format!("processes cannot be looked at: {error}"))?;
    let veths = netlink.veths().await?;
    let mut ends: Vec<(String, Vec<Veth>)> = Vec::new();
    for (pod, files) in places {
        let mut own = Vec::new();
        for file in files.into_values() {
            if let Some(id) = netlink.namespace_id(file.as_raw_fd()).await? {
                own.extend(
                    veths
                        .iter()
                        .filter(|veth| veth.far_namespace == id)
                        .cloned(),
                );
            }
        }
        ends.push((pod, own));
    }
    Ok(judge(ends))
}

/// The network namespaces of each pod's processes, but for the host's own.
fn namespaces(wanted: &BTreeSet<String>) -> BTreeMap<String, BTreeMap<Namespace, File>> {
    let mut found: BTreeMap<String, BTreeMap<Namespace, File>> = BTreeMap::new();
    let identity = |file: &File| file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let host = File::open("/proc/self/ns/net")
        .ok()
        .and_then(|file| identity(&file));
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        // Processes end while they are looked at.
        if let (true, Ok(text)) = (is_process, fs::read_to_string(entry.path().join("cgroup")))
            && let Some(pod) = cgroup::pod_of(&text).filter(|pod| wanted.contains(pod))
            && let Ok(file) = File::open(entry.path().join("ns/net"))
            && let Some(place) = identity(&file).filter(|place| Some(*place) != host)
        {
            found.entry(pod).or_default().insert(place, file);
        }
    }
    found
}

/// One interface for each pod, one pod for each interface.
fn judge(ends: Vec<(String, Vec<Veth>)>) -> Vec<Found> {
    let mut claims: BTreeMap<String, usize> = BTreeMap::new();
    for (_, own) in &ends {
        for veth in own {
            *claims.entry(veth.name.clone()).or_default() += 1;
        }
    }
    let judge = |own: &[Veth]| {
        let usual = || own.iter().filter(|veth| veth.far_name == USUAL);
        let chosen = match own {
            [] => return Err("no veth leads from its network namespace to this host".to_owned()),
            [only] => only,
            _ if usual().count() == 1 => usual().next().unwrap_or(&own[0]),
            _ => {
                return Err(format!(
                    "{} interfaces lead to it, and none of them alone is its {USUAL}",
                    own.len()
                ));
            }
        };
        if claims.get(&chosen.name).is_some_and(|pods| *pods > 1) {
            return Err(format!(
                "processes of several pods are behind interface {}",
                chosen.name
            ));
        }
        Ok(chosen.name.clone())
    };
    ends.iter()
        .map(|(pod, own)| Found {
            pod_uid: pod.clone(),
            interface: judge(own),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(name: &str, far_name: &str) -> Veth {
        Veth {
            name: name.to_owned(),
            far_name: far_name.to_owned(),
            far_namespace: 1,
        }
    }

    #[test]
    fn only_what_is_plain_is_taken() {
        let table = [
            ("one", vec![veth("a", "x")], Ok("a")),
            ("usual", vec![veth("b", "eth0"), veth("c", "net1")], Ok("b")),
            ("none", vec![], Err("no veth")),
            (
                "two",
                vec![veth("d", "net0"), veth("e", "net1")],
                Err("2 interfaces"),
            ),
            ("intruder", vec![veth("f", "eth0")], Err("several pods")),
            ("visited", vec![veth("f", "eth0")], Err("several pods")),
        ];
        let ends = table
            .iter()
            .map(|(pod, own, _)| ((*pod).to_owned(), own.clone()))
            .collect();
        for (found, (pod, _, expected)) in judge(ends).into_iter().zip(&table) {
            match (&found.interface, expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected, "{pod}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{pod}: {why}"),
                (got, _) => panic!("{pod}: {got:?}"),
            }
        }
    }

    #[test]
    fn processes_of_this_namespace_are_nobodys() {
        assert!(namespaces(&BTreeSet::new()).is_empty());
    }
}
