//! What became of numbered packets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The outcome of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) protocol: String,
    pub(crate) to: String,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    /// Answers that came after a later one.
    pub(crate) reordered: u64,
    pub(crate) duplicates: u64,
    /// Packets that the own machine refused to send (no buffer, no route, policy).
    pub(crate) send_errors: u64,
    /// Longest run of lost packets.
    pub(crate) longest_gap: u64,
    /// Numbers of the first lost ones, from 0; at most 16.
    pub(crate) lost_numbers: Vec<u64>,
    /// Round-trip times in microseconds.
    pub(crate) rtt_us_p50: u64,
    pub(crate) rtt_us_p99: u64,
    pub(crate) rtt_us_max: u64,
}

/// Counts answers by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Round-trip time by number; none while it is missing.
    seen: Vec<Option<Duration>>,
    highest: Option<u64>,
    reordered: u64,
    duplicates: u64,
    send_errors: u64,
}

impl Tally {
    /// Number of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The next packet was sent, or refused by the own machine: then it counts as lost.
    pub(crate) fn sent(&mut self, fine: bool) {
        self.seen.push(None);
        self.send_errors += u64::from(!fine);
    }

    /// An answer came. Numbers that were never sent are not ours.
    pub(crate) fn received(&mut self, number: u64, rtt: Duration) {
        let Some(slot) = usize::try_from(number)
            .ok()
            .and_then(|index| self.seen.get_mut(index))
        else {
            return;
        };
        if slot.is_some() {
            self.duplicates += 1;
            return;
        }
        *slot = Some(rtt);
        if self.highest.is_some_and(|highest| number < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
    }

    /// Whether nothing is missing.
    pub(crate) fn complete(&self) -> bool {
        self.seen.iter().all(Option::is_some)
    }

    /// The outcome.
    pub(crate) fn report(&self, protocol: &str, to: String) -> Report {
        let mut times: Vec<Duration> = self.seen.iter().flatten().copied().collect();
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(index).map_or(0, micros)
        };
        let received = times.len() as u64;
        Report {
            protocol: protocol.to_owned(),
            to,
            sent: self.next(),
            received,
            lost: self.next() - received,
            reordered: self.reordered,
            duplicates: self.duplicates,
            send_errors: self.send_errors,
            longest_gap: self.longest_gap(),
            lost_numbers: (0..)
                .zip(&self.seen)
                .filter(|(_, slot)| slot.is_none())
                .map(|(n, _)| n)
                .take(16)
                .collect(),
            rtt_us_p50: at(50),
            rtt_us_p99: at(99),
            rtt_us_max: times.last().map_or(0, micros),
        }
    }

    fn longest_gap(&self) -> u64 {
        let (mut longest, mut current) = (0, 0);
        for slot in &self.seen {
            current = if slot.is_some() { 0 } else { current + 1 };
            longest = longest.max(current);
        }
        longest
    }
}

fn micros(time: &Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_happen_is_told_apart() {
        let mut tally = Tally::default();
        for _ in 0..8 {
            tally.sent(true);
        }
        tally.sent(false);
        for (number, time) in [(0, 10), (2, 20), (1, 30), (2, 40), (7, 50), (99, 60)] {
            tally.received(number, Duration::from_micros(time));
        }
        assert!(!tally.complete());
        let report = tally.report("UDP", "x".to_owned());
        assert_eq!((report.sent, report.received, report.lost), (9, 4, 5));
        assert_eq!(
            (report.reordered, report.duplicates, report.send_errors),
            (1, 1, 1)
        );
        assert_eq!(report.longest_gap, 4);
        assert_eq!(report.lost_numbers, [3, 4, 5, 6, 8]);
        assert_eq!((report.rtt_us_p50, report.rtt_us_max), (30, 50));
    }

    #[test]
    fn nothing_at_all_is_a_report_too() {
        let report = Tally::default().report("UDP", String::new());
        assert_eq!((report.sent, report.lost, report.rtt_us_p99), (0, 0, 0));
    }
}
