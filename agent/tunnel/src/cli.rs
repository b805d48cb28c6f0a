//! Command line.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use signet_telemetry::LogFormat;

/// The WireGuard engine of one node; the agent drives it.
///
/// Needs root (CAP_NET_ADMIN) to make its devices, and keeps no privilege afterwards.
#[derive(Debug, Parser)]
#[command(name = "signet-tunnel", version, about, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every metric as JSON.
    Metrics,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Socket the agent connects to (made with mode 0600).
    #[arg(long, value_name = "PATH", default_value = "/run/signet/tunnel.sock")]
    pub(crate) control_socket: PathBuf,
    /// UDP port of each slot.
    #[arg(long, value_name = "PORT,PORT", default_value = "51830,51831")]
    #[arg(value_delimiter = ',', num_args = 1, action = clap::ArgAction::Set)]
    #[arg(value_parser = clap::value_parser!(u16))]
    pub(crate) slot_ports: Vec<u16>,
    /// TUN device of each slot, made in this network namespace.
    #[arg(long, value_name = "NAME,NAME", default_value = "sgslot0,sgslot1")]
    #[arg(value_delimiter = ',', num_args = 1, action = clap::ArgAction::Set)]
    pub(crate) slot_names: Vec<String>,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9448")]
    pub(crate) metrics: SocketAddr,
    /// Underlay address to send from and receive on, rather than all of both families.
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Look of log lines, text or json; SIGNET_LOG sets the level.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,
}

impl Cli {
    /// Parses the command line; leaves the process with status 2 and a usage line if it is
    /// wrong.
    pub(crate) fn parse_checked() -> Self {
        let cli = Self::parse();
        let (ports, names) = (&cli.run.slot_ports, &cli.run.slot_names);
        if (ports.len(), names.len()) != (2, 2) || ports[0] == ports[1] || names[0] == names[1] {
            use clap::{CommandFactory, error::ErrorKind};
            let message = format!(
                "there are two slots, each with its own port and name; got {} ports ({}) and {} \
                 names ({})",
                ports.len(),
                ports
                    .iter()
                    .map(u16::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
                names.len(),
                names.join(",")
            );
            Self::command()
                .error(ErrorKind::ValueValidation, message)
                .exit();
        }
        cli
    }
}
