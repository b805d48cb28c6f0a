//! Loads the eBPF programs, attaches them and keeps their maps.
//!
//! ```no_run
//! use signet_loader::{DataPlane, Globals, probe};
//! # fn main() -> Result<(), signet_loader::LoaderError> {
//! probe()?;
//! let mut plane = DataPlane::open("/sys/fs/bpf/signet".as_ref(), &Globals::default())?;
//! // First the rows, then the programs: an endpoint without rows drops everything.
//! // plane.maps.endpoints.upsert(...)?; plane.maps.interfaces.upsert(...)?;
//! plane.attach_endpoint(1, 42)?;
//! # Ok(()) }
//! ```
//!
//! **What survives.** Maps and links are pinned under `<bpf_root>/v<layout>/{maps,links}`. When
//! the process ends nothing changes for traffic; the next [`DataPlane::open`] finds maps and
//! links again and replaces the programs behind the links in place, without a gap. Only
//! [`DataPlane::detach_endpoint`], [`DataPlane::detach`] and [`DataPlane::remove`] take anything
//! away.
//!
//! **Where.** Interface numbers mean those of the network namespace the calling thread is in. A
//! bpffs that is missing at `bpf_root` is mounted, and like any mount it lives in the mount
//! namespace of the process: a process that wants its pins to survive must not have a mount
//! namespace of its own (`nsenter --net`, not `ip netns exec`), or must be given a `bpf_root` on a
//! bpffs that was mounted outside.
//!
//! **Order of writes.** The programs fail closed, so rows may come in any order, but to open no
//! gap: `peers` before `recv_rows` and `send_rows`; `endpoints` before `local_addresses` and
//! `interfaces`; policy rows before the endpoint's `policy_generation` is raised.

mod attach;
mod bpffs;
mod counters;
mod error;
mod events;
mod maps;
mod memory;
mod object;
mod plain;
mod plane;
mod probe;
pub mod prog_test;
mod table;

pub use attach::Attachment;
pub use error::LoaderError;
pub use events::EventReader;
pub use maps::Maps;
pub use plane::{DataPlane, Globals, Marks};
pub use probe::{Kernel, boot_time_ns, probe};
pub use table::{PrefixKey, Table, Trie};
