//! From manifests to the directory.

use std::{collections::BTreeSet, sync::Arc};

use signet_crypto::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use signet_identity_core::cluster::{Cluster, NamedPort, Node, NodeUid, Pod};
use signet_source::Snapshot;

use crate::{metrics::gauge, service::Service};

/// Takes a new state of the manifests, and says what is wrong in it or not any more.
pub(crate) fn apply(service: &Service, snapshot: &Snapshot) {
    service.hub.apply(cluster(&service.trust_domain, snapshot));
    service.show_joined();
    service
        .metrics
        .manifest_problems
        .set(gauge(snapshot.problems.len()));
    let mut problems = service.problems();
    let before: BTreeSet<_> = problems.iter().collect();
    let now: BTreeSet<_> = snapshot.problems.iter().collect();
    for problem in now.difference(&before) {
        tracing::warn!(%problem, "manifest problem; what was good before stays in force");
    }
    for problem in before.difference(&now) {
        tracing::info!(%problem, "manifest problem is gone");
    }
    *problems = snapshot.problems.clone();
}

fn cluster(trust_domain: &TrustDomain, snapshot: &Snapshot) -> Cluster {
    let mut cluster = Cluster::default();
    for node in snapshot.nodes.values() {
        match node_facts(trust_domain, node) {
            Ok(node) => drop(cluster.nodes.insert(node.uid.clone(), node)),
            Err(error) => {
                tracing::warn!(node = node.name, %error, "node has no SPIFFE ID; left out")
            }
        }
    }
    for pod in snapshot.pods.values().filter(|pod| pod.has_identity()) {
        match pod_facts(trust_domain, snapshot, pod) {
            Ok(Some(pod)) => drop(cluster.pods.insert(pod.uid.clone(), pod)),
            // The snapshot has whatever its pods refer to.
            Ok(None) => {}
            Err(error) => {
                let (namespace, pod) = (&pod.namespace, &pod.name);
                tracing::warn!(namespace, pod, %error, "pod has no SPIFFE ID; left out");
            }
        }
    }
    cluster
}

fn node_facts(
    trust_domain: &TrustDomain,
    node: &signet_source::Node,
) -> Result<Node, SpiffeIdError> {
    Ok(Node {
        uid: NodeUid::from(node.uid.as_str()),
        name: node.name.clone(),
        spiffe_id: SpiffeId::node(trust_domain, &node.uid)?,
        underlay: node.addresses.clone(),
        channel_port: node.channel_port,
        pod_cidrs: node.pod_cidrs.clone(),
    })
}

fn pod_facts(
    trust_domain: &TrustDomain,
    snapshot: &Snapshot,
    pod: &Arc<signet_source::Pod>,
) -> Result<Option<Pod>, SpiffeIdError> {
    let account = (pod.namespace.clone(), pod.service_account.clone());
    let (Some(namespace), Some(account), Some(node)) = (
        snapshot.namespaces.get(&pod.namespace),
        snapshot.service_accounts.get(&account),
        pod.node.as_ref().and_then(|name| snapshot.nodes.get(name)),
    ) else {
        return Ok(None);
    };
    Ok(Some(Pod {
        uid: pod.uid.as_str().into(),
        namespace: pod.namespace.clone(),
        namespace_uid: namespace.uid.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        service_account_uid: account.uid.clone(),
        spiffe_id: SpiffeId::workload(trust_domain, &pod.namespace, &pod.service_account)?,
        addresses: pod.addresses.clone(),
        labels: pod.labels.clone(),
        namespace_labels: namespace.labels.clone(),
        named_ports: pod
            .named_ports
            .iter()
            .map(|port| NamedPort {
                name: port.name.clone(),
                protocol: port.protocol.clone(),
                port: port.port,
            })
            .collect(),
        node: node.uid.as_str().into(),
    }))
}
