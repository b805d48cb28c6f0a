//! `signetctl token create`: lets one node join, once.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::human;
use crate::identity::Admin;
use crate::output::{self, Format};

/// Options of `token`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A join token for one node and one use; put it into the file of the agent's --join-token-file
    Create {
        /// Name of the Node object
        #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        node: String,
        /// Seconds until it is void
        #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        ttl: u64,
    },
}

#[derive(Serialize)]
struct Token {
    node: String,
    token: String,
    expires: u64,
}

/// Prints the token alone, so that it can be redirected into a file.
pub(crate) fn run(admin: &Admin, options: &Options, format: Format) -> Result<u8> {
    match &options.what {
        What::Create { node, ttl } => {
            let made = admin.create_token(node, Duration::from_secs(*ttl))?;
            let token = Token {
                node: node.clone(),
                token: made.token,
                expires: made.expires_ms / 1000,
            };
            match format {
                Format::Json | Format::Yaml => output::data(format, &token)?,
                Format::Table | Format::Wide => {
                    eprintln!(
                        "for node {node}, one use, void {}",
                        human::until(token.expires, human::now())
                    );
                    output::print_text(&(token.token + "\n"))?;
                }
            }
            Ok(0)
        }
    }
}
