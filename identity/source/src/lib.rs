//! The cluster as a directory of Kubernetes-shaped YAML says it is.
//!
//! [`load`] reads a directory once and refuses it whole if anything is wrong; [`survey`] looks at one
//! all the same. [`Watcher`] starts the
//! same way, then follows the directory: a file that goes bad changes nothing (what it said before
//! stays in force), an object that contradicts others is left at its last good state, and either is
//! said in [`Snapshot::problems`] until it is mended.
//!
//! Files are `*.yaml`, `*.yml` and `*.json`, with any number of documents, in the directory and its
//! sub-directories; names that begin with a dot are skipped. Replacing a file by renaming another over
//! it is atomic, and so is swapping a symbolic link to a whole directory, as the kubelet does.
//!
//! The order of things: [`parse`](mod@parse) makes typed objects of one file's text, `admit` holds
//! the objects of all files against each other, `files` remembers the last good state of each file,
//! [`Watcher`] says when to look again.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admit;
mod files;
mod object;
pub mod parse;
mod problem;
mod snapshot;
mod watch;

pub use files::{load, survey};
pub use k8s_openapi::api::networking::v1::NetworkPolicy;
pub use object::{
    DEFAULT_CHANNEL_PORT, Kind, NamedPort, Namespace, Node, Object, ObjectKey, Phase, Pod,
    ServiceAccount,
};
pub use problem::{LoadError, Problem};
pub use snapshot::{Named, Snapshot};
pub use watch::{Watcher, Watching};
