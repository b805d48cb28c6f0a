//! The dumbest reading of the same policies: the oracle of the tests.
//!
//! It walks the objects as JSON for every single flow, tries every rule, compares addresses as
//! strings of bits, and shares no code with the rest of the crate but the facts' types. It expects
//! objects that [`crate::PolicySet::from_objects`] accepts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::facts::{PeerFacts, PodFacts};

/// What one side of a flow does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaiveSide {
    /// Whether a policy isolates this side's pod in this direction.
    pub isolated: bool,
    /// The deciding rule by its printed name, if any rule speaks of the flow.
    pub rule: Option<String>,
    /// Whether that rule denies.
    pub deny: bool,
    /// Whether that rule asks for authentication.
    pub required: bool,
    /// What happens in the end.
    pub allowed: bool,
}

/// Policy objects as JSON.
#[derive(Clone, Debug)]
pub struct Naive {
    objects: Vec<(&'static str, Value)>,
    dry_runs_count: bool,
}

impl Naive {
    /// Takes all objects, in any order.
    pub fn new(network_policies: &[NetworkPolicy], authenticated_policies: &[Value]) -> Naive {
        let mut objects = Vec::new();
        for policy in authenticated_policies {
            objects.push(("AuthenticatedPolicy", policy.clone()));
        }
        for policy in network_policies {
            let value = serde_json::to_value(policy).unwrap_or(Value::Null);
            objects.push(("NetworkPolicy", value));
        }
        objects.sort_by_key(|(kind, object)| {
            (
                *kind,
                text(object, "/metadata/namespace"),
                text(object, "/metadata/name"),
            )
        });
        Naive {
            objects,
            dry_runs_count: false,
        }
    }

    /// The same, with dry runs as if they were enforced.
    pub fn with_dry_runs(&self) -> Naive {
        Naive {
            objects: self.objects.clone(),
            dry_runs_count: true,
        }
    }

    /// What the source's node does with a flow; `None` unless the source is a pod of the mesh.
    pub fn egress(
        &self,
        from: &PeerFacts,
        to: &PeerFacts,
        protocol: u8,
        port: u16,
        strict: bool,
    ) -> Option<NaiveSide> {
        self.side("egress", from, to, to, protocol, port, strict)
    }

    /// What the destination's node does with a flow; `None` unless it is a pod of the mesh.
    pub fn ingress(
        &self,
        from: &PeerFacts,
        to: &PeerFacts,
        protocol: u8,
        port: u16,
        strict: bool,
    ) -> Option<NaiveSide> {
        self.side("ingress", to, from, to, protocol, port, strict)
    }

    /// Whether the flow passes both sides.
    pub fn allows(&self, from: &PeerFacts, to: &PeerFacts, protocol: u8, port: u16) -> bool {
        let sides = [
            self.egress(from, to, protocol, port, true),
            self.ingress(from, to, protocol, port, true),
        ];
        sides.iter().flatten().all(|side| side.allowed)
    }

    #[expect(clippy::too_many_arguments, reason = "a flow, spelled out")]
    fn side(
        &self,
        direction: &str,
        local: &PeerFacts,
        peer: &PeerFacts,
        destination: &PeerFacts,
        protocol: u8,
        port: u16,
        strict: bool,
    ) -> Option<NaiveSide> {
        let PeerFacts::Pod(local) = local else {
            return None;
        };
        if !local.enrolled {
            return None;
        }
        let mut isolated_by = Vec::new();
        let mut denies = Vec::new();
        let mut optional = Vec::new();
        let mut required = Vec::new();
        for (kind, object) in &self.objects {
            if text(object, "/metadata/namespace") != local.namespace
                || !self.dry_runs_count && text(object, "/spec/enforcement") == "DryRun"
            {
                continue;
            }
            let is_ours = *kind == "AuthenticatedPolicy";
            let selector = if is_ours {
                "/spec/endpointSelector"
            } else {
                "/spec/podSelector"
            };
            if !selected(object.pointer(selector), &local.labels)
                || !about(is_ours, object, direction)
            {
                continue;
            }
            isolated_by.push(*kind);
            for (index, rule) in array(object.pointer(&format!("/spec/{direction}"))).enumerate() {
                let deny = text(rule, "/action") == "Deny";
                let peers = if direction == "ingress" {
                    "/from"
                } else {
                    "/to"
                };
                let peers: Vec<&Value> = array(rule.pointer(peers)).collect();
                let ports: Vec<&Value> = array(rule.pointer("/ports")).collect();
                if !(peers.is_empty() || any_peer(&peers, peer, &local.namespace, deny)) {
                    continue;
                }
                let port_matches =
                    |written: &&Value| one_port(written, destination, protocol, port, deny);
                if !(ports.is_empty() || ports.iter().any(port_matches)) {
                    continue;
                }
                let namespace = &local.namespace;
                let policy = text(object, "/metadata/name");
                let name = format!("{kind} {namespace}/{policy} {direction}[{index}]");
                if deny {
                    denies.push(name);
                } else if !is_ours || text(rule, "/authentication") == "Optional" {
                    optional.push(name);
                } else {
                    required.push(name);
                }
            }
        }
        let isolated = !isolated_by.is_empty();
        if isolated && matches!(peer, PeerFacts::Pod(pod) if pod.uid == local.uid) {
            optional.push("itself".to_owned());
        }
        if isolated
            && matches!(peer, PeerFacts::Host(_))
            && !isolated_by.contains(&"AuthenticatedPolicy")
        {
            optional.push("own node".to_owned());
        }
        let mut side = NaiveSide {
            isolated,
            rule: None,
            deny: false,
            required: false,
            allowed: !(isolated || strict && matches!(peer, PeerFacts::Address(_))),
        };
        if let Some(rule) = denies.into_iter().next() {
            side.rule = Some(rule);
            side.deny = true;
            side.allowed = false;
        } else if let Some(rule) = optional.into_iter().next() {
            side.rule = Some(rule);
            side.allowed = true;
        } else if let Some(rule) = required.into_iter().next() {
            side.rule = Some(rule);
            side.required = true;
            side.allowed = match peer {
                PeerFacts::Pod(pod) => pod.enrolled,
                PeerFacts::RemoteNode(_) | PeerFacts::ApiServerNode(_) => true,
                PeerFacts::Address(_)
                | PeerFacts::Host(_)
                | PeerFacts::KubeApiServer(_)
                | PeerFacts::Unmanaged(_) => false,
            };
        }
        Some(side)
    }
}

/// Whether a policy object isolates in `direction`.
fn about(is_ours: bool, object: &Value, direction: &str) -> bool {
    if is_ours {
        return object
            .pointer(&format!("/spec/{direction}"))
            .is_some_and(Value::is_array);
    }
    let types: Vec<&Value> = array(object.pointer("/spec/policyTypes")).collect();
    if types.is_empty() {
        return direction == "ingress" || array(object.pointer("/spec/egress")).next().is_some();
    }
    types
        .iter()
        .any(|t| t.as_str().unwrap_or("").to_lowercase() == direction)
}

fn any_peer(peers: &[&Value], peer: &PeerFacts, own: &str, deny: bool) -> bool {
    let mut blocks = Vec::new();
    for written in peers {
        for block in written
            .get("ipBlock")
            .into_iter()
            .chain(array(written.get("cidrs")))
        {
            blocks.push(block);
        }
        if one_peer(written, peer, own, deny) {
            return true;
        }
    }
    if blocks.is_empty() {
        return false;
    }
    let addresses: Vec<IpAddr> = match peer {
        PeerFacts::Pod(pod) => pod.addresses.clone(),
        PeerFacts::Address(address) | PeerFacts::Unmanaged(address) => vec![*address],
        PeerFacts::Host(a)
        | PeerFacts::RemoteNode(a)
        | PeerFacts::KubeApiServer(a)
        | PeerFacts::ApiServerNode(a) => a.clone(),
    };
    let mut inside = 0;
    for address in &addresses {
        if blocks.iter().any(|block| in_block(block, *address)) {
            inside += 1;
        }
    }
    if addresses.is_empty() {
        return deny;
    }
    if deny {
        inside > 0
    } else {
        inside == addresses.len()
    }
}

fn one_peer(written: &Value, peer: &PeerFacts, own: &str, deny: bool) -> bool {
    for entity in array(written.get("entities")) {
        let hit = match (entity.as_str().unwrap_or(""), peer) {
            ("Host", PeerFacts::Host(_)) => true,
            ("RemoteNode", PeerFacts::RemoteNode(_) | PeerFacts::ApiServerNode(_)) => true,
            ("KubeAPIServer", PeerFacts::KubeApiServer(_) | PeerFacts::ApiServerNode(_)) => true,
            ("World", PeerFacts::Address(_)) => true,
            ("Unmanaged", PeerFacts::Unmanaged(_)) => true,
            ("Unmanaged", PeerFacts::Pod(pod)) => !pod.enrolled,
            ("Cluster", other) => !matches!(other, PeerFacts::Address(_)),
            _ => false,
        };
        if hit {
            return true;
        }
    }
    let by_pod = [
        "podSelector",
        "namespaceSelector",
        "serviceAccounts",
        "spiffeIDs",
    ];
    if !by_pod
        .iter()
        .any(|field| written.get(field).is_some_and(|v| !v.is_null()))
    {
        return false;
    }
    match peer {
        PeerFacts::Pod(pod) => pod_matches(written, pod, own, deny),
        PeerFacts::Unmanaged(_) => deny,
        PeerFacts::Address(_)
        | PeerFacts::Host(_)
        | PeerFacts::RemoteNode(_)
        | PeerFacts::KubeApiServer(_)
        | PeerFacts::ApiServerNode(_) => false,
    }
}

fn pod_matches(written: &Value, pod: &PodFacts, own: &str, deny: bool) -> bool {
    for account in array(written.get("serviceAccounts")) {
        let namespace = account
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or(own);
        let same = pod.namespace == namespace && pod.service_account == text(account, "/name");
        if same && (pod.enrolled || deny) || deny && pod.service_account.is_empty() {
            return true;
        }
    }
    for id in array(written.get("spiffeIDs")) {
        let same = pod.spiffe_id == id.as_str().unwrap_or("");
        if same && (pod.enrolled || deny) || deny && pod.spiffe_id.is_empty() {
            return true;
        }
    }
    let pods = written.get("podSelector").filter(|v| !v.is_null());
    let namespaces = written.get("namespaceSelector").filter(|v| !v.is_null());
    match (pods, namespaces) {
        (None, None) => false,
        (Some(pods), None) => pod.namespace == own && selected(Some(pods), &pod.labels),
        (pods, Some(namespaces)) => {
            selected(Some(namespaces), &pod.namespace_labels) && selected(pods, &pod.labels)
        }
    }
}

fn one_port(written: &Value, to: &PeerFacts, protocol: u8, port: u16, deny: bool) -> bool {
    let (wanted, name) = match written.get("protocol").and_then(Value::as_str) {
        Some("UDP") => (17, "UDP"),
        Some("SCTP") => (132, "SCTP"),
        _ => (6, "TCP"),
    };
    if protocol != wanted {
        return false;
    }
    match written.get("port") {
        None | Some(Value::Null) => true,
        Some(Value::String(wanted)) => {
            let mut found = Vec::new();
            if let PeerFacts::Pod(pod) = to {
                for named in pod.named_ports.iter().flatten() {
                    if named.name == *wanted && format!("{}", named.protocol) == name {
                        found.push(named.port);
                    }
                }
            }
            if found.is_empty() {
                deny
            } else {
                found.contains(&port)
            }
        }
        Some(number) => {
            let first = number.as_u64().unwrap_or(0);
            let last = written
                .get("endPort")
                .and_then(Value::as_u64)
                .unwrap_or(first);
            (first..=last).contains(&u64::from(port))
        }
    }
}

fn in_block(block: &Value, address: IpAddr) -> bool {
    starts_with(address, &text(block, "/cidr"))
        && !array(block.get("except")).any(|hole| starts_with(address, hole.as_str().unwrap_or("")))
}

fn starts_with(address: IpAddr, cidr: &str) -> bool {
    let Some((network, bits)) = cidr.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<usize>()) else {
        return false;
    };
    network.is_ipv4() == address.is_ipv4()
        && bit_string(network).get(..bits) == bit_string(address).get(..bits)
}

fn bit_string(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4
            .octets()
            .iter()
            .map(|byte| format!("{byte:08b}"))
            .collect(),
        IpAddr::V6(v6) => v6
            .octets()
            .iter()
            .map(|byte| format!("{byte:08b}"))
            .collect(),
    }
}

fn selected(selector: Option<&Value>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else {
        return true;
    };
    for (key, value) in selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if labels.get(key).map(String::as_str) != value.as_str() {
            return false;
        }
    }
    for expression in array(selector.get("matchExpressions")) {
        let label = labels.get(&text(expression, "/key"));
        let listed = array(expression.get("values"))
            .any(|value| label.map(String::as_str) == value.as_str());
        let holds = match text(expression, "/operator").as_str() {
            "In" => label.is_some() && listed,
            "NotIn" => label.is_none() || !listed,
            "Exists" => label.is_some(),
            "DoesNotExist" => label.is_none(),
            _ => false,
        };
        if !holds {
            return false;
        }
    }
    true
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned()
}

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}
