//! `networking.k8s.io/v1 NetworkPolicy` to the common shape, with the API server's own checks.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::block::{self, AddressBlock, HostBits};
use crate::facts::Protocol;
use crate::model::{
    Action, Authentication, Direction, Enforcement, Isolation, ListedPeer, Namespaces, Peer, Peers,
    Policy, PolicyKind, PolicyRef, PortChoice, PortMatch, Ports, Rule, RuleId,
};
use crate::problem::Fault;
use crate::select::LabelSelector;

/// The name of the object for messages.
pub(crate) fn object_name(policy: &NetworkPolicy) -> String {
    let part = |value: &Option<String>| value.clone().unwrap_or_else(|| "(unnamed)".to_owned());
    let meta = &policy.metadata;
    format!(
        "NetworkPolicy {}/{}",
        part(&meta.namespace),
        part(&meta.name)
    )
}

/// Checks the object and takes it over whole, or names its first fault.
pub(crate) fn import(written: &NetworkPolicy) -> Result<Policy, Fault> {
    let name = required(written.metadata.name.as_ref(), "metadata.name")?;
    let namespace = required(written.metadata.namespace.as_ref(), "metadata.namespace")?;
    // The API server stores an absent spec as an empty one: it selects every pod.
    let spec = written.spec.clone().unwrap_or_default();
    let selector = spec.pod_selector.clone().unwrap_or_default();
    let isolates = policy_types(&spec)?;
    let mut rules = Vec::new();
    for direction in Direction::ALL
        .into_iter()
        .filter(|direction| isolates.of(*direction))
    {
        import_rules(&spec, direction, &namespace, &mut rules)?;
    }
    Ok(Policy {
        selector: LabelSelector::import(&selector, "spec.podSelector")?,
        enforcement: Enforcement::Enforce,
        isolates,
        rules,
        name: PolicyRef {
            kind: PolicyKind::NetworkPolicy,
            namespace,
            name,
        },
    })
}

fn required(value: Option<&String>, path: &str) -> Result<String, Fault> {
    match value {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        Some(_) | None => Err(Fault::new(path, "missing", "add it")),
    }
}

/// The directions a policy is about. Without `policyTypes` that is ingress, and egress if there
/// are egress rules.
fn policy_types(spec: &NetworkPolicySpec) -> Result<Isolation, Fault> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        return Ok(Isolation {
            ingress: true,
            egress,
        });
    }
    let mut isolates = Isolation::default();
    for (at, direction) in types.iter().enumerate() {
        match direction.as_str() {
            "Ingress" => isolates.ingress = true,
            "Egress" => isolates.egress = true,
            other => {
                return Err(Fault::new(
                    format!("spec.policyTypes[{at}]"),
                    format!("unknown policy type `{other}`"),
                    "use Ingress or Egress",
                ));
            }
        }
    }
    Ok(isolates)
}

fn import_rules(
    spec: &NetworkPolicySpec,
    direction: Direction,
    namespace: &str,
    into: &mut Vec<Rule>,
) -> Result<(), Fault> {
    let none: &[NetworkPolicyPeer] = &[];
    let (peer_field, written): (_, Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])>) =
        match direction {
            Direction::Ingress => {
                let rules = spec.ingress.iter().flatten().map(|rule| {
                    (
                        rule.from.as_deref().unwrap_or(none),
                        rule.ports.as_deref().unwrap_or(&[]),
                    )
                });
                ("from", rules.collect())
            }
            Direction::Egress => {
                let rules = spec.egress.iter().flatten().map(|rule| {
                    (
                        rule.to.as_deref().unwrap_or(none),
                        rule.ports.as_deref().unwrap_or(&[]),
                    )
                });
                ("to", rules.collect())
            }
        };
    for (index, (peers, ports)) in written.into_iter().enumerate() {
        let path = format!("spec.{direction}[{index}]");
        let index = u32::try_from(index)
            .map_err(|_| Fault::new(path.clone(), "too many rules", "split the policy"))?;
        let peers_at = |at| format!("{path}.{peer_field}[{at}]");
        let peer = |(at, peer)| import_peer(peer, namespace, &peers_at(at));
        let port = |(at, port)| import_port(port, &format!("{path}.ports[{at}]"));
        into.push(Rule {
            direction,
            index,
            id: RuleId::NONE,
            rank: 0,
            peers: if peers.is_empty() {
                Peers::All
            } else {
                Peers::any_of(
                    peers
                        .iter()
                        .enumerate()
                        .map(peer)
                        .collect::<Result<_, _>>()?,
                )
            },
            ports: if ports.is_empty() {
                Ports::All
            } else {
                Ports::AnyOf(
                    ports
                        .iter()
                        .enumerate()
                        .map(port)
                        .collect::<Result<_, _>>()?,
                )
            },
            action: Action::Allow,
            authentication: Authentication::Optional,
        });
    }
    Ok(())
}

fn import_peer(peer: &NetworkPolicyPeer, own: &str, path: &str) -> Result<ListedPeer, Fault> {
    match (&peer.ip_block, &peer.pod_selector, &peer.namespace_selector) {
        (None, None, None) => Err(Fault::new(
            path,
            "names no peer",
            "set podSelector, namespaceSelector or ipBlock",
        )),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(Fault::new(
            format!("{path}.ipBlock"),
            "stands beside a selector",
            "write them as two entries of the list",
        )),
        (Some(block), None, None) => Ok(ListedPeer::Block(import_block(block, path)?)),
        (None, pods, namespaces) => {
            import_pods(pods.as_ref(), namespaces.as_ref(), own, path).map(ListedPeer::Selector)
        }
    }
}

fn import_pods(
    pods: Option<&meta::LabelSelector>,
    namespaces: Option<&meta::LabelSelector>,
    own: &str,
    path: &str,
) -> Result<Peer, Fault> {
    let pods = match pods {
        Some(selector) => LabelSelector::import(selector, &format!("{path}.podSelector"))?,
        None => LabelSelector::default(),
    };
    let namespaces = match namespaces {
        Some(selector) => {
            let path = format!("{path}.namespaceSelector");
            Namespaces::Matching(LabelSelector::import(selector, &path)?)
        }
        None => Namespaces::Named(own.to_owned()),
    };
    Ok(Peer::Pods { pods, namespaces })
}

fn import_block(written: &IPBlock, path: &str) -> Result<AddressBlock, Fault> {
    let parse = |text: &str, path: &str| {
        block::parse(text, HostBits::Masked).map_err(|bad| Fault::new(path, bad.what, bad.fix))
    };
    let cidr = parse(&written.cidr, &format!("{path}.ipBlock.cidr"))?;
    let mut except = Vec::new();
    for (at, text) in written.except.iter().flatten().enumerate() {
        let path = format!("{path}.ipBlock.except[{at}]");
        let hole = parse(text, &path)?;
        block::check_exception(cidr, hole).map_err(|bad| Fault::new(path, bad.what, bad.fix))?;
        except.push(hole);
    }
    Ok(AddressBlock { cidr, except })
}

fn import_port(written: &NetworkPolicyPort, path: &str) -> Result<PortMatch, Fault> {
    let protocol = match written.protocol.as_deref() {
        None => Protocol::Tcp,
        Some(name) => Protocol::from_name(name).ok_or_else(|| {
            let what = format!("unknown protocol `{name}`");
            Fault::new(format!("{path}.protocol"), what, "use TCP, UDP or SCTP")
        })?,
    };
    let number = |value: i32, field: &str| {
        u16::try_from(value)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| {
                let what = format!("{value} is not a port");
                Fault::new(
                    format!("{path}.{field}"),
                    what,
                    "use a number from 1 to 65535",
                )
            })
    };
    let end_path = || format!("{path}.endPort");
    let port = match (&written.port, written.end_port) {
        (None, None) => PortChoice::Any,
        (None, Some(_)) => {
            let fix = "add `port`, the first port";
            return Err(Fault::new(end_path(), "given without `port`", fix));
        }
        (Some(IntOrString::Int(first)), end) => {
            let first = number(*first, "port")?;
            let last = end.map_or(Ok(first), |end| number(end, "endPort"))?;
            if last < first {
                let what = format!("{last} is below `port` {first}");
                return Err(Fault::new(
                    end_path(),
                    what,
                    "write the larger number in `endPort`",
                ));
            }
            PortChoice::Range { first, last }
        }
        (Some(IntOrString::String(name)), None) => {
            crate::model::check_port_name(name)
                .map_err(|(what, fix)| Fault::new(format!("{path}.port"), what, fix))?;
            PortChoice::Named(name.clone())
        }
        (Some(IntOrString::String(name)), Some(_)) => {
            let what = format!("a range cannot start at the port name `{name}`");
            let fix = "write `port` as a number, or remove `endPort`";
            return Err(Fault::new(end_path(), what, fix));
        }
    };
    Ok(PortMatch { protocol, port })
}
