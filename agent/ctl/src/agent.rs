//! The agent's status socket, from the client's side.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use signet_agent_core::status::{Failure, Request};

/// Where an agent listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/signet/agent.sock";

/// Attaching a pod may have to wait for the identity service.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
}

impl Agent {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Asks for one answer.
    ///
    /// # Errors
    /// If the agent can't be reached, with what to do about it; or what the agent says is wrong.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let mut answers = self.stream(request)?;
        answers
            .connection
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .context("set a deadline")?;
        match answers.next() {
            Some(answer) => answer,
            None => bail!(
                "the agent at {} hung up without an answer; see its log",
                self.socket.display()
            ),
        }
    }

    /// Asks for any number of answers.
    pub(crate) fn stream<T: DeserializeOwned>(&self, request: &Request) -> Result<Answers<T>> {
        let mut connection =
            UnixStream::connect(&self.socket).map_err(|error| explain(&self.socket, &error))?;
        let mut line = serde_json::to_vec(request).context("encode the request")?;
        line.push(b'\n');
        connection
            .write_all(&line)
            .with_context(|| format!("ask {}", self.socket.display()))?;
        Ok(Answers {
            connection: BufReader::new(connection),
            answer: std::marker::PhantomData,
        })
    }
}

/// Answers as they come in, until the agent hangs up.
pub(crate) struct Answers<T> {
    connection: BufReader<UnixStream>,
    answer: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for Answers<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let mut line = String::new();
        match self.connection.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(parse(&line)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(Err(anyhow!(
                    "the agent did not answer in time; see its log"
                )))
            }
            Err(error) => Some(Err(error).context("read the agent's answer")),
        }
    }
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    if let Ok(failure) = serde_json::from_str::<Failure>(line) {
        bail!("{}", failure.error);
    }
    serde_json::from_str(line).context(
        "the agent's answer is not one this signetctl knows; are both of the same version?",
    )
}

fn explain(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let socket = socket.display();
    let which = "--socket or SIGNET_SOCKET chooses another";
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kinds that have a hint of their own"
    )]
    match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "no agent at {socket}: is signet-agent running on this node? ({which}; in a lab: `signetctl lab exec NODE -- signetctl ...`)"
        ),
        ErrorKind::ConnectionRefused => {
            anyhow!(
                "nobody listens at {socket}: signet-agent was there and has stopped; see its log ({which})"
            )
        }
        ErrorKind::PermissionDenied => anyhow!("no permission to use {socket}: run as root"),
        _ => anyhow!("connect to {socket}: {error} ({which})"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use signet_agent_core::status::Peers;

    use super::*;

    fn ask_one(answer: &'static str) -> Result<Peers> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            line
        });
        let answer = Agent::new(&path).ask(&Request::Peers);
        assert_eq!(server.join().unwrap(), "{\"cmd\":\"peers\"}\n");
        answer
    }

    #[test]
    fn an_answer_is_read_and_a_failure_is_passed_on() {
        assert!(ask_one("{\"peers\":[]}\n").unwrap().peers.is_empty());
        let failed =
            ask_one("{\"error\":\"no such pod; see `signetctl endpoints`\"}\n").unwrap_err();
        assert_eq!(failed.to_string(), "no such pod; see `signetctl endpoints`");
        assert!(ask_one("").unwrap_err().to_string().contains("hung up"));
        assert!(
            ask_one("{\"other\":1}\n")
                .unwrap_err()
                .to_string()
                .contains("same version")
        );
    }

    #[test]
    fn a_missing_agent_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let missing = Agent::new(&path)
            .ask::<Peers>(&Request::Peers)
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("is signet-agent running") && missing.contains("SIGNET_SOCKET"),
            "{missing}"
        );
        drop(UnixListener::bind(&path).unwrap());
        let stopped = Agent::new(&path)
            .ask::<Peers>(&Request::Peers)
            .unwrap_err()
            .to_string();
        assert!(stopped.contains("has stopped"), "{stopped}");
    }
}
