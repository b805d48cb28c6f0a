//! The identity service: signs for pods that are placed, answers and pushes.

use std::{sync::Arc, time::Duration};

use signet_crypto::{
    random::Random,
    spiffe_id::SpiffeId,
    svid::{SvidKey, X509Svid},
    time::UnixTime,
    x509::{
        build::LeafSpec,
        csr,
        profile::{Binding, Purpose},
    },
};

use super::{NodeIx, WALL, World, network::What};
use crate::{
    Input,
    ids::PodUid,
    io::{DirectoryInput, LookupKey},
};

impl World {
    /// The service stops or comes back; every agent's stream with it.
    pub fn set_service(&mut self, up: bool) {
        self.service_up = up;
        for node in 0..self.nodes.len() {
            self.nodes[node].subscriptions.clear();
            let news = if up {
                DirectoryInput::Up
            } else {
                DirectoryInput::Down
            };
            self.input(node, Input::Directory(news));
        }
    }

    pub(crate) fn lookup(&mut self, node: NodeIx, key: LookupKey) {
        let at = self.boot + self.delay() * 2;
        let news = if self.service_up {
            let pod = match &key {
                LookupKey::Pod(pod) => self.pods.get(pod),
                LookupKey::Address(address) => self
                    .pods
                    .values()
                    .find(|pod| pod.entry.pod.addresses.contains(address)),
            };
            let entry = pod.map(|pod| Box::new(pod.entry.clone()));
            DirectoryInput::Answer { key, entry }
        } else {
            DirectoryInput::Failed {
                key,
                error: "the service is down".to_owned(),
            }
        };
        self.later(node, at, Input::Directory(news));
    }

    pub(crate) fn subscribe(&mut self, node: NodeIx, pod: PodUid) {
        if self.service_up {
            let generation = self.generation;
            self.nodes[node].subscriptions.insert(pod.clone());
            self.push(node, pod, generation);
        }
    }

    pub(crate) fn push_gone(&mut self, pod: &PodUid) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].subscriptions.contains(pod) {
                self.push(node, pod.clone(), self.generation);
            }
        }
    }

    /// The directory's entry of a pod changed.
    pub fn push_changed(&mut self, pod: &PodUid) {
        self.generation += 1;
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.entry.generation = self.generation;
        }
        self.push_gone(pod);
    }

    fn push(&mut self, node: NodeIx, pod: PodUid, generation: u64) {
        let at = self.boot + self.delay();
        let instance = self.nodes[node].instance;
        self.queue.push(
            at,
            What::Push {
                node,
                instance,
                pod,
                generation,
            },
        );
    }

    pub(crate) fn pushed(&mut self, node: NodeIx, pod: &PodUid, generation: u64) {
        let news = match self.pods.get(pod) {
            Some(pod) => DirectoryInput::Entry(Box::new(pod.entry.clone())),
            None => DirectoryInput::Gone {
                pod: pod.clone(),
                generation,
            },
        };
        if self.service_up {
            self.input(node, Input::Directory(news));
        }
    }

    pub(crate) fn request_svid(&mut self, node: NodeIx, pod: PodUid, id: &SpiffeId) {
        let at = self.boot + self.delay() * 2;
        let placed = self
            .pods
            .get(&pod)
            .filter(|pod| pod.node == node && self.service_up && !self.no_svid.contains(&pod.uid));
        let input = match placed.cloned() {
            Some(placed) => {
                assert_eq!(*id, placed.entry.spiffe_id);
                let entry = &placed.entry;
                let binding = Binding::new(
                    &entry.node.spiffe_id,
                    entry.namespace_uid.clone(),
                    entry.service_account_uid.clone(),
                );
                let svid = self.issue(id.clone(), Purpose::AgentPlane, Some(binding));
                Input::SvidIssued { pod, svid }
            }
            None => Input::SvidFailed {
                pod,
                error: "refused".to_owned(),
            },
        };
        self.later(node, at, input);
    }

    pub(crate) fn renew_node(&mut self, node: NodeIx) {
        let at = self.boot + self.delay() * 2;
        let input = if self.service_up {
            Input::NodeSvid {
                svid: self.issue_node(node),
            }
        } else {
            Input::NodeSvidFailed {
                error: "the service is down".to_owned(),
            }
        };
        self.later(node, at, input);
    }

    pub(crate) fn issue_node(&mut self, node: NodeIx) -> Arc<X509Svid> {
        let id = self.nodes[node].facts.spiffe_id.clone();
        let svid = self.issue(id, Purpose::NodeAgent, None);
        self.nodes[node].svid = Some(svid.clone());
        svid
    }

    /// A certificate as the authority would sign it for anybody: for tests that cheat, too.
    pub fn issue(
        &mut self,
        id: SpiffeId,
        purpose: Purpose,
        binding: Option<Binding>,
    ) -> Arc<X509Svid> {
        let key = SvidKey::generate().unwrap();
        let public_key = csr::parse(&key.csr(&id).unwrap()).unwrap();
        let now = WALL + self.boot.as_secs() - 1000;
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let spec = LeafSpec {
            id,
            public_key,
            purpose,
            binding,
            not_before: at(now.saturating_sub(60)),
            not_after: at(now + self.svid_ttl.as_secs()),
            serial: self.random.bytes(),
        };
        let chain = self.authority.issue_leaf(&spec).unwrap();
        Arc::new(X509Svid::new(chain, key).unwrap())
    }
}
