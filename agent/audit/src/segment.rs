//! The files of a log: `segment-00000001.log`, `segment-00000002.log`, ..., and `checkpoint`.
//!
//! A segment begins with a header, which names the hash of the former segment's last line. It is
//! full once it has reached its size; what would then be written goes to the next one.

/// A segment is full at this many bytes.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// The file with the newest checkpoint, replaced as a whole.
pub const CHECKPOINT_FILE: &str = "checkpoint";

const PREFIX: &str = "segment-";
const SUFFIX: &str = ".log";

/// File name of a segment.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// Number of the segment with this file name; `None` if it is no segment's.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Whether a file looks like a segment but is not named as one: a copy somebody put there.
#[must_use]
pub fn is_strange(name: &str) -> bool {
    name.starts_with(PREFIX) && number_of(name).is_none()
}

/// Which of these segments (number and size, oldest first) go so that no more than `keep` bytes
/// stay. The newest always stays.
#[must_use]
pub fn surplus(segments: &[(u64, u64)], keep: u64) -> Vec<u64> {
    let mut total: u64 = segments.iter().map(|(_, size)| size).sum();
    let mut gone = Vec::new();
    for (number, size) in segments.iter().take(segments.len().saturating_sub(1)) {
        if total <= keep {
            break;
        }
        total -= size;
        gone.push(*number);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways_and_nothing_else_is_a_name() {
        for number in [1, 42, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(number_of(&file_name(number)), Some(number));
        }
        for name in [
            "segment-1.log",
            "segment-00000001.log~",
            "segment-+0000001.log",
            "checkpoint",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
        assert!(is_strange("segment-00000001.log.bak") && !is_strange("checkpoint"));
        assert!(!is_strange(&file_name(3)));
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_never() {
        let segments = [(3, 10), (4, 10), (5, 10)];
        assert_eq!(surplus(&segments, 30), Vec::<u64>::new());
        assert_eq!(surplus(&segments, 29), [3]);
        assert_eq!(surplus(&segments, 10), [3, 4]);
        assert_eq!(surplus(&segments, 0), [3, 4]);
        assert_eq!(surplus(&[], 0), Vec::<u64>::new());
    }
}
