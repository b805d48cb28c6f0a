//! Ctrl-C as a flag that long steps look at, so that they can clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP only set the flag.
#[expect(unsafe_code, reason = "installing a signal handler")]
pub(crate) fn watch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.context("watch for Ctrl-C")?;
    }
    Ok(())
}

extern "C" fn note(_signal: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether somebody pressed Ctrl-C.
pub(crate) fn happened() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Forgets it, so that cleaning up is not interrupted by the same key press.
pub(crate) fn clear() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Fails if somebody pressed Ctrl-C.
pub(crate) fn check() -> Result<()> {
    if happened() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, at most until Ctrl-C.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check()?;
        sleep(
            end.saturating_duration_since(Instant::now())
                .min(Duration::from_millis(50)),
        );
    }
    check()
}

/// Tries again and again until `attempt` has something, fails, or time is up.
///
/// # Errors
/// If time is up: what was waited for and the last thing `attempt` had to say.
pub(crate) fn wait_until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<Attempt<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        check()?;
        match attempt()? {
            Attempt::Done(value) => return Ok(value),
            Attempt::NotYet(why) if Instant::now() >= end => {
                bail!("{what} not within {} s: {why}", patience.as_secs())
            }
            Attempt::NotYet(_) => sleep(Duration::from_millis(30)),
        }
    }
}

/// The outcome of one try.
pub(crate) enum Attempt<T> {
    Done(T),
    NotYet(String),
}
