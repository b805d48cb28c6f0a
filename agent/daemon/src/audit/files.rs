//! The log's files: opened and repaired, written, signed, rotated, pruned.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use signet_audit::{
    chain::{Chain, Moment, Owner, Position},
    key::SigningKey,
    line::{Checkpoint, Hash, Line, MAX_LINE},
    record::{Event, Facts, one_line},
    recover::{Tail, examine},
    segment::{CHECKPOINT_FILE, file_name, number_of, surplus},
};
use signet_crypto::tls::SvidStore;
use zeroize::Zeroizing;

use crate::state::{read, replace};

/// Where the log is, and whose.
pub(crate) struct Setup {
    /// Folder of the segments.
    pub(crate) folder: PathBuf,
    /// File of the signing key.
    pub(crate) key: PathBuf,
    pub(crate) owner: Owner,
    /// The node's SVID of each moment: it vouches for the key.
    pub(crate) svid: SvidStore,
    /// A segment is full at this many bytes.
    pub(crate) segment: u64,
    /// All of them together.
    pub(crate) keep: u64,
}

/// Why the log is opened.
#[derive(Clone, Copy)]
pub(super) struct Why {
    /// The agent starts; else the log could not be written for a while.
    pub(super) start: bool,
    /// Records that are not in it.
    pub(super) lost: u64,
}

/// The open log.
pub(super) struct Log {
    chain: Chain,
    file: File,
    /// Bytes of the newest segment that are written.
    len: u64,
    /// Lines made and not yet written.
    pending: Vec<u8>,
    /// Records since the last signature.
    unsigned: u64,
    /// Records that are signed and that nobody has counted.
    signed: u64,
    /// Sizes of the other segments.
    others: BTreeMap<u64, u64>,
}

/// What was there.
struct Found {
    at: Position,
    /// Lines that a crash left unsigned, and that are gone.
    cut: u64,
    damage: Option<String>,
    /// The newest segment can be written on.
    open: bool,
    sizes: BTreeMap<u64, u64>,
}

impl Log {
    /// Opens the log: repairs its end, begins a segment if it must, says what it found, and signs
    /// that.
    ///
    /// # Errors
    /// One line that names the file.
    pub(super) fn open(setup: &Setup, why: Why, now: Moment) -> Result<Self, String> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&setup.folder)
            .map_err(|error| cannot("made", &setup.folder, &error))?;
        if !why.start {
            require_room(setup)?;
        }
        let key = load_key(&setup.key)?;
        let found = look(setup, &key)?;
        let number = found.at.segment;
        let mut others = found.sizes;
        let room = others.get(&number).copied();
        let room = room.filter(|len| found.open && *len < setup.segment);
        let mut chain = Chain::new(key, setup.owner.clone(), found.at);
        let (file, len, pending) = match room {
            Some(len) => {
                others.remove(&number);
                let path = setup.folder.join(file_name(number));
                let file = OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .map_err(|error| cannot("written", &path, &error))?;
                (file, len, Vec::new())
            }
            None => {
                let (file, header) = begin(setup, &mut chain, now)?;
                (file, 0, header)
            }
        };
        let mut log = Self {
            chain,
            file,
            len,
            pending,
            unsigned: 0,
            signed: 0,
            others,
        };
        if let Some(problem) = &found.damage {
            let facts = Facts {
                reason: one_line(problem),
                ..Facts::new(Event::Damaged)
            };
            log.record(now, facts);
        }
        // What this agent itself could not finish it has counted as lost.
        if why.start && found.cut > 0 {
            let reason = "the agent before did not stop by itself";
            log.record(now, Facts::counted(Event::Recovered, found.cut, reason));
        }
        if why.lost > 0 {
            let reason = "the log could not be written";
            log.record(now, Facts::counted(Event::Lost, why.lost, reason));
        }
        if why.start {
            log.record(now, Facts::new(Event::Started));
        }
        log.sign(now)?;
        Ok(log)
    }

    /// Goes on to the next segment if this one is full. Not before a record needs it, so that a
    /// checkpoint at the end of a log stays at its end.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub(super) fn make_room(&mut self, setup: &Setup, now: Moment) -> Result<(), String> {
        if self.len >= setup.segment && !self.wants_signature() {
            self.rotate(setup, now)?;
        }
        Ok(())
    }

    /// Adds a record to what is written next.
    pub(super) fn record(&mut self, at: Moment, facts: Facts) {
        let line = self.chain.record(at, facts);
        self.pending.extend(line);
        self.unsigned += 1;
    }

    /// Records that no signature covers yet.
    pub(super) fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// Records signed since this was asked last.
    pub(super) fn take_signed(&mut self) -> u64 {
        std::mem::take(&mut self.signed)
    }

    /// Whether there is something to sign.
    pub(super) fn wants_signature(&self) -> bool {
        self.chain.position().unsigned > 0
    }

    /// Bytes of all segments, and how many there are.
    pub(super) fn size(&self) -> (u64, u64) {
        let others: u64 = self.others.values().sum();
        (others + self.len, self.others.len() as u64 + 1)
    }

    /// Writes the records so far, unsigned.
    ///
    /// # Errors
    /// One line; the log must then be opened again.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.file
            .write_all(&self.pending)
            .map_err(|error| self.failed(&error))?;
        self.len += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes, signs, and has the disk keep it.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub(super) fn sign(&mut self, now: Moment) -> Result<(), String> {
        if let Some(line) = self.chain.batch(now) {
            self.pending.extend(line);
        }
        self.settle()
    }

    /// As [`Log::sign`], with a checkpoint; the checkpoint's line, if there was anything new.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub(super) fn checkpoint(
        &mut self,
        setup: &Setup,
        now: Moment,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(line) = self.chain.checkpoint(now) else {
            return Ok(None);
        };
        self.pending.extend(&line);
        self.sign(now)?;
        replace(&setup.folder.join(CHECKPOINT_FILE), &line)?;
        Ok(Some(line))
    }

    /// Number and hash of the last line.
    pub(super) fn position(&self) -> Position {
        self.chain.position()
    }

    fn rotate(&mut self, setup: &Setup, now: Moment) -> Result<(), String> {
        self.others.insert(self.chain.position().segment, self.len);
        let (file, header) = begin(setup, &mut self.chain, now)?;
        self.file = file;
        self.len = 0;
        self.pending = header;
        let gone = self.surplus(setup);
        if let Some(last) = gone.last() {
            let through = first_seq(&setup.folder, last + 1)?.unwrap_or(1) - 1;
            let facts = Facts {
                through: Some(through),
                ..Facts::new(Event::Pruned)
            };
            self.record(now, facts);
        }
        // First the log says it, then they go.
        if let Some(line) = self.chain.batch(now) {
            self.pending.extend(line);
        }
        self.settle()?;
        for number in gone {
            let path = setup.folder.join(file_name(number));
            fs::remove_file(&path).map_err(|error| cannot("removed", &path, &error))?;
            self.others.remove(&number);
        }
        sync_folder(&setup.folder)
    }

    /// Has the disk keep what ends with a signature.
    fn settle(&mut self) -> Result<(), String> {
        self.flush()?;
        self.file.sync_data().map_err(|error| self.failed(&error))?;
        self.signed += std::mem::take(&mut self.unsigned);
        Ok(())
    }

    fn surplus(&self, setup: &Setup) -> Vec<u64> {
        let mut segments: Vec<_> = self.others.iter().map(|(n, size)| (*n, *size)).collect();
        segments.push((self.chain.position().segment, 0));
        // Room for the one that is begun.
        surplus(&segments, setup.keep.saturating_sub(setup.segment))
    }

    fn failed(&self, error: &io::Error) -> String {
        let name = file_name(self.chain.position().segment);
        format!("{name} cannot be written: {error}")
    }
}

/// The next segment's file, and its header, which is not written yet.
fn begin(setup: &Setup, chain: &mut Chain, now: Moment) -> Result<(File, Vec<u8>), String> {
    let path = setup.folder.join(file_name(chain.position().segment + 1));
    let header = chain
        .header(now, &setup.svid.load())
        .map_err(|error| format!("{} cannot be begun: {error}", path.display()))?;
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| cannot("made", &path, &error))?;
    sync_folder(&setup.folder)?;
    Ok((file, header))
}

/// A disk that was full is not tried again for the few bytes that a failure sets free, or it would
/// fail and recover every few seconds.
fn require_room(setup: &Setup) -> Result<(), String> {
    let free = statvfs(&setup.folder)
        .map(|disk| disk.blocks_available() * disk.fragment_size())
        .map_err(|error| cannot("looked at", &setup.folder, &error.into()))?;
    if free < setup.segment {
        return Err(format!(
            "disk of {} has {free} bytes free, a segment needs {}",
            setup.folder.display(),
            setup.segment
        ));
    }
    Ok(())
}

/// The key, made at the first start.
fn load_key(path: &Path) -> Result<SigningKey, String> {
    if let Some(bytes) = read(path)? {
        let bytes = Zeroizing::new(bytes);
        return SigningKey::from_pkcs8(&bytes).map_err(|error| {
            format!(
                "audit key {} is damaged ({error}): remove it; the log goes on under a new key",
                path.display()
            )
        });
    }
    let key = SigningKey::generate().map_err(|error| format!("audit key: {error}"))?;
    replace(path, key.pkcs8())?;
    Ok(key)
}

/// Looks at what is in the folder, and cuts off what a crash left behind the last signature.
fn look(setup: &Setup, key: &SigningKey) -> Result<Found, String> {
    let mut sizes = sizes(&setup.folder)?;
    let mut cut = 0;
    let mut found = loop {
        let Some((&number, _)) = sizes.last_key_value() else {
            break Found {
                at: Position::START,
                cut,
                damage: None,
                open: false,
                sizes: BTreeMap::new(),
            };
        };
        let path = setup.folder.join(file_name(number));
        let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
        let (tail, signer) = examine(&bytes);
        let (at, damage) = match tail {
            Tail::Whole(at) => (at, None),
            Tail::Torn { at, keep, lines } => {
                cut += lines;
                if keep == 0 {
                    fs::remove_file(&path).map_err(|error| cannot("removed", &path, &error))?;
                    sizes.remove(&number);
                    continue;
                }
                shorten(&path, keep as u64)?;
                sizes.insert(number, keep as u64);
                (at, None)
            }
            Tail::Damaged { at, problem } => {
                let problem = format!("{}: {problem}", file_name(number));
                (at, Some(problem))
            }
        };
        let misplaced = damage.is_none() && at.segment != number;
        let damage = damage.or_else(|| {
            misplaced.then(|| format!("{} is segment {}", file_name(number), at.segment))
        });
        break Found {
            at: Position {
                segment: number,
                ..at
            },
            cut,
            open: damage.is_none() && signer == Some(key.public()),
            damage,
            sizes,
        };
    };
    match newest_checkpoint(&setup.folder) {
        Ok(Some((checkpoint, hash))) if checkpoint.seq > found.at.seq => {
            let problem = format!(
                "the log ends with line {}, before its checkpoint at {}",
                found.at.seq, checkpoint.seq
            );
            // Goes on behind what is missing, so that the hole stays to be seen.
            found.at = Position {
                seq: checkpoint.seq,
                hash,
                ..found.at
            };
            found.open = false;
            found.damage = found.damage.or(Some(problem));
        }
        Ok(Some(_) | None) => {}
        Err(problem) => found.damage = found.damage.or(Some(problem)),
    }
    Ok(found)
}

/// The segments in the folder with their sizes.
fn sizes(folder: &Path) -> Result<BTreeMap<u64, u64>, String> {
    let list = || {
        let mut sizes = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(number_of) {
                sizes.insert(number, entry.metadata()?.len());
            }
        }
        Ok(sizes)
    };
    list().map_err(|error: io::Error| cannot("read", folder, &error))
}

fn newest_checkpoint(folder: &Path) -> Result<Option<(Checkpoint, Hash)>, String> {
    let Some(bytes) = read(&folder.join(CHECKPOINT_FILE))? else {
        return Ok(None);
    };
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    match Line::parse(text) {
        Ok(Line::Checkpoint(checkpoint)) => Ok(Some((*checkpoint, Hash::of(text)))),
        Ok(Line::Header(_) | Line::Record(_) | Line::Batch(_)) | Err(_) => {
            Err(format!("the file {CHECKPOINT_FILE} holds no checkpoint"))
        }
    }
}

/// Number of a segment's first line.
fn first_seq(folder: &Path, number: u64) -> Result<Option<u64>, String> {
    let path = folder.join(file_name(number));
    let mut start = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_LINE as u64).read_to_end(&mut start))
        .map_err(|error| cannot("read", &path, &error))?;
    let text = start.split(|byte| *byte == b'\n').next();
    let line = text.and_then(|text| Line::parse(text).ok());
    Ok(line.map(|line| line.seq()))
}

fn shorten(path: &Path, len: u64) -> Result<(), String> {
    let cut = |file: File| {
        file.set_len(len)?;
        file.sync_all()
    };
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(cut)
        .map_err(|error| cannot("shortened", path, &error))
}

fn sync_folder(folder: &Path) -> Result<(), String> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| cannot("written", folder, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("{} cannot be {what}: {error}", path.display())
}

#[cfg(test)]
pub(super) mod tests;
