//! `signetctl audit tail`: the newest records, in words.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use signet_audit::line::{Line, Record};
use signet_audit::record::{Facts, Verdict};
use signet_crypto::spiffe_id::SpiffeId;

use super::files;
use crate::agent::Agent;
use crate::human;
use crate::output::{self, Format, Paint};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Options of `audit tail`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Folder of the log; the agent's if left out
    dir: Option<PathBuf>,
    /// Go on until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many records to begin with
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
}

/// Prints records as they come.
pub(super) fn run(agent: &Agent, options: &Options, format: Format) -> Result<u8> {
    let folder = files::place(agent, options.dir.as_deref())?;
    let (records, mut at) = newest(&folder, options.last)?;
    let paint = Paint::stdout();
    if matches!(format, Format::Table | Format::Wide) {
        output::print_text(&(head(format == Format::Wide) + "\n"))?;
    }
    print(&records, format, paint)?;
    if !options.follow {
        return Ok(0);
    }
    loop {
        thread::sleep(LOOK);
        print(&at.advance(&folder)?, format, paint)?;
    }
}

/// The last `count` signed records, and the place after them.
fn newest(folder: &Path, count: usize) -> Result<(Vec<Record>, Place)> {
    let numbers = files::segments(folder)?;
    let mut place = None;
    let mut records: Vec<Record> = Vec::new();
    for number in numbers.into_iter().rev() {
        let bytes = files::read(folder, number)?.unwrap_or_default();
        let end = files::signed_len(&bytes);
        place.get_or_insert(Place {
            offset: end,
            ..Place::start(number)
        });
        let mut older = parse(&bytes[..end]);
        older.append(&mut records);
        records = older;
        if records.len() >= count {
            break;
        }
    }
    let surplus = records.len().saturating_sub(count);
    records.drain(..surplus);
    let place = place.unwrap_or(Place::start(1));
    Ok((records, place))
}

/// How far a followed log has been read.
struct Place {
    number: u64,
    offset: usize,
    /// Length of the segment when it was read last.
    len: Option<u64>,
}

impl Place {
    fn start(number: u64) -> Self {
        Self {
            number,
            offset: 0,
            len: None,
        }
    }

    /// What has been signed since.
    fn advance(&mut self, folder: &Path) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        loop {
            // First: if there is a next one, this one is complete.
            let next = files::len(folder, self.number + 1);
            let len = files::len(folder, self.number);
            if len != self.len {
                self.len = len;
                let bytes = files::read(folder, self.number)?.unwrap_or_default();
                let end = files::signed_len(&bytes);
                if end > self.offset {
                    records.extend(parse(&bytes[self.offset..end]));
                    self.offset = end;
                }
            }
            if next.is_none() {
                return Ok(records);
            }
            *self = Self::start(self.number + 1);
        }
    }
}

fn parse(bytes: &[u8]) -> Vec<Record> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let records = lines.filter_map(|line| match Line::parse(line) {
        Ok(Line::Record(record)) => Some(*record),
        Ok(Line::Header(_) | Line::Batch(_) | Line::Checkpoint(_)) | Err(_) => None,
    });
    records.collect()
}

fn print(records: &[Record], format: Format, paint: Paint) -> Result<()> {
    for record in records {
        match format {
            Format::Json | Format::Yaml => {
                output::item(format, &Line::Record(Box::new(record.clone())))?;
            }
            Format::Table | Format::Wide => {
                let line = row(record, format == Format::Wide, paint);
                output::print_text(&(line + "\n"))?;
            }
        }
    }
    Ok(())
}

fn head(wide: bool) -> String {
    let mut line = format!(
        "{:<20}  {:>7}  {:<15}  {:<7}  {:>5}  {:<8}  WHO",
        "TIME", "LINE", "EVENT", "VERDICT", "EPOCH", "SESSION"
    );
    if wide {
        line.push_str("  CERTIFICATES  KEY EXCHANGE  CIPHER  UNTIL");
    }
    line
}

/// One record. Columns of one width, so that those that come later stand under those before.
fn row(record: &Record, wide: bool, paint: Paint) -> String {
    let facts = &record.facts;
    let verdict = facts.verdict.map_or("", Verdict::as_str);
    let padded = format!("{verdict:<7}");
    let verdict = match facts.verdict {
        Some(Verdict::Allowed) => paint.good(&padded),
        Some(Verdict::Refused) => paint.bad(&padded),
        Some(Verdict::Ended) | None => padded,
    };
    let session = facts.session_id.map(|id| id.to_string());
    let hashed = |text: Option<String>| {
        let text = text.unwrap_or_else(|| "-".to_owned());
        text.chars().take(8).collect::<String>()
    };
    let epoch = facts
        .epoch
        .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    let mut line = format!(
        "{:<20}  {:>7}  {:<15}  {verdict}  {epoch:>5}  {:<8}  {}",
        human::date(record.wall_ms / 1000),
        record.seq,
        facts.event.as_str(),
        hashed(session),
        who(facts),
    );
    if wide && facts.session_id.is_some() {
        let certificate =
            |hash: Option<_>| hashed(hash.map(|hash: signet_audit::line::Hash| hash.to_string()));
        line.push_str(&format!(
            "  {}+{}  {}  {}  {}",
            certificate(facts.local_certificate),
            certificate(facts.remote_certificate),
            facts.key_exchange,
            facts.cipher,
            facts.not_after.map_or_else(|| "-".to_owned(), human::date),
        ));
    }
    line.trim_end().to_owned()
}

/// Both ends, and why.
fn who(facts: &Facts) -> String {
    let id = |id: &Option<SpiffeId>, pod: &str| match id {
        Some(id) => Some(id.to_string()),
        None if pod.is_empty() => None,
        None => Some(format!("pod {pod}")),
    };
    let local = id(&facts.local_id, &facts.local_pod);
    let remote = id(&facts.remote_id, &facts.remote_pod);
    let address = facts.remote_address.map(|address| address.to_string());
    let remote = remote.or(address);
    let mut text = match (local, remote) {
        (Some(local), Some(remote)) => format!("{local} with {remote}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    if let Some(count) = facts.count {
        text.push_str(&format!(" {count}"));
    }
    if let Some(through) = facts.through {
        text.push_str(&format!(" lines up to {through}"));
    }
    if !facts.reason.is_empty() {
        text.push_str(&format!(" ({})", facts.reason));
    }
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use signet_audit::chain::{Chain, Moment, Owner, Position};
    use signet_audit::key::SigningKey;
    use signet_audit::record::{End, Event};
    use signet_audit::segment::file_name;

    use super::*;

    fn chain() -> Chain {
        let owner = Owner {
            node: SpiffeId::new("spiffe://td.test/node/a").unwrap(),
            boot_id: "boot".to_owned(),
        };
        Chain::new(SigningKey::generate().unwrap(), owner, Position::START)
    }

    fn append(folder: &Path, number: u64, bytes: &[u8]) {
        let path = folder.join(file_name(number));
        let mut all = fs::read(&path).unwrap_or_default();
        all.extend(bytes);
        fs::write(path, all).unwrap();
    }

    #[test]
    fn the_newest_records_are_shown_over_segments_and_only_signed_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = chain();
        let now = Moment::default();
        for number in 1..4 {
            for _ in 0..3 {
                append(
                    dir.path(),
                    number,
                    &chain.record(now, Facts::new(Event::Opened)),
                );
            }
            append(dir.path(), number, &chain.batch(now).unwrap());
        }
        append(dir.path(), 3, &chain.record(now, Facts::new(Event::Closed)));
        let (records, mut place) = newest(dir.path(), 5).unwrap();
        let lines: Vec<_> = records.iter().map(|record| record.seq).collect();
        assert_eq!(lines, [6, 7, 9, 10, 11]);
        assert_eq!(newest(dir.path(), 99).unwrap().0.len(), 9);
        assert!(place.advance(dir.path()).unwrap().is_empty());

        append(dir.path(), 3, &chain.batch(now).unwrap());
        append(dir.path(), 4, &chain.record(now, Facts::new(Event::Opened)));
        append(dir.path(), 4, &chain.batch(now).unwrap());
        let more = place.advance(dir.path()).unwrap();
        let events: Vec<_> = more.iter().map(|record| record.facts.event).collect();
        assert_eq!(events, [Event::Closed, Event::Opened]);
        assert!(place.advance(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_row_says_who_and_why() {
        let end = |name: &str| End {
            id: Some(SpiffeId::new(format!("spiffe://td.test/ns/shop/sa/{name}")).unwrap()),
            ..End::default()
        };
        let facts = Facts::new(Event::Refused)
            .local(end("web"))
            .remote(end("db"))
            .decided(Verdict::Refused, "no rule");
        let line = chain().record(Moment::default(), facts);
        let text = row(&parse(&line)[0], true, Paint::none());
        for word in [
            "refused",
            "spiffe://td.test/ns/shop/sa/web with spiffe://td.test/ns/shop/sa/db",
            "(no rule)",
            "1970-01-01",
        ] {
            assert!(text.contains(word), "{word:?} in {text}");
        }
        let line = chain().record(Moment::default(), Facts::counted(Event::Lost, 3, "full"));
        let text = row(&parse(&line)[0], false, Paint::none());
        assert!(text.ends_with("3 (full)"), "{text}");
    }
}
