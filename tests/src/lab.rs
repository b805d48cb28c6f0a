//! A lab for one test: made by `signetctl lab up`, asked as an operator asks, removed when dropped.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::bin;

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    /// Its name.
    pub name: String,
    manifests: TempDir,
}

/// A process that a test has started in a lab.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Whether it has not ended by itself.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Lab {
    /// Brings a lab up with `nodes` nodes and the objects in `manifests`.
    ///
    /// # Errors
    /// If `lab up` fails; what it printed is in the error.
    pub fn up(nodes: u8, manifests: &str) -> Result<Self> {
        Self::up_with(nodes, manifests, &[])
    }

    /// As [`Lab::up`], with further flags for `lab up`.
    ///
    /// # Errors
    /// If `lab up` fails; what it printed is in the error.
    pub fn up_with(nodes: u8, manifests: &str, flags: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "t{}x{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let dir = TempDir::new()?;
        fs::write(dir.path().join("objects.yaml"), manifests)?;
        let lab = Self {
            name,
            manifests: dir,
        };
        let count = nodes.to_string();
        let path = lab.manifests.path().to_string_lossy().into_owned();
        let mut args = vec![
            "lab",
            "up",
            "--name",
            &lab.name,
            "--nodes",
            &count,
            "--manifests",
            &path,
        ];
        args.extend(flags);
        lab.ctl(&args)?;
        Ok(lab)
    }

    /// Replaces the objects and brings the running lab in line.
    ///
    /// # Errors
    /// If `lab apply` fails.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        fs::write(self.manifests.path().join("objects.yaml"), manifests)?;
        let path = self.manifests.path().to_string_lossy().into_owned();
        self.ctl(&["lab", "apply", "--name", &self.name, "--manifests", &path])
            .map(drop)
    }

    /// The lab's description.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn describe(&self) -> Result<Value> {
        let path = Path::new("/run/signet/lab")
            .join(&self.name)
            .join("state.json");
        Ok(serde_json::from_slice(
            &fs::read(&path).with_context(|| path.display().to_string())?,
        )?)
    }

    /// A pod's part of the description.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn pod(&self, pod: &str) -> Result<Value> {
        let found = self.describe()?["pods"][pod].take();
        ensure!(found.is_object(), "no pod {pod}");
        Ok(found)
    }

    /// A node's part of the description.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node(&self, node: &str) -> Result<Value> {
        let found = self.describe()?["nodes"][node].take();
        ensure!(found.is_object(), "no node {node}");
        Ok(found)
    }

    /// The network namespace of a pod (`ns/name`) or node.
    ///
    /// # Errors
    /// If there is no such place.
    pub fn netns(&self, place: &str) -> Result<String> {
        let found = if place.contains('/') {
            self.pod(place)?
        } else {
            self.node(place)?
        };
        Ok(found["netns"].as_str().context("netns")?.to_owned())
    }

    /// A pod's address.
    ///
    /// # Errors
    /// If it has none of that family.
    pub fn address(&self, pod: &str, family: Family) -> Result<IpAddr> {
        let found = self.pod(pod)?;
        found["addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str()?.parse::<IpAddr>().ok())
            .find(|address| address.is_ipv4() == (family == Family::V4))
            .with_context(|| format!("{pod} has no address of {family:?}"))
    }

    /// A pod's address and a port.
    ///
    /// # Errors
    /// If it has no address of that family.
    pub fn socket(&self, pod: &str, family: Family, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address(pod, family)?, port))
    }

    /// Runs `signetctl`, and fails if it does.
    ///
    /// # Errors
    /// If it exits with anything but 0; what it printed is in the error.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let out = bin::command("signetctl")?.args(args).output()?;
        ensure!(
            out.status.success(),
            "signetctl {args:?}: {}\n{}",
            out.status,
            both(&out)
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs a command in a pod, on a node or at `identity`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn exec(&self, place: &str, command: &[&str]) -> Result<Output> {
        let mut run = bin::command("signetctl")?;
        run.args(["lab", "exec", "--name", &self.name, place, "--"])
            .args(command);
        Ok(run.output()?)
    }

    /// What `signetctl ... -o json` says on a node.
    ///
    /// # Errors
    /// If it fails or prints no JSON.
    pub fn ask(&self, node: &str, command: &[&str]) -> Result<Value> {
        let ctl = bin::dir()?.join("signetctl");
        let ctl = ctl.to_string_lossy();
        let args: Vec<&str> = [&*ctl]
            .into_iter()
            .chain(command.iter().copied())
            .chain(["-o", "json"])
            .collect();
        let out = self.exec(node, &args)?;
        ensure!(
            out.status.success(),
            "{args:?} on {node}: {}\n{}",
            out.status,
            both(&out)
        );
        serde_json::from_slice(&out.stdout)
            .with_context(|| format!("{args:?} on {node}: {}", both(&out)))
    }

    /// Drops seen on a node so far, by reason's name, as `signetctl observe` lists them.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn observed(&self, node: &str) -> Result<Vec<Value>> {
        let ctl = bin::dir()?.join("signetctl");
        let out = self.exec(
            node,
            &[
                &ctl.to_string_lossy(),
                "observe",
                "--verdict",
                "dropped",
                "-o",
                "json",
            ],
        )?;
        ensure!(out.status.success(), "observe on {node}: {}", both(&out));
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// How many packets a node dropped for `reason`.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn dropped(&self, node: &str, reason: &str) -> Result<u64> {
        let status = self.ask(node, &["status"])?;
        let drops = status["drops"].as_array().cloned().unwrap_or_default();
        Ok(drops
            .iter()
            .filter(|d| d["name"] == reason)
            .filter_map(|d| d["packets"].as_u64())
            .sum())
    }

    /// The sum of a metric's series whose labels contain `label`, as a scrape on a node or at
    /// `identity` has them; what is not there yet counts 0.
    ///
    /// # Errors
    /// If nobody answers the scrape.
    pub fn metric(&self, place: &str, name: &str, label: &str) -> Result<u64> {
        let found = self.describe()?;
        let at = match place {
            "identity" => &found["identity"]["metrics"],
            node => &found["nodes"][node]["metrics"],
        };
        let url = format!("http://{}/metrics", at.as_str().context("metrics")?);
        let out = self.exec(place, &["curl", "-sf", "-m", "5", &url])?;
        ensure!(out.status.success(), "{url}: {}", both(&out));
        let text = String::from_utf8_lossy(&out.stdout);
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let whole = rest.is_empty() || rest.starts_with('{');
            (whole && rest.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        Ok(series.sum::<f64>() as u64)
    }

    /// Kills a node's process as `kill -9` does.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self, node: &str, process: &str) -> Result<()> {
        let pid = self.node(node)?[process]["pid"]
            .as_i64()
            .with_context(|| format!("{process} on {node}"))?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid)?),
            nix::sys::signal::SIGKILL,
        )?;
        Ok(())
    }

    /// Starts one of a node's programs once more, with the same arguments. `boot_id` is a file that it sees in
    /// place of the kernel's, as after another boot. It ends with the value, as by kill -9.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_again(
        &self,
        node: &str,
        process: &str,
        boot_id: Option<&Path>,
    ) -> Result<Running> {
        let described = self.node(node)?;
        let command: Vec<String> = serde_json::from_value(described[process]["command"].clone())?;
        let log = described[process]["log"].as_str().context("log")?;
        let log = fs::OpenOptions::new().append(true).open(log)?;
        // Not `ip netns exec`: that hides the pinned maps behind another /sys.
        let mut run = Command::new("nsenter");
        run.arg(format!("--net=/run/netns/{}", self.netns(node)?));
        if let Some(file) = boot_id {
            let file = file.to_string_lossy();
            let mount = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
            run.args(["unshare", "--mount", "sh", "-c", mount, &file]);
        }
        run.args(&command).stdout(log.try_clone()?).stderr(log);
        Ok(Running(run.spawn()?))
    }

    /// Everything a process of the lab has logged.
    ///
    /// # Errors
    /// If there is no log.
    pub fn log(&self, place: &str, process: &str) -> Result<String> {
        let found = self.describe()?;
        let entry = if place == "identity" {
            &found["identity"]["process"]
        } else {
            &found["nodes"][place][process]
        };
        let path = entry["log"].as_str().context("log")?;
        Ok(fs::read_to_string(path)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        if std::env::var_os("SIGNET_KEEP_LABS").is_some() {
            return;
        }
        if let Err(error) = self.ctl(&["lab", "down", "--name", &self.name]) {
            eprintln!("lab {} was not removed: {error:#}", self.name);
        }
    }
}

impl Lab {
    /// Prints the end of every log, for the person who reads a failure.
    fn tell(&self) {
        let Ok(found) = self.describe() else { return };
        let mut places = vec![("identity".to_owned(), "process")];
        for node in found["nodes"].as_object().into_iter().flatten() {
            places.push((node.0.clone(), "agent"));
            places.push((node.0.clone(), "tunnel"));
        }
        for (place, process) in places {
            if let Ok(text) = self.log(&place, process) {
                let lines: Vec<_> = text.lines().collect();
                eprintln!("--- {place} {process}");
                lines[lines.len().saturating_sub(25)..]
                    .iter()
                    .for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// Waits until `done` says yes; asks each 50 ms.
///
/// # Errors
/// After `limit`, with `what` was waited for.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        let last = done();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if start.elapsed() > limit {
            match last {
                Err(error) => return Err(error.context(format!("waited {limit:?} for {what}"))),
                Ok(_) => bail!("waited {limit:?} for {what}"),
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn both(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
