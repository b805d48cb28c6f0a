//! `policy explain`: who is meant, what the rules say, and what would happen on the wire.

use std::net::IpAddr;

use signet_agent_core::status::{ExplainQuery, ExplainedDirection, Explanation, Party};
use signet_crypto::spiffe_id::SpiffeId;
use signet_policy::{
    Authentication, Cause, Mode, NamedPort, Outcome, PeerFacts, PodFacts, Protocol, Query, Side,
};
use signet_source::{Node, Pod};

use super::Executor;

impl Executor {
    /// # Errors
    /// One line: an end that is nobody, or a protocol that is none.
    pub(super) fn explain(&self, query: &ExplainQuery) -> Result<Explanation, String> {
        let (from, to) = (self.peer(&query.from)?, self.peer(&query.to)?);
        let (from, to) = (
            self.seen_by(from.clone(), &to),
            self.seen_by(to.clone(), &from),
        );
        let protocol = protocol(&query.proto)?;
        let question = Query {
            from: from.clone(),
            to: to.clone(),
            protocol,
            port: query.port,
            mode: Mode::Strict,
        };
        let answer = self.cluster.view.policies.explain(&question);
        let mut path = self.path(&from, &to, answer.outcome);
        for difference in &answer.dry_run {
            path.push(format!(
                "dry run: {} would make {} {}",
                difference.policy,
                difference.direction,
                outcome(difference.would.outcome)
            ));
        }
        Ok(Explanation {
            allowed: answer.outcome == Outcome::Allowed,
            authentication_required: answer.authentication == Authentication::Required,
            source: self.end(&from, 0),
            destination: self.end(&to, query.port),
            egress: direction(answer.egress.as_ref()),
            ingress: direction(answer.ingress.as_ref()),
            path,
        })
    }

    /// `namespace/name` of a pod, a pod's UID, an address, or a node's name.
    pub(super) fn peer(&self, text: &str) -> Result<PeerFacts, String> {
        let snapshot = &self.snapshot;
        if let Ok(address) = text.parse::<IpAddr>() {
            let pod = snapshot
                .pods
                .values()
                .find(|pod| pod.has_identity() && pod.addresses.contains(&address));
            if let Some(pod) = pod {
                return self.pod_facts(pod);
            }
            let node = snapshot
                .nodes
                .values()
                .find(|node| node.addresses.contains(&address));
            if let Some(node) = node {
                return Ok(self.node_facts(node));
            }
            let in_range = |node: &&std::sync::Arc<Node>| {
                node.pod_cidrs.iter().any(|range| range.contains(&address))
            };
            if self.cluster.view.kube_api_servers.contains(&address) {
                return Ok(PeerFacts::KubeApiServer(vec![address]));
            }
            return Ok(match snapshot.nodes.values().find(in_range) {
                Some(_) => PeerFacts::Unmanaged(address),
                None => PeerFacts::Address(address),
            });
        }
        if let Some((namespace, name)) = text.split_once('/') {
            let key = (namespace.to_owned(), name.to_owned());
            return match snapshot.pods.get(&key) {
                Some(pod) if pod.has_identity() => self.pod_facts(pod),
                Some(_) => Err(format!(
                    "Pod {text} has no identity: it is not placed, has finished, or uses its node's network"
                )),
                None => Err(format!("there is no Pod {text}: see `signetctl endpoints`")),
            };
        }
        match snapshot.nodes.get(text) {
            Some(node) => Ok(self.node_facts(node)),
            None => Err(format!(
                "{text} is no address, no node and no pod: write NAMESPACE/NAME"
            )),
        }
    }

    pub(super) fn pod_facts(&self, pod: &Pod) -> Result<PeerFacts, String> {
        let trust = self.service.trust.load();
        let id = SpiffeId::workload(trust.trust_domain(), &pod.namespace, &pod.service_account)
            .map_err(|error| error.to_string())?;
        let namespace = self.snapshot.namespaces.get(&pod.namespace);
        let named_ports = pod.named_ports.iter().filter_map(|port| {
            let protocol = Protocol::from_name(&port.protocol)?;
            Some(NamedPort {
                name: port.name.clone(),
                protocol,
                port: port.port,
            })
        });
        Ok(PeerFacts::Pod(PodFacts {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            service_account: pod.service_account.clone(),
            spiffe_id: id.to_string(),
            labels: pod.labels.clone(),
            namespace_labels: namespace
                .map(|found| found.labels.clone())
                .unwrap_or_default(),
            addresses: pod.addresses.clone(),
            named_ports: Some(named_ports.collect()),
            enrolled: true,
        }))
    }

    fn node_facts(&self, node: &Node) -> PeerFacts {
        let api = &self.cluster.view.kube_api_servers;
        if node.addresses.iter().any(|address| api.contains(address)) {
            PeerFacts::ApiServerNode(node.addresses.clone())
        } else {
            PeerFacts::RemoteNode(node.addresses.clone())
        }
    }

    /// A node is its own pods' host, and a remote one to all others.
    fn seen_by(&self, facts: PeerFacts, other: &PeerFacts) -> PeerFacts {
        let home = other.pod().and_then(|pod| self.node_of(pod));
        let at_home = home.is_some() && home == self.node_with(facts.addresses());
        match facts {
            PeerFacts::RemoteNode(addresses) | PeerFacts::ApiServerNode(addresses) if at_home => {
                PeerFacts::Host(addresses)
            }
            PeerFacts::Pod(_)
            | PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::RemoteNode(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::ApiServerNode(_)
            | PeerFacts::Unmanaged(_) => facts,
        }
    }

    fn node_with(&self, addresses: &[IpAddr]) -> Option<String> {
        let mut nodes = self.snapshot.nodes.values();
        let node = nodes.find(|node| node.addresses == addresses)?;
        Some(node.name.clone())
    }

    pub(super) fn end(&self, facts: &PeerFacts, port: u16) -> Party {
        let class = match facts {
            PeerFacts::Pod(_) => None,
            PeerFacts::Address(_) => Some("World"),
            PeerFacts::Host(_) => Some("Host"),
            PeerFacts::RemoteNode(_) => Some("RemoteNode"),
            PeerFacts::KubeApiServer(_) => Some("KubeAPIServer"),
            PeerFacts::ApiServerNode(_) => Some("RemoteNode, KubeAPIServer"),
            PeerFacts::Unmanaged(_) => Some("Unmanaged"),
        };
        Party {
            address: facts.addresses().first().copied(),
            port,
            pod: facts.pod().map(PodFacts::full_name),
            spiffe_id: facts.pod().map(|pod| pod.spiffe_id.clone()),
            node: facts.pod().and_then(|pod| self.node_of(pod)),
            class: class.map(str::to_owned),
        }
    }

    fn node_of(&self, pod: &PodFacts) -> Option<String> {
        let key = (pod.namespace.clone(), pod.name.clone());
        self.snapshot
            .pods
            .get(&key)
            .and_then(|pod| pod.node.clone())
    }

    fn path(&self, from: &PeerFacts, to: &PeerFacts, result: Outcome) -> Vec<String> {
        let mut steps = Vec::new();
        match (from.pod(), to.pod()) {
            (Some(source), Some(target)) => {
                let (here, there) = (self.node_of(source), self.node_of(target));
                let name = |node: &Option<String>| node.clone().unwrap_or_else(|| "?".to_owned());
                if here == there {
                    steps.push(format!(
                        "both run on {}: judged at the destination's veth, not encrypted",
                        name(&here)
                    ));
                } else {
                    steps.push(format!(
                        "{} proves {} to {}, which proves {}, inside a node channel",
                        name(&here),
                        source.spiffe_id,
                        name(&there),
                        target.spiffe_id
                    ));
                    steps.push("packets carry a label of that proof inside WireGuard".to_owned());
                }
            }
            (Some(pod), None) | (None, Some(pod)) => {
                let node = self.node_of(pod).unwrap_or_else(|| "?".to_owned());
                let peer = if from.pod().is_some() { to } else { from };
                match peer {
                    PeerFacts::Host(_) => {
                        steps.push(format!("stays on {node}, and is not encrypted"));
                    }
                    PeerFacts::RemoteNode(addresses) | PeerFacts::ApiServerNode(addresses) => {
                        let other = self.node_with(addresses);
                        steps.push(format!(
                            "{node} proves {} inside a node channel with {}, which is proven by it",
                            pod.spiffe_id,
                            other.unwrap_or_else(|| "?".to_owned()),
                        ));
                        steps.push("packets carry a label of that inside WireGuard".to_owned());
                    }
                    PeerFacts::Pod(_)
                    | PeerFacts::Address(_)
                    | PeerFacts::KubeApiServer(_)
                    | PeerFacts::Unmanaged(_) => steps.push(if from.pod().is_some() {
                        "leaves the mesh in the clear".to_owned()
                    } else {
                        "comes from outside the mesh in the clear".to_owned()
                    }),
                }
            }
            (None, None) => steps.push("no pod of the mesh takes part".to_owned()),
        }
        if result == Outcome::Denied {
            steps.push("is dropped, counted, and shown by `signetctl observe`".to_owned());
        }
        steps
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(protocol) = Protocol::from_name(&upper) {
        return Ok(protocol.number());
    }
    match upper.as_str() {
        "ICMP" => Ok(1),
        "ICMPV6" => Ok(58),
        _ => text.parse().map_err(|_| {
            format!("{text} is no protocol: use tcp, udp, sctp, icmp, icmpv6 or a number")
        }),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
    }
}

/// A side of the answer; one that is no pod of the mesh has nothing to say, and lets pass.
fn direction(side: Option<&Side>) -> ExplainedDirection {
    let Some(side) = side else {
        return ExplainedDirection {
            allowed: true,
            isolated: false,
            policy: None,
            decision: "not enforced".to_owned(),
            reasons: vec!["this end is no pod of the mesh".to_owned()],
        };
    };
    let allowed = side.outcome == Outcome::Allowed;
    let mut reasons = Vec::new();
    let (policy, decision) = match &side.cause {
        Cause::Rule {
            rule,
            authentication,
            ..
        } => {
            if *authentication == Authentication::Required {
                reasons.push("the rule demands authentication".to_owned());
            }
            (
                Some(rule.to_string()),
                if allowed { "allow" } else { "deny" },
            )
        }
        Cause::AuthenticationRequired { rule, .. } => {
            reasons.push(
                "the rule demands authentication, which the other end cannot give".to_owned(),
            );
            (Some(rule.to_string()), "deny")
        }
        Cause::OwnNode => (None, "own node always allowed"),
        Cause::Itself => (None, "itself always allowed"),
        Cause::Isolated => {
            reasons.push("no rule speaks of this flow, and the pod is isolated".to_owned());
            (None, "default deny")
        }
        Cause::NotIsolated => {
            reasons.push("no rule speaks of this flow, and nothing isolates the pod".to_owned());
            (None, "default allow")
        }
        Cause::WorldNeedsRule => {
            reasons.push("in strict mode the world needs a rule that allows it".to_owned());
            (None, "default deny")
        }
    };
    for policy in &side.isolated_by {
        reasons.push(format!("isolated by {policy}"));
    }
    ExplainedDirection {
        allowed,
        isolated: !side.isolated_by.is_empty(),
        policy,
        decision: decision.to_owned(),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_named_or_numbered() {
        for (text, number) in [
            ("tcp", 6),
            ("UDP", 17),
            ("icmp", 1),
            ("ICMPv6", 58),
            ("47", 47),
        ] {
            assert_eq!(protocol(text), Ok(number));
        }
        for text in ["", "tpc", "256", "-1"] {
            assert!(protocol(text).unwrap_err().contains("use tcp"), "{text}");
        }
    }
}
