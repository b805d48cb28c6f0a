//! The last good state of each file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    admit::{Accepted, Candidate, admit},
    parse::{Parsed, parse},
    problem::{LoadError, Problem},
    snapshot::Snapshot,
};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Sub-directories below the manifests directory; more is a loop of links.
const MAX_DEPTH: usize = 8;

/// Reads `dir` once, strictly.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(dir: &Path) -> Result<Snapshot, LoadError> {
    Files::open(dir).map(|(_, snapshot)| snapshot)
}

/// Reads `dir` once, and makes the best of it: what is wrong is left out, and is in
/// [`Snapshot::problems`]. For looking at; never for enforcing.
pub fn survey(dir: &Path) -> Snapshot {
    Files::empty(dir).rescan(true)
}

/// A manifests directory, and what is in force of it.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    files: BTreeMap<String, File>,
    accepted: Accepted,
}

#[derive(Debug)]
struct File {
    name: Arc<str>,
    /// `None` once the file could not be read: look again next time.
    stamp: Option<Stamp>,
    good: Vec<Parsed>,
    problems: Vec<Problem>,
}

/// Changes whenever the content does. The change time covers writes within one tick of the clock that
/// set the modification time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// # Errors
    /// Everything that is wrong with the directory.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Snapshot), LoadError> {
        let mut files = Self::empty(dir);
        let snapshot = files.rescan(true);
        if snapshot.problems.is_empty() {
            Ok((files, snapshot))
        } else {
            Err(LoadError {
                problems: snapshot.problems,
            })
        }
    }

    fn empty(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            files: BTreeMap::new(),
            accepted: Accepted::default(),
        }
    }

    /// Looks at every file again, and reads those that changed; all of them if `thorough`.
    pub(crate) fn rescan(&mut self, thorough: bool) -> Snapshot {
        let mut problems = match list(&self.dir) {
            Ok(found) => {
                self.files.retain(|name, _| found.contains_key(name));
                for (name, path) in found {
                    self.look(name, &path, thorough);
                }
                Vec::new()
            }
            // The directory itself is unreadable: everything stays as it was.
            Err(problem) => vec![problem],
        };
        let candidates = self.files.values().flat_map(|file| {
            file.good.iter().map(|(key, object)| Candidate {
                file: Arc::clone(&file.name),
                key: key.clone(),
                object: object.clone(),
            })
        });
        let (accepted, contradictions) = admit(candidates.collect(), &self.accepted);
        self.accepted = accepted;
        problems.extend(
            self.files
                .values()
                .flat_map(|file| file.problems.iter().cloned()),
        );
        problems.extend(contradictions);
        self.accepted.snapshot(problems)
    }

    fn look(&mut self, name: String, path: &Path, thorough: bool) {
        let file = self.files.entry(name.clone()).or_insert_with(|| File {
            name: name.as_str().into(),
            stamp: None,
            good: Vec::new(),
            problems: Vec::new(),
        });
        let stamp = fs::metadata(path).map(|data| Stamp::of(&data));
        if !thorough && file.stamp.is_some() && stamp.as_ref().ok() == file.stamp.as_ref() {
            return;
        }
        // The stamp is from before the reading: a write in between shows as a change next time.
        file.stamp = stamp.ok();
        match read(&name, path) {
            Ok(objects) if objects.is_empty() && !file.good.is_empty() => {
                let message = "became empty; delete the file if its objects are to go";
                file.problems = vec![Problem::new(name, "", message)];
            }
            Ok(objects) => {
                file.good = objects;
                file.problems.clear();
            }
            Err(problems) => file.problems = problems,
        }
    }
}

impl Stamp {
    fn of(data: &fs::Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

fn read(name: &str, path: &Path) -> Result<Vec<Parsed>, Vec<Problem>> {
    let fail = |message: String| vec![Problem::new(name, "", message)];
    let unreadable =
        |error: &io::Error| fail(format!("cannot be read: {error}; check its permissions"));
    let size = fs::metadata(path)
        .map_err(|error| unreadable(&error))?
        .len();
    if size > MAX_FILE {
        return Err(fail(format!(
            "has {size} bytes; split it into files of at most {MAX_FILE}"
        )));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        fail(format!(
            "not UTF-8: {}; save it as UTF-8",
            error.utf8_error()
        ))
    })?;
    parse(name, &text)
}

/// Name relative to the directory -> path, of every file that is read.
fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>, Problem> {
    let mut found = BTreeMap::new();
    let mut open = vec![(PathBuf::new(), 0)];
    let mut seen = BTreeSet::new();
    while let Some((below, depth)) = open.pop() {
        let full = if depth == 0 {
            dir.to_path_buf()
        } else {
            dir.join(&below)
        };
        let unreadable = |error: io::Error| {
            let message = format!("cannot be read: {error}; check the path and its permissions");
            Problem::new(full.display().to_string(), "", message)
        };
        for entry in fs::read_dir(&full).map_err(unreadable)? {
            let name = below.join(entry.map_err(unreadable)?.file_name());
            if hidden(&name) {
                continue;
            }
            let path = dir.join(&name);
            match fs::metadata(&path) {
                Ok(data) if data.is_dir() && depth < MAX_DEPTH => {
                    if seen.insert((data.dev(), data.ino())) {
                        open.push((name, depth + 1));
                    }
                }
                Ok(data) if !data.is_file() => {}
                // A broken link counts as a file, so that it is said and its objects stay.
                Ok(_) | Err(_) if is_manifest(&name) => {
                    found.insert(name.to_string_lossy().into_owned(), path);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(found)
}

fn hidden(name: &Path) -> bool {
    name.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(name: &Path) -> bool {
    name.extension()
        .is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
}
