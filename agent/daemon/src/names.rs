//! Who has which address, for people: events carry numbers, lines carry names.
//!
//! Nothing here decides anything; the core has its own directory.

use std::{collections::BTreeMap, net::IpAddr};

use signet_abi as abi;
use signet_agent_core::{
    io::{DirectoryInput, Entry, NodeUid, PodUid},
    status::Party,
};
use signet_crypto::spiffe_id::{SpiffeId, TrustDomain};
use signet_source::{Node, Snapshot};

/// Addresses remembered from the directory.
const REMEMBERED: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    pod: String,
    uid: String,
    spiffe_id: String,
    node: String,
    /// Of what is no pod.
    class: Option<&'static str>,
}

/// Names of pods by address and by UID, and of nodes by UID.
#[derive(Default)]
pub(crate) struct Names {
    by_address: BTreeMap<IpAddr, Known>,
    /// What the directory tells in passing: pods that the manifests here don't tell, or not yet.
    told: BTreeMap<IpAddr, Known>,
    pods: BTreeMap<String, String>,
    /// Identities of pods by UID.
    ids: BTreeMap<String, SpiffeId>,
    nodes: BTreeMap<String, String>,
}

impl Names {
    /// Takes over what the manifests say.
    pub(crate) fn learn_manifests(
        &mut self,
        snapshot: &Snapshot,
        trust_domain: &TrustDomain,
        own_node: &str,
    ) {
        self.by_address.clear();
        self.pods.clear();
        self.ids.clear();
        self.told.clear();
        for pod in snapshot.pods.values().filter(|pod| pod.has_identity()) {
            let id = SpiffeId::workload(trust_domain, &pod.namespace, &pod.service_account);
            if let Ok(id) = &id {
                self.ids.insert(pod.uid.clone(), id.clone());
            }
            let known = Known {
                pod: format!("{}/{}", pod.namespace, pod.name),
                uid: pod.uid.clone(),
                spiffe_id: id.map(|id| id.to_string()).unwrap_or_default(),
                node: pod.node.clone().unwrap_or_default(),
                class: None,
            };
            self.pods.insert(pod.uid.clone(), known.pod.clone());
            for address in &pod.addresses {
                self.by_address.insert(*address, known.clone());
            }
        }
        for node in snapshot.nodes.values() {
            self.learn_node(node, trust_domain, own_node);
        }
        let nodes = snapshot.nodes.values();
        self.nodes = nodes
            .map(|node| (node.uid.clone(), node.name.clone()))
            .collect();
    }

    /// A node is an end of pairs like a pod.
    fn learn_node(&mut self, node: &Node, trust_domain: &TrustDomain, own_node: &str) {
        let Ok(id) = SpiffeId::node(trust_domain, &node.uid) else {
            return;
        };
        let known = Known {
            pod: format!("node/{}", node.name),
            uid: PodUid::of_node(&NodeUid::new(&node.uid)).to_string(),
            spiffe_id: id.to_string(),
            node: node.name.clone(),
            class: Some(if node.name == own_node {
                "Host"
            } else {
                "RemoteNode"
            }),
        };
        self.ids.insert(known.uid.clone(), id);
        self.pods.insert(known.uid.clone(), known.pod.clone());
        for address in &node.addresses {
            self.by_address.insert(*address, known.clone());
        }
    }

    /// Takes over what the directory says.
    pub(crate) fn learn_directory(&mut self, input: &DirectoryInput) {
        match input {
            DirectoryInput::Answer {
                entry: Some(entry), ..
            }
            | DirectoryInput::Entry(entry) => {
                if self.told.len() >= REMEMBERED {
                    self.told.clear();
                }
                self.learn(entry);
            }
            DirectoryInput::Answer { entry: None, .. }
            | DirectoryInput::Gone { .. }
            | DirectoryInput::Failed { .. }
            | DirectoryInput::NodeGone { .. }
            | DirectoryInput::PeerStream { .. }
            | DirectoryInput::Up
            | DirectoryInput::Down => {}
        }
    }

    fn learn(&mut self, entry: &Entry) {
        let known = Known {
            pod: entry.pod.full_name(),
            uid: entry.uid.as_str().to_owned(),
            spiffe_id: entry.spiffe_id.to_string(),
            node: entry.node.name.clone(),
            class: None,
        };
        if self.ids.len() < REMEMBERED {
            self.ids
                .insert(entry.uid.as_str().to_owned(), entry.spiffe_id.clone());
        }
        self.pods
            .entry(entry.uid.as_str().to_owned())
            .or_insert_with(|| known.pod.clone());
        for address in &entry.pod.addresses {
            self.told.insert(*address, known.clone());
        }
    }

    /// The end of a flow with this address.
    pub(crate) fn party(&self, address: IpAddr, port: u16, class: u32) -> Party {
        let known = self
            .told
            .get(&address)
            .or_else(|| self.by_address.get(&address));
        Party {
            address: Some(address),
            port,
            pod: known.map(|known| known.pod.clone()),
            spiffe_id: known.map(|known| known.spiffe_id.clone()),
            node: known.map(|known| known.node.clone()),
            class: match known {
                Some(known) => known.class.map(str::to_owned),
                None => class_name(class).map(str::to_owned),
            },
        }
    }

    /// Identity of a pod by its UID, if it is known at all.
    pub(crate) fn id_of(&self, uid: &str) -> Option<SpiffeId> {
        self.ids.get(uid).cloned()
    }

    /// UID and identity of the pod with this address.
    pub(crate) fn pod_at(&self, address: IpAddr) -> Option<(String, Option<SpiffeId>)> {
        let known = self
            .told
            .get(&address)
            .or_else(|| self.by_address.get(&address))?;
        let id = SpiffeId::new(known.spiffe_id.as_str()).ok();
        Some((known.uid.clone(), id))
    }

    /// Name of a node, or its UID.
    pub(crate) fn node(&self, uid: &str) -> String {
        self.nodes
            .get(uid)
            .map_or_else(|| uid.to_owned(), Clone::clone)
    }

    /// Name of a pod, or its UID.
    pub(crate) fn pod(&self, uid: &str) -> String {
        self.pods
            .get(uid)
            .map_or_else(|| uid.to_owned(), Clone::clone)
    }
}

/// Name of a class that is no pod's.
pub(crate) fn class_name(class: u32) -> Option<&'static str> {
    Some(match class {
        abi::CLASS_WORLD => "World",
        abi::CLASS_HOST => "Host",
        abi::CLASS_REMOTE_NODE => "RemoteNode",
        abi::CLASS_KUBE_API_SERVER => "KubeAPIServer",
        abi::CLASS_UNMANAGED => "Unmanaged",
        _ => return None,
    })
}
