//! [`AuthenticatedPolicy`] to the common shape, with the checks types cannot make.

use super::{AuthenticatedPolicy, CidrPeer, PolicyPeer, PolicyPort, PortRef, Spec};
use crate::block::{self, AddressBlock, HostBits};
use crate::model::{
    Action, Authentication, Direction, Isolation, ListedPeer, Namespaces, Peer, Peers, Policy,
    PolicyKind, PolicyRef, PortChoice, PortMatch, Ports, Rule, RuleId,
};
use crate::problem::Fault;
use crate::select::LabelSelector;

/// Checks the object and takes it over whole, or names its first fault.
pub(crate) fn import(written: &AuthenticatedPolicy) -> Result<Policy, Fault> {
    let name = required(written.metadata.name.as_deref(), "metadata.name")?;
    let namespace = required(written.metadata.namespace.as_deref(), "metadata.namespace")?;
    let spec = &written.spec;
    if spec.ingress.is_none() && spec.egress.is_none() {
        return Err(Fault::new(
            "spec",
            "neither `ingress` nor `egress` is given, so the policy says nothing",
            "add rules, or `ingress: []` to let nobody in",
        ));
    }
    Ok(Policy {
        selector: LabelSelector::import(&spec.endpoint_selector, "spec.endpointSelector")?,
        enforcement: spec.enforcement,
        isolates: Isolation {
            ingress: spec.ingress.is_some(),
            egress: spec.egress.is_some(),
        },
        rules: rules(spec, &namespace)?,
        name: PolicyRef {
            kind: PolicyKind::AuthenticatedPolicy,
            namespace,
            name,
        },
    })
}

fn required(value: Option<&str>, path: &str) -> Result<String, Fault> {
    match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        Some(_) | None => Err(Fault::new(path, "missing", "add it")),
    }
}

/// A rule of either direction; only the name of its peer list differs.
struct Written<'a> {
    direction: Direction,
    index: usize,
    peer_field: &'static str,
    peers: &'a [PolicyPeer],
    ports: &'a [PolicyPort],
    action: Action,
    authentication: Authentication,
}

fn rules(spec: &Spec, namespace: &str) -> Result<Vec<Rule>, Fault> {
    let ingress = spec
        .ingress
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, rule)| Written {
            direction: Direction::Ingress,
            index,
            peer_field: "from",
            peers: &rule.from,
            ports: &rule.ports,
            action: rule.action,
            authentication: rule.authentication,
        });
    let egress = spec
        .egress
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, rule)| Written {
            direction: Direction::Egress,
            index,
            peer_field: "to",
            peers: &rule.to,
            ports: &rule.ports,
            action: rule.action,
            authentication: rule.authentication,
        });
    ingress
        .chain(egress)
        .map(|rule| import_rule(&rule, namespace))
        .collect()
}

fn import_rule(rule: &Written<'_>, namespace: &str) -> Result<Rule, Fault> {
    let path = format!("spec.{}[{}]", rule.direction, rule.index);
    let mut peers = Vec::new();
    for (at, peer) in rule.peers.iter().enumerate() {
        let path = format!("{path}.{}[{at}]", rule.peer_field);
        import_peer(peer, namespace, &path, &mut peers)?;
    }
    let mut ports = Vec::new();
    for (at, port) in rule.ports.iter().enumerate() {
        ports.push(import_port(port, &format!("{path}.ports[{at}]"))?);
    }
    let index = u32::try_from(rule.index)
        .map_err(|_| Fault::new(path, "too many rules", "split the policy"))?;
    Ok(Rule {
        direction: rule.direction,
        index,
        id: RuleId::NONE,
        rank: 0,
        peers: if rule.peers.is_empty() {
            Peers::All
        } else {
            Peers::any_of(peers)
        },
        ports: if rule.ports.is_empty() {
            Ports::All
        } else {
            Ports::AnyOf(ports)
        },
        action: rule.action,
        authentication: rule.authentication,
    })
}

fn import_peer(
    peer: &PolicyPeer,
    own: &str,
    path: &str,
    into: &mut Vec<ListedPeer>,
) -> Result<(), Fault> {
    let PolicyPeer {
        pod_selector,
        namespace_selector,
        service_accounts,
        spiffe_ids,
        cidrs,
        entities,
    } = peer;
    let sorts = [
        (
            "podSelector",
            pod_selector.is_some() || namespace_selector.is_some(),
        ),
        ("serviceAccounts", service_accounts.is_some()),
        ("spiffeIDs", spiffe_ids.is_some()),
        ("cidrs", cidrs.is_some()),
        ("entities", entities.is_some()),
    ];
    let given: Vec<&str> = sorts
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            return Err(Fault::new(
                path,
                "names no peer",
                "set podSelector, namespaceSelector, serviceAccounts, spiffeIDs, cidrs or entities",
            ));
        }
        [first, second, ..] => {
            return Err(Fault::new(
                path,
                format!("has both `{first}` and `{second}`"),
                "write them as two entries of the list; a peer then matches either",
            ));
        }
    }
    if pod_selector.is_some() || namespace_selector.is_some() {
        into.push(ListedPeer::Selector(import_pods(peer, own, path)?));
    }
    for (at, account) in entries(service_accounts, path, "serviceAccounts")? {
        let path = format!("{path}.serviceAccounts[{at}]");
        let namespace = account.namespace.clone().unwrap_or_else(|| own.to_owned());
        check_name(&namespace, &format!("{path}.namespace"))?;
        check_name(&account.name, &format!("{path}.name"))?;
        into.push(ListedPeer::Selector(Peer::ServiceAccount {
            namespace,
            name: account.name.clone(),
        }));
    }
    for (at, id) in entries(spiffe_ids, path, "spiffeIDs")? {
        check_spiffe_id(id, &format!("{path}.spiffeIDs[{at}]"))?;
        into.push(ListedPeer::Selector(Peer::SpiffeId(id.clone())));
    }
    for (at, cidr) in entries(cidrs, path, "cidrs")? {
        into.push(ListedPeer::Block(import_cidr(
            cidr,
            &format!("{path}.cidrs[{at}]"),
        )?));
    }
    for (_, entity) in entries(entities, path, "entities")? {
        into.push(ListedPeer::Selector(Peer::Entity(*entity)));
    }
    Ok(())
}

/// The entries of a list that must not be empty if it is given: an empty one would match nobody,
/// while an absent one matches all.
fn entries<'a, T>(
    list: &'a Option<Vec<T>>,
    path: &str,
    field: &str,
) -> Result<impl Iterator<Item = (usize, &'a T)>, Fault> {
    if list.as_ref().is_some_and(Vec::is_empty) {
        let path = format!("{path}.{field}");
        return Err(Fault::new(
            path,
            "empty list",
            "list at least one, or remove the field",
        ));
    }
    Ok(list.iter().flatten().enumerate())
}

fn import_pods(peer: &PolicyPeer, own: &str, path: &str) -> Result<Peer, Fault> {
    let pods = match &peer.pod_selector {
        Some(selector) => LabelSelector::import(selector, &format!("{path}.podSelector"))?,
        None => LabelSelector::default(),
    };
    let namespaces = match &peer.namespace_selector {
        Some(selector) => {
            let path = format!("{path}.namespaceSelector");
            Namespaces::Matching(LabelSelector::import(selector, &path)?)
        }
        None => Namespaces::Named(own.to_owned()),
    };
    Ok(Peer::Pods { pods, namespaces })
}

fn import_cidr(written: &CidrPeer, path: &str) -> Result<AddressBlock, Fault> {
    let parse = |text: &str, path: &str| {
        block::parse(text, HostBits::Refused).map_err(|bad| Fault::new(path, bad.what, bad.fix))
    };
    let cidr = parse(&written.cidr, &format!("{path}.cidr"))?;
    let mut except = Vec::new();
    for (at, text) in written.except.iter().enumerate() {
        let path = format!("{path}.except[{at}]");
        let hole = parse(text, &path)?;
        block::check_exception(cidr, hole).map_err(|bad| Fault::new(path, bad.what, bad.fix))?;
        except.push(hole);
    }
    Ok(AddressBlock { cidr, except })
}

fn import_port(port: &PolicyPort, path: &str) -> Result<PortMatch, Fault> {
    let choice = match (&port.port, port.end_port) {
        (None, None) => PortChoice::Any,
        (None, Some(_)) => {
            let path = format!("{path}.endPort");
            return Err(Fault::new(
                path,
                "given without `port`",
                "add `port`, the first port",
            ));
        }
        (Some(PortRef::Number(0)), _) => {
            let path = format!("{path}.port");
            return Err(Fault::new(
                path,
                "0 is not a port",
                "use a number from 1 to 65535",
            ));
        }
        (Some(PortRef::Number(first)), end) => {
            let last = end.unwrap_or(*first);
            if last < *first {
                return Err(Fault::new(
                    format!("{path}.endPort"),
                    format!("{last} is below `port` {first}"),
                    "write the larger number in `endPort`",
                ));
            }
            PortChoice::Range {
                first: *first,
                last,
            }
        }
        (Some(PortRef::Name(name)), None) => {
            crate::model::check_port_name(name)
                .map_err(|(what, fix)| Fault::new(format!("{path}.port"), what, fix))?;
            PortChoice::Named(name.clone())
        }
        (Some(PortRef::Name(name)), Some(_)) => {
            return Err(Fault::new(
                format!("{path}.endPort"),
                format!("a range cannot start at the port name `{name}`"),
                "write `port` as a number, or remove `endPort`",
            ));
        }
    };
    Ok(PortMatch {
        protocol: port.protocol,
        port: choice,
    })
}

/// A Kubernetes object name. Wildcards and the like are refused, not taken for patterns.
fn check_name(name: &str, path: &str) -> Result<(), Fault> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = name.len() <= 253
        && name.starts_with(ok)
        && name.ends_with(ok)
        && name.chars().all(|c| ok(c) || c == '-' || c == '.');
    if valid {
        return Ok(());
    }
    Err(Fault::new(
        path,
        format!("`{name}` is not a name"),
        "write one exact name; patterns are not supported",
    ))
}

/// A workload's SPIFFE ID (SPIFFE-ID section 2): scheme, trust domain, at least one path segment.
fn check_spiffe_id(id: &str, path: &str) -> Result<(), Fault> {
    let segment = |part: &str, upper: bool| {
        let allowed = |c: char| {
            c.is_ascii_lowercase()
                || c.is_ascii_digit()
                || matches!(c, '.' | '-' | '_')
                || (upper && c.is_ascii_uppercase())
        };
        !part.is_empty() && part.chars().all(allowed)
    };
    let valid = id.len() <= 2048
        && id
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(domain, rest)| {
                domain.len() <= 255
                    && segment(domain, false)
                    && rest
                        .split('/')
                        .all(|part| segment(part, true) && part != "." && part != "..")
            });
    if valid {
        return Ok(());
    }
    Err(Fault::new(
        path,
        format!("`{id}` is not a workload's SPIFFE ID"),
        "write `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`",
    ))
}
