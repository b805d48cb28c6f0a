//! `lab apply`: brings a running lab in line with a changed directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::daemons;
use super::diff::{self, Diff};
use super::interrupt;
use super::manifests::{self, Object};
use super::materialise::{self, Materialised};
use super::progress::Progress;
use super::sandbox;
use super::state::{self, Lab, Phase, PodPhase};
use super::up;
use crate::output::{self, Format};

/// Options of `lab apply`.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = super::names::lab_name)]
    pub(crate) name: String,
    /// Directory of Kubernetes YAML; the lab's own one if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
}

/// Applies a directory and says what changed.
pub(crate) fn run(options: &Apply, format: Format) -> Result<u8> {
    interrupt::watch()?;
    let progress = Progress::new();
    let diff = apply(&options.name, options.manifests.as_deref(), &progress)?;
    progress.finish();
    match format {
        Format::Json | Format::Yaml => output::data(format, &diff.changes)?,
        Format::Table | Format::Wide if diff.is_empty() => println!("nothing to change"),
        Format::Table | Format::Wide => {
            for change in &diff.changes {
                println!("{:<10} {}", change.what, change.object);
            }
        }
    }
    Ok(0)
}

/// Applies a directory.
///
/// # Errors
/// A directory with any problem is refused before anything is changed.
pub(crate) fn apply(name: &str, directory: Option<&Path>, progress: &Progress) -> Result<Diff> {
    up::require_root()?;
    let (_lock, running) = state::lock_lab(name)?;
    if running.phase != Phase::Ready {
        bail!(
            "lab {name:?} was not brought up completely; `signetctl lab down --name {name}` removes it"
        );
    }
    let Some(source) = directory
        .map(Path::to_owned)
        .or_else(|| running.source_dir.clone())
    else {
        bail!("lab {name:?} was started without manifests; say which with --manifests DIR");
    };
    let mut lab = running.clone();
    lab.source_dir = Some(
        fs::canonicalize(&source)
            .with_context(|| format!("manifests directory {}", source.display()))?,
    );
    let wanted = check(&mut lab, manifests::read_directory(&source)?)?;
    let diff = difference(&lab, &wanted)?;
    lab.save()?;
    carry_out(&mut lab, wanted, &diff, progress)?;
    Ok(diff)
}

/// Materialises objects and has the result checked by what the services use to read it.
pub(crate) fn check(lab: &mut Lab, objects: Vec<Object>) -> Result<Materialised> {
    let wanted = materialise::materialise(objects, lab)?;
    super::validate::validate(&wanted)?;
    Ok(wanted)
}

/// What has to be done.
pub(crate) fn difference(lab: &Lab, wanted: &Materialised) -> Result<Diff> {
    Ok(diff::diff(&lab.pods, &written(&lab.manifests_dir)?, wanted))
}

/// Writes nodes, namespaces and service accounts before any service starts.
pub(crate) fn write_cluster(lab: &Lab, wanted: &Materialised) -> Result<()> {
    for (file, object) in &wanted.objects {
        if ["Node/", "Namespace/", "ServiceAccount/"]
            .iter()
            .any(|kind| object.key.starts_with(kind))
        {
            write(&lab.manifests_dir, file, &object.value)?;
        }
    }
    Ok(())
}

/// Takes the steps. The state always says more than is there, so that a crash leaves nothing unknown.
pub(crate) fn carry_out(
    lab: &mut Lab,
    wanted: Materialised,
    diff: &Diff,
    progress: &Progress,
) -> Result<()> {
    for key in &diff.stop {
        progress.step(format!("stopping {key}"));
        let Some(pod) = lab.pods.get_mut(key) else {
            continue;
        };
        pod.phase = PodPhase::Stopping;
        let pod = pod.clone();
        lab.save()?;
        sandbox::stop(lab, &pod)?;
    }
    for file in &diff.remove {
        let path = lab.manifests_dir.join(file);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    for key in &diff.stop {
        let Some(pod) = lab.pods.get(key).cloned() else {
            continue;
        };
        sandbox::remove(lab, &pod)?;
        lab.pods.remove(key);
        lab.save()?;
    }
    for file in &diff.write {
        if let Some(object) = wanted.objects.get(file) {
            write(&lab.manifests_dir, file, &object.value)?;
        }
    }
    for key in &diff.start {
        interrupt::check()?;
        progress.step(format!("starting {key}"));
        let Some(pod) = wanted.pods.get(key) else {
            continue;
        };
        lab.pods.insert(key.clone(), pod.clone());
        lab.save()?;
        sandbox::build(lab, pod)?;
    }
    start_commands(lab, diff, progress)
}

/// Starts the pods' commands once all of them could talk to one another.
fn start_commands(lab: &mut Lab, diff: &Diff, progress: &Progress) -> Result<()> {
    let changed = |node: &state::Node| {
        let starts = |key: &String| lab.pods.get(key).is_some_and(|pod| pod.node == node.name);
        diff.start.iter().any(starts)
    };
    for node in lab.nodes.values().filter(|node| changed(node)) {
        progress.step(format!("waiting for the pods of {}", node.name));
        daemons::await_endpoints(lab, node)?;
    }
    for key in &diff.start {
        let Some(pod) = lab.pods.get(key).cloned() else {
            continue;
        };
        let processes = sandbox::run(lab, &pod)?;
        if let Some(pod) = lab.pods.get_mut(key) {
            pod.processes = processes;
            pod.phase = PodPhase::Running;
        }
        lab.save()?;
    }
    Ok(())
}

/// What the services read now.
fn written(directory: &Path) -> Result<BTreeMap<String, Value>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(files);
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !name.ends_with(".yaml") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).with_context(|| format!("read {name}"))?;
        // A file that somebody broke by hand is simply not what it should be: it is written anew.
        files.insert(name, serde_yaml_ng::from_str(&text).unwrap_or(Value::Null));
    }
    Ok(files)
}

fn write(directory: &Path, file: &str, value: &Value) -> Result<()> {
    let text = serde_yaml_ng::to_string(value).with_context(|| format!("encode {file}"))?;
    state::write_atomically(&directory.join(file), text.as_bytes())
}
