//! The data path's verdicts in plain Rust: what the eBPF programs must do, written so that it can
//! be read.
//!
//! This is the specification. The programs in `bpf/programs` are held against it, packet by
//! packet, by the loader's differential test; where the two differ, one of them is wrong. It is
//! the dumbest thing that can be right: ordered maps instead of the kernel's, prefixes matched by
//! scanning a list, packets copied at each step, no thought for speed.
//!
//! Pure: the time is an argument (nanoseconds of CLOCK_BOOTTIME), the maps are [`State`], and
//! each hook is a function from (state, time, what the kernel says about the packet, bytes) to a
//! [`Verdict`].
//!
//! | hook | bytes begin with | decides |
//! |---|---|---|
//! | [`from_workload`] | Ethernet | who sends |
//! | [`to_tunnel`] | IP | egress towards another node: label, tag, slot, or hold |
//! | [`from_hold`] | hold header | the same for a packet that waited |
//! | [`from_tunnel`] | IP | who speaks, to whom; ingress; tag off |
//! | [`to_workload`] | Ethernet | ingress from this node and from the world |
//! | [`underlay_guard`] | Ethernet | egress to the world; nothing of a pod leaves in the clear |
//!
//! What is left out, because it changes no verdict: counters, events and their rate limits, and
//! the eviction of old entries by maps that are full.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod admit;
mod conntrack;
mod flow;
mod fragment;
mod from_hold;
mod from_tunnel;
mod from_workload;
mod hold;
mod neighbour;
mod parse;
mod policy;
mod quote;
mod send;
mod state;
mod tag;
mod to_tunnel;
mod to_workload;
mod underlay_guard;
mod verdict;

pub use from_hold::from_hold;
pub use from_tunnel::from_tunnel;
pub use from_workload::from_workload;
pub use parse::{
    ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Fragment, Packet, Parsed,
    parse,
};
pub use quote::Quote;
pub use state::State;
pub use tag::Tag;
pub use to_tunnel::to_tunnel;
pub use to_workload::to_workload;
pub use underlay_guard::underlay_guard;
pub use verdict::{Ctx, Verdict};

#[cfg(test)]
mod tests;
