//! What stands in a line, to the byte.

use std::collections::BTreeSet;

use super::*;
use crate::{
    fields::FIELDS,
    line::{LineError, MAX_LINE, signed_part},
    record::{MAX_TEXT, one_line},
};

/// The names of a JSON object in the order in which they stand there. No value here has a quote
/// before a colon.
fn names(line: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(line).unwrap();
    let parts: Vec<&str> = text.split("\":").collect();
    let heads = parts.iter().take(parts.len() - 1);
    heads
        .filter_map(|head| head.rsplit('"').next().map(str::to_owned))
        .collect()
}

#[test]
fn the_documented_fields_are_those_of_the_lines_in_their_order() {
    let mut writer = Writer::new(World::new().node("a"));
    writer.segment();
    let all = Facts {
        count: Some(1),
        through: Some(2),
        ..opened(1)
    };
    writer.record(all);
    writer.batch();
    writer.record(Facts::new(Event::Started));
    writer.checkpoint();
    let mut seen = BTreeSet::new();
    for (line, kind) in
        writer
            .log
            .lines()
            .iter()
            .zip(["header", "record", "batch", "record", "checkpoint"])
    {
        let names = names(line);
        assert_eq!(parsed(line).encode(), line[..line.len() - 1]);
        let known: Vec<_> = FIELDS
            .iter()
            .filter(|field| field.kinds == "all" || field.kinds.split(", ").any(|k| k == kind))
            .map(|field| field.name.to_owned())
            .collect();
        let documented: Vec<_> = known.iter().filter(|name| names.contains(name)).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), documented, "{kind}");
        seen.extend(names);
    }
    let documented: BTreeSet<_> = FIELDS.iter().map(|field| field.name.to_owned()).collect();
    assert_eq!(seen, documented);
}

#[test]
fn an_event_is_written_as_it_is_documented() {
    let mut events = BTreeSet::new();
    for event in Event::ALL {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, format!("\"{}\"", event.as_str()));
        assert!(!event.explain().is_empty());
        assert!(events.insert(event.as_str()));
    }
    for verdict in [Decision::Allowed, Decision::Refused, Decision::Ended] {
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(text, format!("\"{}\"", verdict.as_str()));
    }
}

#[test]
fn there_is_one_encoding_of_a_line() {
    let mut writer = Writer::new(World::new().node("a"));
    writer.segment();
    writer.record(opened(1));
    let line = writer.log.lines()[1].clone();
    let text = String::from_utf8(line).unwrap();
    let text = text.trim_end();
    Line::parse(text.as_bytes()).unwrap();
    let other = [
        text.replace("\"seq\":2", "\"seq\": 2"),
        text.replace("\"seq\":2", "\"seq\":2.0"),
        text.replace("\"seq\":2", "\"seq\":02"),
        text.replace("\"seq\":2", "\"seq\":2,\"seq\":2"),
        text.replace("\"seq\":2", "\"seq\":2,\"more\":1"),
        text.replace("shop", "\\u0073hop"),
        text.replace("\"opened\"", "\"Opened\""),
        text.replace("\"local_pod\"", "\"through\":null,\"local_pod\""),
        text.replacen("\"session_id\":\"", "\"session_id\":\"AB", 1),
        text.replace("10.0.0.7", "10.0.0.07"),
        format!("{text} "),
        format!(" {text}"),
        format!("{text}{text}"),
        text[1..].to_owned(),
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "[".repeat(10_000),
    ];
    for other in other {
        assert_ne!(other, text);
        Line::parse(other.as_bytes()).unwrap_err();
    }
    let long = format!("{text}{}", " ".repeat(MAX_LINE));
    assert_eq!(Line::parse(long.as_bytes()), Err(LineError::TooLong));
}

#[test]
fn a_signature_is_over_everything_before_it() {
    let line = br#"{"kind":"batch","seq":3,"x":",\"signature\":\"","signature":"00"}"#;
    let part = signed_part(line).unwrap();
    assert!(part.ends_with(b"\\\"\""));
    assert_eq!(signed_part(b"{\"kind\":\"record\"}"), None);
}

#[test]
fn text_is_one_line_and_short() {
    assert_eq!(one_line("a\nb\u{1b}[0m"), "a b [0m");
    let long = one_line(&"ä".repeat(1000));
    assert!(long.len() <= MAX_TEXT && long.len() > MAX_TEXT - 2);
}
