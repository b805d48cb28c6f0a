//! What a process has used: CPU time and memory.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{time::ClockId, unistd::Pid};

/// User and system time of all threads of a process, those that ended included.
///
/// The process's CPU clock is the sum that `/proc/PID/stat` gives, in nanoseconds rather than ticks.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))
        .and_then(ClockId::now)
        .with_context(|| format!("the CPU clock of process {pid}; has it ended?"))?;
    Ok(Duration::from(time))
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: u64,
    /// The most it ever had.
    pub(crate) peak: u64,
}

/// Reads a process's resident memory.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| -> Result<u64> {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"))
            .with_context(|| format!("{path} has no {name}"))?;
        Ok(value.trim().parse::<u64>()? * 1024)
    };
    Ok(Memory {
        now: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}
