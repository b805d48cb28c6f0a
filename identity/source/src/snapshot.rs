//! The whole of a manifests directory at one moment.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::{
    object::{Namespace, Node, Object, ObjectKey, Pod, ServiceAccount},
    problem::Problem,
};

/// Namespace and name.
pub type Named = (String, String);

/// Objects that agree with each other, and what was left out or left as it was.
///
/// Every pod's node, namespace and service account is there; addresses, pod ranges and UIDs are
/// unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// By name.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// By namespace and name.
    pub service_accounts: BTreeMap<Named, Arc<ServiceAccount>>,
    /// By namespace and name, finished and unplaced ones included.
    pub pods: BTreeMap<Named, Arc<Pod>>,
    /// By namespace and name.
    pub network_policies: BTreeMap<Named, Arc<NetworkPolicy>>,
    /// By namespace and name; raw, with `metadata.namespace` filled in.
    pub authenticated_policies: BTreeMap<Named, Arc<Value>>,
    /// What is wrong; empty right after a strict load.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// The file-less key and the object of everything in here.
    pub(crate) fn insert(&mut self, key: ObjectKey, object: Object) {
        let named = (key.namespace, key.name);
        match object {
            Object::Node(node) => drop(self.nodes.insert(named.1, node)),
            Object::Namespace(namespace) => drop(self.namespaces.insert(named.1, namespace)),
            Object::ServiceAccount(account) => drop(self.service_accounts.insert(named, account)),
            Object::Pod(pod) => drop(self.pods.insert(named, pod)),
            Object::NetworkPolicy(policy) => drop(self.network_policies.insert(named, policy)),
            Object::AuthenticatedPolicy(policy) => {
                drop(self.authenticated_policies.insert(named, policy));
            }
        }
    }
}
