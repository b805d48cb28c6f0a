//! Fuzz targets: one function for each place where Signet reads bytes of somebody else.
//!
//! A target is `fn(&[u8])`. It panics if the bytes make the code under it break a promise, and the
//! promise is more than "does not panic" wherever there is one: what was read is written the same
//! way, what was refused changed nothing, nothing is believed that nobody signed.
//!
//! The same functions run in two ways. `scripts/fuzz` lets libFuzzer drive them by coverage; the
//! test `fuzz_short` of `signet-tests` runs them over `seeds/` and over mutations of it, in seconds
//! and without tools; with `SIGNET_BLESS=1` it writes the seeds and the certificates in them anew.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fuzz target says what it found by a panic"
)]

pub mod audit;
pub mod authenticator;
pub mod channel;
pub mod control;
pub mod csr;
pub mod frame;
pub mod manifests;
pub mod mutate;
pub mod packet;
pub mod policy;
pub mod segments;
pub mod spiffe_id;
pub mod svid;

mod pki;
mod reader;

/// Makes the trust domain of `fixtures/` anew. The seeds with certificates must follow it.
///
/// # Errors
/// If a file cannot be written.
pub fn write_fixtures() -> std::io::Result<()> {
    pki::write_fixtures()
}

/// Something that reads foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target, of its folder in `seeds/` and of its program.
    pub name: &'static str,
    /// Runs it once; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that are worth starting from, by name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
    /// How many mutations the short test tries: what takes about half a second.
    pub short: u32,
    /// The longest input that makes sense, in bytes.
    pub max_len: usize,
}

macro_rules! targets {
    ($($module:ident: $short:expr, $max_len:expr;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            $(Target {
                name: stringify!($module),
                run: $module::run,
                seeds: $module::seeds,
                short: $short,
                max_len: $max_len,
            },)*
        ];
    };
}

targets! {
    audit: 4_000, 16384;
    authenticator: 20_000, 4096;
    channel: 60, 512;
    control: 50_000, 2048;
    csr: 20_000, 1024;
    frame: 100_000, 2048;
    manifests: 8_000, 4096;
    packet: 30_000, 1024;
    policy: 1_500, 4096;
    segments: 3_000, 8192;
    spiffe_id: 100_000, 512;
    svid: 15_000, 4096;
}
