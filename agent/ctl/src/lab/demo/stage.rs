//! The lab as the demo uses it: pods that ask one another, and agents that explain.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signet_agent_core::status::{FlowEvent, ObserveFilter, ObserveLine, Request, Verdict};

use crate::agent::Agent;
use crate::lab::ask::{self, How};
use crate::lab::exec;
use crate::lab::interrupt;
use crate::lab::netns;
use crate::lab::process;
use crate::lab::state::Lab;
use crate::lab::traffic::{Probe, Protocol, SendOptions};
use crate::output::Paint;

/// How long an allowed answer may take before it counts as none.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for an answer that must not come.
pub(super) const SILENCE: Duration = Duration::from_millis(1500);

/// The lab, and where its second act is kept.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) scene: PathBuf,
    pub(super) paint: Paint,
    /// Text that is sent through the mesh again and again, and must never be seen on the underlay.
    pub(super) canary: String,
}

/// A question that one pod asks another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    Table(&'a str),
    Name(&'a str),
    Page,
    Ping,
}

impl Stage {
    pub(super) fn new(lab: Lab, scene: PathBuf) -> Self {
        let canary = format!("signet-demo-canary-{}", std::process::id());
        Self {
            lab,
            scene,
            paint: Paint::stdout(),
            canary,
        }
    }

    /// A pod's address.
    pub(super) fn address(&self, pod: &str, ipv4: bool) -> Result<IpAddr> {
        let pod = self.lab.pod(pod)?;
        let mut addresses = pod.addresses.iter().copied();
        addresses
            .find(|address| address.is_ipv4() == ipv4)
            .with_context(|| format!("{} lacks an address", pod.key()))
    }

    /// Asks, and says how long the answer took.
    pub(super) fn ask(
        &self,
        from: &str,
        to: &str,
        ipv4: bool,
        question: Question<'_>,
        patience: Duration,
    ) -> Result<(String, Duration)> {
        interrupt::check()?;
        let address = self.address(to, ipv4)?;
        let from = &self.lab.pod(from)?.netns;
        let at = |port| SocketAddr::new(address, port);
        netns::within(from, || {
            let begin = Instant::now();
            let answer = match question {
                Question::Table(line) => ask::ask(How::Tcp, at(3306), line, patience)?,
                Question::Page => ask::ask(How::Http, at(80), "/", patience)?,
                Question::Name(name) => ask::ask(How::Dns, at(53), name, patience)?,
                Question::Ping => ping(address, patience)?,
            };
            Ok((answer, begin.elapsed()))
        })
    }

    /// Opens a sender of numbered packets in a pod.
    pub(super) fn probe(&self, from: &str, options: &SendOptions) -> Result<Probe> {
        netns::within(&self.lab.pod(from)?.netns, || Probe::open(options))
    }

    /// Runs a program in a pod.
    pub(super) fn run(&self, place: &str, command: &[&str]) -> Result<Output> {
        let place = exec::find(&self.lab, place)?;
        let (program, arguments) = command.split_first().context("a command")?;
        let mut child = Command::new(program);
        child.args(arguments).env("PATH", process::search_path());
        process::enter_before_exec(&mut child, netns::open(place.netns)?);
        child
            .output()
            .with_context(|| format!("run {program}; is it installed?"))
    }

    /// What the agents say of dropped packets from one pod to another, the latest first.
    pub(super) fn drops(&self, from: &str, to: &str, protocol: &str) -> Result<Vec<FlowEvent>> {
        let mut found: Vec<FlowEvent> = Vec::new();
        let mut nodes = vec![&self.lab.pod(from)?.node, &self.lab.pod(to)?.node];
        nodes.dedup();
        for node in nodes {
            let node = self.lab.nodes.get(node).context("a node")?;
            let filter = ObserveFilter {
                verdict: Some(Verdict::Dropped),
                from: Some(from.to_owned()),
                to: Some(to.to_owned()),
                ..ObserveFilter::default()
            };
            for line in
                Agent::new(&node.status_socket).stream::<ObserveLine>(&Request::Observe(filter))?
            {
                match line? {
                    ObserveLine::Flow(event) if event.protocol == protocol => found.push(*event),
                    ObserveLine::Flow(_) | ObserveLine::Lost(_) => {}
                }
            }
        }
        found.sort_by_key(|event| std::cmp::Reverse(event.time_ms));
        Ok(found)
    }

    /// The latest drop since `since_ms`, as soon as an agent tells of it.
    pub(super) fn latest_drop(
        &self,
        from: &str,
        to: &str,
        question: Question<'_>,
        ipv4: bool,
        since_ms: u64,
    ) -> Result<Option<FlowEvent>> {
        let end = Instant::now() + Duration::from_secs(3);
        // Nodes take their time from the identity service, each a little differently.
        let since_ms = since_ms.saturating_sub(500);
        let version = if ipv4 { 4 } else { 6 };
        loop {
            let found = self.drops(from, to, question.protocol(ipv4))?;
            let found = found
                .into_iter()
                .find(|event| event.time_ms >= since_ms && event.ip_version == version);
            if found.is_some() || Instant::now() >= end {
                return Ok(found);
            }
            interrupt::pause(Duration::from_millis(100))?;
        }
    }

    /// Prints a heading.
    pub(super) fn heading(&self, text: &str) {
        println!("\n{}", self.paint.strong(text));
    }

    /// `ok` or `!!`.
    pub(super) fn mark(&self, good: bool) -> String {
        if good {
            self.paint.good("ok")
        } else {
            self.paint.bad("!!")
        }
    }
}

impl Question<'_> {
    /// What `observe` calls its protocol.
    fn protocol(self, ipv4: bool) -> &'static str {
        match self {
            Question::Table(_) | Question::Page => "TCP",
            Question::Name(_) => "UDP",
            Question::Ping if ipv4 => "ICMP",
            Question::Ping => "ICMPv6",
        }
    }
}

fn ping(to: IpAddr, patience: Duration) -> Result<String> {
    let options = SendOptions {
        to,
        port: None,
        protocol: Protocol::Icmp,
        rate: 20,
        count: 1,
        size: 64,
        linger: patience.as_secs_f64(),
    };
    let report = Probe::open(&options)?.run(interrupt::happened)?;
    anyhow::ensure!(report.received == 1, "no answer from {to}");
    Ok("pong".to_owned())
}
