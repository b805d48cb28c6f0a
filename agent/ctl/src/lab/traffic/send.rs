//! The sender: a steady rate, whatever comes back in between.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::icmp::Icmp;
use super::tally::{Report, Tally};
use super::udp::Udp;

/// Options of `lab traffic send`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: IpAddr,
    /// UDP port of `lab traffic echo`
    #[arg(long, required_if_eq("protocol", "udp"))]
    pub(crate) port: Option<u16>,
    #[arg(long, value_enum, default_value = "udp")]
    pub(crate) protocol: Protocol,
    /// Packets each second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How many packets
    #[arg(long, default_value_t = 1000)]
    pub(crate) count: u64,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(16..=60_000))]
    pub(crate) size: u16,
    /// Seconds to wait for the last answers
    #[arg(long, default_value_t = 2.0)]
    pub(crate) linger: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Udp,
    Icmp,
}

/// A way to send a numbered packet and to hear its echo.
pub(super) trait Line {
    /// Sends; an error is the own machine's.
    fn send(&mut self, payload: &[u8]) -> std::io::Result<()>;
    /// The payload of the next answer, if there is one within `patience`.
    fn receive(&mut self, patience: Duration) -> std::io::Result<Option<&[u8]>>;
}

/// A sender with its socket open: made in a namespace, it may run outside.
pub(crate) struct Probe {
    options: Options,
    line: Box<dyn Line + Send>,
}

impl Probe {
    /// Opens the socket in the calling thread's namespace.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let line: Box<dyn Line + Send> = match (options.protocol, options.port) {
            (Protocol::Icmp, _) => Box::new(Icmp::open(options.to)?),
            (Protocol::Udp, Some(port)) => Box::new(Udp::open(options.to, port)?),
            (Protocol::Udp, None) => bail!("--port is needed for UDP"),
        };
        Ok(Self {
            options: options.clone(),
            line,
        })
    }

    /// Sends until done, or until `stop` says so, then waits for what is under way.
    pub(crate) fn run(mut self, stop: impl Fn() -> bool) -> Result<Report> {
        let begin = Instant::now();
        let pace = Duration::from_secs(1) / self.options.rate;
        let mut tally = Tally::default();
        let mut payload = vec![0; self.options.size.into()];
        while tally.next() < self.options.count && !stop() {
            let due = begin + pace.saturating_mul(u32::try_from(tally.next()).unwrap_or(u32::MAX));
            self.hear(&mut tally, begin, due)?;
            let number = tally.next();
            payload[..8].copy_from_slice(&number.to_be_bytes());
            payload[8..16].copy_from_slice(&nanos(begin).to_be_bytes());
            tally.sent(self.line.send(&payload).is_ok());
        }
        let end = Instant::now() + Duration::from_secs_f64(self.options.linger.clamp(0.0, 3600.0));
        while !tally.complete() && Instant::now() < end {
            self.hear(
                &mut tally,
                begin,
                (Instant::now() + Duration::from_millis(1)).min(end),
            )?;
        }
        let protocol = match (self.options.protocol, self.options.to) {
            (Protocol::Udp, _) => "UDP",
            (Protocol::Icmp, IpAddr::V4(_)) => "ICMP",
            (Protocol::Icmp, IpAddr::V6(_)) => "ICMPv6",
        };
        Ok(tally.report(protocol, self.options.to.to_string()))
    }

    /// Takes in answers until `due`.
    fn hear(&mut self, tally: &mut Tally, begin: Instant, due: Instant) -> Result<()> {
        loop {
            let patience = due.saturating_duration_since(Instant::now());
            let now = |line: &[u8]| -> Option<(u64, u64)> {
                let number = u64::from_be_bytes(line.get(..8)?.try_into().ok()?);
                Some((
                    number,
                    u64::from_be_bytes(line.get(8..16)?.try_into().ok()?),
                ))
            };
            match self.line.receive(patience)? {
                Some(answer) => {
                    if let Some((number, then)) = now(answer) {
                        tally.received(
                            number,
                            Duration::from_nanos(nanos(begin).saturating_sub(then)),
                        );
                    }
                }
                None if Instant::now() >= due => return Ok(()),
                None => {}
            }
        }
    }
}

fn nanos(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
