//! Logs: text for a person, JSON for a cluster.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// boringtun logs an ordinary silent peer as an error; the engine counts and reports itself.
const DEFAULT_LEVELS: &str = "info,boringtun=off";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event; coloured only on a terminal without `NO_COLOR`.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!(
                "log format {other:?} is not known; use text or json"
            )),
        }
    }
}

/// Sends logs to standard error; the level is `SIGNET_LOG` (default `info`).
///
/// A second call in one process changes nothing, so tests may call it freely.
pub fn init_logging(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("SIGNET_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVELS));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour);
    let set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if set.is_err() {
        tracing::debug!("logging was set up before; the first set-up stays");
    }
}
