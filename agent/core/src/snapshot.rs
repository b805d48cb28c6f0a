//! How the agent is, as plain data: for the status socket and for metrics.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use signet_abi::DropReason;
use signet_crypto::{spiffe_id::SpiffeId, time::Now, wg::PublicKey};
use signet_policy::PodFacts;

use crate::{
    agent::Agent,
    authn::want::Want,
    facts::Entry,
    ids::{ClassId, EndpointIndex, Epoch, NodeUid, PeerId, PodUid, RemoteId, Slot},
    io::ChannelRole,
    peer::{Dial, channel::Negotiation},
};

/// One local endpoint.
#[derive(Clone, Debug)]
pub struct EndpointSnapshot {
    /// The pod.
    pub pod: PodUid,
    /// Its index.
    pub index: EndpointIndex,
    /// Its generation.
    pub generation: u32,
    /// Host side of its veth.
    pub ifindex: u32,
    /// Its name.
    pub ifname: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What the cluster says of it; `None` while it says nothing.
    pub facts: Option<PodFacts>,
    /// Its identity; `None` while the cluster says nothing of it.
    pub id: Option<SpiffeId>,
    /// Its certificate; `None` while it has none.
    pub svid: Option<SvidSnapshot>,
    /// Whether flows towards it need a rule.
    pub ingress_isolated: bool,
    /// Whether flows from it need a rule.
    pub egress_isolated: bool,
    /// Its pairs by state.
    pub pairs: PairCounts,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvidSnapshot {
    /// SHA-256 of the leaf.
    pub sha256: [u8; 32],
    /// Its end, Unix seconds.
    pub not_after: u64,
}

/// Pairs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairCounts {
    /// Authenticated in both directions.
    pub open: usize,
    /// Being authenticated.
    pub pending: usize,
    /// Refused for a while.
    pub refused: usize,
    /// Left by a previous instance, by send row.
    pub adopted: usize,
}

/// One remote node.
#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    /// The node.
    pub node: NodeUid,
    /// Its name, when the cluster or the directory has told it.
    pub name: Option<String>,
    /// Its number in the data path.
    pub id: PeerId,
    /// The channel; `None` while there is none.
    pub channel: Option<ChannelSnapshot>,
    /// Whether a dial is under way.
    pub dialling: bool,
    /// Why there is no channel.
    pub problem: Option<String>,
    /// When it is dialled again, on the boot clock.
    pub retry_at: Option<Duration>,
    /// The epoch that packets leave in; 0 is none.
    pub tx: Epoch,
    /// When the next keys are to be made, on the boot clock.
    pub next_switch: Option<Duration>,
    /// Keys that the engine holds, older epoch first.
    pub slots: Vec<SlotSnapshot>,
    /// The end of its lease on the boot clock; `None` is no limit.
    pub lease_until: Option<Duration>,
    /// Pairs with pods on it.
    pub pairs: PairCounts,
}

/// One node channel.
#[derive(Clone, Debug)]
pub struct ChannelSnapshot {
    /// `keying` or `ready`.
    pub state: &'static str,
    /// This node's side of TLS.
    pub role: ChannelRole,
    /// The peer's identity.
    pub peer_id: SpiffeId,
    /// When it opened.
    pub since: Now,
    /// The same on both nodes.
    pub session_id: [u8; 32],
    /// Name of the group.
    pub key_exchange: String,
    /// Name of the suite.
    pub cipher: String,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The epoch of its keys, once they can be used.
    pub epoch: Option<Epoch>,
}

/// Keys of one peer in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSnapshot {
    /// The slot.
    pub slot: Slot,
    /// The epoch.
    pub epoch: Epoch,
    /// The peer's static key.
    pub public_key: PublicKey,
    /// Where its datagrams go.
    pub underlay: SocketAddr,
    /// What the engine is told to accept.
    pub allowed_ips: Vec<IpAddr>,
    /// Made by a previous instance.
    pub adopted: bool,
    /// Since when they can be used, on the boot clock; `None` while they are being agreed.
    pub ready: Option<Duration>,
    /// Nothing passes under them after this, on the boot clock.
    pub until: Option<Duration>,
}

/// One pair with rows; `audit peers` and `peers` are made from these.
#[derive(Clone, Debug)]
pub struct PairSnapshot {
    /// Local pod.
    pub local: PodUid,
    /// `namespace/name`.
    pub local_name: String,
    /// Its identity.
    pub local_id: Option<SpiffeId>,
    /// SHA-256 of the certificate that proved it.
    pub local_certificate: [u8; 32],
    /// Remote pod.
    pub remote: PodUid,
    /// `namespace/name`; empty if the directory no longer tells.
    pub remote_name: String,
    /// Its identity.
    pub remote_id: SpiffeId,
    /// SHA-256 of the certificate that proved it.
    pub remote_certificate: [u8; 32],
    /// Its node.
    pub node: NodeUid,
    /// Session id of the channel that made it.
    pub session_id: [u8; 32],
    /// Name of the group.
    pub key_exchange: String,
    /// Name of the suite.
    pub cipher: String,
    /// Epoch of the keys.
    pub epoch: Epoch,
    /// When it was authenticated on this channel.
    pub since: Now,
    /// Its end, on the boot clock.
    pub not_after: Duration,
    /// Its end, Unix seconds.
    pub not_after_unix: u64,
}

/// Numbers for metrics and the first block of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether everything that a start needs is in.
    pub started: bool,
    /// Local endpoints.
    pub endpoints: usize,
    /// Remote nodes with state.
    pub peers: usize,
    /// Open channels.
    pub channels: usize,
    /// Pairs by state.
    pub pairs: PairCounts,
    /// Packets held now.
    pub held_packets: usize,
    /// Their bytes.
    pub held_bytes: usize,
    /// Entries of the policy map.
    pub policy_entries: usize,
    /// Rows that the kernel would not write or remove, to be tried again; endpoints whose policy
    /// is not whole count, too.
    pub unwritten: usize,
    /// Entries of the directory known here.
    pub directory_entries: usize,
    /// Whether the stream from the identity service is up.
    pub directory_up: bool,
    /// Whether the engine's control connection is up.
    pub engine_up: bool,
    /// End of the node's certificate, Unix seconds; 0 while there is none.
    pub node_not_after: u64,
    /// The earliest end of any local certificate in use, Unix seconds; 0 while there is none.
    pub first_not_after: u64,
}

/// Epochs of the cluster, as this node sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochSummary {
    /// The one it is now; `None` while nobody has told when they begin.
    pub current: Option<u64>,
    /// The one in which the oldest keys that packets leave under were made.
    pub oldest: Option<u64>,
    /// Peers whose keys are so old that nothing passes under them.
    pub overdue: usize,
}

impl Agent {
    /// Local endpoints by pod, without the node's own.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointSnapshot> {
        let snapshot = |endpoint: &crate::endpoint::Endpoint| {
            let row = endpoint.row(Duration::ZERO);
            let held = endpoint.certificate.held(Duration::ZERO);
            EndpointSnapshot {
                pod: endpoint.pod.clone(),
                index: endpoint.index,
                generation: endpoint.generation,
                ifindex: endpoint.ifindex,
                ifname: endpoint.ifname.clone(),
                addresses: endpoint.addresses.clone(),
                facts: endpoint.known.as_ref().map(|known| known.facts.clone()),
                id: endpoint.known.as_ref().map(|known| known.id.clone()),
                svid: held.map(|held| SvidSnapshot {
                    sha256: held.svid.sha256(),
                    not_after: held.svid.not_after().as_secs(),
                }),
                ingress_isolated: row.ingress_isolated,
                egress_isolated: row.egress_isolated,
                pairs: self.counts(Some(endpoint.index), |key, _| key.local == endpoint.pod),
            }
        };
        let pods = self.endpoints.iter().filter(|endpoint| !endpoint.is_host());
        pods.map(snapshot).collect()
    }

    /// Remote nodes by UID.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerSnapshot> {
        let snapshot = |(node, peer): (&NodeUid, &crate::peer::Peer)| {
            let keys = peer.slots.iter().flatten();
            let mut slots: Vec<SlotSnapshot> = keys
                .map(|keys| SlotSnapshot {
                    slot: keys.epoch.slot(),
                    epoch: keys.epoch,
                    public_key: keys.public_key,
                    underlay: keys.underlay,
                    allowed_ips: keys.allowed().iter().copied().collect(),
                    adopted: keys.adopted,
                    ready: keys.ready,
                    until: keys.until,
                })
                .collect();
            slots.sort_by_key(|slot| slot.epoch);
            PeerSnapshot {
                node: node.clone(),
                name: peer.name().map(str::to_owned),
                id: peer.id,
                channel: peer.channel.as_ref().map(|channel| ChannelSnapshot {
                    state: match channel.negotiation {
                        Negotiation::Ready { .. } => "ready",
                        Negotiation::Awaiting { .. }
                        | Negotiation::Offered { .. }
                        | Negotiation::Keying { .. }
                        | Negotiation::Accepted { .. } => "keying",
                    },
                    role: channel.role,
                    peer_id: channel.peer_id.clone(),
                    since: channel.since,
                    session_id: channel.session_id,
                    key_exchange: channel.key_exchange.clone(),
                    cipher: channel.cipher.clone(),
                    remote: channel.remote,
                    epoch: channel.epoch(),
                }),
                dialling: matches!(peer.dial, Dial::Dialling { .. }),
                problem: peer.problem.clone(),
                retry_at: match peer.dial {
                    Dial::Waiting { at, .. } => Some(at),
                    Dial::Idle | Dial::Dialling { .. } => None,
                },
                tx: peer.tx,
                next_switch: peer.keys(peer.tx).and_then(|keys| keys.due),
                slots,
                lease_until: peer.ends(),
                pairs: self.counts(None, |_, pair| pair.node == *node),
            }
        };
        self.peers.iter().map(snapshot).collect()
    }

    /// Open pairs by local, then remote pod.
    #[must_use]
    pub fn pairs(&self, now: Now) -> Vec<PairSnapshot> {
        let open = self.pairs.iter().filter(|(_, pair)| pair.is_open());
        open.filter_map(|(key, pair)| {
            let session = pair.session.as_ref()?;
            let tx = self.peers.get(&pair.node).map(|peer| peer.tx);
            let sending = tx
                .and_then(|tx| pair.sending.of(tx))
                .or(pair.sending.newest())?;
            let known = self.endpoints.of_pod(&key.local)?.known.as_ref();
            let grant = pair.grants.newest()?;
            let not_after = grant.not_after.min(sending.until);
            let left = not_after.saturating_sub(now.boot).as_secs();
            Some(PairSnapshot {
                local: key.local.clone(),
                local_name: known
                    .map(|known| known.facts.full_name())
                    .unwrap_or_default(),
                local_id: known.map(|known| known.id.clone()),
                local_certificate: session.local_certificate,
                remote: key.remote.clone(),
                remote_name: self
                    .directory
                    .entry(&key.remote)
                    .map(|entry| entry.pod.full_name())
                    .unwrap_or_default(),
                remote_id: pair.remote_id.clone(),
                remote_certificate: session.remote_certificate,
                node: pair.node.clone(),
                session_id: session.id,
                key_exchange: session.key_exchange.clone(),
                cipher: session.cipher.clone(),
                epoch: sending.epoch,
                since: session.since,
                not_after,
                not_after_unix: now.wall.as_secs().saturating_add(left),
            })
        })
        .collect()
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (held_packets, held_bytes) = self.hold.size();
        let ends = self.endpoints.iter().filter_map(|endpoint| {
            Some(
                endpoint
                    .certificate
                    .held(Duration::ZERO)?
                    .svid
                    .not_after()
                    .as_secs(),
            )
        });
        let node = self.certificate.held(Duration::ZERO);
        let node_not_after = node.map_or(0, |held| held.svid.not_after().as_secs());
        Summary {
            started: self.started,
            endpoints: self.endpoints.iter().filter(|e| !e.is_host()).count(),
            peers: self.peers.len(),
            channels: self
                .peers
                .values()
                .filter(|peer| peer.channel.is_some())
                .count(),
            pairs: PairCounts {
                adopted: self.adoption.send.len(),
                ..self
                    .counts(None, |_, _| true)
                    .with_refused(self.refused(None))
            },
            held_packets,
            held_bytes,
            policy_entries: self.policy.len(),
            unwritten: self.repairs.len()
                + self
                    .endpoints
                    .iter()
                    .filter(|e| e.incomplete.is_some())
                    .count(),
            directory_entries: self.directory.len(),
            directory_up: self.directory.is_up(),
            engine_up: self.engine.is_up(),
            node_not_after,
            first_not_after: ends.chain(node.map(|_| node_not_after)).min().unwrap_or(0),
        }
    }

    /// Epochs, for metrics.
    #[must_use]
    pub fn epochs(&self, now: Now) -> EpochSummary {
        let in_use = || self.peers.values().filter_map(|peer| peer.keys(peer.tx));
        let over = |until: Option<Duration>| until.is_some_and(|until| until <= now.boot);
        EpochSummary {
            current: self.epochs.schedule.map(|schedule| schedule.epoch(now)),
            oldest: in_use().filter_map(|keys| keys.made_in).min(),
            overdue: in_use().filter(|keys| over(keys.until)).count(),
        }
    }

    /// What the directory has told of the pod with this address, if it was asked.
    #[must_use]
    pub fn entry_at(&self, address: IpAddr) -> Option<&Entry> {
        self.directory.at(address.to_canonical())
    }

    /// The remote pod behind a handle of an event.
    #[must_use]
    pub fn remote(&self, remote: RemoteId) -> Option<&Entry> {
        self.directory.entry(self.handles.pod(remote)?)
    }

    /// The pod behind a class of an event; classes below 16 have none.
    #[must_use]
    pub fn pod_of_class(&self, class: ClassId) -> Option<&PodUid> {
        self.handles.pod_of_class(class)
    }

    /// The pod of an endpoint, if the generation is the current one.
    #[must_use]
    pub fn endpoint_pod(&self, index: EndpointIndex, generation: u32) -> Option<&PodUid> {
        Some(&self.endpoints.at(index, generation)?.pod)
    }

    /// The pod of an endpoint, whichever generation it is.
    #[must_use]
    pub fn endpoint_at(&self, index: EndpointIndex) -> Option<&PodUid> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.index == index)
            .map(|e| &e.pod)
    }

    /// Destinations that are refused now, and why.
    #[must_use]
    pub fn refusals(&self) -> Vec<(PodUid, IpAddr, DropReason)> {
        let refused = self.wants.iter().filter_map(|(key, want)| match want {
            Want::Refused { reason, .. } => Some((key, *reason)),
            Want::Resolving { .. } | Want::Pairing(_) => None,
        });
        refused
            .filter_map(|(key, reason)| {
                let pod = self.endpoint_pod(key.endpoint, key.generation)?;
                Some((pod.clone(), key.destination, reason))
            })
            .collect()
    }

    fn counts(
        &self,
        endpoint: Option<EndpointIndex>,
        of: impl Fn(&crate::authn::label::PairKey, &crate::authn::pair::Pair) -> bool,
    ) -> PairCounts {
        let mut counts = PairCounts::default();
        for (_, pair) in self.pairs.iter().filter(|(key, pair)| of(key, pair)) {
            if pair.is_open() {
                counts.open += 1;
            } else {
                counts.pending += 1;
            }
        }
        let Some(index) = endpoint else { return counts };
        counts.adopted = self
            .adoption
            .send
            .keys()
            .filter(|key| key.endpoint == index)
            .count();
        counts.with_refused(self.refused(endpoint))
    }

    fn refused(&self, endpoint: Option<EndpointIndex>) -> usize {
        let of = |index| endpoint.is_none_or(|wanted| wanted == index);
        let refused = |want: &Want| matches!(want, Want::Refused { .. });
        self.wants
            .iter()
            .filter(|(key, want)| of(key.endpoint) && refused(want))
            .count()
    }
}

impl PairCounts {
    fn with_refused(self, refused: usize) -> Self {
        Self { refused, ..self }
    }
}
