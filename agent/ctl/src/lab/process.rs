//! Processes of a lab: started in a namespace and a session of their own, found again, stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netns;
use super::state::Process;

/// What to start, and where.
pub(crate) struct Spawn<'a> {
    pub(crate) name: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    pub(crate) dir: Option<&'a Path>,
}

/// Starts a process that outlives this one.
///
/// It gets a session of its own, so that Ctrl-C here doesn't reach it, and a log file instead of
/// the terminal.
pub(crate) fn spawn(spawn: Spawn<'_>) -> Result<Process> {
    let Some((program, arguments)) = spawn.command.split_first() else {
        bail!("{}: its command is empty", spawn.name);
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spawn.log)
        .with_context(|| format!("open {}", spawn.log.display()))?;
    let errors = log.try_clone().context("share the log")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    command.env("PATH", search_path()).envs(spawn.env);
    if let Some(dir) = spawn.dir {
        command.current_dir(dir);
    }
    enter_before_exec(&mut command, netns::open(spawn.netns)?);
    let child = command.spawn().with_context(|| {
        format!(
            "start {}: cannot run {program:?}; is it installed?",
            spawn.name
        )
    })?;
    let pid = child.id().cast_signed();
    let started = stat(pid).map_or(0, |stat| stat.started);
    Ok(Process {
        name: spawn.name.to_owned(),
        pid,
        started,
        log: spawn.log,
        command: spawn.command,
    })
}

/// Makes the command's process enter a namespace and a session of its own.
#[expect(
    unsafe_code,
    reason = "pre_exec is the only way to change the child's namespace"
)]
pub(crate) fn enter_before_exec(command: &mut Command, namespace: File) {
    let enter = move || {
        netns::enter(&namespace)?;
        nix::unistd::setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec only setns(2) and setsid(2) are called; both are async-signal-safe
    // and the closure allocates nothing.
    unsafe {
        command.pre_exec(enter);
    }
}

impl Process {
    /// Whether it still runs; a zombie does not, nor does another process under a reused pid.
    pub(crate) fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.dead)
    }

    /// Sends a signal, if it is still the same process.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// Its last words, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

/// The end of a log file: at most 12 lines.
pub(crate) fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail: Vec<String> = lines
        .iter()
        .rev()
        .take(12)
        .rev()
        .map(|line| format!("    {line}"))
        .collect();
    if tail.is_empty() {
        String::new()
    } else {
        format!("\n  {} ends with:\n{}", log.display(), tail.join("\n"))
    }
}

/// Stops processes: asks, waits, then kills. Returns when all are gone.
pub(crate) fn stop(pids: &[i32], patience: Duration) {
    signal_all(pids, Signal::SIGTERM);
    if wait_gone(pids, patience) {
        return;
    }
    signal_all(pids, Signal::SIGKILL);
    wait_gone(pids, Duration::from_secs(5));
}

/// Signet's own processes that were started for a lab, by the state path in their command line.
pub(crate) fn daemons_of(state_dir: &Path) -> Vec<i32> {
    let needle = format!("{}/", state_dir.display());
    all_pids()
        .into_iter()
        .filter(|pid| {
            let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
                return false;
            };
            let line = String::from_utf8_lossy(&line);
            let program = line.split('\0').next().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or_default();
            matches!(name, "signet-identity" | "signet-agent" | "signet-tunnel")
                && line.contains(&needle)
        })
        .collect()
}

/// Every process of the machine.
pub(crate) fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// This process and all those above it.
pub(crate) fn ancestry() -> Vec<i32> {
    let mut line = vec![std::process::id().cast_signed()];
    while let Some(parent) = line
        .last()
        .and_then(|pid| stat(*pid))
        .map(|stat| stat.parent)
    {
        if parent <= 1 || line.contains(&parent) {
            break;
        }
        line.push(parent);
    }
    line
}

/// Where a program of ours is: `SIGNET_BIN_DIR`, or beside this program, or on the path.
pub(crate) fn program(name: &str) -> Result<String> {
    let directories = [
        std::env::var_os("SIGNET_BIN_DIR").map(PathBuf::from),
        own_directory(),
    ];
    for directory in directories.into_iter().flatten() {
        let path = directory.join(name);
        if path.is_file() {
            return Ok(path.to_string_lossy().into_owned());
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
    {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None => bail!(
            "{name} is not beside signetctl and not on the path; build it, or say where it is with SIGNET_BIN_DIR"
        ),
    }
}

/// The search path with our own programs first, so that pods may call them.
pub(crate) fn search_path() -> String {
    let rest = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    match own_directory() {
        Some(own) => format!("{}:{rest}:/usr/sbin:/sbin", own.display()),
        None => rest,
    }
}

fn own_directory() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

struct Stat {
    parent: i32,
    started: u64,
    dead: bool,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

/// The name in field 2 may hold anything, brackets and spaces included: count from its end.
fn parse_stat(text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        // A first thread that has ended is a zombie while others still hold the process's devices.
        dead: matches!(state, "Z" | "X") && threads <= 1,
    })
}

fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

fn wait_gone(pids: &[i32], patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        if pids
            .iter()
            .all(|pid| stat(*pid).is_none_or(|stat| stat.dead))
        {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_stat_line() {
        let line = "42 (a) Z (b)) S 1 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 987654 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.started, 987_654);
        assert!(!stat.dead);
        assert!(
            parse_stat("42 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0")
                .unwrap()
                .dead
        );
        assert!(parse_stat("garbage").is_none());
    }

    #[test]
    fn a_process_whose_first_thread_ended_is_not_dead_yet() {
        let line = |threads| format!("42 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0");
        assert!(!parse_stat(&line(3)).unwrap().dead);
        assert!(parse_stat(&line(1)).unwrap().dead);
    }

    #[test]
    fn this_process_is_alive_and_a_reused_pid_is_not() {
        let pid = std::process::id().cast_signed();
        let started = stat(pid).unwrap().started;
        let mut own = Process {
            name: "x".into(),
            pid,
            started,
            log: PathBuf::new(),
            command: vec![],
        };
        assert!(own.alive());
        own.started += 1;
        assert!(!own.alive());
    }
}
