//! The audit log, as somebody hands it over: what its verifier calls proven is what was written.

use std::{path::Path, sync::OnceLock};

use signet_audit::{
    chain::{Chain, Moment, Owner, Position},
    key::SigningKey,
    line::Line,
    record::{End, Event, Facts, Verdict as Decision},
    recover::{Tail, examine},
    verify::{Verdict, Verifier},
};

use crate::pki;

/// Bytes of a log.
pub fn run(data: &[u8]) {
    accepts(data);
}

/// The same; whether it was found whole.
pub fn accepts(data: &[u8]) -> bool {
    for text in data.split(|byte| *byte == b'\n') {
        if let Ok(line) = Line::parse(text) {
            assert_eq!(line.encode(), text, "one text for each line");
        }
    }
    let pem = pki::known().bundle.to_pem();
    let mut verifier = Verifier::new(Some(pem.as_bytes()));
    verifier.segment("log", data);
    let report = verifier.finish();
    assert_eq!(report.broken.is_some(), report.verdict() == Verdict::Broken);
    if report.broken.is_none() {
        let proven = report.lines - report.unsigned;
        let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
        let end = match usize::try_from(proven) {
            Ok(0) | Err(_) => 0,
            Ok(lines) => ends[lines - 1],
        };
        let written = written();
        let found = end == 0 || written.windows(end).any(|window| window == &data[..end]);
        assert!(found, "{proven} lines are called proven that nobody wrote");
    }
    match examine(data).0 {
        Tail::Torn { keep, .. } => assert!(keep <= data.len()),
        Tail::Whole(_) | Tail::Damaged { .. } => {}
    }
    report.verdict() == Verdict::Whole
}

/// The one log that the key was ever used for.
fn written() -> &'static [u8] {
    static WRITTEN: OnceLock<Vec<u8>> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/audit/good");
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

/// Two segments in one file, and what may and may not be made of them.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let svid = pki::fresh().node();
    let owner = Owner {
        node: svid.id().clone(),
        boot_id: "00000000-0000-0000-0000-000000000001".to_owned(),
    };
    let mut chain = Chain::new(SigningKey::generate().unwrap(), owner, Position::START);
    let mut lines = Vec::new();
    for segment in 0..2u64 {
        let at = |step: u64| {
            let ms = segment * 100 + step;
            Moment {
                wall_ms: pki::at(0).as_secs() * 1000 + ms,
                boot_ms: 5000 + ms,
            }
        };
        lines.push(chain.header(at(0), svid).unwrap());
        let end = |pod: &str| End {
            id: Some(pki::web()),
            pod: pod.to_owned(),
            certificate: None,
            wireguard: None,
        };
        let opened = Facts::new(Event::Opened)
            .local(end("web-1"))
            .remote(end("web-2"))
            .decided(Decision::Allowed, "a rule");
        lines.push(chain.record(at(1), opened));
        lines.push(chain.record(at(2), Facts::counted(Event::Suppressed, 3, "too many")));
        lines.extend(chain.batch(at(3)));
        lines.extend(chain.checkpoint(at(4)));
        lines.push(chain.record(at(5), Facts::new(Event::Opened)));
        lines.extend(chain.batch(at(6)));
    }
    let per = lines.len() / 2;
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    vec![
        ("good", lines.concat()),
        ("good-cut-after-batch", lines[..4].concat()),
        ("second-segment-alone", lines[per..].concat()),
        ("unsigned", lines[..3].concat()),
        ("torn", lines.concat()[..2000].to_vec()),
        ("dropped", without(1)),
        ("swapped", swapped.concat()),
        ("turned", [&lines[per..], &lines[..per]].concat().concat()),
    ]
}
