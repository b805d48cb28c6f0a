//! Times, sizes and identities in words.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use signet_agent_core::status::Party;

/// Seconds of Unix time, now.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// "2m ago", "now".
pub(crate) fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        0 => "now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// "in 55m", "expired 3s ago".
pub(crate) fn until(then: u64, now: u64) -> String {
    if then > now {
        format!("in {}", span(then - now))
    } else {
        format!("expired {}", ago(then, now))
    }
}

/// The two largest units: "2m5s", "3h12m", "4d1h".
pub(crate) fn span(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let Some(first) = parts.iter().position(|(count, _)| *count > 0) else {
        return "0s".to_owned();
    };
    parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect()
}

/// "1.4 MiB".
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while count / scale >= 1024 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    let tenths = count / (scale / 10).max(1);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `12:34:56.789`, UTC.
pub(crate) fn clock(time_ms: u64) -> String {
    let (seconds, millis) = (time_ms / 1000, time_ms % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

/// `2026-05-20 12:34:56Z`.
pub(crate) fn date(seconds: u64) -> String {
    let stamp = i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    stamp.map_or_else(
        || seconds.to_string(),
        |stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// The best name of one end of a flow: pod, class or address, with its port.
pub(crate) fn party(party: &Party) -> String {
    let port = if party.port == 0 {
        String::new()
    } else {
        format!(":{}", party.port)
    };
    if let Some(pod) = &party.pod {
        return format!("{pod}{port}");
    }
    let address = match party.address {
        Some(address) if party.port != 0 => SocketAddr::new(address, party.port).to_string(),
        Some(address) => address.to_string(),
        None => "?".to_owned(),
    };
    match &party.class {
        Some(class) => format!("{address} ({class})"),
        None => address,
    }
}

/// Addresses, comma-separated.
pub(crate) fn addresses(all: &[IpAddr]) -> String {
    if all.is_empty() {
        return "-".to_owned();
    }
    all.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m5s"),
            (3600, "1h"),
            (11_530, "3h12m"),
            (349_200, "4d1h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((ago(10, 10), ago(10, 20)), ("now".into(), "10s ago".into()));
        assert_eq!(
            (until(20, 10), until(10, 13)),
            ("in 10s".into(), "expired 3s ago".into())
        );
        assert_eq!(clock(45_296_789), "12:34:56.789");
        assert_eq!(date(0), "1970-01-01 00:00:00Z");
    }

    #[test]
    fn sizes_are_round() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_end_of_a_flow_is_named_as_well_as_known() {
        let mut end = Party {
            address: Some("fd00::1".parse().unwrap()),
            port: 53,
            ..Party::default()
        };
        assert_eq!(party(&end), "[fd00::1]:53");
        end.class = Some("World".into());
        assert_eq!(party(&end), "[fd00::1]:53 (World)");
        end.pod = Some("shop/dns".into());
        assert_eq!(party(&end), "shop/dns:53");
    }
}
