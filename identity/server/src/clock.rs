//! The clock that everybody else anchors to.
//!
//! It starts from the machine's wall clock and then runs on `CLOCK_BOOTTIME`. Small corrections, as
//! NTP makes them, are followed; a jump is not, because every certificate of the cluster would jump
//! with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use signet_crypto::time::TimeSource;

/// The largest correction that is followed between two looks, in milliseconds.
const MAX_STEP_MS: u64 = 2_000;

/// A clock at the machine's present time.
pub(crate) fn time_source() -> TimeSource {
    TimeSource::new(boot, system_ms())
}

/// Follows the machine's wall clock if it is near. Otherwise nothing changes, and the difference in
/// milliseconds (positive if the machine is ahead) comes back.
pub(crate) fn follow(time: &TimeSource) -> Result<(), i64> {
    follow_to(time, system_ms())
}

fn follow_to(time: &TimeSource, system: u64) -> Result<(), i64> {
    let own = time.wall_ms();
    if own.abs_diff(system) <= MAX_STEP_MS {
        time.anchor(system);
        return Ok(());
    }
    let difference = i64::try_from(own.abs_diff(system)).unwrap_or(i64::MAX);
    Err(if system > own {
        difference
    } else {
        -difference
    })
}

fn boot() -> Duration {
    // The call has no way to fail on Linux; a clock that stands still would only let nothing expire
    // late, since agents count on their own.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

fn system_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_corrections_are_followed_and_jumps_are_not() {
        let time = TimeSource::new(|| Duration::from_secs(50), 1_000_000);
        assert_eq!(follow_to(&time, 1_001_500), Ok(()));
        assert_eq!(time.wall_ms(), 1_001_500);
        assert_eq!(follow_to(&time, 4_601_500), Err(3_600_000));
        assert_eq!(follow_to(&time, 1_500), Err(-1_000_000));
        assert_eq!(time.wall_ms(), 1_001_500);
    }
}
