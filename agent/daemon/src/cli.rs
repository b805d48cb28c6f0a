//! Command line.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use signet_telemetry::LogFormat;

/// One node's agent: endpoints, identities, node channels, policy.
#[derive(Debug, Parser)]
#[command(name = "signet-agent", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent in this network namespace.
    Run(Box<RunArgs>),
    /// Take away what the agent made on this host: programs, maps, devices, routes and rules.
    ///
    /// Only with the agent stopped. Pods of this node are not enforced any more afterwards.
    Cleanup(CleanupArgs),
    /// Print every metric as JSON.
    Metrics,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of this node's Node object.
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: String,
    /// Address of the identity service.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) identity: SocketAddr,
    /// The trust domain's authorities, PEM, for the first contact.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_bundle: PathBuf,
    /// File with a single-use join token; read only while the node has no certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Folder for the node's key, certificate and endpoints (made with mode 0700).
    #[arg(long, value_name = "DIR", default_value = "/var/lib/signet/agent")]
    pub(crate) data_dir: PathBuf,
    /// Largest size of the audit log in the data folder; the oldest segments go.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(crate) audit_keep: u64,
    /// Folder with the cluster's manifests.
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,
    /// An address of the Kubernetes API server, for rules about the entity KubeAPIServer; may be
    /// given several times.
    #[arg(long, value_name = "IP")]
    pub(crate) kube_apiserver: Vec<IpAddr>,
    /// Device that carries the underlay.
    #[arg(long, value_name = "DEV")]
    pub(crate) underlay_dev: String,
    /// This node's address on it.
    #[arg(long, value_name = "IP")]
    pub(crate) underlay_ip: IpAddr,
    /// TCP port of the node channel.
    #[arg(long, value_name = "PORT", default_value_t = 7447)]
    pub(crate) channel_port: u16,
    /// Control socket of signet-tunnel.
    #[arg(long, value_name = "PATH", default_value = "/run/signet/tunnel.sock")]
    pub(crate) tunnel_socket: PathBuf,
    /// Socket to answer signetctl on (made with mode 0600).
    #[arg(long, value_name = "PATH", default_value = "/run/signet/agent.sock")]
    pub(crate) status_socket: PathBuf,
    /// Folder on a BPF file system for maps and links.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/signet")]
    pub(crate) bpf_root: PathBuf,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9447")]
    pub(crate) metrics: SocketAddr,
    /// What happens to traffic that cannot be authenticated.
    #[arg(long, value_enum, default_value_t = Mode::Strict)]
    pub(crate) mode: Mode,
    /// What ends while the identity service cannot be reached.
    #[arg(long, value_enum, default_value_t = Outage::Certificates)]
    pub(crate) outage: Outage,
    /// Seconds that old keys still receive after both nodes send under new ones; at most a third of
    /// an epoch.
    #[arg(long, value_name = "SECONDS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) slot_grace: u64,
    /// Look of log lines, text or json; SIGNET_LOG sets the level.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,
}

/// How long an outage of the identity service is outlived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outage {
    /// Nothing ends before its certificates do, an hour at most.
    Certificates,
    /// Everything authenticated ends after 300 s, until the service is back: no revocation that this
    /// node cannot hear of is outlived by more.
    Strict,
}

impl From<Outage> for signet_agent_core::facts::Outage {
    fn from(outage: Outage) -> Self {
        match outage {
            Outage::Certificates => Self::Certificates,
            Outage::Strict => Self::Strict,
        }
    }
}

/// How strict the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// It is dropped; the outside world needs a rule.
    Strict,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Strict => "strict",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Folder on a BPF file system for maps and links, as given to run.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/signet")]
    pub(crate) bpf_root: PathBuf,
    /// Socket of the agent, as given to run; it must not answer.
    #[arg(long, value_name = "PATH", default_value = "/run/signet/agent.sock")]
    pub(crate) status_socket: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_names_what_is_missing() {
        let error = Cli::try_parse_from(["signet-agent", "run"])
            .unwrap_err()
            .to_string();
        for flag in [
            "--node-name",
            "--identity",
            "--trust-bundle",
            "--manifests",
            "--underlay-ip",
        ] {
            assert!(error.contains(flag), "{error}");
        }
    }
}
