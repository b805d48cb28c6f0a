//! DER, as far as making certificates and requests needs it. Reading is not done here.

use rustls_pki_types::UnixTime;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Tag, length, and the concatenated parts.
pub(crate) fn tlv<P: AsRef<[u8]>>(tag: u8, parts: &[P]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.as_ref().len()).sum::<usize>();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    push_length(&mut out, length);
    for part in parts {
        out.extend_from_slice(part.as_ref());
    }
    out
}

pub(crate) fn sequence<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// `[number]` around a constructed value.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, &[content])
}

/// An object identifier from its content octets.
pub(crate) fn oid(content: &[u8]) -> Vec<u8> {
    tlv(OBJECT_IDENTIFIER, &[content])
}

/// A non-negative integer from its big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let significant = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len());
    let bytes = &bytes[significant..];
    let sign: &[u8] = if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        &[0]
    } else {
        &[]
    };
    tlv(INTEGER, &[sign, bytes])
}

/// A BIT STRING of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes])
}

/// A BIT STRING with named bits: no trailing zero bits (X.690, section 11.2.2).
pub(crate) fn named_bits(bits: u8) -> Vec<u8> {
    let unused = if bits == 0 {
        0
    } else {
        bits.trailing_zeros() as u8
    };
    tlv(BIT_STRING, &[[unused, bits]])
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on. `None` after 9999.
pub(crate) fn time(at: UnixTime) -> Option<Vec<u8>> {
    let seconds = at.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let clock = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    match year {
        1970..2050 => Some(tlv(UTC_TIME, &[format!("{:02}{clock}", year % 100)])),
        2050..10_000 => Some(tlv(GENERALIZED_TIME, &[format!("{year:04}{clock}")])),
        _ => None,
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar counted in 400-year eras
/// that begin on a 1 March, so that the leap day is an era's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        out.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let significant = &bytes[length.leading_zeros() as usize / 8..];
    out.push(0x80 | significant.len() as u8);
    out.extend_from_slice(significant);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lengths_are_minimal() {
        for (length, header) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (255, vec![4, 0x81, 255]),
            (256, vec![4, 0x82, 1, 0]),
            (65_536, vec![4, 0x83, 1, 0, 0]),
        ] {
            let encoded = tlv(OCTET_STRING, &[vec![7u8; length]]);
            assert_eq!(encoded[..header.len()], header, "length {length}");
            assert_eq!(encoded.len(), header.len() + length);
        }
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(0x80), [3, 2, 7, 0x80]);
        assert_eq!(named_bits(0x06), [3, 2, 1, 0x06]);
    }

    #[test]
    fn dates() {
        let text = |seconds| {
            let encoded = time(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))?;
            Some((
                encoded[0],
                String::from_utf8(encoded[2..].to_vec()).unwrap(),
            ))
        };
        let utc = |text: &str| Some((UTC_TIME, text.to_owned()));
        let generalized = |text: &str| Some((GENERALIZED_TIME, text.to_owned()));
        assert_eq!(text(0), utc("700101000000Z"));
        assert_eq!(text(951_782_400), utc("000229000000Z"));
        assert_eq!(text(1_709_251_199), utc("240229235959Z"));
        assert_eq!(text(1_795_374_000), utc("261122190000Z"));
        assert_eq!(text(2_524_607_999), utc("491231235959Z"));
        assert_eq!(text(2_524_608_000), generalized("20500101000000Z"));
        assert_eq!(text(4_107_542_400), generalized("21000301000000Z"));
        assert_eq!(text(253_402_300_799), generalized("99991231235959Z"));
        assert_eq!(text(253_402_300_800), None);
        assert_eq!(text(u64::MAX), None);
    }
}
