//! The machine's clocks and its boot id.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use signet_crypto::time::TimeSource;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `CLOCK_BOOTTIME`.
pub(crate) fn boot() -> Duration {
    // The call has no way to fail on Linux; a clock that stands still would only let nothing in.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The same in milliseconds: what starts later in one boot has more, whatever is done to the wall
/// clock meanwhile.
pub(crate) fn boot_ms() -> u64 {
    u64::try_from(boot().as_millis()).unwrap_or(u64::MAX)
}

/// Wall time that follows `CLOCK_BOOTTIME` from the machine's own idea of the date, until the
/// identity service says better.
pub(crate) fn time_source() -> TimeSource {
    TimeSource::new(boot, system_ms())
}

/// The machine's own wall clock, Unix milliseconds.
pub(crate) fn system_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The kernel's boot id as text and as 16 bytes.
pub(crate) fn boot_id() -> Result<(String, [u8; 16]), String> {
    let text = fs::read_to_string(BOOT_ID)
        .map_err(|error| format!("{BOOT_ID} cannot be read ({error}): mount /proc"))?;
    let text = text.trim();
    let bytes = parse_uuid(text).ok_or_else(|| format!("{BOOT_ID} holds no UUID: {text:?}"))?;
    Ok((text.to_owned(), bytes))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    hex::decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_sixteen_bytes_or_refused() {
        let bytes = parse_uuid("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        assert_eq!(bytes[..4], [0x01, 0x23, 0x45, 0x67]);
        assert_eq!(parse_uuid("01234567"), None);
        assert_eq!(parse_uuid(""), None);
        assert!(boot_id().is_ok());
    }

    #[test]
    fn boot_clock_moves_forward() {
        let first = boot();
        assert!(first > Duration::ZERO && boot() >= first);
    }
}
