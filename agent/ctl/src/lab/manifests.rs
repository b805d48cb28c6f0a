//! Reads a directory of Kubernetes-shaped YAML as raw objects.
//!
//! Only as much is looked at as it takes to tell objects apart: their full check is that of the
//! real source, on the directory that the lab makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// One object and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) file: PathBuf,
    pub(crate) kind: String,
    /// Empty for what belongs to the cluster.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) value: Value,
}

impl Object {
    /// `Kind/namespace/name`, or `Kind/name` for what belongs to the cluster.
    pub(crate) fn key(&self) -> String {
        key(&self.kind, &self.namespace, &self.name)
    }
}

/// The key of an object: see [`Object::key`].
pub(crate) fn key(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind}/{name}")
    } else {
        format!("{kind}/{namespace}/{name}")
    }
}

/// Reads every `*.yaml`, `*.yml` and `*.json` of a directory, in the order of their names.
///
/// # Errors
/// For broken YAML, objects without kind or name, and the same object twice; each names the file.
pub(crate) fn read_directory(directory: &Path) -> Result<Vec<Object>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("read manifests from {}", directory.display()))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("read {}", directory.display()))?
            .path();
        if is_manifest(&path) {
            files.push(path);
        }
    }
    files.sort();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut objects = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        for object in parse(&file, &text)? {
            if let Some(first) = seen.insert(object.key(), file.clone()) {
                bail!(
                    "{}: {} is there twice, first in {}; remove one",
                    file.display(),
                    object.key(),
                    first.display()
                );
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Parses one file of any number of documents.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = || format!("{}: document {}", file.display(), index + 1);
        let value = Value::deserialize(document).with_context(place)?;
        if value.is_null() {
            continue;
        }
        objects.push(object(file, value).with_context(place)?);
    }
    Ok(objects)
}

fn object(file: &Path, value: Value) -> Result<Object> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let Some(kind) = text("/kind").map(str::to_owned) else {
        bail!("no kind: every object needs apiVersion, kind and metadata.name");
    };
    let Some(name) = text("/metadata/name").map(str::to_owned) else {
        bail!("{kind} without metadata.name");
    };
    if name.is_empty() || name.contains('/') {
        bail!("{kind}: metadata.name {name:?} is no name");
    }
    let namespace = match kind.as_str() {
        "Node" | "Namespace" => String::new(),
        _ => text("/metadata/namespace").unwrap_or("default").to_owned(),
    };
    Ok(Object {
        file: file.to_owned(),
        kind,
        namespace,
        name,
        value,
    })
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let known = path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
    known && !hidden && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        parse(Path::new("a.yaml"), text)
            .unwrap()
            .iter()
            .map(Object::key)
            .collect()
    }

    #[test]
    fn documents_are_told_apart() {
        let text = "kind: Pod\nmetadata: {name: web}\n---\n---\nkind: Namespace\nmetadata: {name: shop, namespace: no}\n---\nkind: Pod\nmetadata: {name: web, namespace: shop}\n";
        assert_eq!(
            keys(text),
            ["Pod/default/web", "Namespace/shop", "Pod/shop/web"]
        );
    }

    #[test]
    fn errors_name_file_and_document() {
        for (text, words) in [
            (
                "kind: Pod\nmetadata: {name: a}\n---\nkind: Pod\n",
                "document 2",
            ),
            ("metadata: {name: a}\n", "no kind"),
            ("kind: Pod\nmetadata: {name: a\n", "document 1"),
            ("kind: Pod\nmetadata: {name: a/b}\n", "no name"),
        ] {
            let error = format!("{:#}", parse(Path::new("x.yaml"), text).unwrap_err());
            assert!(error.contains("x.yaml") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_same_object_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = "kind: Pod\nmetadata: {name: web, namespace: shop}\n";
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        fs::write(dir.path().join("b.yml"), text).unwrap();
        fs::write(dir.path().join("notes.txt"), "not: [read").unwrap();
        let error = read_directory(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("b.yml") && error.contains("a.yaml"),
            "{error}"
        );
    }
}
