//! What each verb does.

use std::{net::IpAddr, thread, time::Duration};

use signet_agent_core::status::{Endpoint, EndpointAdded, EndpointRemoved, Endpoints, Request};

use crate::{
    agent::Agent,
    call::{Call, Command},
    config::{self, Config},
    failure::{Code, Failure},
    kernel::HostSide,
    previous::Previous,
};

/// How often `CHECK` looks whether what is pending has come.
const LOOK: Duration = Duration::from_millis(50);

/// Does what the runtime asks for; the answer for standard output, empty if there is none.
///
/// # Errors
/// What to tell the runtime.
pub(crate) fn run(call: &Call, config: &Config, host: &dyn HostSide) -> Result<String, Failure> {
    let agent = Agent::new(config);
    match call.command {
        Command::Add => add(call, config, &agent, host),
        Command::Del => {
            del(call, config, &agent, host);
            Ok(String::new())
        }
        Command::Check => check(call, config, &agent, host).map(|()| String::new()),
        // Nothing is kept per attachment, and the agent forgets a pod when its interface goes.
        Command::Gc => config.allows("GC").map(|()| String::new()),
        Command::Status => status(config, &agent).map(|()| String::new()),
        Command::Version => Ok(config::supported(b"")),
    }
}

/// Has the pod enforced, and passes on what was made before, byte for byte.
fn add(
    call: &Call,
    config: &Config,
    agent: &Agent,
    host: &dyn HostSide,
) -> Result<String, Failure> {
    let pod_uid = call.pod.uid()?.to_owned();
    let previous = Previous::of(config)?;
    let addresses = previous.addresses(&call.ifname)?;
    let ifname = host_side(call, host)?;
    let request = Request::EndpointAdd { pod_uid, ifname };
    let added: EndpointAdded = agent.ask(&request)?;
    same_addresses(call, &added.endpoint, &addresses)?;
    let result = config.previous.as_ref().map(|result| result.get());
    Ok(result.unwrap_or_default().to_owned())
}

/// Withdraws the pod, unless it has another network by now: runtimes say `DEL` more than once, and
/// about a sandbox whose successor may be up already. Nothing that is missing is an error, because
/// the agent forgets a pod on its own when its interface goes, and that is what follows.
fn del(call: &Call, config: &Config, agent: &Agent, host: &dyn HostSide) {
    let Some(pod_uid) = &call.pod.uid else { return };
    let Ok(Some(endpoint)) = endpoint(agent, pod_uid) else {
        return;
    };
    let is_its = match host_side(call, host) {
        Ok(name) => name == endpoint.interface,
        Err(_) => Previous::of(config).is_ok_and(|previous| previous.made(&endpoint.interface)),
    };
    if is_its {
        let pod_uid = pod_uid.clone();
        // An agent that has gone meanwhile will see that the interface has.
        let _ = agent.ask::<EndpointRemoved>(&Request::EndpointRemove { pod_uid });
    }
}

/// Whether the pod is enforced where it should be, and can talk. What is pending may come.
fn check(call: &Call, config: &Config, agent: &Agent, host: &dyn HostSide) -> Result<(), Failure> {
    let pod_uid = call.pod.uid()?;
    let addresses = Previous::of(config)?.addresses(&call.ifname)?;
    let ifname = host_side(call, host)?;
    let failed = |msg: String, details: &str| Failure::new(Code::NotEnforced, msg, details);
    let pod = call.pod.called();
    loop {
        let Some(endpoint) = endpoint(agent, pod_uid)? else {
            return Err(failed(
                format!("pod {pod} ({pod_uid}) is no endpoint of the agent"),
                "it was never added, or its interface or its manifest went: see `signetctl \
                 endpoints` and the agent's log, and start the pod anew",
            ));
        };
        if endpoint.interface != ifname {
            return Err(failed(
                format!(
                    "pod {pod} is enforced on {}, but its interface is {ifname}",
                    endpoint.interface
                ),
                "start the pod anew",
            ));
        }
        same_addresses(call, &endpoint, &addresses)?;
        if endpoint.is_ready() {
            return Ok(());
        }
        if !agent.may_ask_again() {
            return Err(failed(
                format!(
                    "pod {pod} is enforced but cannot talk to other nodes: {}",
                    endpoint.pending.join("; ")
                ),
                "see `signetctl status` on this node",
            ));
        }
        thread::sleep(LOOK);
    }
}

/// Whether an `ADD` would find an agent that enforces.
fn status(config: &Config, agent: &Agent) -> Result<(), Failure> {
    config.allows("STATUS")?;
    agent
        .ask::<Endpoints>(&Request::Endpoints)
        .map(drop)
        .map_err(|failure| Failure {
            code: Code::NotAvailable,
            ..failure
        })
}

fn host_side(call: &Call, host: &dyn HostSide) -> Result<String, Failure> {
    let name = call
        .netns
        .as_deref()
        .ok_or_else(|| "CNI_NETNS is missing".to_owned())
        .and_then(|netns| host.of(netns, &call.ifname));
    name.map_err(|problem| {
        Failure::new(
            Code::NoHostSide,
            format!("pod {} cannot be enforced: {problem}", call.pod.called()),
            "signet-cni works behind plug-ins that give pods a veth on the host's network, such \
             as ptp and bridge",
        )
    })
}

fn endpoint(agent: &Agent, pod_uid: &str) -> Result<Option<Endpoint>, Failure> {
    let all: Endpoints = agent.ask(&Request::Endpoints)?;
    let mut all = all.endpoints.into_iter();
    Ok(all.find(|endpoint| endpoint.pod_uid == pod_uid))
}

/// Nothing passes from an address that is not the pod's: better no pod than a mute one. A pod whose
/// addresses are not known yet is left to find out; until then nothing of it passes.
fn same_addresses(call: &Call, endpoint: &Endpoint, given: &[IpAddr]) -> Result<(), Failure> {
    let known = &endpoint.addresses;
    let Some(other) = given.iter().find(|address| !known.contains(address)) else {
        return Ok(());
    };
    if known.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = known.iter().map(ToString::to_string).collect();
    Err(Failure::new(
        Code::OtherAddresses,
        format!(
            "pod {} was given {other}, but its Pod object says {}",
            call.pod.called(),
            known.join(", ")
        ),
        "nothing that it sends from there would pass: correct status.podIPs of the Pod object, or \
         the IPAM's range",
    ))
}

#[cfg(test)]
mod tests;
