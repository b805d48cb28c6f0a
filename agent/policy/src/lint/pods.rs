//! Findings about the pods that rules select.

use std::collections::BTreeMap;

use super::{Cluster, Odd};
use crate::facts::PodFacts;
use crate::model::{
    Action, Authentication, Direction, Namespaces, Peer, Peers, Policy, PortChoice, PortMatch,
    Ports, Rule,
};
use crate::select::LabelSelector;

/// Names in a sentence; the first three will do.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => format!("pod {one}"),
        [one, two] => format!("pods {one} and {two}"),
        [one, two, three] => format!("pods {one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("pods {one}, {two} and {} more", rest.len()),
    }
}

/// A peer's selector of pods that selects none.
pub(super) fn lint_selector(
    policy: &Policy,
    pods: &LabelSelector,
    namespaces: &Namespaces,
    cluster: &Cluster,
    report: &mut impl FnMut(Odd),
) {
    let own = &policy.name.namespace;
    if let Namespaces::Matching(selector) = namespaces
        && !cluster
            .namespaces
            .values()
            .any(|labels| selector.matches(labels))
    {
        return report(Odd::new(
            "SelectsNothing",
            format!("no namespace has {selector}"),
            "correct namespaceSelector or the namespaces' labels",
        ));
    }
    let selected = |pod: &&PodFacts| is_selected(pod, pods, namespaces);
    let on_host: Vec<String> = (cluster.host_pods.iter().filter(selected))
        .map(PodFacts::full_name)
        .collect();
    if !on_host.is_empty() {
        report(Odd::new(
            "SelectsHostNetwork",
            format!(
                "it selects {} as peers, which use their node's network and come as the node",
                list(&on_host)
            ),
            "allow `entities: [Host, RemoteNode]` with `authentication: Optional` where they must pass",
        ));
    } else if !cluster.pods.iter().any(|pod| selected(&pod)) {
        let place = match namespaces {
            Namespaces::Named(_) => format!("of namespace {own}"),
            Namespaces::Matching(selector) => format!("of a namespace with {selector}"),
        };
        report(Odd::new(
            "SelectsNothing",
            format!("no pod {place} has {pods}"),
            "correct the selector or the pods' labels",
        ));
    }
}

/// A rule that demands authentication, and lets in some pods of a service account but not others:
/// what is proven is the service account. That it is this pod and no other of its account is only
/// the directory's word for the pod's address and labels.
pub(super) fn lint_separated(rule: &Rule, cluster: &Cluster, report: &mut impl FnMut(Odd)) {
    let (Action::Allow, Authentication::Required, Peers::AnyOf { selectors, .. }) =
        (rule.action, rule.authentication, &rule.peers)
    else {
        return;
    };
    let in_rule = |pod: &PodFacts| selectors.iter().any(|peer| is_peer(pod, peer));
    let by_label = |peer: &&Peer| matches!(peer, Peer::Pods { .. });
    if !selectors.iter().any(|peer| by_label(&peer)) {
        return;
    }
    let mut accounts: BTreeMap<(&str, &str), [Vec<String>; 2]> = BTreeMap::new();
    for pod in &cluster.pods {
        let [inside, outside] = accounts
            .entry((&pod.namespace, &pod.service_account))
            .or_default();
        if in_rule(pod) { inside } else { outside }.push(pod.full_name());
    }
    for ((namespace, account), [inside, outside]) in accounts {
        if inside.is_empty() || outside.is_empty() {
            continue;
        }
        report(Odd::new(
            "SharedServiceAccount",
            format!(
                "it demands authentication and admits {} but not {}, though they share service \
                 account {namespace}/{account}: authentication proves the service account and \
                 nothing finer",
                list(&inside),
                list(&outside)
            ),
            "give them service accounts of their own and name those in the rule",
        ));
    }
}

/// Names of ports that nobody has whom the rule is about.
pub(super) fn lint_ports(
    policy: &Policy,
    rule: &Rule,
    cluster: &Cluster,
    report: &mut impl FnMut(Odd),
) {
    let Ports::AnyOf(ports) = &rule.ports else {
        return;
    };
    let is_destination = |pod: &&PodFacts| match rule.direction {
        Direction::Ingress => {
            pod.namespace == policy.name.namespace && policy.selector.matches(&pod.labels)
        }
        Direction::Egress => match &rule.peers {
            Peers::All => true,
            Peers::AnyOf { selectors, .. } => selectors.iter().any(|peer| is_peer(pod, peer)),
        },
    };
    let destinations: Vec<&PodFacts> = cluster.pods.iter().filter(is_destination).collect();
    for PortMatch { protocol, port } in ports {
        let PortChoice::Named(name) = port else {
            continue;
        };
        let declares = |pod: &&PodFacts| {
            let mut ports = pod.named_ports.iter().flatten();
            ports.any(|port| port.name == *name && port.protocol == *protocol)
        };
        // That there is nobody at all is another finding.
        if !destinations.is_empty() && !destinations.iter().any(declares) {
            report(Odd::new(
                "NoSuchPort",
                format!("no pod at the flow's destination has a {protocol} port named {name}"),
                "correct the name, or name the container's port",
            ));
        }
    }
}

fn is_peer(pod: &PodFacts, peer: &Peer) -> bool {
    match peer {
        Peer::Pods { pods, namespaces } => is_selected(pod, pods, namespaces),
        Peer::ServiceAccount { namespace, name } => {
            pod.namespace == *namespace && pod.service_account == *name
        }
        Peer::SpiffeId(id) => pod.spiffe_id == *id,
        Peer::Entity(entity) => *entity == crate::model::Entity::Cluster,
    }
}

fn is_selected(pod: &PodFacts, pods: &LabelSelector, namespaces: &Namespaces) -> bool {
    let in_namespace = match namespaces {
        Namespaces::Named(name) => pod.namespace == *name,
        Namespaces::Matching(selector) => selector.matches(&pod.namespace_labels),
    };
    in_namespace && pods.matches(&pod.labels)
}
