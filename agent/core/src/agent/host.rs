//! The node itself among its pods: an endpoint without an interface, whose identity is the node's own.
//!
//! What the node sends to pods of other nodes, and what it forwards to them under its own address,
//! goes by the tunnel under labels of this endpoint. Other nodes are remote ends of the same kind.
//! Neither needs a proof of its own: the channel proves the node, and a renewed certificate is shown
//! there. Where such an end may come from is the cluster's word, not the directory's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use signet_policy::{PeerFacts, PodFacts};

use crate::{
    agent::Agent,
    effects::Ctx,
    endpoint::{Interface, Known, MAX_ADDRESSES, svid::Certificate},
    facts::{Entry, NodeFacts},
    ids::{IdentityId, PodUid},
};

impl Agent {
    /// Brings the node's own endpoint in line with what the cluster says of the node.
    pub(super) fn set_host(&mut self, ctx: &mut Ctx<'_>) {
        let host = PodUid::of_node(&self.config.node_uid);
        let addresses = match self.own_node() {
            Some(node) => self.addresses_of(node),
            None => Vec::new(),
        };
        if addresses.is_empty() {
            return self.on_endpoint_removed(&host, ctx);
        }
        let known = self.endpoints.of_pod(&host);
        if known.is_none_or(|known| known.addresses != addresses) {
            let interface = Interface {
                ifindex: 0,
                ifname: String::new(),
                mac: [0; 6],
                addresses,
            };
            self.on_endpoint_added(host, interface, ctx);
        }
    }

    /// What is known of the node's own endpoint.
    pub(super) fn host_known(&mut self, adopted: Option<IdentityId>) -> Option<Known> {
        let node = self.own_node()?.clone();
        let id = self.config.node_id.clone();
        if let Some(number) = adopted {
            self.endpoints.adopt_identity(&id, number);
        }
        let identity = self.endpoints.identity(&id);
        let addresses = self.addresses_of(&node);
        Some(Known {
            facts: facts(&node, addresses),
            id,
            identity,
        })
    }

    /// The node's certificate was renewed, and with it that of its own endpoint.
    pub(super) fn lend_certificate(&mut self, ctx: &mut Ctx<'_>) {
        let host = PodUid::of_node(&self.config.node_uid);
        let Some(endpoint) = self.endpoints.of_pod_mut(&host) else {
            return;
        };
        endpoint.certificate = Certificate::lent(&self.certificate);
        endpoint.adopted_until = None;
        self.write_endpoint(&host, ctx);
        self.answer_requests_for(&host, ctx);
        for key in self.pairs.of_local(&host) {
            self.step(&key, ctx);
        }
    }

    /// The other nodes, as ends that pods may talk with.
    pub(super) fn learn_nodes(&mut self, ctx: &mut Ctx<'_>) {
        let Some(view) = self.cluster.as_ref() else {
            return;
        };
        let others = view
            .nodes
            .iter()
            .filter(|node| node.uid != self.config.node_uid);
        let entries = others.filter_map(|node| {
            let addresses = self.addresses_of(node);
            (!addresses.is_empty()).then(|| Entry {
                generation: 0,
                uid: PodUid::of_node(&node.uid),
                pod: facts(node, addresses),
                spiffe_id: node.spiffe_id.clone(),
                namespace_uid: String::new(),
                service_account_uid: String::new(),
                node: node.clone(),
            })
        });
        let entries = entries.collect();
        let changes = self.directory.set_nodes(entries, ctx);
        self.on_changes(changes, ctx);
    }

    /// A remote end as policy sees it from this node.
    pub(super) fn facts_of(&self, entry: &Entry) -> PeerFacts {
        match entry.uid.node() {
            Some(_) => self.node_facts(&entry.pod.addresses),
            None => PeerFacts::Pod(entry.pod.clone()),
        }
    }

    /// A local end as policy sees it from another node.
    pub(super) fn facts_elsewhere(&self, local: &PodFacts) -> PeerFacts {
        if local.namespace.is_empty() {
            self.node_facts(&local.addresses)
        } else {
            PeerFacts::Pod(local.clone())
        }
    }

    /// Whether some rule admits the pair in either direction. Two nodes are none: they reach each
    /// other outside of the tunnel.
    pub(super) fn admits(&self, local: &PodFacts, remote: &Entry) -> bool {
        let Some(view) = self.cluster.as_ref() else {
            return false;
        };
        match (local.namespace.is_empty(), remote.uid.node().is_some()) {
            (true, true) => false,
            (true, false) => view
                .policies
                .admits_node(&remote.pod, &self.facts_elsewhere(local)),
            (false, true) => view.policies.admits_node(local, &self.facts_of(remote)),
            (false, false) => view.policies.admits_any(local, &remote.pod),
        }
    }

    /// A node, seen from another one.
    fn node_facts(&self, addresses: &[IpAddr]) -> PeerFacts {
        let mut api = self.cluster.iter().flat_map(|view| &view.kube_api_servers);
        if api.any(|server| addresses.contains(server)) {
            PeerFacts::ApiServerNode(addresses.to_vec())
        } else {
            PeerFacts::RemoteNode(addresses.to_vec())
        }
    }

    fn own_node(&self) -> Option<&NodeFacts> {
        let nodes = self.cluster.iter().flat_map(|view| &view.nodes);
        nodes
            .into_iter()
            .find(|node| node.uid == self.config.node_uid)
    }

    /// A node's addresses, as many as rows hold. What two nodes claim, or lies in a range of pods, is
    /// nobody's: with it one could speak for the other.
    fn addresses_of(&self, node: &NodeFacts) -> Vec<IpAddr> {
        let mut claims: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
        let nodes = || self.cluster.iter().flat_map(|view| &view.nodes);
        for other in nodes() {
            for address in &other.underlay {
                let claimed = claims.entry(address.to_canonical()).or_default();
                claimed.insert(other.uid.as_str());
            }
        }
        let of_pods = |address: &IpAddr| {
            nodes()
                .flat_map(|node| &node.pod_cidrs)
                .any(|range| range.contains(address))
        };
        let mut own = Vec::new();
        for address in node.underlay.iter().map(IpAddr::to_canonical) {
            let alone = claims.get(&address).is_some_and(|by| by.len() == 1);
            if alone && !of_pods(&address) && !own.contains(&address) {
                own.push(address);
            }
        }
        own.truncate(MAX_ADDRESSES);
        own
    }
}

/// A node in the shape of a pod's facts. Without a namespace no policy selects it, and no selector of
/// pods is ever asked about it.
fn facts(node: &NodeFacts, addresses: Vec<IpAddr>) -> PodFacts {
    PodFacts {
        uid: PodUid::of_node(&node.uid).as_str().to_owned(),
        namespace: String::new(),
        name: node.name.clone(),
        service_account: String::new(),
        spiffe_id: node.spiffe_id.to_string(),
        labels: BTreeMap::new(),
        namespace_labels: BTreeMap::new(),
        addresses,
        named_ports: None,
        enrolled: true,
    }
}
