//! Command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use signet_crypto::spiffe_id::TrustDomain;
use signet_identity_api::v1::Epochs;
use signet_telemetry::LogFormat;

/// Validity of SVIDs that may be asked for.
const TTL_BOUNDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));
/// Lengths of epochs that may be asked for.
const EPOCH_BOUNDS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(86_400));

/// The identity service: authorities, SVIDs, attestation of nodes, directory of pods.
#[derive(Debug, Parser)]
#[command(name = "signet-identity", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service.
    Run(Box<RunArgs>),
    /// Print every metric as JSON.
    Metrics,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Folder for authority keys, tokens, nodes (identity.redb) and the trust bundle (bundle.pem).
    #[arg(long, value_name = "DIR", default_value = "/var/lib/signet/identity")]
    pub(crate) data_dir: PathBuf,
    /// Folder with the cluster's manifests.
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,
    /// Name of the trust domain, such as example.org.
    #[arg(long, value_name = "NAME")]
    pub(crate) trust_domain: TrustDomain,
    /// Address for agents.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:7448")]
    pub(crate) listen: SocketAddr,
    /// Socket to answer signetctl on (made with mode 0600).
    #[arg(long, value_name = "PATH", default_value = "/run/signet/admin.sock")]
    pub(crate) admin_socket: PathBuf,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9447")]
    pub(crate) metrics: SocketAddr,
    /// Validity of SVIDs, such as 1h, 30m or 90s; from 10s to 24h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_ttl)]
    pub(crate) svid_ttl: Duration,
    /// How long keys between nodes are used before new ones are made, such as 1h or 30m; from 2s to
    /// 24h. What is two epochs old carries nothing.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_epoch)]
    pub(crate) epoch_length: Duration,
    /// Nodes begin to make new keys within this time after an epoch has begun; at most half an
    /// epoch [default: a twelfth of it].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) epoch_jitter: Option<Duration>,
    /// Look of log lines, text or json; SIGNET_LOG sets the level.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,
}

impl RunArgs {
    /// What agents are told of epochs.
    pub(crate) fn epochs(&self) -> Epochs {
        let length = self.epoch_length;
        let jitter = self.epoch_jitter.unwrap_or(length / 12).min(length / 2);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Epochs {
            start_s: 0,
            length_ms: millis(length),
            jitter_ms: millis(jitter),
        }
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, TTL_BOUNDS, "must be from 10s to 24h")
}

fn parse_epoch(text: &str) -> Result<Duration, String> {
    within(
        parse_duration(text)?,
        EPOCH_BOUNDS,
        "must be from 2s to 24h",
    )
}

fn within(
    span: Duration,
    (least, most): (Duration, Duration),
    problem: &str,
) -> Result<Duration, String> {
    if span < least || span > most {
        return Err(problem.into());
    }
    Ok(span)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{unit:?} is no unit; write such as 1h, 30m or 90s")),
    };
    let number: u64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| "write such as 1h, 30m or 90s".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validities_are_read_or_refused() {
        for (text, secs) in [
            ("1h", 3600),
            ("30m", 1800),
            ("90s", 90),
            ("90", 90),
            ("10", 10),
            ("24h", 86_400),
        ] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in [
            "",
            "h",
            "1d",
            "-1h",
            "9s",
            "25h",
            "1.5h",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn epochs_are_read_or_refused() {
        assert_eq!(parse_epoch("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_epoch("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["1s", "0", "25h", "x"] {
            assert!(parse_epoch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
