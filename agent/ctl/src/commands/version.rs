//! `signetctl version`.

use anyhow::Result;
use serde::Serialize;
use signet_agent_core::status::{Request, Status};

use crate::agent::Agent;
use crate::output::{self, Format};

#[derive(Serialize)]
struct Version {
    signetctl: &'static str,
    /// Absent if no agent can be reached, which is no failure here.
    agent: Option<String>,
}

/// Prints this program's version, and the agent's if there is one.
pub(crate) fn run(agent: &Agent, format: Format) -> Result<u8> {
    let status = agent.ask::<Status>(&Request::Status).ok();
    let version = Version {
        signetctl: env!("CARGO_PKG_VERSION"),
        agent: status.map(|status| status.version),
    };
    match format {
        Format::Json | Format::Yaml => output::data(format, &version)?,
        Format::Table | Format::Wide => {
            println!("signetctl {}", version.signetctl);
            if let Some(agent) = &version.agent {
                println!("signet-agent {agent}");
            }
        }
    }
    Ok(0)
}
