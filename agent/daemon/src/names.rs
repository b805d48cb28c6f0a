//! Who has which address, for people: events carry numbers, lines carry names.
//!
//! Nothing here decides anything; the core has its own directory.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use signet_abi as abi;
use signet_agent_core::{
    io::{DirectoryInput, Entry, LookupKey},
    status::Party,
};

use crate::sources::Cluster;

/// Remembered pods of other nodes; the oldest go first.
const REMEMBERED: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    uid: String,
    pod: String,
    spiffe_id: String,
    node: String,
}

/// Names of pods by address.
#[derive(Default)]
pub(crate) struct Names {
    own_node: String,
    local: BTreeMap<IpAddr, Known>,
    remote: BTreeMap<IpAddr, Known>,
    order: VecDeque<IpAddr>,
    /// Names of nodes by UID.
    nodes: BTreeMap<String, String>,
    pods: BTreeMap<String, String>,
}

impl Names {
    pub(crate) fn new(own_node: &str) -> Self {
        Self {
            own_node: own_node.to_owned(),
            ..Self::default()
        }
    }

    /// Takes over what the manifests say about this node's pods and all nodes.
    pub(crate) fn learn_cluster(&mut self, cluster: &Cluster) {
        self.local.clear();
        self.pods.clear();
        for pod in &cluster.view.pods {
            let known = Known {
                uid: pod.uid.as_str().to_owned(),
                pod: pod.pod.full_name(),
                spiffe_id: pod.pod.spiffe_id.clone(),
                node: self.own_node.clone(),
            };
            self.pods.insert(known.uid.clone(), known.pod.clone());
            for address in &pod.pod.addresses {
                self.local.insert(*address, known.clone());
            }
        }
        self.nodes = cluster
            .view
            .nodes
            .iter()
            .map(|node| (node.uid.as_str().to_owned(), node.name.clone()))
            .collect();
    }

    /// Takes over what the directory says in passing.
    pub(crate) fn learn_directory(&mut self, input: &DirectoryInput) {
        match input {
            DirectoryInput::Answer {
                entry: Some(entry), ..
            }
            | DirectoryInput::Entry(entry) => {
                self.learn(entry);
            }
            DirectoryInput::Answer {
                key: LookupKey::Address(address),
                entry: None,
            } => {
                self.remote.remove(address);
            }
            DirectoryInput::Gone { pod, .. } => {
                self.remote.retain(|_, known| known.uid != pod.as_str());
            }
            DirectoryInput::Answer {
                key: LookupKey::Pod(_),
                entry: None,
            }
            | DirectoryInput::Failed { .. }
            | DirectoryInput::NodeGone { .. }
            | DirectoryInput::PeerStream { .. }
            | DirectoryInput::Up
            | DirectoryInput::Down => {}
        }
    }

    fn learn(&mut self, entry: &Entry) {
        let known = Known {
            uid: entry.uid.as_str().to_owned(),
            pod: entry.pod.full_name(),
            spiffe_id: entry.spiffe_id.to_string(),
            node: entry.node.name.clone(),
        };
        for address in &entry.pod.addresses {
            if self.remote.insert(*address, known.clone()).is_none() {
                self.order.push_back(*address);
            }
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.remote.remove(&oldest);
            }
        }
    }

    /// The end of a flow with this address.
    pub(crate) fn party(&self, address: IpAddr, port: u16, class: u32) -> Party {
        let known = self
            .local
            .get(&address)
            .or_else(|| self.remote.get(&address));
        Party {
            address: Some(address),
            port,
            pod: known.map(|known| known.pod.clone()),
            spiffe_id: known.map(|known| known.spiffe_id.clone()),
            node: known.map(|known| known.node.clone()),
            class: if known.is_some() {
                None
            } else {
                class_name(class).map(str::to_owned)
            },
        }
    }

    /// Name of a node, or its UID.
    pub(crate) fn node(&self, uid: &str) -> String {
        self.nodes
            .get(uid)
            .map_or_else(|| uid.to_owned(), Clone::clone)
    }

    /// Name of a local pod, or its UID.
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
