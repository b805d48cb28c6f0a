//! As much of DNS (RFC 1035, RFC 3596) as a demonstration needs: A and AAAA questions and answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const IN: u16 = 1;
const TTL: u32 = 5;

/// A question for `name`, for its IPv4 or IPv6 addresses.
pub(crate) fn question(id: u16, name: &str, ipv6: bool) -> Option<Vec<u8>> {
    let mut query = Vec::new();
    // Recursion desired, one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        query.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length))?;
        query.push(length);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(if ipv6 { AAAA } else { A }.to_be_bytes());
    query.extend(IN.to_be_bytes());
    Some(query)
}

/// Answers a query from a table of lower-case names; `None` for what is no query.
pub(crate) fn answer(query: &[u8], zone: &BTreeMap<String, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let flags = word(query, 2)?;
    if flags & 0x8000 != 0 || word(query, 4)? != 1 {
        return None;
    }
    let (name, end) = read_name(query, HEADER)?;
    let (kind, class) = (word(query, end)?, word(query, end + 2)?);
    let known = zone.get(&name.to_ascii_lowercase());
    let records: Vec<Vec<u8>> = known
        .into_iter()
        .flatten()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        })
        .filter(|_| class == IN)
        .collect();
    // Response, authoritative; 3 is "no such name".
    let code = if known.is_some() { 0 } else { 3 };
    let mut out = query.get(..2)?.to_vec();
    out.extend((0x8400 | (flags & 0x0100) | code).to_be_bytes());
    for count in [1, u16::try_from(records.len()).ok()?, 0, 0] {
        out.extend(count.to_be_bytes());
    }
    out.extend(query.get(HEADER..end + 4)?);
    for record in records {
        out.extend((0xc000 | HEADER as u16).to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend(TTL.to_be_bytes());
        out.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        out.extend(record);
    }
    Some(out)
}

/// The addresses in an answer to question `id`; an error text if it says there are none.
pub(crate) fn addresses(answer: &[u8], id: u16) -> Result<Vec<IpAddr>, String> {
    let parse = || -> Option<Result<Vec<IpAddr>, String>> {
        if word(answer, 0)? != id || word(answer, 2)? & 0x8000 == 0 {
            return None;
        }
        match word(answer, 2)? & 0xf {
            0 => {}
            3 => return Some(Err("no such name".to_owned())),
            code => return Some(Err(format!("the server failed with code {code}"))),
        }
        let count = word(answer, 6)?;
        let (_, mut at) = read_name(answer, HEADER)?;
        at += 4;
        let mut found = Vec::new();
        for _ in 0..count {
            at += if answer.get(at)? & 0xc0 == 0xc0 {
                2
            } else {
                read_name(answer, at)?.1 - at
            };
            let length = usize::from(word(answer, at + 8)?);
            let data = answer.get(at + 10..at + 10 + length)?;
            match word(answer, at)? {
                A => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
                AAAA => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
                _ => {}
            }
            at += 10 + length;
        }
        Some(Ok(found))
    };
    parse().unwrap_or_else(|| Err("that is no answer to the question".to_owned()))
}

/// A name and the position behind it. Compressed names do not occur in questions.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return Some((labels.join("."), at)),
            1..64 => {
                labels.push(String::from_utf8_lossy(message.get(at..at + length)?).into_owned())
            }
            _ => return None,
        }
        at += length;
        if labels.len() > 127 {
            return None;
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([
        *message.get(at)?,
        *message.get(at + 1)?,
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> BTreeMap<String, Vec<IpAddr>> {
        let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|text| text.parse().unwrap());
        BTreeMap::from([("db.shop".to_owned(), addresses.to_vec())])
    }

    fn ask(name: &str, ipv6: bool) -> Result<Vec<IpAddr>, String> {
        addresses(
            &answer(&question(7, name, ipv6).unwrap(), &zone()).unwrap(),
            7,
        )
    }

    #[test]
    fn a_name_has_its_addresses() {
        assert_eq!(ask("DB.shop.", false).unwrap().len(), 2);
        assert_eq!(
            ask("db.shop", true).unwrap(),
            ["fd00::1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(ask("no.shop", false).unwrap_err(), "no such name");
    }

    #[test]
    fn junk_is_no_query_and_no_answer() {
        let good = question(7, "db.shop", false).unwrap();
        for length in 0..good.len() {
            assert!(answer(&good[..length], &zone()).is_none(), "{length}");
        }
        let full = answer(&good, &zone()).unwrap();
        for length in 0..full.len() {
            addresses(&full[..length], 7).unwrap_err();
        }
        addresses(&full, 8).unwrap_err();
        assert!(answer(&full, &zone()).is_none());
        assert!(question(1, "a..b", false).is_none());
        assert!(question(1, &"a".repeat(64), false).is_none());
    }
}
