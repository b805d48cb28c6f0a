//! Nodes, pods and times for tests.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

use std::time::Duration;

use signet_crypto::{
    spiffe_id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use signet_identity_core::cluster::{Cluster, Node, NodeUid, Pod, PodUid};

pub(crate) const DAY: u64 = 86_400;

pub(crate) fn td() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// `secs` after a day in 2026.
pub(crate) fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000 + secs))
}

pub(crate) fn node(uid: &str) -> Node {
    Node {
        uid: uid.into(),
        name: format!("name-of-{uid}"),
        spiffe_id: SpiffeId::node(&td(), uid).unwrap(),
        underlay: vec!["192.0.2.1".parse().unwrap()],
        channel_port: 7447,
        pod_cidrs: vec![],
    }
}

pub(crate) fn pod(uid: &str, node: &str, address: &str, account: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        namespace_uid: "ns-shop".into(),
        name: format!("name-of-{uid}"),
        service_account: account.into(),
        service_account_uid: format!("sa-{account}"),
        spiffe_id: SpiffeId::workload(&td(), "shop", account).unwrap(),
        addresses: vec![address.parse().unwrap()],
        labels: [("app".to_owned(), uid.to_owned())].into(),
        namespace_labels: Default::default(),
        named_ports: Vec::new(),
        node: node.into(),
    }
}

pub(crate) fn cluster(
    nodes: impl IntoIterator<Item = Node>,
    pods: impl IntoIterator<Item = Pod>,
) -> Cluster {
    Cluster {
        nodes: nodes
            .into_iter()
            .map(|node| (node.uid.clone(), node))
            .collect(),
        pods: pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect(),
    }
}

pub(crate) fn uid(uid: &str) -> PodUid {
    uid.into()
}

pub(crate) fn node_uid(uid: &str) -> NodeUid {
    uid.into()
}
