//! `lab status`: what runs, and what does not.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use signet_agent_core::status::{Request, Status as AgentStatus};

use super::daemons;
use super::names;
use super::state::{self, Lab, Phase, PodPhase, Process};
use crate::agent::Agent;
use crate::human;
use crate::identity::Admin;
use crate::output::{self, Format, Paint};

/// Options of `lab status`.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    name: String,
}

/// What one thing of the lab is doing.
#[derive(Debug, Serialize)]
struct Health {
    place: String,
    what: String,
    ok: bool,
    detail: String,
}

#[derive(Serialize)]
struct Report<'a> {
    healthy: bool,
    health: &'a [Health],
    lab: &'a Lab,
}

/// Shows the lab's health; 1 if something is down.
pub(crate) fn run(options: &Status, format: Format) -> Result<u8> {
    let lab = Lab::load(&options.name)?;
    let health = examine(&lab);
    let healthy = lab.phase == Phase::Ready && health.iter().all(|item| item.ok);
    match format {
        Format::Json | Format::Yaml => {
            output::data(
                format,
                &Report {
                    healthy,
                    health: &health,
                    lab: &lab,
                },
            )?;
        }
        Format::Table | Format::Wide => {
            let mut text = sketch(&lab, format);
            text.push_str(&troubles(&lab, &health, Paint::stdout()));
            output::print_text(&text)?;
        }
    }
    Ok(u8::from(!healthy))
}

/// Describes a lab that has just come up.
pub(crate) fn describe(lab: &Lab, format: Format) -> Result<()> {
    match format {
        Format::Json | Format::Yaml => output::data(format, lab),
        Format::Table | Format::Wide => {
            let mut text = sketch(lab, format);
            let name = if lab.name == "demo" {
                String::new()
            } else {
                format!(" --name {}", lab.name)
            };
            let place = lab
                .pods
                .keys()
                .next()
                .or(lab.nodes.keys().next())
                .map_or("node1", String::as_str);
            let node = lab.nodes.keys().next().map_or("node1", String::as_str);
            let _ = write!(
                text,
                "\nTry:\n  signetctl lab exec{name} {place} -- ip address\n  signetctl lab exec{name} {node} -- signetctl status\n  signetctl lab exec{name} {node} -- signetctl observe --follow\n  signetctl lab down{name}\n"
            );
            output::print_text(&text)
        }
    }
}

fn sketch(lab: &Lab, format: Format) -> String {
    let paint = Paint::stdout();
    let wide = format == Format::Wide;
    let mut text = format!(
        "{} {}, trust domain {}, state in {}\n\n",
        paint.strong("Lab"),
        lab.name,
        lab.trust_domain,
        lab.state_dir.display()
    );
    let mut places = vec![vec![
        names::IDENTITY.to_owned(),
        lab.identity.netns.clone(),
        human::addresses(&lab.identity.underlay_addresses),
        "-".to_owned(),
        process_cell(lab.identity.process.as_ref(), "identity"),
    ]];
    for node in lab.nodes.values() {
        let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
        places.push(vec![
            node.name.clone(),
            node.netns.clone(),
            human::addresses(&node.underlay_addresses),
            cidrs.join(","),
            format!(
                "{} {}",
                process_cell(node.agent.as_ref(), "agent"),
                process_cell(node.tunnel.as_ref(), "tunnel")
            ),
        ]);
    }
    text.push_str(&output::table(
        &["NODE", "NETNS", "UNDERLAY", "PODS", "PROCESSES"],
        places,
    ));
    if lab.pods.is_empty() {
        return text;
    }
    let rows = lab.pods.values().map(|pod| {
        let running = pod
            .processes
            .iter()
            .filter(|process| process.alive())
            .count();
        let mut row = vec![
            pod.key(),
            pod.node.clone(),
            pod.netns.clone(),
            human::addresses(&pod.addresses),
            pod.service_account.clone(),
            format!("{running}/{}", pod.containers.len()),
        ];
        if wide {
            row.extend([
                pod.host_interface.clone(),
                pod.uid.clone(),
                pod.dir.display().to_string(),
            ]);
        }
        row
    });
    let mut head = vec![
        "POD",
        "NODE",
        "NETNS",
        "ADDRESSES",
        "SERVICE ACCOUNT",
        "RUNNING",
    ];
    if wide {
        head.extend(["INTERFACE", "UID", "DIRECTORY"]);
    }
    text.push('\n');
    text.push_str(&output::table(&head, rows.collect()));
    text
}

fn process_cell(process: Option<&Process>, what: &str) -> String {
    match process {
        Some(process) if process.alive() => format!("{what}:{}", process.pid),
        Some(_) => format!("{what}:DOWN"),
        None => format!("{what}:-"),
    }
}

fn troubles(lab: &Lab, health: &[Health], paint: Paint) -> String {
    let bad: Vec<&Health> = health.iter().filter(|item| !item.ok).collect();
    if bad.is_empty() && lab.phase == Phase::Ready {
        return format!("\n{} everything runs\n", paint.good("ok"));
    }
    let mut text = String::from("\n");
    if lab.phase != Phase::Ready {
        let _ = writeln!(
            text,
            "{} the lab was not brought up completely",
            paint.bad("!!")
        );
    }
    for item in bad {
        let _ = writeln!(
            text,
            "{} {} {}: {}",
            paint.bad("!!"),
            item.place,
            item.what,
            item.detail
        );
    }
    let _ = writeln!(
        text,
        "`signetctl lab restart --name {}` starts what is down",
        lab.name
    );
    text
}

fn examine(lab: &Lab) -> Vec<Health> {
    let mut health = Vec::new();
    let mut note = |place: &str, what: &str, result: Result<String>| {
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        health.push(Health {
            place: place.to_owned(),
            what: what.to_owned(),
            ok,
            detail,
        });
    };
    let identity = &lab.identity;
    note(names::IDENTITY, "process", alive(identity.process.as_ref()));
    let reachable = Admin::new(&identity.admin_socket).reachable();
    note(
        names::IDENTITY,
        "service",
        reachable.map(|()| "answers".to_owned()),
    );
    for node in lab.nodes.values() {
        note(&node.name, "tunnel", alive(node.tunnel.as_ref()));
        note(&node.name, "agent", alive(node.agent.as_ref()));
        let status = Agent::new(&node.status_socket).ask::<AgentStatus>(&Request::Status);
        note(
            &node.name,
            "health",
            status.and_then(|status| healthy(&status)),
        );
    }
    for pod in lab.pods.values() {
        let key = pod.key();
        if pod.phase != PodPhase::Running {
            note(
                &key,
                "pod",
                Err(anyhow::anyhow!(
                    "was interrupted; `signetctl lab apply` starts it anew"
                )),
            );
        }
        for process in &pod.processes {
            note(&key, &process.name, alive(Some(process)));
        }
    }
    health
}

fn alive(process: Option<&Process>) -> Result<String> {
    match process {
        Some(process) if process.alive() => Ok(format!("pid {}", process.pid)),
        Some(process) => anyhow::bail!(
            "{} does not run any more{}",
            process.name,
            process.log_tail()
        ),
        None => anyhow::bail!("was never started"),
    }
}

fn healthy(status: &AgentStatus) -> Result<String> {
    match daemons::missing(status) {
        Some(problem) => anyhow::bail!("{problem}"),
        None => Ok(format!("{} pods, {} peers", status.endpoints, status.peers)),
    }
}

/// `lab list`: the labs of this machine.
pub(crate) fn list(format: Format) -> Result<u8> {
    let names = state::list();
    match format {
        Format::Json | Format::Yaml => output::data(format, &names)?,
        Format::Table | Format::Wide if names.is_empty() => {
            eprintln!("no labs; start one with `signetctl lab up`")
        }
        Format::Table | Format::Wide => output::print_text(&(names.join("\n") + "\n"))?,
    }
    Ok(0)
}
