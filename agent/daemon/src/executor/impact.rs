//! `policy impact`: the flows that were seen, held against the dry runs.

use signet_abi::{self as abi, DropReason, EventKind, Hook};
use signet_agent_core::io::EndpointIndex;
use signet_agent_core::status::{BrokenFlow, FlowEvent, Impact, Verdict};
use signet_policy::{Breakage, Cause, Direction, Enforcement, Mode, PeerFacts, Protocol, Query};

use super::Executor;
use crate::flows::{Flow, Who};
use crate::observe;

/// What would stop a flow, and where.
struct Broken {
    direction: Direction,
    breakage: Breakage,
    from: PeerFacts,
    to: PeerFacts,
}

impl Executor {
    /// Flows are told by protocol and port only while somebody wants to know: each is an event.
    pub(super) fn report_flows(&mut self) {
        let wanted = self.cluster.view.policies.has_dry_runs();
        if let Err(problem) = self.dataplane.set_report(wanted) {
            tracing::warn!(
                problem,
                "flows are reported less closely than dry runs want"
            );
        }
    }

    /// Remembers an admitted flow; if a dry run would stop it, that is an event of its own.
    pub(super) fn note_flow(&mut self, event: &abi::Event, time_ms: u64) {
        let Some(flow) = self.flow_of(event) else {
            return;
        };
        let flows = 1 + u64::from(event.suppressed);
        self.flows.note(flow.clone(), flows, time_ms);
        if !self.cluster.view.policies.has_dry_runs() {
            return;
        }
        for broken in self.broken(&flow) {
            let reason = reason(&broken);
            self.metrics.would_drop(reason, flows);
            let event = self.would_drop(&broken, &flow, event, time_ms);
            self.observe.push(event);
        }
    }

    pub(super) fn impact(&self) -> Impact {
        let policies = &self.cluster.view.policies;
        let mut dry_runs: Vec<String> = policies
            .policies()
            .filter(|(_, enforcement)| *enforcement == Enforcement::DryRun)
            .map(|(name, _)| name.to_string())
            .collect();
        dry_runs.sort();
        let mut breaks = Vec::new();
        if !dry_runs.is_empty() {
            for (flow, times) in self.flows.iter() {
                for broken in self.broken(flow) {
                    breaks.push(BrokenFlow {
                        source: self.end(&broken.from, 0),
                        destination: self.end(&broken.to, flow.port),
                        protocol: observe::protocol(flow.protocol),
                        direction: broken.direction.to_string(),
                        because_of: names(&broken),
                        reason: reason(&broken).as_str().to_owned(),
                        why: why(&broken),
                        flows: times.flows,
                        first_ms: times.first_ms,
                        last_ms: times.last_ms,
                    });
                }
            }
        }
        breaks.sort_by_key(|broken| std::cmp::Reverse(broken.flows));
        let mut without_svid: Vec<String> = self
            .agent
            .endpoints()
            .into_iter()
            .filter(|endpoint| endpoint.svid.is_none())
            .map(|endpoint| self.names.pod(endpoint.pod.as_str()))
            .collect();
        without_svid.sort();
        Impact {
            node: self.facts.node_name.clone(),
            since: self.flows.since,
            seen: self.flows.len() as u64,
            forgotten: self.flows.forgotten,
            dry_runs,
            breaks,
            without_svid,
        }
    }

    /// Who opened it, and which of its sides this node judges.
    fn flow_of(&self, event: &abi::Event) -> Option<Flow> {
        let turned = match event.event_kind()? {
            EventKind::NewFlow => false,
            EventKind::TakenUp => true,
            EventKind::Drop | EventKind::Miss | EventKind::Stale => return None,
        };
        let outbound = match event.event_hook()? {
            Hook::ToTunnel | Hook::FromHold | Hook::UnderlayGuard => true,
            Hook::FromTunnel | Hook::ToWorkload => false,
            Hook::FromWorkload => return None,
        };
        let own = self.agent.endpoint_at(EndpointIndex(event.endpoint))?;
        let local = Who::Pod(self.names.pod(own.as_str()));
        // The pod's own address may be masqueraded by now; the other one's is what policy saw.
        let other = if outbound { event.dst } else { event.src }.to_ip();
        let remote = match self.names.pod_at(other) {
            Some((uid, _)) => Who::Pod(self.names.pod(&uid)),
            None => Who::Address(other),
        };
        // At a pod's own veth the sender's index says that it is of this node, too.
        let both_here = event.event_hook() == Some(Hook::ToWorkload) && self.is_here(&remote);
        let (source, destination) = if outbound != turned {
            (local, remote)
        } else {
            (remote, local)
        };
        let has_ports = Protocol::ALL
            .into_iter()
            .any(|protocol| protocol.number() == event.proto);
        let port = if turned { event.sport } else { event.dport };
        Some(Flow {
            source,
            destination,
            protocol: event.proto,
            port: if has_ports { port } else { 0 },
            egress: outbound != turned || both_here,
            ingress: outbound == turned || both_here,
        })
    }

    fn is_here(&self, who: &Who) -> bool {
        let Who::Pod(name) = who else { return false };
        let key = name.split_once('/');
        key.and_then(|(namespace, name)| {
            let key = (namespace.to_owned(), name.to_owned());
            self.snapshot.pods.get(&key)
        })
        .is_some_and(|pod| pod.node.as_ref() == Some(&self.facts.node_name))
    }

    /// What dry runs would do to it, at the sides that are this node's. A flow of a pod that is
    /// gone can break no more.
    fn broken(&self, flow: &Flow) -> Vec<Broken> {
        let (Some(from), Some(to)) = (
            self.facts_of(&flow.source),
            self.facts_of(&flow.destination),
        ) else {
            return Vec::new();
        };
        let query = Query {
            from: from.clone(),
            to: to.clone(),
            protocol: flow.protocol,
            port: flow.port,
            mode: Mode::Strict,
        };
        let sides = [
            (Direction::Egress, flow.egress),
            (Direction::Ingress, flow.ingress),
        ];
        let sides = sides.into_iter().filter(|(_, ours)| *ours);
        sides
            .filter_map(|(direction, _)| {
                let breakage = self.cluster.view.policies.breakage(&query, direction)?;
                Some(Broken {
                    direction,
                    breakage,
                    from: from.clone(),
                    to: to.clone(),
                })
            })
            .collect()
    }

    fn facts_of(&self, who: &Who) -> Option<PeerFacts> {
        match who {
            Who::Address(address) => self.peer(&address.to_string()).ok(),
            Who::Pod(name) => self.peer(name).ok(),
        }
    }

    fn would_drop(
        &self,
        broken: &Broken,
        flow: &Flow,
        event: &abi::Event,
        time_ms: u64,
    ) -> FlowEvent {
        FlowEvent {
            time_ms,
            node: self.facts.node_name.clone(),
            verdict: Verdict::WouldDrop,
            reason: Some(observe::reason(reason(broken))),
            direction: Some(broken.direction.to_string()),
            hook: event
                .event_hook()
                .map(|hook| hook.as_str().to_owned())
                .unwrap_or_default(),
            ip_version: event.family,
            protocol: observe::protocol(flow.protocol),
            source: self.end(&broken.from, 0),
            destination: self.end(&broken.to, flow.port),
            encrypted: matches!(
                event.event_hook(),
                Some(Hook::ToTunnel | Hook::FromHold | Hook::FromTunnel)
            ),
            policy: Some(format!("{} (dry run)", names(broken).join(", "))),
            suppressed: u64::from(event.suppressed),
        }
    }
}

fn names(broken: &Broken) -> Vec<String> {
    let policies = broken.breakage.policies.iter();
    policies.map(ToString::to_string).collect()
}

/// The reason a packet would be dropped for.
fn reason(broken: &Broken) -> DropReason {
    match (&broken.breakage.would.cause, broken.direction) {
        (Cause::AuthenticationRequired { .. }, _) => DropReason::AuthenticationRequired,
        (Cause::Rule { .. }, Direction::Egress) => DropReason::PolicyEgressDenied,
        (Cause::Rule { .. }, Direction::Ingress) => DropReason::PolicyIngressDenied,
        (
            Cause::Isolated
            | Cause::WorldNeedsRule
            | Cause::NotIsolated
            | Cause::Itself
            | Cause::OwnNode,
            Direction::Egress,
        ) => DropReason::DefaultDenyEgress,
        (
            Cause::Isolated
            | Cause::WorldNeedsRule
            | Cause::NotIsolated
            | Cause::Itself
            | Cause::OwnNode,
            Direction::Ingress,
        ) => DropReason::DefaultDenyIngress,
    }
}

fn why(broken: &Broken) -> String {
    match &broken.breakage.would.cause {
        Cause::Rule { rule, .. } => format!("{rule} denies it"),
        Cause::AuthenticationRequired { rule, .. } => {
            format!("{rule} demands authentication, which the other end cannot give")
        }
        Cause::Isolated
        | Cause::WorldNeedsRule
        | Cause::NotIsolated
        | Cause::Itself
        | Cause::OwnNode => "no rule allows it".to_owned(),
    }
}
