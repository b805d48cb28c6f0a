//! What is wrong with a manifest, in one line.

use std::fmt;

/// One thing that is wrong, with its place and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the manifests directory; the directory itself if that is the trouble.
    pub file: String,
    /// `Kind namespace/name`, or empty if the file as a whole is bad.
    pub object: String,
    /// What is wrong; what to do.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(
        file: impl Into<String>,
        object: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            object: object.to_string(),
            message: message.into(),
        }
    }
}

/// `FILE: Kind namespace/name: what; fix`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            object,
            message,
        } = self;
        // One line whatever the parser said: logs and terminals are read by line.
        let message = message.replace(['\n', '\r'], " ");
        if object.is_empty() {
            write!(f, "{file}: {message}")
        } else {
            write!(f, "{file}: {object}: {message}")
        }
    }
}

/// Why a manifests directory is not loaded: everything that is wrong, by file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// The first problem, and how many more there are. Print [`LoadError::problems`] for all of them.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.problems.first() else {
            return f.write_str("no problem");
        };
        write!(f, "{first}")?;
        match self.problems.len() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}
