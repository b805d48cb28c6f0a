//! Where and how it was measured.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Options;

/// What a figure must be read with.
#[derive(Debug)]
pub(crate) struct Machine {
    rounds: u32,
    bytes: u64,
    cores: usize,
    cpu: String,
    kernel: String,
    others: Vec<String>,
    load: [String; 2],
}

impl Machine {
    /// Looks at the machine before the first round.
    pub(crate) fn before(rounds: u32, bytes: u64, options: &Options) -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let mut others = Vec::new();
        if let Some(program) = &options.boringtun {
            let threads = options.boringtun_threads;
            others.push(format!("{} --threads {threads}", version(program)?));
        }
        if let Some(program) = &options.wireguard_go {
            others.push(version(program)?);
        }
        Ok(Self {
            rounds,
            bytes,
            cores: std::thread::available_parallelism()?.get(),
            cpu: cpu.map_or("unknown CPU", |(_, name)| name).trim().into(),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            others,
            load: [first_word("/proc/loadavg"), String::new()],
        })
    }

    /// The same after the last round.
    pub(crate) fn after(mut self) -> Self {
        self.load[1] = first_word("/proc/loadavg");
        self
    }

    /// All of it in a line.
    pub(crate) fn line(&self) -> String {
        let others = match self.others.is_empty() {
            true => "nobody else".to_owned(),
            false => self.others.join(", "),
        };
        format!(
            "{} rounds of {} MB, {} cores ({}), Linux {}, beside {others}; load average {} before, {} after",
            self.rounds,
            self.bytes / 1_000_000,
            self.cores,
            self.cpu,
            self.kernel,
            self.load[0],
            self.load[1],
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "bytes": self.bytes,
            "cores": self.cores,
            "cpu": self.cpu,
            "kernel": self.kernel,
            "others": self.others,
            "load_average": self.load,
        })
    }
}

/// The first line of what a program says of itself.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} --version: {}",
        program.display(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().into())
}

fn first_word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").into()
}
