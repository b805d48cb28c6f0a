//! How many refusals are worth a record: a pod that scans the network must not fill a disk.

use std::{collections::BTreeMap, time::Duration};

/// Refusals of one pod or node recorded at once.
pub const BURST: u32 = 50;
/// Refusals of one pod or node recorded per second, after that.
pub const RATE: u32 = 5;
/// Pods and nodes remembered; more than that are one.
const REMEMBERED: usize = 4096;

/// A token bucket per pod or node.
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: BTreeMap<String, Bucket>,
    suppressed: u64,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of a record.
    tokens: u64,
    at: Duration,
}

impl Limiter {
    /// Whether a refusal of `who` at `boot` is recorded; if not, it is counted.
    pub fn admit(&mut self, who: &str, boot: Duration) -> bool {
        let full = u64::from(BURST) * 1000;
        if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(who) {
            self.buckets.retain(|_, bucket| bucket.filled(boot) < full);
        }
        let who = if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(who) {
            ""
        } else {
            who
        };
        let bucket = self.buckets.entry(who.to_owned()).or_insert(Bucket {
            tokens: full,
            at: boot,
        });
        bucket.tokens = bucket.filled(boot);
        bucket.at = boot;
        let admitted = bucket.tokens >= 1000;
        if admitted {
            bucket.tokens -= 1000;
        } else {
            self.suppressed += 1;
        }
        admitted
    }

    /// How many were not recorded since this was asked last.
    pub fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

impl Bucket {
    fn filled(&self, boot: Duration) -> u64 {
        let elapsed = boot.saturating_sub(self.at).as_millis();
        let gained = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(RATE));
        self.tokens
            .saturating_add(gained)
            .min(u64::from(BURST) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_counted_and_does_not_hide_another_pods_refusal() {
        let mut limiter = Limiter::default();
        let start = Duration::from_secs(100);
        let recorded = (0..10_000)
            .filter(|_| limiter.admit("scanner", start))
            .count();
        assert_eq!(recorded, BURST as usize);
        assert!(limiter.admit("honest", start));
        assert_eq!(limiter.take_suppressed(), 10_000 - u64::from(BURST));
        assert_eq!(limiter.take_suppressed(), 0);
        let later = start + Duration::from_secs(2);
        let recorded = (0..100).filter(|_| limiter.admit("scanner", later)).count();
        assert_eq!(recorded, 2 * RATE as usize);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut limiter = Limiter::default();
        for n in 0..3 * REMEMBERED {
            limiter.admit(&n.to_string(), Duration::ZERO);
        }
        assert!(limiter.buckets.len() <= REMEMBERED + 1);
        // Who has been quiet is forgotten for who comes.
        assert!(limiter.admit("new", Duration::from_secs(3600)));
        assert!(limiter.buckets.len() <= 2);
    }
}
