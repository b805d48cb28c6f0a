//! What it takes to bring a lab in line with its manifests.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::materialise::Materialised;
use super::state::{Pod, PodPhase};

/// The steps, in the order they are taken: stop pods, remove files, write files, start pods.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Diff {
    /// Keys of pods to take down.
    pub(crate) stop: Vec<String>,
    /// Files to remove.
    pub(crate) remove: Vec<String>,
    /// Files to write.
    pub(crate) write: Vec<String>,
    /// Keys of pods to start.
    pub(crate) start: Vec<String>,
    /// The same for people, one line an object.
    pub(crate) changes: Vec<Change>,
}

/// One line of what is done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) what: &'static str,
    pub(crate) object: String,
}

/// Compares what runs and what its processes read with what should be.
pub(crate) fn diff(
    running: &BTreeMap<String, Pod>,
    files: &BTreeMap<String, Value>,
    wanted: &Materialised,
) -> Diff {
    let mut diff = Diff::default();
    let mut note = |what, object: &str| {
        diff.changes.push(Change {
            what,
            object: object.to_owned(),
        })
    };
    for (key, pod) in running {
        match wanted.pods.get(key) {
            None => {
                diff.stop.push(key.clone());
                note("deleted", &format!("Pod/{key}"));
            }
            Some(new) if new.uid != pod.uid => {
                diff.stop.push(key.clone());
                diff.start.push(key.clone());
                // Its file goes as well, or the new pod would look like a change of the old one.
                diff.remove.extend(file_of(files, &format!("Pod/{key}")));
                note("replaced", &format!("Pod/{key}"));
            }
            Some(new) if !same_sandbox(pod, new) => {
                diff.stop.push(key.clone());
                diff.start.push(key.clone());
                note("restarted", &format!("Pod/{key}"));
            }
            Some(_) => {}
        }
    }
    for key in wanted.pods.keys().filter(|key| !running.contains_key(*key)) {
        diff.start.push(key.clone());
        note("created", &format!("Pod/{key}"));
    }
    for file in files
        .keys()
        .filter(|file| !wanted.objects.contains_key(*file))
    {
        diff.remove.push(file.clone());
        if !file.starts_with("Pod.") {
            note("deleted", file.trim_end_matches(".yaml"));
        }
    }
    for (file, object) in &wanted.objects {
        let before = files.get(file);
        if before == Some(&object.value) && !diff.remove.contains(file) {
            continue;
        }
        diff.write.push(file.clone());
        let pod = object.key.strip_prefix("Pod/");
        let said = pod.is_some_and(|pod| diff.start.iter().any(|key| key == pod));
        if !said {
            note(
                if before.is_some() {
                    "changed"
                } else {
                    "created"
                },
                &object.key,
            );
        }
    }
    diff
}

impl Diff {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Whether the namespace and processes can stay as they are.
fn same_sandbox(old: &Pod, new: &Pod) -> bool {
    old.phase == PodPhase::Running
        && old.addresses == new.addresses
        && old.containers == new.containers
        && old.netns == new.netns
}

fn file_of(files: &BTreeMap<String, Value>, key: &str) -> Option<String> {
    let file = super::materialise::file_name(key);
    files.contains_key(&file).then_some(file)
}

#[cfg(test)]
mod tests;
