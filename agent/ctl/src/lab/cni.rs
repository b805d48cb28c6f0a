//! `signet-cni`, run as a container runtime runs it behind the plug-in that made the pod's network.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::netns;
use super::plan::host_prefix;
use super::process;
use super::state::{Lab, Node, Pod};

const PROGRAM: &str = "signet-cni";

/// Version of the CNI specification that the lab speaks.
const VERSION: &str = "1.1.0";

/// Has the agent enforce the pod. The inner error is the plug-in's refusal.
///
/// # Errors
/// If the plug-in cannot be run.
pub(crate) fn add(lab: &Lab, node: &Node, pod: &Pod) -> Result<Result<(), String>> {
    let output = run("ADD", lab, node, pod)?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(refusal(&output)))
}

/// Has the agent forget the pod; fine without an agent.
///
/// # Errors
/// If the plug-in cannot be run, or breaks the rule that a removal does not fail.
pub(crate) fn del(lab: &Lab, node: &Node, pod: &Pod) -> Result<()> {
    let output = run("DEL", lab, node, pod)?;
    if !output.status.success() {
        bail!(
            "withdraw pod {} from the agent on {}: {}",
            pod.key(),
            node.name,
            refusal(&output)
        );
    }
    Ok(())
}

fn run(verb: &str, lab: &Lab, node: &Node, pod: &Pod) -> Result<Output> {
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.uid
    );
    let mut command = Command::new(process::program(PROGRAM)?);
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &pod.netns)
        .env("CNI_NETNS", netns::path(&pod.netns))
        .env("CNI_IFNAME", &pod.interface)
        .env("CNI_ARGS", args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    process::enter_before_exec(&mut command, netns::open(&node.netns)?);
    let mut child = command.spawn().with_context(|| format!("run {PROGRAM}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A plug-in that does not read on has said why.
        let _ = input.write_all(configuration(lab, node, pod).to_string().as_bytes());
    }
    child
        .wait_with_output()
        .with_context(|| format!("wait for {PROGRAM}"))
}

/// The configuration, with what the lab itself has made as the result before.
fn configuration(lab: &Lab, node: &Node, pod: &Pod) -> Value {
    let ips: Vec<Value> = pod
        .addresses
        .iter()
        .map(|address| {
            json!({"address": format!("{address}/{}", host_prefix(address)), "interface": 1})
        })
        .collect();
    json!({
        "cniVersion": VERSION,
        "name": lab.name,
        "type": PROGRAM,
        "statusSocket": node.status_socket,
        "prevResult": {
            "cniVersion": VERSION,
            "interfaces": [
                {"name": pod.host_interface},
                {"name": pod.interface, "sandbox": netns::path(&pod.netns)},
            ],
            "ips": ips,
        },
    })
}

/// The error object, in one line.
fn refusal(output: &Output) -> String {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match (said["msg"].as_str(), said["details"].as_str()) {
        (Some(msg), Some(details)) if !details.is_empty() => format!("{msg} ({details})"),
        (Some(msg), _) => msg.to_owned(),
        (None, _) => format!(
            "{PROGRAM} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ),
    }
}
