//! Policies: objects as somebody wrote them, into a set, into tables. What is accepted gets the
//! verdict of the naive evaluator on every flow tried; what is refused is as if never written.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;
use signet_policy::{
    Direction, Mode, Outcome, PeerFacts, PodFacts, PolicySet, Query,
    generate::{Bytes, Choices, Cluster, PROTOCOLS, Seeded},
    naive::Naive,
};

/// Objects of one input. More would only be slower.
const MOST: usize = 8;
const FLOWS: usize = 24;

/// First byte even: choices for a generator of clusters. Odd: JSON, one object or a list.
pub fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        let cluster = Cluster::generate(&mut Bytes(rest));
        let objects = Objects {
            network: cluster.network_policies.clone(),
            authenticated: cluster.authenticated_policies.clone(),
        };
        let (set, problems) = objects.set();
        assert!(problems == 0, "the generator makes valid objects");
        return agrees(&set, &objects, &cluster, u64::from(*mode));
    }
    let Ok(value) = serde_json::from_slice(rest) else {
        return;
    };
    let objects = Objects::of(value);
    let accepted = objects.accepted();
    let (set, problems) = objects.set();
    let (alone, none) = accepted.set();
    assert_eq!(none, 0);
    assert!(set == alone, "a refused object has an effect");
    let (left_out, all) = (accepted.count() - set.policies().count(), objects.count());
    assert_eq!(problems, all - set.policies().count(), "each is said");
    if left_out == 0 {
        // Two of the same name are for the set to tell apart, not for the naive one.
        agrees(&set, &accepted, cluster(), u64::from(*mode));
    }
}

/// A cluster that has someone for every kind of selector.
fn cluster() -> &'static Cluster {
    static CLUSTER: std::sync::OnceLock<Cluster> = std::sync::OnceLock::new();
    CLUSTER.get_or_init(|| {
        let most = |seed: &u64| Cluster::generate(&mut Seeded(*seed)).pods.len();
        let seed = (0..200).max_by_key(most).unwrap_or(0);
        Cluster::generate(&mut Seeded(seed))
    })
}

#[derive(Default)]
struct Objects {
    network: Vec<NetworkPolicy>,
    authenticated: Vec<Value>,
}

impl Objects {
    fn of(value: Value) -> Self {
        let list = if let Value::Array(list) = value {
            list
        } else {
            vec![value]
        };
        let mut objects = Self::default();
        for object in list.into_iter().take(MOST) {
            if object.get("kind").and_then(Value::as_str) == Some("NetworkPolicy") {
                objects.network.extend(serde_json::from_value(object).ok());
            } else {
                objects.authenticated.push(object);
            }
        }
        objects
    }

    fn count(&self) -> usize {
        self.network.len() + self.authenticated.len()
    }

    fn set(&self) -> (PolicySet, usize) {
        let (set, problems) = PolicySet::from_objects(&self.network, &self.authenticated);
        (set, problems.len())
    }

    /// Those that are fine by themselves, the first of each name.
    fn accepted(&self) -> Self {
        let fine = |network: &[NetworkPolicy], own: &[Value]| {
            PolicySet::from_objects(network, own).1.is_empty()
        };
        let mut names = BTreeSet::new();
        let mut first = |kind: u8, object: &Value| {
            let text = |at: &str| {
                object
                    .pointer(at)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            names.insert((kind, text("/metadata/namespace"), text("/metadata/name")))
        };
        let network = self.network.iter().filter(|policy| {
            fine(std::slice::from_ref(*policy), &[])
                && first(0, &serde_json::to_value(policy).unwrap())
        });
        let network = network.cloned().collect();
        let authenticated = self
            .authenticated
            .iter()
            .filter(|policy| fine(&[], std::slice::from_ref(*policy)) && first(1, policy));
        Self {
            network,
            authenticated: authenticated.cloned().collect(),
        }
    }
}

/// Flows between pods and everybody, by explanation, by compiled table, and naively.
fn agrees(set: &PolicySet, objects: &Objects, cluster: &Cluster, seed: u64) {
    let naive = Naive::new(&objects.network, &objects.authenticated);
    let mut random = Seeded(seed);
    let (peers, ports) = (cluster.peers(), cluster.ports());
    let ports: Vec<u16> = ports.into_iter().collect();
    for _ in 0..FLOWS {
        let pod = PeerFacts::Pod(random.pick(&cluster.pods).clone());
        let other = if random.chance(50) {
            PeerFacts::Pod(random.pick(&cluster.pods).clone())
        } else {
            random.pick(&peers).clone()
        };
        let (from, to) = if random.chance(50) {
            (pod, other)
        } else {
            (other, pod)
        };
        let protocol = *random.pick(&PROTOCOLS);
        let has_ports = matches!(protocol, 6 | 17 | 132);
        let port = if has_ports { *random.pick(&ports) } else { 0 };
        flow(set, &naive, &from, &to, protocol, port);
    }
}

fn flow(set: &PolicySet, naive: &Naive, from: &PeerFacts, to: &PeerFacts, protocol: u8, port: u16) {
    for (strict, mode) in [(false, Mode::Permissive), (true, Mode::Strict)] {
        let egress = naive.egress(from, to, protocol, port, strict);
        let ingress = naive.ingress(from, to, protocol, port, strict);
        let allowed = egress.iter().chain(&ingress).all(|side| side.allowed);
        let explained = set.explain(&Query {
            from: from.clone(),
            to: to.clone(),
            protocol,
            port,
            mode,
        });
        assert_eq!(
            explained.outcome == Outcome::Allowed,
            allowed,
            "{explained}\n{egress:?}\n{ingress:?}"
        );
        for (direction, side, local, peer) in [
            (Direction::Egress, &egress, from, to),
            (Direction::Ingress, &ingress, to, from),
        ] {
            let (Some(side), Some(local)) = (side, local.pod()) else {
                continue;
            };
            assert_eq!(set.isolation(local).of(direction), side.isolated);
            table(
                set,
                direction,
                local,
                peer,
                side.rule.is_some(),
                protocol,
                port,
            );
        }
    }
}

/// The table that the kernel gets has a row for the flow if a rule speaks of it.
fn table(
    set: &PolicySet,
    direction: Direction,
    local: &PodFacts,
    peer: &PeerFacts,
    spoken_of: bool,
    protocol: u8,
    port: u16,
) {
    let compiled = set.compile_pair(local, peer);
    let hit = compiled.of(direction).lookup(protocol, port);
    assert_eq!(hit.is_some(), spoken_of, "{direction} {protocol} {port}");
}

/// Objects with every field, and choices for the generator.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let own = r#"{"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
 "metadata": {"name": "db", "namespace": "shop"},
 "spec": {"endpointSelector": {"matchLabels": {"app": "a"}}, "enforcement": "Enforce",
  "ingress": [{"from": [
    {"serviceAccounts": [{"namespace": "shop", "name": "api"}]},
    {"podSelector": {"matchLabels": {"tier": "x"}}, "namespaceSelector": {}},
    {"spiffeIDs": ["spiffe://lab.signet/ns/pay/sa/api"]},
    {"cidrs": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/30"]}]},
    {"entities": ["Host", "World"]}],
   "ports": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 4000, "endPort": 4100}],
   "authentication": "Required", "action": "Allow"}],
  "egress": [{"to": [{"entities": ["Cluster"]}], "action": "Deny", "ports": [{"protocol": "TCP", "port": 443}]}]}}"#;
    let network = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
 "metadata": {"name": "n", "namespace": "shop"},
 "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
  "policyTypes": ["Ingress", "Egress"],
  "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.5/32"]}}],
   "ports": [{"port": "http"}, {"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 80, "endPort": 90}]}],
  "egress": [{}]}}"#;
    let dry_run = own.replace("\"Enforce\"", "\"DryRun\"");
    let refused = own.replace("\"action\": \"Deny\"", "\"action\": \"Maybe\"");
    let list = format!("[{own},{network},{network},{refused}]");
    let text = |text: &str| [b"\x01", text.as_bytes()].concat();
    let mut seeds = vec![
        ("own", text(own)),
        ("network", text(network)),
        ("dry-run", text(&dry_run)),
        ("refused", text(&refused)),
        ("list", text(&list)),
    ];
    for (name, seed) in [("cluster-1", 1), ("cluster-2", 2), ("cluster-3", 3)] {
        let mut random = Seeded(seed);
        let bytes = (0..500).map(|_| random.below(256) as u8);
        seeds.push((name, [0].into_iter().chain(bytes).collect()));
    }
    seeds
}
