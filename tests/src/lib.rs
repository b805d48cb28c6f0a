//! What the tests of the whole share: finding the programs, driving a lab, reading the repository.
#![allow(
    clippy::print_stderr,
    reason = "tests speak to the person who runs them"
)]

pub mod bin;
pub mod contact;
pub mod docs;
pub mod lab;
pub mod load;
pub mod netns;
pub mod packet;
pub mod probe;
pub mod repo;
pub mod rogue;
pub mod services;
pub mod shop;
pub mod wire;
