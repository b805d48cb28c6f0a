//! Real engines in real network namespaces. Needs root; without it each test says that it was
//! skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking and say on standard error what they skip"
)]

mod process;
mod support;
mod traffic;
