//! Ctrl-C as an error between two steps, so that everything made is removed on the way out.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP only set a flag.
#[expect(unsafe_code, reason = "installing a signal handler")]
pub(crate) fn watch() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.context("watch for Ctrl-C")?;
    }
    Ok(())
}

extern "C" fn note(_signal: libc::c_int) {
    HAPPENED.store(true, Ordering::Relaxed);
}

/// Fails once somebody has pressed Ctrl-C.
pub(crate) fn check() -> Result<()> {
    if HAPPENED.load(Ordering::Relaxed) {
        bail!("interrupted; what it made is removed");
    }
    Ok(())
}

/// Sleeps, at most until Ctrl-C.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Tries for 30 s until it works.
pub(crate) fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt() {
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("{what} did not work within 30 s")));
            }
            Err(_) => pause(Duration::from_millis(50))?,
            done => return done,
        }
    }
}
