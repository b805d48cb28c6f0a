//! What can go wrong, in one line each.

use std::io;
use std::path::PathBuf;

/// Why the data plane could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The kernel or the process lacks something.
    #[error("{feature} is missing: {remedy}")]
    Missing {
        /// What is missing.
        feature: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The object was refused.
    #[error("the kernel refused the eBPF object: {detail}; Linux 6.6 or newer is needed")]
    Load {
        /// The kernel's words.
        detail: String,
    },
    /// A program was refused.
    #[error("the kernel refused eBPF program {program}: {detail}")]
    Program {
        /// Which.
        program: &'static str,
        /// The kernel's words.
        detail: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to interface {interface}: {detail}")]
    Attach {
        /// Which.
        program: &'static str,
        /// Where.
        interface: String,
        /// The kernel's words.
        detail: String,
    },
    /// No such interface in this network namespace.
    #[error("there is no interface number {ifindex} in this network namespace")]
    NoInterface {
        /// The number.
        ifindex: u32,
    },
    /// A map is full.
    #[error("eBPF map {map} is full: fewer pods, peers or rules per node are needed")]
    Full {
        /// Which.
        map: &'static str,
    },
    /// A map operation failed.
    #[error("cannot {operation} eBPF map {map}: {detail}")]
    Map {
        /// Which.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's words.
        detail: String,
    },
    /// A pinned object or its directory.
    #[error("cannot {operation} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A test run of a program failed.
    #[error("cannot run eBPF program {program} on a packet: {detail}")]
    TestRun {
        /// Which.
        program: &'static str,
        /// The kernel's words.
        detail: String,
    },
}

/// An error with its causes, joined into one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    // A verifier log fills pages; its end says what is wrong.
    let lines: Vec<_> = line.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = lines.len().saturating_sub(3);
    lines.get(tail..).unwrap_or_default().join(" | ")
}
