//! The manifests, turned into the core's view of the cluster.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use ipnet::IpNet;
use serde_json::Value;
use signet_agent_core::io::{ClusterView, LocalPod, NodeFacts, NodeUid, PodUid};
use signet_agent_core::status::{ManifestProblem, PolicyProblem};
use signet_crypto::spiffe_id::{SpiffeId, TrustDomain};
use signet_policy::{NamedPort, PodFacts, PolicySet, Protocol, TakenOver};
use signet_source::{NetworkPolicy, Node, Pod, Snapshot, Watcher};

/// One state of the cluster, for the core and for people.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) view: ClusterView,
    pub(crate) manifest_problems: Vec<ManifestProblem>,
    pub(crate) policy_problems: Vec<PolicyProblem>,
    /// Objects of each kind in force.
    pub(crate) authenticated_policies: u64,
    pub(crate) network_policies: u64,
}

/// Turns snapshots into views, and remembers the last good state of each policy.
pub(crate) struct Reader {
    trust_domain: TrustDomain,
    node_name: String,
    kube_api_servers: Vec<IpAddr>,
    /// Of the last view in which this node was.
    nodes: Vec<NodeFacts>,
    network: BTreeMap<String, Kept<NetworkPolicy>>,
    authenticated: BTreeMap<String, Kept<Value>>,
}

/// A policy in force: the object, and what was made of it.
struct Kept<T> {
    written: Arc<T>,
    taken_over: TakenOver,
}

/// Opens the folder, strictly.
///
/// # Errors
/// One line for each thing that is wrong, and what to do.
pub(crate) fn open(folder: &Path) -> Result<Watcher, String> {
    let watcher = Watcher::open(folder).map_err(|error| error.to_string())?;
    if let Some(reason) = watcher.deaf() {
        tracing::warn!(
            reason,
            "manifests are looked at every second: the kernel tells no changes"
        );
    }
    Ok(watcher)
}

impl Reader {
    pub(crate) fn new(
        trust_domain: TrustDomain,
        node_name: String,
        kube_api_servers: Vec<IpAddr>,
    ) -> Self {
        Self {
            trust_domain,
            node_name,
            kube_api_servers,
            nodes: Vec::new(),
            network: BTreeMap::new(),
            authenticated: BTreeMap::new(),
        }
    }

    /// The first view.
    ///
    /// # Errors
    /// This node is missing, or a policy is refused: starting without it would open what it closes.
    pub(crate) fn first(&mut self, snapshot: &Snapshot) -> Result<Cluster, String> {
        if !snapshot.nodes.contains_key(&self.node_name) {
            return Err(format!(
                "Node {} is not in the manifests: see --node-name and --manifests",
                self.node_name
            ));
        }
        let cluster = self.read(snapshot)?;
        match cluster.policy_problems.first() {
            Some(problem) => Err(format!("{}: {}", problem.object, problem.message)),
            None => Ok(cluster),
        }
    }

    /// A later view. A policy that is refused stays as it was, if it was, and is named.
    ///
    /// # Errors
    /// If a name in it makes no SPIFFE ID.
    pub(crate) fn read(&mut self, snapshot: &Snapshot) -> Result<Cluster, String> {
        let (policies, policy_problems) = self.policies(snapshot);
        let pods = snapshot
            .pods
            .values()
            .filter(|pod| pod.has_identity() && pod.node.as_ref() == Some(&self.node_name))
            .map(|pod| self.pod(pod, snapshot))
            .collect::<Result<_, _>>()?;
        let mut manifest_problems: Vec<_> = snapshot
            .problems
            .iter()
            .map(|problem| ManifestProblem {
                file: problem.file.clone(),
                object: (!problem.object.is_empty()).then(|| problem.object.clone()),
                message: problem.message.clone(),
            })
            .collect();
        if snapshot.nodes.contains_key(&self.node_name) {
            self.nodes = snapshot
                .nodes
                .values()
                .map(|node| self.node(node))
                .collect::<Result<_, _>>()?;
        } else {
            // A folder that was emptied, or a node that is taken out. Pods and policies go, but what
            // is a pod's address stays one: the guard would let it pass in the clear.
            manifest_problems.push(ManifestProblem {
                file: "every file".into(),
                object: Some(format!("Node {}", self.node_name)),
                message: "it is this node, and is in none of them any more; the nodes that were \
                          there before stay in force; add it again, or stop this agent"
                    .into(),
            });
        }
        Ok(Cluster {
            view: ClusterView {
                pods,
                policies: Arc::new(policies),
                nodes: self.nodes.clone(),
                kube_api_servers: self.kube_api_servers.clone(),
            },
            manifest_problems,
            policy_problems,
            authenticated_policies: self.authenticated.len() as u64,
            network_policies: self.network.len() as u64,
        })
    }

    fn policies(&mut self, snapshot: &Snapshot) -> (PolicySet, Vec<PolicyProblem>) {
        let mut problems = Vec::new();
        let mut network = BTreeMap::new();
        for ((namespace, name), policy) in &snapshot.network_policies {
            let key = format!("{namespace}/{name}");
            let before = self.network.remove(&key);
            let good = choose(&mut problems, before, policy, TakenOver::network_policy);
            network.extend(good.map(|good| (key, good)));
        }
        let mut authenticated = BTreeMap::new();
        for ((namespace, name), policy) in &snapshot.authenticated_policies {
            let key = format!("{namespace}/{name}");
            let before = self.authenticated.remove(&key);
            let good = choose(
                &mut problems,
                before,
                policy,
                TakenOver::authenticated_policy,
            );
            authenticated.extend(good.map(|good| (key, good)));
        }
        self.network = network;
        self.authenticated = authenticated;
        let network = self.network.values().map(|kept| &kept.taken_over);
        let authenticated = self.authenticated.values().map(|kept| &kept.taken_over);
        let (set, refused) = PolicySet::from_taken_over(network.chain(authenticated));
        for problem in refused {
            problems.push(PolicyProblem {
                object: problem.object.clone(),
                message: format!("{}: {}; {}", problem.path, problem.what, problem.fix),
            });
        }
        (set, problems)
    }

    fn pod(&self, pod: &Pod, snapshot: &Snapshot) -> Result<LocalPod, String> {
        let id = SpiffeId::workload(&self.trust_domain, &pod.namespace, &pod.service_account)
            .map_err(|error| format!("Pod {}/{}: {error}", pod.namespace, pod.name))?;
        let namespace_labels = snapshot
            .namespaces
            .get(&pod.namespace)
            .map(|namespace| namespace.labels.clone())
            .unwrap_or_default();
        let named_ports = pod.named_ports.iter().filter_map(|port| {
            let protocol = Protocol::from_name(&port.protocol)?;
            Some(NamedPort {
                name: port.name.clone(),
                protocol,
                port: port.port,
            })
        });
        Ok(LocalPod {
            uid: PodUid::new(&pod.uid),
            pod: PodFacts {
                uid: pod.uid.clone(),
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                service_account: pod.service_account.clone(),
                spiffe_id: id.to_string(),
                labels: pod.labels.clone(),
                namespace_labels,
                addresses: pod.addresses.clone(),
                named_ports: Some(named_ports.collect()),
                enrolled: true,
            },
        })
    }

    fn node(&self, node: &Node) -> Result<NodeFacts, String> {
        let spiffe_id = SpiffeId::node(&self.trust_domain, &node.uid)
            .map_err(|error| format!("Node {}: {error}", node.name))?;
        Ok(NodeFacts {
            uid: NodeUid::new(&node.uid),
            name: node.name.clone(),
            spiffe_id,
            underlay: node.addresses.clone(),
            channel_port: node.channel_port,
            pod_cidrs: node.pod_cidrs.clone(),
        })
    }
}

/// The object itself if it is good, else its last good state. One that is as it was is not looked at again.
fn choose<T: PartialEq>(
    problems: &mut Vec<PolicyProblem>,
    before: Option<Kept<T>>,
    written: &Arc<T>,
    take_over: impl FnOnce(&T) -> Result<TakenOver, signet_policy::PolicyProblem>,
) -> Option<Kept<T>> {
    let same = |kept: &Kept<T>| Arc::ptr_eq(&kept.written, written) || kept.written == *written;
    if before.as_ref().is_some_and(same) {
        return before;
    }
    let problem = match take_over(written) {
        Ok(taken_over) => {
            let written = Arc::clone(written);
            return Some(Kept {
                written,
                taken_over,
            });
        }
        Err(problem) => problem,
    };
    let state = if before.is_some() {
        "its last good state is in force"
    } else {
        "it is not in force"
    };
    problems.push(PolicyProblem {
        object: problem.object.clone(),
        message: format!(
            "{}: {}; {}; {state}",
            problem.path, problem.what, problem.fix
        ),
    });
    before
}

/// What the host set-up wants to know of the nodes.
pub(crate) fn host_facts(
    view: &ClusterView,
    node_name: &str,
    underlay: IpAddr,
    slots: Vec<u32>,
) -> crate::host::HostFacts {
    let mut own_addresses = vec![underlay];
    let mut own_pod_cidrs: Vec<IpNet> = Vec::new();
    let mut peer_addresses = Vec::new();
    let mut peer_pod_cidrs = Vec::new();
    for node in &view.nodes {
        if node.name == node_name {
            own_addresses.extend(node.underlay.iter().filter(|address| **address != underlay));
            own_pod_cidrs.extend(&node.pod_cidrs);
        } else {
            peer_addresses.extend(&node.underlay);
            peer_pod_cidrs.extend(&node.pod_cidrs);
        }
    }
    crate::host::HostFacts {
        own_addresses,
        own_pod_cidrs,
        peer_addresses,
        peer_pod_cidrs,
        slots,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(port: u16) -> Arc<Value> {
        Arc::new(
            json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"endpointSelector": {}, "ingress": [{
                "from": [{"entities": ["Host"]}],
                "ports": [{"protocol": "TCP", "port": port}],
            }]}}),
        )
    }

    #[test]
    fn a_policy_is_looked_at_again_when_it_is_another() {
        let mut problems = Vec::new();
        let good = TakenOver::authenticated_policy;
        let first = choose(&mut problems, None, &policy(80), good).unwrap();
        let untouched = |_: &Value| panic!("it is as it was");
        let first = choose(&mut problems, Some(first), &policy(80), untouched).unwrap();
        assert_eq!(first.written, policy(80));
        let second = choose(&mut problems, Some(first), &policy(81), good).unwrap();
        assert_eq!(second.written, policy(81));
        let (one, _) = PolicySet::from_taken_over([&second.taken_over]);
        assert_eq!(
            one,
            PolicySet::from_objects(&[], &[(*policy(81)).clone()]).0
        );
        assert!(problems.is_empty());

        let bad = Arc::new(json!({"spec": 1}));
        let kept = choose(&mut problems, Some(second), &bad, good).unwrap();
        assert_eq!(kept.written, policy(81), "its last good state");
        assert_eq!(problems.len(), 1);
        assert!(choose(&mut problems, None, &bad, good).is_none());
        assert_eq!(problems.len(), 2, "and is said each time");
    }
}
