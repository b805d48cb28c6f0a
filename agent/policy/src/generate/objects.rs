//! Policy objects.

use serde_json::{Map, Value, json};

use super::{ACCOUNTS, Choices, LABELS, NAMESPACES, PORT_NAMES};

pub(super) const PORTS: [u16; 9] = [80, 1, 2, 443, 4000, 4100, 32768, 65534, 65535];

/// Overlapping, adjacent, nested, whole, and single-address blocks of both families.
pub(super) const BLOCKS: [&str; 17] = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "10.0.0.0/29",
    "10.0.0.0/30",
    "10.0.0.4/30",
    "10.0.0.3/32",
    "203.0.113.0/24",
    "203.0.113.128/25",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "::/0",
    "fd00::/8",
    "fd00::/126",
    "fd00::2/128",
    "2001:db8::/32",
    "::/1",
    "8000::/1",
];

pub(super) fn network_policy(choices: &mut impl Choices, namespace: &str, index: usize) -> Value {
    let mut spec = Map::new();
    spec.insert("podSelector".into(), selector(choices));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        if choices.chance(70) {
            let rules = (0..choices.below(4)).map(|_| {
                let mut rule = Map::new();
                if choices.chance(80) {
                    let list: Vec<Value> = (0..choices.below(4))
                        .map(|_| network_policy_peer(choices))
                        .collect();
                    rule.insert(peers.into(), list.into());
                }
                ports(choices, &mut rule);
                Value::Object(rule)
            });
            let rules: Vec<Value> = rules.collect();
            spec.insert(direction.into(), rules.into());
        }
    }
    match choices.below(5) {
        0 => drop(spec.insert("policyTypes".into(), json!(["Ingress", "Egress"]))),
        1 => drop(spec.insert("policyTypes".into(), json!(["Ingress"]))),
        2 => drop(spec.insert("policyTypes".into(), json!(["Egress"]))),
        3 => drop(spec.insert("policyTypes".into(), json!([]))),
        _ => {}
    }
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": format!("np-{index}"), "namespace": namespace},
        "spec": spec,
    })
}

pub(super) fn authenticated_policy(
    choices: &mut impl Choices,
    namespace: &str,
    index: usize,
) -> Value {
    let mut spec = Map::new();
    spec.insert("endpointSelector".into(), selector(choices));
    if choices.chance(20) {
        let enforcement = *choices.pick(&["DryRun", "Enforce"]);
        spec.insert("enforcement".into(), enforcement.into());
    }
    let shape = choices.below(3);
    for (direction, peers, present) in [
        ("ingress", "from", shape != 1),
        ("egress", "to", shape != 0),
    ] {
        if present {
            let rules: Vec<Value> = (0..choices.below(4))
                .map(|_| authenticated_rule(choices, peers))
                .collect();
            spec.insert(direction.into(), rules.into());
        }
    }
    json!({
        "apiVersion": "signet.dev/v1alpha1",
        "kind": "AuthenticatedPolicy",
        "metadata": {"name": format!("ap-{index}"), "namespace": namespace},
        "spec": spec,
    })
}

fn authenticated_rule(choices: &mut impl Choices, peers: &str) -> Value {
    let mut rule = Map::new();
    if choices.chance(80) {
        let list: Vec<Value> = (0..choices.below(4))
            .map(|_| authenticated_peer(choices))
            .collect();
        rule.insert(peers.into(), list.into());
    }
    ports(choices, &mut rule);
    if choices.chance(50) {
        let authentication = *choices.pick(&["Required", "Optional"]);
        rule.insert("authentication".into(), authentication.into());
    }
    if choices.chance(40) {
        rule.insert("action".into(), (*choices.pick(&["Allow", "Deny"])).into());
    }
    Value::Object(rule)
}

fn network_policy_peer(choices: &mut impl Choices) -> Value {
    match choices.below(4) {
        0 => json!({"podSelector": selector(choices)}),
        1 => json!({"namespaceSelector": selector(choices)}),
        2 => json!({"podSelector": selector(choices), "namespaceSelector": selector(choices)}),
        _ => json!({"ipBlock": block(choices)}),
    }
}

fn authenticated_peer(choices: &mut impl Choices) -> Value {
    match choices.below(7) {
        0 => json!({"podSelector": selector(choices)}),
        1 => json!({"namespaceSelector": selector(choices)}),
        2 => json!({"podSelector": selector(choices), "namespaceSelector": selector(choices)}),
        3 => {
            let account = |choices: &mut _| match Choices::chance(choices, 50) {
                true => json!({"name": Choices::pick(choices, &ACCOUNTS)}),
                false => json!({
                    "namespace": Choices::pick(choices, &NAMESPACES),
                    "name": Choices::pick(choices, &ACCOUNTS),
                }),
            };
            json!({"serviceAccounts": some(choices, account)})
        }
        4 => {
            let id = |choices: &mut _| {
                let domain = Choices::pick(choices, &["lab.signet", "other.example"]);
                let namespace = Choices::pick(choices, &NAMESPACES);
                let account = Choices::pick(choices, &ACCOUNTS);
                format!("spiffe://{domain}/ns/{namespace}/sa/{account}").into()
            };
            json!({"spiffeIDs": some(choices, id)})
        }
        5 => json!({"cidrs": some(choices, block)}),
        _ => {
            let entities = [
                "Cluster",
                "World",
                "Host",
                "RemoteNode",
                "KubeAPIServer",
                "Unmanaged",
            ];
            json!({"entities": some(choices, |choices| (*choices.pick(&entities)).into())})
        }
    }
}

fn some<C: Choices>(choices: &mut C, one: impl Fn(&mut C) -> Value) -> Vec<Value> {
    (0..1 + choices.below(3)).map(|_| one(choices)).collect()
}

fn block(choices: &mut impl Choices) -> Value {
    let text = *choices.pick(&BLOCKS);
    let inside = |hole: &&str| {
        let (Ok(cidr), Ok(hole)) = (text.parse::<ipnet::IpNet>(), hole.parse::<ipnet::IpNet>())
        else {
            return false;
        };
        cidr != hole && cidr.contains(&hole)
    };
    let holes: Vec<&str> = BLOCKS.into_iter().filter(|hole| inside(hole)).collect();
    if holes.is_empty() || choices.chance(50) {
        return json!({"cidr": text});
    }
    let except: Vec<&str> = (0..choices.below(3))
        .map(|_| *choices.pick(&holes))
        .collect();
    json!({"cidr": text, "except": except})
}

fn ports(choices: &mut impl Choices, rule: &mut Map<String, Value>) {
    if choices.chance(40) {
        return;
    }
    let list: Vec<Value> = (0..choices.below(4)).map(|_| port(choices)).collect();
    rule.insert("ports".into(), list.into());
}

fn port(choices: &mut impl Choices) -> Value {
    let mut port = Map::new();
    if choices.chance(60) {
        port.insert(
            "protocol".into(),
            (*choices.pick(&["TCP", "UDP", "SCTP"])).into(),
        );
    }
    match choices.below(5) {
        0 => drop(port.insert("port".into(), (*choices.pick(&PORTS)).into())),
        1 | 2 => {
            let (a, b) = (*choices.pick(&PORTS), *choices.pick(&PORTS));
            port.insert("port".into(), a.min(b).into());
            port.insert("endPort".into(), a.max(b).into());
        }
        3 => drop(port.insert("port".into(), (*choices.pick(&PORT_NAMES)).into())),
        _ => {}
    }
    Value::Object(port)
}

fn selector(choices: &mut impl Choices) -> Value {
    let mut selector = Map::new();
    if choices.chance(50) {
        let mut labels = Map::new();
        for (key, values) in LABELS {
            if choices.chance(35) {
                labels.insert(key.into(), (*choices.pick(values)).into());
            }
        }
        selector.insert("matchLabels".into(), labels.into());
    }
    if choices.chance(30) {
        let (key, values) = *choices.pick(&LABELS);
        let expression = match choices.below(4) {
            0 => json!({"key": key, "operator": "Exists"}),
            1 => json!({"key": key, "operator": "DoesNotExist"}),
            2 => json!({"key": key, "operator": "In", "values": [choices.pick(values)]}),
            _ => json!({"key": key, "operator": "NotIn", "values": [choices.pick(values)]}),
        };
        selector.insert("matchExpressions".into(), json!([expression]));
    }
    Value::Object(selector)
}
