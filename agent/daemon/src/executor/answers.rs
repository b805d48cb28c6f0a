//! The core's state in the words of the status socket.

use signet_abi::DropReason;
use signet_agent_core::{
    io::ChannelRole,
    snapshot::{self, ChannelSnapshot, EndpointSnapshot, PairSnapshot, PeerSnapshot},
    status::{
        AuditPeer, AuditPeers, Channel, DropCount, Endpoint, Endpoints, HeldStatus, IdentityStatus,
        PairCounts, Peer, Peers, PolicyStatus, Status, SvidStatus,
    },
};

use super::{Executor, ask::Ask};
use crate::clock;
use crate::metrics::clamp;

/// What every channel speaks: nothing else is ever negotiated.
const TLS_VERSION: &str = "TLSv1.3";
const TUNNEL: &str = "WireGuard (userspace), preshared key from the channel";

impl Executor {
    pub(super) async fn answer(&mut self, ask: Ask) {
        // Who asked may have gone; then nobody needs the answer.
        match ask {
            Ask::Status(to) => drop(to.send(self.status())),
            Ask::Peers(to) => drop(to.send(self.peers())),
            Ask::Endpoints(to) => drop(to.send(self.endpoints())),
            Ask::AuditPeers(to) => drop(to.send(self.audit_peers())),
            Ask::Observe(to) => drop(to.send(self.observe.subscribe())),
            Ask::Policies(to) => drop(to.send(self.policies())),
            Ask::Impact(to) => drop(to.send(self.impact())),
            Ask::Explain(query, to) => drop(to.send(self.explain(&query))),
            Ask::AddEndpoint(new, to) => {
                self.discovery.withdrawn.remove(&new.pod_uid);
                drop(to.send(self.add_endpoint(new).await));
            }
            Ask::RemoveEndpoint(pod, to) => {
                self.discovery.withdrawn.insert(pod.clone());
                let pod = signet_agent_core::io::PodUid::new(pod);
                let _ = to.send(self.remove_endpoint(pod).await);
            }
            Ask::Endpoint(pod, to) => drop(to.send(self.endpoint(&pod))),
        }
    }

    fn status(&self) -> Status {
        let summary = self.agent.summary();
        let counters = self.agent.counters();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.facts.node_name.clone(),
            node_uid: Some(self.facts.node_uid.clone()),
            node_spiffe_id: Some(self.facts.node_spiffe_id.clone()),
            boot_id: self.facts.boot_id.clone(),
            mode: self.facts.mode.to_owned(),
            uptime_secs: self.facts.started.elapsed().as_secs(),
            identity: IdentityStatus {
                subscriptions: self.subscribed.len() as u64,
                ..self.identity_status.clone()
            },
            tunnel: self.tunnel_status(),
            endpoints: summary.endpoints as u64,
            peers: summary.peers as u64,
            pairs: counts(&summary.pairs),
            held: HeldStatus {
                packets: summary.held_packets as u64,
                bytes: summary.held_bytes as u64,
                held_total: counters.held,
                released_total: counters.released,
                dropped_total: counters.held_dropped,
            },
            svids: self.svids(),
            drops: self.drops(),
            policies: PolicyStatus {
                authenticated: self.cluster.authenticated_policies,
                network: self.cluster.network_policies,
                map_entries: summary.policy_entries as u64,
                problems: self.cluster.policy_problems.clone(),
            },
            manifest_problems: self.cluster.manifest_problems.clone(),
            checks: self.health.checks(),
        }
    }

    fn tunnel_status(&self) -> signet_agent_core::status::TunnelStatus {
        let mut status = self.tunnel_status.clone();
        for peer in self.agent.peers() {
            for keys in peer.slots {
                if let Some(slot) = status
                    .slots
                    .iter_mut()
                    .find(|slot| slot.slot == keys.slot.number())
                {
                    slot.peers += 1;
                }
            }
        }
        status
    }

    fn svids(&self) -> Vec<SvidStatus> {
        let node = self.service.svid.load();
        let mut svids = vec![SvidStatus {
            spiffe_id: node.id().to_string(),
            kind: "node".to_owned(),
            pod: None,
            sha256: node.sha256_hex(),
            not_after: node.not_after().as_secs(),
        }];
        svids.extend(self.agent.endpoints().into_iter().filter_map(|endpoint| {
            let svid = endpoint.svid?;
            Some(SvidStatus {
                spiffe_id: endpoint.id?.to_string(),
                kind: "workload".to_owned(),
                pod: endpoint.facts.map(|facts| facts.full_name()),
                sha256: hex::encode(svid.sha256),
                not_after: svid.not_after,
            })
        }));
        svids.sort_by_key(|svid| svid.not_after);
        svids
    }

    fn drops(&self) -> Vec<DropCount> {
        let drops = self
            .dataplane
            .counts()
            .map(|counts| counts.drops)
            .unwrap_or_default();
        let others = self
            .other_drops
            .iter()
            .map(|(reason, packets)| (*reason, *packets));
        let drops = drops
            .into_iter()
            .chain(others)
            .filter(|(_, packets)| *packets > 0);
        drops
            .map(|(reason, packets)| DropCount {
                reason: reason.number(),
                name: reason.as_str().to_owned(),
                packets,
            })
            .collect()
    }

    /// Counts packets that were dropped outside the data path, so that every total tells of them.
    pub(super) fn count_drops(&mut self, reason: DropReason, packets: u64) {
        let total = self.other_drops.entry(reason).or_default();
        *total = total.saturating_add(packets);
    }

    fn peers(&self) -> Peers {
        let mut peers: Vec<_> = self
            .agent
            .peers()
            .into_iter()
            .map(|peer| self.peer_of(peer))
            .collect();
        peers.sort_by(|one, other| one.node.cmp(&other.node));
        Peers { peers }
    }

    fn peer_of(&self, peer: PeerSnapshot) -> Peer {
        let name = peer
            .name
            .unwrap_or_else(|| self.names.node(peer.node.as_str()));
        let facts = self
            .cluster
            .view
            .nodes
            .iter()
            .find(|node| node.uid == peer.node);
        let id = peer.channel.as_ref().map(|channel| channel.peer_id.clone());
        let id = id.or_else(|| facts.map(|facts| facts.spiffe_id.clone()));
        let keys = peer.slots.iter().find(|keys| keys.epoch == peer.tx);
        let keys = keys.or(peer.slots.last());
        let now = clock::boot();
        Peer {
            node: name,
            node_uid: peer.node.as_str().to_owned(),
            spiffe_id: id.map(|id| id.to_string()).unwrap_or_default(),
            underlay: keys.map(|keys| keys.underlay),
            problem: if peer.dialling {
                Some("dialling".to_owned())
            } else {
                peer.problem
            },
            channel: peer.channel.map(channel),
            epoch: keys.map(|keys| keys.epoch.0),
            slot: keys.map(|keys| keys.slot.number()),
            epoch_age_secs: keys
                .and_then(|keys| keys.ready)
                .map(|ready| now.saturating_sub(ready).as_secs()),
            next_switch_secs: peer.next_switch.map(|at| at.saturating_sub(now).as_secs()),
            overdue: keys
                .and_then(|keys| keys.until)
                .is_some_and(|until| until <= now),
            public_key: keys.map(|keys| keys.public_key.to_string()),
            last_handshake_secs: None,
            rx_bytes: 0,
            tx_bytes: 0,
            allowed_ips: keys
                .map(|keys| keys.allowed_ips.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            pairs: counts(&peer.pairs),
        }
    }

    fn endpoints(&self) -> Endpoints {
        let mut endpoints: Vec<_> = self
            .agent
            .endpoints()
            .into_iter()
            .map(|endpoint| self.endpoint_of(endpoint))
            .collect();
        endpoints.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        Endpoints { endpoints }
    }

    pub(super) fn endpoint(&self, pod_uid: &str) -> Option<Endpoint> {
        let mut endpoints = self.agent.endpoints().into_iter();
        let found = endpoints.find(|endpoint| endpoint.pod.as_str() == pod_uid)?;
        Some(self.endpoint_of(found))
    }

    fn endpoint_of(&self, endpoint: EndpointSnapshot) -> Endpoint {
        let mut pending = Vec::new();
        if endpoint.facts.is_none() {
            pending.push("the manifests don't tell the pod yet".to_owned());
        }
        if endpoint.svid.is_none() {
            let service = &self.identity_status;
            pending.push(if service.connected {
                "its certificate is being issued".to_owned()
            } else {
                format!(
                    "its certificate: identity service {} is not reached",
                    service.address
                )
            });
        }
        if !self.tunnel_status.connected {
            pending.push("the tunnel engine is not connected".to_owned());
        }
        let facts = endpoint.facts.as_ref();
        let record = self.store.record(endpoint.pod.as_str());
        let found_by = record.map(|record| record.found).unwrap_or_default().name();
        Endpoint {
            index: endpoint.index.0,
            generation: endpoint.generation,
            pod_uid: endpoint.pod.as_str().to_owned(),
            name: facts.map(|facts| facts.name.clone()).unwrap_or_default(),
            namespace: facts
                .map(|facts| facts.namespace.clone())
                .unwrap_or_default(),
            service_account: facts
                .map(|facts| facts.service_account.clone())
                .unwrap_or_default(),
            spiffe_id: endpoint
                .svid
                .as_ref()
                .and(endpoint.id.as_ref())
                .map(ToString::to_string),
            addresses: endpoint.addresses,
            interface: endpoint.ifname,
            found_by: found_by.to_owned(),
            ifindex: endpoint.ifindex,
            svid_not_after: endpoint.svid.map(|svid| svid.not_after),
            ingress_isolated: endpoint.ingress_isolated,
            egress_isolated: endpoint.egress_isolated,
            pairs: counts(&endpoint.pairs),
            pending,
        }
    }

    fn audit_peers(&self) -> AuditPeers {
        let pairs = self.agent.pairs(self.time.now());
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .map(|pair| self.audit_peer(pair))
            .collect();
        pairs.sort_by(|one, other| {
            (&one.local_pod, &one.remote_pod).cmp(&(&other.local_pod, &other.remote_pod))
        });
        AuditPeers { pairs }
    }

    fn audit_peer(&self, pair: PairSnapshot) -> AuditPeer {
        AuditPeer {
            local_pod: pair.local_name,
            local_pod_uid: pair.local.as_str().to_owned(),
            local_spiffe_id: pair.local_id.map(|id| id.to_string()).unwrap_or_default(),
            local_certificate: hex::encode(pair.local_certificate),
            remote_pod: if pair.remote_name.is_empty() {
                pair.remote.as_str().to_owned()
            } else {
                pair.remote_name
            },
            remote_pod_uid: pair.remote.as_str().to_owned(),
            remote_spiffe_id: pair.remote_id.to_string(),
            remote_certificate: hex::encode(pair.remote_certificate),
            remote_node: self.names.node(pair.node.as_str()),
            tls_version: TLS_VERSION.to_owned(),
            key_exchange: pair.key_exchange,
            cipher: pair.cipher,
            session_id: hex::encode(pair.session_id),
            epoch: pair.epoch.0,
            tunnel: TUNNEL.to_owned(),
            since: pair.since.wall.as_secs(),
            not_after: pair.not_after_unix,
            state: "open".to_owned(),
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn measure_core(&self) {
        let summary = self.agent.summary();
        let endpoints = self.agent.endpoints();
        let metrics = &self.metrics;
        metrics.endpoints.set(clamp(summary.endpoints as u64));
        metrics.peers.set(clamp(summary.peers as u64));
        metrics.channels.set(clamp(summary.channels as u64));
        metrics.hold_packets.set(clamp(summary.held_packets as u64));
        metrics
            .policy_entries
            .set(clamp(summary.policy_entries as u64));
        let epochs = self.agent.epochs(self.time.now());
        let current = epochs.current.unwrap_or_default();
        metrics.epoch.set(clamp(current));
        let oldest = epochs.oldest.unwrap_or(current);
        metrics.oldest_epoch.set(clamp(oldest));
        metrics.epoch_overdue.set(clamp(epochs.overdue as u64));
        metrics.map_unwritten.set(clamp(summary.unwritten as u64));
        let pairs = counts(&summary.pairs);
        for (state, count) in [
            ("open", pairs.open),
            ("pending", pairs.pending),
            ("refused", pairs.refused),
            ("adopted", pairs.adopted),
        ] {
            metrics.pairs(state, count);
        }
        let ends = endpoints
            .iter()
            .filter_map(|endpoint| Some(endpoint.svid.as_ref()?.not_after));
        metrics.svids.set(clamp(ends.clone().count() as u64));
        if let Some(first) = ends.min() {
            metrics.svid_ends("workload", first);
        }
        metrics.svid_ends("node", self.service.svid.load().not_after().as_secs());
        let labels = self.dataplane.labels();
        metrics.labels("granted", labels.granted);
        metrics.labels("held", labels.held);
    }
}

fn channel(channel: ChannelSnapshot) -> Channel {
    Channel {
        state: channel.state.to_owned(),
        role: match channel.role {
            ChannelRole::Client => "client",
            ChannelRole::Server => "server",
        }
        .to_owned(),
        since: channel.since.wall.as_secs(),
        session_id: hex::encode(channel.session_id),
        tls_version: TLS_VERSION.to_owned(),
        key_exchange: channel.key_exchange,
        cipher: channel.cipher,
        remote: Some(channel.remote),
    }
}

fn counts(counts: &snapshot::PairCounts) -> PairCounts {
    PairCounts {
        open: counts.open as u64,
        pending: counts.pending as u64,
        refused: counts.refused as u64,
        adopted: counts.adopted as u64,
    }
}
