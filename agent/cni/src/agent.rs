//! The agent on this node, at its status socket.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use signet_agent_core::status::{Failure as Refusal, Request};

use crate::{
    config::Config,
    failure::{Code, Failure},
};

/// One verb's time with the agent.
pub(crate) struct Agent {
    socket: PathBuf,
    until: Instant,
    timeout: Duration,
}

impl Agent {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            socket: config.socket.clone(),
            until: Instant::now() + config.timeout,
            timeout: config.timeout,
        }
    }

    /// Whether there is time left.
    pub(crate) fn may_ask_again(&self) -> bool {
        Instant::now() < self.until
    }

    /// Asks for one answer.
    ///
    /// # Errors
    /// [`Code::NoAgent`] if there is none, [`Code::Refused`] with the agent's own words.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.silent(&error))?;
        let broken = |error: std::io::Error| self.broken(&error);
        let left = self.until.saturating_duration_since(Instant::now());
        let left = Some(left.max(Duration::from_millis(1)));
        stream.set_read_timeout(left).map_err(broken)?;
        stream.set_write_timeout(left).map_err(broken)?;
        let mut question = serde_json::to_vec(request)
            .map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
        question.push(b'\n');
        (&stream).write_all(&question).map_err(broken)?;
        let mut line = String::new();
        if BufReader::new(&stream)
            .read_line(&mut line)
            .map_err(broken)?
            == 0
        {
            return Err(self.silent(&"it hung up without an answer"));
        }
        if let Ok(refusal) = serde_json::from_str::<Refusal>(&line) {
            let details = format!(
                "said by the agent at {}; see its log",
                self.socket.display()
            );
            return Err(Failure::new(Code::Refused, refusal.error, details));
        }
        serde_json::from_str(&line).map_err(|error| {
            Failure::new(
                Code::Refused,
                format!("the agent's answer is not understood: {error}"),
                "install the signet-cni of the agent's release",
            )
        })
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return Failure::new(
                Code::NoAgent,
                format!(
                    "the agent at {} did not answer within {:?}",
                    self.socket.display(),
                    self.timeout
                ),
                "see signet-agent's log and `signetctl status` on this node; timeoutSeconds in \
                 the .conflist gives it longer",
            );
        }
        self.silent(error)
    }

    fn silent(&self, why: &dyn std::fmt::Display) -> Failure {
        let socket = self.socket.display();
        Failure::new(
            Code::NoAgent,
            format!("no agent at {socket}: {why}"),
            format!(
                "in strict mode no pod starts without enforcement: start signet-agent on this \
                 node, with --status-socket {socket}, or set statusSocket in the .conflist to \
                 where it listens"
            ),
        )
    }
}
