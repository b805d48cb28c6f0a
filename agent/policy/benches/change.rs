//! What one changed policy costs a node in a cluster with 10,000 policies and 50,000 pods: the object taken over and a
//! set made of it and all the others, and the pairs of its pods compiled anew. What is not the same as before is then a
//! comparison. Beside it, what a start costs: all taken over.

use std::{collections::BTreeMap, hint::black_box, net::IpAddr};

use criterion::Criterion;
use serde_json::{Value, json};
use signet_policy::{PeerFacts, PodFacts, PolicySet, TakenOver};

const POLICIES: usize = 10_000;
const PODS: usize = 50_000;
/// Pods of the node, and remote pods that each of them has a pair with.
const LOCAL: usize = 100;
const PEERS: usize = 50;
const NAMESPACES: usize = 200;
const APPS: usize = 50;

fn policy(number: usize, port: u16) -> Value {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % APPS);
    json!({
        "apiVersion": "signet.dev/v1alpha1",
        "kind": "AuthenticatedPolicy",
        "metadata": {"name": format!("p{number}"), "namespace": format!("n{namespace}")},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": format!("a{app}")}},
            "ingress": [{
                "from": [
                    {"serviceAccounts": [{"namespace": format!("n{namespace}"), "name": "web"}]},
                    {"podSelector": {"matchLabels": {"app": format!("a{}", (app + 1) % APPS)}}},
                ],
                "ports": [{"protocol": "TCP", "port": port}],
                "authentication": "Required",
            }],
        },
    })
}

fn pod(number: usize) -> PodFacts {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % APPS);
    let [.., a, b, c] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    PodFacts {
        uid: format!("u{number}"),
        namespace: format!("n{namespace}"),
        name: format!("p{number}"),
        service_account: "web".to_owned(),
        spiffe_id: format!("spiffe://td/ns/n{namespace}/sa/web"),
        labels: BTreeMap::from([("app".to_owned(), format!("a{app}"))]),
        namespace_labels: BTreeMap::new(),
        addresses: vec![IpAddr::from([10, a, b, c])],
        named_ports: Some(Vec::new()),
        enrolled: true,
    }
}

fn main() {
    let objects: Vec<Value> = (0..POLICIES).map(|number| policy(number, 80)).collect();
    let (set, problems) = PolicySet::from_objects(&[], &objects);
    assert!(problems.is_empty(), "{problems:?}");
    let mut kept: Vec<TakenOver> = objects
        .iter()
        .filter_map(|object| TakenOver::authenticated_policy(object).ok())
        .collect();
    let changed = policy(0, 81);
    let pods: Vec<PodFacts> = (0..PODS).map(pod).collect();
    // Neighbours by namespace, so that rules do select them.
    let pairs: Vec<(&PodFacts, PeerFacts)> = (0..LOCAL)
        .flat_map(|local| (1..=PEERS).map(move |step| (local, local + step * NAMESPACES)))
        .map(|(local, remote)| (&pods[local], PeerFacts::Pod(pods[remote % PODS].clone())))
        .collect();

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    criterion.bench_function("take over 10,000 policies", |bench| {
        bench.iter(|| PolicySet::from_objects(&[], black_box(&objects)));
    });
    criterion.bench_function("change one of 10,000 policies", |bench| {
        bench.iter(|| {
            if let Ok(taken_over) = TakenOver::authenticated_policy(black_box(&changed)) {
                kept[0] = taken_over;
            }
            PolicySet::from_taken_over(&kept)
        });
    });
    criterion.bench_function("compile the 5,000 pairs of a node's 100 pods", |bench| {
        bench.iter(|| {
            for (local, peer) in &pairs {
                black_box(set.compile_pair(local, peer));
            }
        });
    });
    criterion.final_summary();
}
