//! Whether a rule is about a peer, and which ports it is about.
//!
//! What cannot be resolved matches nothing for an allow and everything for a deny: not knowing
//! never opens anything.

use crate::block::Blocks;
use crate::facts::{PeerFacts, PodFacts, Protocol};
use crate::model::{
    Action, Authentication, Entity, Namespaces, Peer, Peers, PortChoice, PortMatch, Ports, Rule,
    Verdict,
};
use crate::ports::Claim;

/// What to make of port names of a pod whose container ports are not known here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownPorts {
    /// Unresolved: an allow matches nothing, a deny every port of its protocol.
    Closed,
    /// They may be any port: for asking whether a pair could talk at all.
    Open,
}

/// Whether `rule` is about `peer`.
pub(crate) fn selects(rule: &Rule, peer: &PeerFacts) -> bool {
    match &rule.peers {
        Peers::All => true,
        Peers::AnyOf { selectors, blocks } => {
            selectors
                .iter()
                .any(|selector| selects_one(selector, peer, rule.action))
                || in_blocks(blocks, peer, rule.action)
        }
    }
}

fn selects_one(selector: &Peer, peer: &PeerFacts, action: Action) -> bool {
    match selector {
        Peer::Entity(entity) => is_entity(*entity, peer),
        Peer::Pods { .. } | Peer::ServiceAccount { .. } | Peer::SpiffeId(_) => match peer {
            PeerFacts::Pod(pod) => is_pod(selector, pod, action),
            // It may be any pod.
            PeerFacts::Unmanaged(_) => action == Action::Deny,
            PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::RemoteNode(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::ApiServerNode(_) => false,
        },
    }
}

fn is_pod(selector: &Peer, pod: &PodFacts, action: Action) -> bool {
    // An identity admits only where it can be proven, and denies also where it is only claimed or
    // not known at all.
    let identity = |known: &str, wanted: bool| match action {
        Action::Allow => pod.enrolled && wanted,
        Action::Deny => wanted || known.is_empty(),
    };
    match selector {
        Peer::Pods { pods, namespaces } => {
            let in_namespace = match namespaces {
                Namespaces::Named(name) => pod.namespace == *name,
                Namespaces::Matching(selector) => selector.matches(&pod.namespace_labels),
            };
            in_namespace && pods.matches(&pod.labels)
        }
        Peer::ServiceAccount { namespace, name } => {
            let wanted = pod.namespace == *namespace && pod.service_account == *name;
            identity(&pod.service_account, wanted)
        }
        Peer::SpiffeId(id) => identity(&pod.spiffe_id, pod.spiffe_id == *id),
        Peer::Entity(_) => false,
    }
}

fn is_entity(entity: Entity, peer: &PeerFacts) -> bool {
    match entity {
        Entity::Host => matches!(peer, PeerFacts::Host(_)),
        Entity::RemoteNode => {
            matches!(peer, PeerFacts::RemoteNode(_) | PeerFacts::ApiServerNode(_))
        }
        Entity::KubeAPIServer => {
            matches!(
                peer,
                PeerFacts::KubeApiServer(_) | PeerFacts::ApiServerNode(_)
            )
        }
        Entity::World => peer.is_world(),
        Entity::Unmanaged => match peer {
            PeerFacts::Unmanaged(_) => true,
            PeerFacts::Pod(pod) => !pod.enrolled,
            PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::RemoteNode(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::ApiServerNode(_) => false,
        },
        Entity::Cluster => !peer.is_world(),
    }
}

/// Whether the rule's address blocks select the peer. One answer holds for all its addresses, so
/// an allow wants each of them in some block, a deny any of them.
fn in_blocks(blocks: &Blocks, peer: &PeerFacts, action: Action) -> bool {
    if blocks.is_empty() {
        return false;
    }
    let addresses = peer.addresses();
    let mut held = addresses.iter().map(|address| blocks.contains(*address));
    match action {
        Action::Allow => !addresses.is_empty() && held.all(|held| held),
        Action::Deny => addresses.is_empty() || held.any(|held| held),
    }
}

/// What `rule` says about ports, given the pod at the flow's destination.
pub(crate) fn claims(
    rule: &Rule,
    destination: Option<&PodFacts>,
    unknown: UnknownPorts,
    into: &mut Vec<Claim>,
) {
    let mut claim = |protocol: u8, first: u16, last: u16| {
        let (precedence, authentication) = match (rule.action, rule.authentication) {
            (Action::Deny, Authentication::Required | Authentication::Optional) => {
                (0, Authentication::Optional)
            }
            (Action::Allow, Authentication::Optional) => (1, Authentication::Optional),
            (Action::Allow, Authentication::Required) => (2, Authentication::Required),
        };
        let verdict = Verdict {
            action: rule.action,
            authentication,
            rule: rule.id,
        };
        into.push(Claim {
            protocol,
            first,
            last,
            verdict,
            order: (precedence, rule.rank),
        });
    };
    let ports = match &rule.ports {
        Ports::All => return claim(0, 0, u16::MAX),
        Ports::AnyOf(ports) => ports,
    };
    for PortMatch { protocol, port } in ports {
        match port {
            PortChoice::Any => claim(protocol.number(), 0, u16::MAX),
            PortChoice::Range { first, last } => claim(protocol.number(), *first, *last),
            PortChoice::Named(name) => {
                match resolve_name(name, *protocol, rule.action, destination, unknown) {
                    Resolved::Everything => claim(protocol.number(), 0, u16::MAX),
                    Resolved::Ports(ports) => {
                        ports
                            .into_iter()
                            .for_each(|port| claim(protocol.number(), port, port));
                    }
                }
            }
        }
    }
}

enum Resolved {
    Everything,
    Ports(Vec<u16>),
}

fn resolve_name(
    name: &str,
    protocol: Protocol,
    action: Action,
    destination: Option<&PodFacts>,
    unknown: UnknownPorts,
) -> Resolved {
    let listed = destination.and_then(|pod| pod.named_ports.as_ref());
    let ports: Vec<u16> = listed
        .into_iter()
        .flatten()
        .filter(|named| named.name == name && named.protocol == protocol)
        .map(|named| named.port)
        .collect();
    let may_be_any = unknown == UnknownPorts::Open && destination.is_some() && listed.is_none();
    match (action, ports.is_empty()) {
        (Action::Allow, true) if may_be_any => Resolved::Everything,
        (Action::Deny, true) if !may_be_any => Resolved::Everything,
        (Action::Allow | Action::Deny, _) => Resolved::Ports(ports),
    }
}
