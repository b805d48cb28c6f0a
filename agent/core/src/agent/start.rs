//! The start: what a previous instance left, what the engine still serves, and then everything
//! that had to wait for them.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use crate::{
    adopt::Adoption,
    agent::{Agent, Deferred},
    effects::Ctx,
    event::Event,
    ids::{Epoch, NodeUid},
    io::{EnginePeer, EngineSlot, Input, LookupKey},
    peer::slot::{Keys, addresses},
    rows::{Adopted, MapOp, SendRow},
};

impl Agent {
    pub(super) fn on_adopted(&mut self, adopted: Adopted, ctx: &mut Ctx<'_>) {
        if self.adopted {
            return;
        }
        self.adopted = true;
        let Adopted {
            last_generation,
            endpoints,
            send,
            recv,
            peers,
            policy,
            cidrs,
            pod_ranges,
        } = adopted;
        for (peer, _) in &peers {
            self.last_peer = self.last_peer.max(peer.0);
        }
        for (label, row) in &recv {
            self.labels.reserve(*label);
            self.handles.reserve_class(row.class);
            self.endpoints.reserve_identity(row.identity);
            self.last_peer = self.last_peer.max(row.peer.0);
        }
        for (_, row) in &send {
            if let SendRow::Paired { class, peer, .. } = row {
                self.handles.reserve_class(*class);
                self.last_peer = self.last_peer.max(peer.0);
            }
        }
        for (key, _) in &policy {
            self.handles.reserve_class(key.class);
        }
        for (_, class) in &cidrs {
            self.handles.reserve_class(*class);
        }
        self.endpoints.reserve_generation(last_generation);
        for (row, _) in &endpoints {
            self.endpoints.reserve(row);
            self.handles.reserve_class(row.class);
        }
        self.policy.adopt(&policy);
        self.world
            .adopt(cidrs.iter().map(|(net, _)| *net), pod_ranges);
        let first = signet_abi::CLASS_DYNAMIC;
        self.adoption = Adoption {
            until: None,
            classes: self
                .policy
                .classes()
                .into_iter()
                .filter(|class| class.0 >= first)
                .collect(),
            endpoints: endpoints
                .iter()
                .map(|(row, _)| (row.index, row.clone()))
                .collect(),
            send: send.into_iter().collect(),
            recv: recv.into_iter().collect(),
            peers: peers.into_iter().collect(),
        };
        for (row, pod) in endpoints {
            if let Some(pod) = pod {
                self.early.push(Input::EndpointAdded {
                    pod,
                    ifindex: row.ifindex,
                    ifname: String::new(),
                    mac: row.mac,
                    addresses: row.addresses,
                });
            }
        }
        let (views, endpoints) = std::mem::take(&mut self.early)
            .into_iter()
            .partition::<Vec<_>, _>(|early| matches!(early, Input::Cluster(_)));
        self.early = endpoints;
        for view in views {
            self.route(view, ctx);
        }
        self.try_start(ctx);
    }

    /// Endpoints that waited for the first view.
    pub(super) fn take_early(&mut self, ctx: &mut Ctx<'_>) {
        for early in std::mem::take(&mut self.early) {
            self.route(early, ctx);
        }
    }

    /// The engine's control connection is up, for the first time or again.
    pub(super) fn on_welcome(
        &mut self,
        slots: [EngineSlot; 2],
        serving: Vec<EnginePeer>,
        ctx: &mut Ctx<'_>,
    ) {
        let first = !self.started;
        self.engine.slots = Some(slots.map(|slot| (slot.public_key, slot.port)));
        // Of which epoch its keys are, nobody says.
        self.epochs.keys_of = None;
        self.tend_schedule(ctx);
        self.serving = serving;
        if first {
            self.try_start(ctx);
        } else {
            self.compare_engine(ctx);
        }
    }

    /// Starts once everything is in.
    pub(super) fn try_start(&mut self, ctx: &mut Ctx<'_>) {
        let complete = self.adopted
            && self.engine.is_up()
            && self.cluster.is_some()
            && self.trust.is_some()
            && self.certificate.held(ctx.boot()).is_some();
        if self.started || !complete {
            return;
        }
        self.started = true;
        if !self.directory.is_up() {
            self.outage_begins(ctx);
        }
        let until = ctx.boot() + self.config.timers.adoption;
        self.adopt_engine(until, ctx);
        let Adoption { send, recv, .. } = &self.adoption;
        if !(send.is_empty() && recv.is_empty() && self.adoption.endpoints.is_empty()) {
            ctx.event(Event::AdoptionStarted {
                send: send.len(),
                recv: recv.len(),
            });
        }
        // Also without rows: old policy classes and peers are cleaned up then.
        self.adoption.until = Some(until);
        for Deferred { connected, frames } in std::mem::take(&mut self.deferred) {
            let conn = connected.conn;
            self.on_connected(connected, ctx);
            for (kind, payload) in frames {
                self.on_frame(conn, kind, &payload, ctx);
            }
        }
        self.reprove_adopted(ctx);
        self.advance_all(ctx);
    }

    /// Keys that the engine still holds belong to the node with that underlay address.
    fn adopt_engine(&mut self, until: Duration, ctx: &mut Ctx<'_>) {
        for served in std::mem::take(&mut self.serving) {
            let node = self.node_at(served.underlay);
            let mut keys = served_keys(&served);
            keys.set_allowed(addresses(&served.allowed_ips));
            keys.set_confirmed(addresses(&served.allowed_ips));
            keys.adopted = true;
            keys.retire = Some(until);
            match node {
                Some(node) if served.slot == served.epoch.slot() => {
                    let sends = self.adoption.sends_in(served.epoch, keys.allowed());
                    keys.until = self.adoption.until_of(served.epoch, keys.allowed());
                    let peer = self.ensure_peer(&node, ctx);
                    peer.highest = peer.highest.max(served.epoch);
                    if sends || (peer.tx.0 == 0 && peer.slots.iter().all(Option::is_none)) {
                        peer.tx = served.epoch;
                    }
                    peer.slots[served.slot.index()] = Some(keys);
                }
                // Nobody can say whose keys these are.
                Some(_) | None => {
                    self.adoption
                        .withdraw_epoch(served.epoch, keys.allowed(), ctx);
                    self.engine.remove_peer(&NodeUid::new(""), &keys, ctx);
                }
            }
        }
    }

    /// After a lost control connection: what the engine no longer holds is gone for us, too.
    fn compare_engine(&mut self, ctx: &mut Ctx<'_>) {
        let serving = std::mem::take(&mut self.serving);
        let (mut known, mut missing) = (BTreeSet::new(), Vec::new());
        for (node, peer) in &mut self.peers {
            for keys in peer.slots.iter_mut().flatten() {
                let same = serving.iter().position(|served| {
                    served.slot == keys.epoch.slot()
                        && served.public_key == keys.public_key
                        && served.epoch == keys.epoch
                });
                match same {
                    Some(at) => {
                        known.insert(at);
                        keys.set_confirmed(addresses(&serving[at].allowed_ips));
                    }
                    None => missing.push((node.clone(), keys.epoch)),
                }
            }
        }
        // Nothing is to be said to the engine about keys that it has not.
        let slots = self.engine.slots.take();
        for (node, epoch) in &missing {
            self.vacate(node, epoch.slot(), ctx);
        }
        self.engine.slots = slots;
        for (node, peer) in &self.peers {
            for keys in peer
                .slots
                .iter()
                .flatten()
                .filter(|keys| keys.confirmed() != keys.allowed())
            {
                self.engine.allow(node, keys, ctx);
            }
        }
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in &nodes {
            // Commands of a negotiation are lost with the connection, too.
            let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
            let keyless = channel.is_some_and(|channel| {
                let epoch = channel.epoch();
                epoch.is_none_or(|epoch| missing.contains(&(node.clone(), epoch)))
            });
            if keyless {
                self.drop_channel(node, crate::wire::pb::ByeReason::Engine, ctx);
            }
        }
        for (at, served) in serving.into_iter().enumerate() {
            if !known.contains(&at) {
                let keys = served_keys(&served);
                self.engine.remove_peer(&NodeUid::new(""), &keys, ctx);
            }
        }
        self.advance_all(ctx);
    }

    /// Every adopted send row names a pair that somebody used: it is proven again at once.
    fn reprove_adopted(&mut self, ctx: &mut Ctx<'_>) {
        let keys: Vec<_> = self.adoption.send.keys().copied().collect();
        for key in keys {
            let refused = matches!(self.adoption.send.get(&key), Some(SendRow::Refused { .. }));
            if refused {
                self.adoption.send.remove(&key);
                ctx.bpf(MapOp::RemoveSend(key));
            } else if self.endpoints.at(key.endpoint, key.generation).is_some() {
                self.want(key, ctx);
            }
        }
        // Whose pods may send here without being sent to: are they still there?
        for address in self.adoption.speakers() {
            self.directory.resolve(LookupKey::Address(address), ctx);
        }
    }

    fn node_at(&self, underlay: SocketAddr) -> Option<NodeUid> {
        let nodes = &self.cluster.as_ref()?.nodes;
        let node = nodes
            .iter()
            .find(|node| node.underlay.contains(&underlay.ip()))?;
        (node.uid != self.config.node_uid).then(|| node.uid.clone())
    }

    /// The 120 s are over.
    pub(super) fn end_adoption(&mut self, ctx: &mut Ctx<'_>) {
        let labels: Vec<_> = self.adoption.recv.keys().copied().collect();
        let indexes: Vec<_> = self.adoption.endpoints.keys().copied().collect();
        let ended = self.adoption.end(ctx);
        for label in labels {
            self.labels.free(label);
        }
        for index in indexes {
            self.policy.remove_endpoint(index, ctx);
            self.endpoints.release(index);
        }
        for class in ended.classes {
            // Endpoints that were taken over kept theirs.
            if self.handles.pod_of_class(class).is_none() {
                self.policy.remove_class(class, ctx);
            }
        }
    }

    /// Everything that may go on now does.
    pub(super) fn advance_all(&mut self, ctx: &mut Ctx<'_>) {
        if !self.started {
            return;
        }
        let keys: Vec<_> = self.wants.resolving().map(|(key, _)| *key).collect();
        for key in keys {
            self.advance_want(key, ctx);
        }
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.step_node(&node, ctx);
        }
    }

    /// Keys in the directory's queue that somebody still waits for.
    pub(super) fn wanted_lookups(&self) -> BTreeSet<LookupKey> {
        let mut wanted: BTreeSet<LookupKey> = self
            .wants
            .resolving()
            .map(|(key, _)| LookupKey::Address(key.destination))
            .collect();
        wanted.extend(self.adoption.speakers().into_iter().map(LookupKey::Address));
        let requests = self.peers.values().flat_map(|peer| &peer.requests);
        wanted.extend(requests.map(|request| LookupKey::Pod(request.source.clone())));
        wanted
    }

    pub(super) fn epoch_floor(&self, node: &NodeUid) -> Epoch {
        self.peers.get(node).map_or(Epoch(0), |peer| peer.highest)
    }
}

fn served_keys(served: &EnginePeer) -> Keys {
    let EnginePeer {
        epoch,
        own_key,
        public_key,
        underlay,
        ..
    } = served;
    Keys::new(*epoch, *own_key, *public_key, *underlay)
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Input::Adopted(_) => "Adopted",
            Input::EndpointAdded { .. } => "EndpointAdded",
            Input::EndpointRemoved { .. } => "EndpointRemoved",
            Input::Cluster(_) => "Cluster",
            Input::SvidIssued { .. } => "SvidIssued",
            Input::SvidFailed { .. } => "SvidFailed",
            Input::NodeSvid { .. } => "NodeSvid",
            Input::NodeSvidFailed { .. } => "NodeSvidFailed",
            Input::Trust { .. } => "Trust",
            Input::Schedule(_) => "Schedule",
            Input::Miss { .. } => "Miss",
            Input::Stale { .. } => "Stale",
            Input::MapFailed { .. } => "MapFailed",
            Input::Directory(_) => "Directory",
            Input::ChannelConnected(_) => "ChannelConnected",
            Input::Frame { .. } => "Frame",
            Input::ChannelClosed { .. } => "ChannelClosed",
            Input::DialFailed { .. } => "DialFailed",
            Input::Tunnel(_) => "Tunnel",
            Input::Shutdown => "Shutdown",
        };
        f.write_str(name)
    }
}
