//! Everything the eBPF programs and user space must agree on: map keys and values, marks,
//! limits, events and drop reasons.
//!
//! This crate is the one source. `bpf/programs/lib/abi.h` is written from it by [`header()`] and
//! carries the size and the offset of every field as compile-time assertions, so the two sides
//! cannot drift apart. All structures are `repr(C)` without padding holes; integers are in host
//! order unless the field says otherwise; times are CLOCK_BOOTTIME nanoseconds.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

#[macro_use]
mod layout;
mod addr;
mod event;
mod header;
mod hold;
mod limits;
mod map;
mod policy;
mod reason;

pub use addr::{Addr, AddrPrefix};
pub use event::{Event, EventKind, EventLimit, EventLimitKey, Hook};
pub use header::header;
pub use hold::{HOLD_HEADER_LEN, HoldHeader};
pub use layout::Plain;
pub use limits::*;
pub use map::{
    Config, CtEntry, CtKey, Endpoint, FlowKey, FragKey, FragPorts, HoldBudget, HoldOrder, Passed,
    Peer, RecvKey, RecvRow, SendKey, SendRow, config_flags, ct_flags, endpoint_flags,
    pod_range_flags, send_state,
};
pub use policy::{
    Action, Direction, PolicyKey, PolicyPrefix, PolicyValue, policy_action, policy_auth,
};
pub use reason::{DropReason, UnknownReason};

#[cfg(test)]
mod tests;
