//! Real processes, real namespaces, real packets: what the mesh must do, as an operator sees it.
//!
//! Every scenario brings up a lab of its own and removes it again.
#![allow(
    clippy::print_stderr,
    reason = "tests speak to the person who runs them"
)]

mod audit;
mod bad_input;
mod cni;
mod dry_run;
mod epochs;
mod first_contact;
mod hand_over;
mod hostile;
mod hosts;
mod kills;
mod leak;
mod mtu;
mod renewal;
mod restart;
mod rogue;
mod services;
mod talk;
mod withdrawal;
