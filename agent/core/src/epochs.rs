//! When keys are renewed: the same moment for the whole cluster, spread a little.
//!
//! The identity service says when epochs begin and how long they are. Which one it is follows from
//! the anchored time alone, so epochs go on while the service is away. Keys get their times on the
//! boot clock when they are made: no jump of a wall clock makes them last longer.

use std::time::Duration;

use signet_crypto::time::Now;

/// Epochs of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When epoch 0 began, Unix seconds.
    pub start: u64,
    /// How long each is. At least one second.
    pub length: Duration,
    /// Nodes begin to renew keys within this time after an epoch has begun.
    pub jitter: Duration,
}

impl Schedule {
    /// The cluster's epoch at `now`.
    #[must_use]
    pub fn epoch(&self, now: Now) -> u64 {
        let since = Duration::from_secs(now.wall.as_secs().saturating_sub(self.start));
        let number = since.as_millis() / self.length.as_millis().max(1);
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    /// When the next one begins, on the boot clock.
    #[must_use]
    pub fn next(&self, now: Now) -> Duration {
        let since = Duration::from_secs(now.wall.as_secs().saturating_sub(self.start));
        let length = self.length.as_millis().max(1);
        let left = length - since.as_millis() % length;
        now.boot + Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

/// The schedule and how far this node is in it.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    pub(crate) schedule: Option<Schedule>,
    /// The epoch that the engine's own keys are of.
    pub(crate) keys_of: Option<u64>,
    /// When the next epoch begins.
    pub(crate) next: Option<Duration>,
}

impl Epochs {
    /// A span that must fit into an epoch `parts` times.
    pub(crate) fn within(&self, span: Duration, parts: u32) -> Duration {
        self.schedule
            .map_or(span, |schedule| span.min(schedule.length / parts))
    }
}

#[cfg(test)]
mod tests {
    use signet_crypto::time::UnixTime;

    use super::*;

    fn at(boot: u64, wall: u64) -> Now {
        Now {
            boot: Duration::from_secs(boot),
            wall: UnixTime::since_unix_epoch(Duration::from_secs(wall)),
        }
    }

    #[test]
    fn epochs_follow_the_wall_clock_and_end_on_the_boot_clock() {
        let schedule = Schedule {
            start: 1000,
            length: Duration::from_secs(60),
            jitter: Duration::from_secs(5),
        };
        let rows = [
            ((5, 1000), 0, 65),
            ((5, 1059), 0, 6),
            ((5, 1060), 1, 65),
            ((5, 1130), 2, 55),
            // Before the beginning.
            ((5, 10), 0, 65),
        ];
        for ((boot, wall), epoch, next) in rows {
            let now = at(boot, wall);
            assert_eq!(schedule.epoch(now), epoch, "{wall}");
            assert_eq!(schedule.next(now), Duration::from_secs(next), "{wall}");
        }
    }
}
