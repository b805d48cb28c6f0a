//! What every Signet service shows of itself: logs, metrics and health.
//!
//! The three services (identity, agent, tunnel) use the same few calls, so that an
//! operator finds the same paths and the same log format everywhere, and so that one
//! test can hold `docs/metrics.md` against the code.
#![forbid(unsafe_code)]

mod catalog;
mod health;
mod logging;
mod server;

pub use catalog::{Catalog, Kind, MetricDoc};
pub use health::{Check, Health};
pub use logging::{LogFormat, init_logging};
pub use server::{ServeError, Server, serve};

#[cfg(test)]
mod tests;
