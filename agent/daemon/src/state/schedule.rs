//! When keys are renewed, as the identity service said last: epochs go on while it is away.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use signet_agent_core::io::Schedule;

use super::{DataDir, read, replace};

const FILE: &str = "epochs.json";

/// The schedule at rest.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSchedule {
    start_s: u64,
    length_ms: u64,
    jitter_ms: u64,
}

impl StoredSchedule {
    /// The stored schedule, or `None` before the service was first heard.
    ///
    /// # Errors
    /// A damaged file, by name and with what to do.
    pub(crate) fn load(data: &DataDir) -> Result<Option<Schedule>, String> {
        let path = data.file(FILE);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let damaged = |why: String| {
            let path = path.display();
            format!("{path} is damaged ({why}): remove it; the identity service tells it again")
        };
        let stored: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if stored.length_ms < 1000 {
            return Err(damaged("an epoch of no length".to_owned()));
        }
        Ok(Some(Schedule {
            start: stored.start_s,
            length: Duration::from_millis(stored.length_ms),
            jitter: Duration::from_millis(stored.jitter_ms),
        }))
    }

    /// Replaces the stored schedule, if it is another.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn save(data: &DataDir, schedule: &Schedule) -> Result<(), String> {
        if Self::load(data).ok().flatten() == Some(*schedule) {
            return Ok(());
        }
        let path = data.file(FILE);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let stored = Self {
            start_s: schedule.start,
            length_ms: millis(schedule.length),
            jitter_ms: millis(schedule.jitter),
        };
        let bytes = serde_json::to_vec_pretty(&stored)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        replace(&path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_named() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        assert_eq!(StoredSchedule::load(&data), Ok(None));
        let schedule = Schedule {
            start: 5,
            length: Duration::from_millis(3600),
            jitter: Duration::from_millis(1),
        };
        StoredSchedule::save(&data, &schedule).unwrap();
        assert_eq!(StoredSchedule::load(&data), Ok(Some(schedule)));
        for bytes in [&b"{"[..], br#"{"start_s":0,"length_ms":0,"jitter_ms":0}"#] {
            replace(&data.file(FILE), bytes).unwrap();
            let error = StoredSchedule::load(&data).unwrap_err();
            assert!(
                error.contains(FILE) && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
