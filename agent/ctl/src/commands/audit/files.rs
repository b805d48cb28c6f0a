//! Where a log is, and its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use signet_agent_core::status::{AuditLog, Request};
use signet_audit::segment::{file_name, is_strange, number_of};

use crate::agent::Agent;

/// The log that is meant: a folder of segments, or a file that `audit export` has written.
pub(super) fn place(agent: &Agent, given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => {
            let log: AuditLog = agent
                .ask(&Request::AuditLog)
                .context("where is the log? name its folder, or let the agent tell")?;
            Ok(log.directory.into())
        }
    }
}

/// A log's segments in their order.
pub(super) fn segments(folder: &Path) -> Result<Vec<u64>> {
    let shown = folder.display();
    let mut numbers = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {shown}"))?;
    for entry in entries {
        let name = entry.with_context(|| format!("read {shown}"))?.file_name();
        let name = name.to_string_lossy();
        if is_strange(&name) {
            bail!("{shown} has {name}, which no agent writes: take it away and look again");
        }
        numbers.extend(number_of(&name));
    }
    if numbers.is_empty() {
        bail!("{shown} has no audit log");
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment's bytes; `None` if it was removed meanwhile.
pub(super) fn read(folder: &Path, number: u64) -> Result<Option<Vec<u8>>> {
    let path = folder.join(file_name(number));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// A segment's length; `None` if there is no such segment.
pub(super) fn len(folder: &Path, number: u64) -> Option<u64> {
    let found = fs::metadata(folder.join(file_name(number))).ok()?;
    Some(found.len())
}

/// Bytes up to and with the last line that is a signature. Whether it is a good one is not looked
/// at.
pub(super) fn signed_len(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    loop {
        let Some(feed) = bytes[..end].iter().rposition(|byte| *byte == b'\n') else {
            return 0;
        };
        let start = bytes[..feed].iter().rposition(|byte| *byte == b'\n');
        let start = start.map_or(0, |at| at + 1);
        if is_signature(&bytes[start..feed]) {
            return feed + 1;
        }
        end = feed;
    }
}

fn is_signature(line: &[u8]) -> bool {
    line.starts_with(b"{\"kind\":\"batch\"") || line.starts_with(b"{\"kind\":\"checkpoint\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_signed_yet_is_left_off() {
        let batch = "{\"kind\":\"batch\",\"seq\":2}\n";
        let text = format!("{{\"kind\":\"header\"}}\n{batch}{{\"kind\":\"record\"}}\n{{\"ki");
        let end = text.find(batch).unwrap() + batch.len();
        assert_eq!(signed_len(text.as_bytes()), end);
        assert_eq!(signed_len(&text.as_bytes()[..end]), end);
        assert_eq!(signed_len(&text.as_bytes()[..end - 1]), 0);
        assert_eq!(signed_len(b""), 0);
        assert_eq!(signed_len(b"\n\n"), 0);
    }

    #[test]
    fn a_folder_has_segments_in_their_order_and_nothing_like_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            segments(dir.path())
                .unwrap_err()
                .to_string()
                .contains("no audit log")
        );
        for number in [10, 9, 2] {
            fs::write(dir.path().join(file_name(number)), b"").unwrap();
        }
        fs::write(dir.path().join("checkpoint"), b"").unwrap();
        assert_eq!(segments(dir.path()).unwrap(), [2, 9, 10]);
        assert_eq!(read(dir.path(), 3).unwrap(), None);
        fs::write(dir.path().join("segment-00000002.log.old"), b"").unwrap();
        let error = segments(dir.path()).unwrap_err().to_string();
        assert!(error.contains("segment-00000002.log.old"), "{error}");
    }
}
