//! Time as it is passed in: this crate and its pure users never ask the machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use rustls_pki_types::UnixTime;

/// One instant, on the two clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`: never jumps, counts suspend. Everything that expires in the data path
    /// expires on this clock.
    pub boot: Duration,
    /// Wall time anchored to the identity service, for certificates.
    pub wall: UnixTime,
}

impl Now {
    /// The boot time at which `not_after` will be reached, so that a later jump of the wall clock can
    /// neither extend nor cut what was granted. A moment already past yields the present.
    pub fn deadline(&self, not_after: UnixTime) -> Duration {
        let left = not_after.as_secs().saturating_sub(self.wall.as_secs());
        self.boot.saturating_add(Duration::from_secs(left))
    }
}

/// A shared clock for code that cannot be handed [`Now`], such as a TLS certificate verifier.
///
/// Wall time is the boot clock plus an offset learned from the identity service: setting the
/// machine's own wall clock changes nothing. Clones share the offset.
#[derive(Clone)]
pub struct TimeSource {
    boot: Arc<dyn Fn() -> Duration + Send + Sync>,
    wall_minus_boot_ms: Arc<AtomicI64>,
}

impl TimeSource {
    /// A clock that reads `boot` (`CLOCK_BOOTTIME`) and takes `wall_ms` (Unix milliseconds) to be the
    /// wall time at this moment, until [`TimeSource::anchor`] says better.
    pub fn new(boot: impl Fn() -> Duration + Send + Sync + 'static, wall_ms: u64) -> Self {
        let source = Self {
            boot: Arc::new(boot),
            wall_minus_boot_ms: Arc::new(AtomicI64::new(0)),
        };
        source.anchor(wall_ms);
        source
    }

    /// A clock that stands still at `now`, for tests and for offline checks.
    pub fn fixed(now: Now) -> Self {
        let boot = now.boot;
        Self::new(move || boot, now.wall.as_secs().saturating_mul(1000))
    }

    /// Takes the identity service's word that it is `wall_ms` (Unix milliseconds) now.
    pub fn anchor(&self, wall_ms: u64) {
        let boot_ms = millis((self.boot)());
        let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        self.wall_minus_boot_ms
            .store(wall_ms.saturating_sub(boot_ms), Ordering::Release);
    }

    /// The present on both clocks.
    pub fn now(&self) -> Now {
        let boot = (self.boot)();
        Now {
            boot,
            wall: self.wall_at(boot),
        }
    }

    /// The present as Unix milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms_at((self.boot)())
    }

    fn wall_at(&self, boot: Duration) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.wall_ms_at(boot)))
    }

    fn wall_ms_at(&self, boot: Duration) -> u64 {
        let offset = self.wall_minus_boot_ms.load(Ordering::Acquire);
        u64::try_from(millis(boot).saturating_add(offset)).unwrap_or(0)
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeSource")
            .field("now", &self.now())
            .finish()
    }
}

impl rustls::time_provider::TimeProvider for TimeSource {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now().wall)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn unix(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    #[test]
    fn wall_time_follows_the_boot_clock_from_its_anchor() {
        let boot = Arc::new(AtomicU64::new(50));
        let reader = Arc::clone(&boot);
        let source = TimeSource::new(
            move || Duration::from_secs(reader.load(Ordering::SeqCst)),
            1_000_000,
        );
        assert_eq!(source.now().wall, unix(1000));

        boot.store(60, Ordering::SeqCst);
        assert_eq!(
            source.now(),
            Now {
                boot: Duration::from_secs(60),
                wall: unix(1010)
            }
        );

        source.clone().anchor(5_000_500);
        assert_eq!(source.wall_ms(), 5_000_500, "clones share the anchor");
        assert_eq!(source.now().wall, unix(5000));
    }

    #[test]
    fn deadline_is_on_the_boot_clock_and_never_in_the_past() {
        let now = Now {
            boot: Duration::from_secs(7),
            wall: unix(100),
        };
        assert_eq!(now.deadline(unix(160)), Duration::from_secs(67));
        assert_eq!(now.deadline(unix(99)), Duration::from_secs(7));
        let forever = UnixTime::since_unix_epoch(Duration::MAX);
        assert!(now.deadline(forever) > Duration::from_secs(1 << 62));
    }
}
