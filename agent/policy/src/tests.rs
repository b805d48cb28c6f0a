//! Tests of the crate as a whole.

mod authenticated_policy;
mod differential;
mod documented;
mod lint;
mod network_policy;
mod ports;
mod refused;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::{Mode, NamedPort, Outcome, PeerFacts, PodFacts, PolicySet, Protocol, Query};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod of the tests' small cluster.
fn cluster(full_name: &str) -> PodFacts {
    let (ip, labels, ports): (_, &[(&str, &str)], _) = match full_name {
        "shop/web" => ("10.0.0.1", &[("app", "web")], vec![("http", 8080)]),
        "shop/db" => ("10.0.0.2", &[("app", "db")], vec![("sql", 3306)]),
        "shop/legacy" => ("10.0.0.3", &[("app", "legacy")], vec![]),
        "pay/api" => ("10.0.0.200", &[("app", "api")], vec![("http", 80)]),
        "pay/batch" => ("10.0.0.201", &[("stage", "test"), ("app", "batch")], vec![]),
        other => panic!("no pod {other}"),
    };
    let (namespace, name) = full_name.split_once('/').unwrap();
    let map = |labels: &[(&str, &str)]| -> BTreeMap<String, String> {
        labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let named = |(name, port): (&str, u16)| NamedPort {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        port,
    };
    PodFacts {
        uid: full_name.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        service_account: name.to_owned(),
        spiffe_id: format!("spiffe://lab.signet/ns/{namespace}/sa/{name}"),
        labels: map(labels),
        namespace_labels: map(&[("team", namespace)]),
        addresses: vec![address(ip)],
        named_ports: Some(ports.into_iter().map(named).collect()),
        enrolled: name != "legacy",
    }
}

fn peer(name: &str) -> PeerFacts {
    match name {
        "host" => PeerFacts::Host(vec![address("192.0.2.1")]),
        "remote-node" => PeerFacts::RemoteNode(vec![address("192.0.2.2")]),
        "kube-apiserver" => PeerFacts::KubeApiServer(vec![address("192.0.2.3")]),
        "unmanaged" => PeerFacts::Unmanaged(address("10.0.0.77")),
        name => match name.parse() {
            Ok(address) => PeerFacts::Address(address),
            Err(_) => PeerFacts::Pod(cluster(name)),
        },
    }
}

fn set_of(network: &[Value], authenticated: &[Value]) -> PolicySet {
    let network: Vec<_> = network
        .iter()
        .map(|value| serde_json::from_value(value.clone()).unwrap())
        .collect();
    let (set, problems) = PolicySet::from_objects(&network, authenticated);
    assert_eq!(problems, []);
    set
}

/// Whether a flow passes in strict mode.
fn allowed(set: &PolicySet, from: &str, to: &str, protocol: u8, port: u16) -> bool {
    let (from, to) = (peer(from), peer(to));
    set.explain(&Query {
        from,
        to,
        protocol,
        port,
        mode: Mode::Strict,
    })
    .outcome
        == Outcome::Allowed
}
