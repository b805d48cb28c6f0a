//! Has the services' own reader check a cluster before a lab is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use signet_policy::PolicySet;

use super::materialise::Materialised;

/// Refuses what the identity service or an agent would refuse, in terms of the user's own files.
pub(crate) fn validate(wanted: &Materialised) -> Result<()> {
    let draft = Draft::new()?;
    for (file, object) in &wanted.objects {
        let text =
            serde_yaml_ng::to_string(&object.value).with_context(|| format!("encode {file}"))?;
        fs::write(draft.0.join(file), text).with_context(|| format!("write {file}"))?;
    }
    let origins: BTreeMap<&str, &Path> = wanted
        .objects
        .iter()
        .filter_map(|(file, object)| Some((file.as_str(), object.origin.as_deref()?)))
        .collect();
    let snapshot = match signet_source::load(&draft.0) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let lines = error.problems.into_iter().map(|mut problem| {
                if let Some(origin) = origins.get(problem.file.as_str()) {
                    problem.file = origin.display().to_string();
                }
                problem.to_string()
            });
            bail!("{}", join(lines.collect()));
        }
    };
    let network: Vec<_> = snapshot
        .network_policies
        .values()
        .map(|policy| (**policy).clone())
        .collect();
    let authenticated: Vec<_> = snapshot
        .authenticated_policies
        .values()
        .map(|policy| (**policy).clone())
        .collect();
    let (_, problems) = PolicySet::from_objects(&network, &authenticated);
    if problems.is_empty() {
        return Ok(());
    }
    let lines = problems.iter().map(|problem| {
        // `AuthenticatedPolicy shop/db`: the words of its key.
        let key = problem.object.replace(' ', "/");
        let origin = wanted
            .objects
            .values()
            .find(|object| object.key == key)
            .and_then(|object| object.origin.clone());
        match origin {
            Some(file) => format!("{}: {problem}", file.display()),
            None => problem.to_string(),
        }
    });
    bail!("{}", join(lines.collect()))
}

/// All of them: who mends a directory wants to know everything at once.
fn join(lines: Vec<String>) -> String {
    match lines.as_slice() {
        [one] => one.clone(),
        many => format!("{} problems:\n  {}", many.len(), many.join("\n  ")),
    }
}

/// A directory that is gone when dropped.
struct Draft(PathBuf);

impl Draft {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("signet-lab-check.{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
