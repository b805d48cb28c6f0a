//! Destinations that a local pod wants: from the first missed packet to a pair, or to a refusal.

use std::net::IpAddr;

use signet_abi::DropReason;
use signet_policy::{Action, PortMap};

use crate::{
    agent::Agent,
    authn::{label::PairKey, pair::Pair, want::Want},
    effects::Ctx,
    event::Event,
    ids::PodUid,
    io::{LookupKey, Output},
    rows::{MapOp, SendKey, SendRow},
};

impl Agent {
    pub(super) fn on_miss(&mut self, key: SendKey, packet: Option<Vec<u8>>, ctx: &mut Ctx<'_>) {
        let drop = |reason, ctx: &mut Ctx<'_>| {
            if packet.is_some() {
                ctx.counters.held_dropped += 1;
                let SendKey {
                    endpoint,
                    destination,
                    ..
                } = key;
                ctx.push(Output::DropHeld {
                    endpoint,
                    destination,
                    reason,
                    count: 1,
                });
            }
        };
        let destination = key.destination.to_canonical();
        let key = SendKey { destination, ..key };
        let Some(endpoint) = self.endpoints.at(key.endpoint, key.generation) else {
            return drop(DropReason::EndpointGone, ctx);
        };
        let local = endpoint.pod.clone();
        if self.sends(&local, destination) {
            if self.repairs.lacks(key) {
                return drop(DropReason::MapFull, ctx);
            }
            // It was on its way here while the row was written.
            if let Some(packet) = packet {
                ctx.counters.released += 1;
                let SendKey {
                    endpoint,
                    generation,
                    ..
                } = key;
                ctx.push(Output::Inject {
                    endpoint,
                    generation,
                    packet,
                });
            }
            return;
        }
        match self.wants.of(&key) {
            Some(Want::Refused { until, reason, .. }) if *until > ctx.boot() => {
                return drop(*reason, ctx);
            }
            Some(Want::Resolving { .. } | Want::Pairing(_) | Want::Refused { .. }) => {}
            None => {
                let now = ctx.boot();
                let endpoint = self.endpoints.of_pod_mut(&local);
                if !endpoint.is_some_and(|endpoint| endpoint.new_pairs.take(now)) {
                    ctx.counters.pairs_limited += 1;
                    return drop(DropReason::RateLimited, ctx);
                }
            }
        }
        if let Some(packet) = packet {
            self.hold.push(key, packet, &self.config.limits, ctx);
        }
        self.want(key, ctx);
    }

    /// Begins, or goes on, to make a pair for this destination.
    pub(super) fn want(&mut self, key: SendKey, ctx: &mut Ctx<'_>) {
        let over = match self.wants.of(&key) {
            Some(Want::Refused { .. }) | None => true,
            Some(Want::Resolving { .. } | Want::Pairing(_)) => false,
        };
        if over {
            self.wants.resolve(key, ctx.boot());
        }
        self.advance_want(key, ctx);
    }

    pub(super) fn advance_want(&mut self, key: SendKey, ctx: &mut Ctx<'_>) {
        if !self.started || !self.wants.of(&key).is_some_and(Want::is_resolving) {
            return;
        }
        let Some(endpoint) = self.endpoints.at(key.endpoint, key.generation) else {
            self.wants.remove(&key);
            return;
        };
        let local = endpoint.pod.clone();
        let known = self.directory.at(key.destination).cloned();
        let Some(entry) = known else {
            if self.wants.has_turn(&key) {
                let address = LookupKey::Address(key.destination);
                self.directory.resolve(address, ctx);
            }
            return;
        };
        if local.node().is_some() && entry.uid.node().is_some() {
            let detail = "nodes reach each other on the underlay, not by the tunnel";
            return self.refuse(key, DropReason::UnknownDestination, detail, ctx);
        }
        if entry.node.uid == self.config.node_uid {
            let detail = "the destination runs on this node and is not reached by the tunnel";
            return self.refuse(key, DropReason::UnknownDestination, detail, ctx);
        }
        let pair = PairKey {
            local,
            remote: entry.uid.clone(),
        };
        self.wants.insert(key, Want::Pairing(entry.uid.clone()));
        self.ensure_pair(&pair, &entry, ctx);
        if let Some(pair) = self.pairs.of_mut(&pair) {
            pair.wanted.get_or_insert(ctx.now.boot);
        }
        self.step(&pair, ctx);
    }

    /// Lets those go on whose turn it is to ask the directory.
    pub(super) fn take_turns(&mut self, ctx: &mut Ctx<'_>) {
        while self.started
            && let Some(key) = self.wants.next_turn()
        {
            self.advance_want(key, ctx);
        }
    }

    /// Makes the pair if it is not there.
    pub(super) fn ensure_pair(
        &mut self,
        key: &PairKey,
        entry: &crate::facts::Entry,
        ctx: &mut Ctx<'_>,
    ) {
        self.learn_node(&entry.node, ctx);
        if self.pairs.of(key).is_none() {
            let class = self.handles.class(&entry.uid);
            let remote = self.handles.remote(&entry.uid);
            let node = entry.node.uid.clone();
            let addresses = entry.pod.addresses.iter().copied();
            let addresses = addresses.take(crate::endpoint::MAX_ADDRESSES).collect();
            self.pairs.insert(
                key.clone(),
                Pair::new(node, addresses, class, remote, entry.spiffe_id.clone()),
            );
        }
    }

    /// The directory answered; `found` is whether there is such a pod.
    pub(super) fn on_answered(&mut self, key: &LookupKey, found: bool, ctx: &mut Ctx<'_>) {
        if let LookupKey::Address(address) = key {
            if !found {
                self.adoption.withdraw_addresses(&[*address], ctx);
            }
            for key in self.wants.resolving_to(*address) {
                if found {
                    self.advance_want(key, ctx);
                } else {
                    let detail = "the directory knows no pod with this address";
                    self.refuse(key, DropReason::UnknownDestination, detail, ctx);
                }
            }
        }
        if let LookupKey::Pod(pod) = key {
            self.answer_requests_of(pod, found, ctx);
        }
    }

    /// Refuses one destination for a while.
    pub(super) fn refuse(
        &mut self,
        key: SendKey,
        reason: DropReason,
        detail: &str,
        ctx: &mut Ctx<'_>,
    ) {
        let until = ctx.boot() + ctx.jitter(self.config.timers.refused);
        // A row of a previous instance runs on: that its pair could not be proven again yet is no
        // reason to end it early. What is a reason has removed it before this.
        let row = !self.adoption.send.contains_key(&key);
        self.wants.insert(key, Want::Refused { until, reason, row });
        if row {
            ctx.bpf(MapOp::SetSend(
                key,
                SendRow::Refused {
                    reason,
                    not_after: until,
                },
            ));
        }
        self.hold.discard(key, reason, ctx);
        ctx.counters.pairs_refused += 1;
        if let Some(endpoint) = self.endpoints.at(key.endpoint, key.generation) {
            ctx.event(Event::PairRefused {
                local: endpoint.pod.clone(),
                destination: key.destination,
                reason,
                detail: detail.to_owned(),
            });
        }
    }

    /// Refuses every destination that waits for this pair. Rows it has already stay.
    pub(super) fn refuse_pair(
        &mut self,
        key: &PairKey,
        reason: DropReason,
        detail: &str,
        ctx: &mut Ctx<'_>,
    ) {
        for want in self.wants_of(key) {
            self.refuse(want, reason, detail, ctx);
        }
        let pause = ctx.jitter(self.config.timers.refused);
        let node = self.pairs.of(key).map(|pair| pair.node.clone());
        let peer = node.as_ref().and_then(|node| self.peers.get(node));
        let epoch = peer.and_then(crate::peer::Peer::epoch);
        if let Some(pair) = self.pairs.of_mut(key) {
            pair.refused_in = epoch;
            pair.ask = None;
            pair.wanted = None;
            pair.not_before = ctx.now.boot + pause;
        }
        self.drop_idle_pair(key, ctx);
        if let Some(node) = node {
            self.review_switch(&node, ctx);
        }
    }

    /// Forgets refusals, so that the next packet asks again.
    pub(super) fn flush_refusals(&mut self, of: impl Fn(&SendKey) -> bool, ctx: &mut Ctx<'_>) {
        let keys = self
            .wants
            .refused()
            .filter(|key| of(key))
            .copied()
            .collect();
        self.forget_refusals(keys, ctx);
    }

    pub(super) fn forget_refusals(&mut self, keys: Vec<SendKey>, ctx: &mut Ctx<'_>) {
        let mut again = Vec::new();
        for key in keys {
            let Some(Want::Refused { row, .. }) = self.wants.remove(&key) else {
                continue;
            };
            if row {
                ctx.bpf(MapOp::RemoveSend(key));
            } else if self.adoption.send.contains_key(&key) {
                again.push(key);
            }
        }
        for key in again {
            self.want(key, ctx);
        }
    }

    /// Forgets what the directory could not tell in time, once no packet waits for it any more.
    pub(super) fn expire_wants(&mut self, ctx: &Ctx<'_>) {
        let longest = self.config.timers.hold;
        let over = self.wants.resolving().filter(|(key, want)| {
            let since = match want {
                Want::Resolving { since, .. } => *since,
                Want::Pairing(_) | Want::Refused { .. } => return false,
            };
            since + longest <= ctx.now.boot
                && self.hold.since(key).is_none()
                && !self.adoption.send.contains_key(key)
        });
        let over: Vec<SendKey> = over.map(|(key, _)| *key).collect();
        for key in over {
            self.wants.remove(&key);
        }
    }

    /// Forgets wanted destinations; refusal rows go with them.
    pub(super) fn drop_wants_where(&mut self, of: impl Fn(&SendKey) -> bool, ctx: &mut Ctx<'_>) {
        self.flush_refusals(&of, ctx);
        let keys = self.wants.iter().map(|(key, _)| *key);
        let keys: Vec<SendKey> = keys.filter(|key| of(key)).collect();
        for key in keys {
            self.wants.remove(&key);
        }
    }

    /// Destinations that wait for this pair.
    pub(super) fn wants_of(&self, key: &PairKey) -> Vec<SendKey> {
        let Some(endpoint) = self.endpoints.of_pod(&key.local) else {
            return Vec::new();
        };
        let waits = |want: &Want| matches!(want, Want::Pairing(remote) if *remote == key.remote);
        let own = self.wants.of_endpoint(endpoint.index);
        own.filter(|(_, want)| waits(want))
            .map(|(want, _)| *want)
            .collect()
    }

    /// Whether a send row of a pair covers this destination.
    fn sends(&self, local: &PodUid, destination: IpAddr) -> bool {
        let Some(entry) = self.directory.at(destination) else {
            return false;
        };
        let key = PairKey {
            local: local.clone(),
            remote: entry.uid.clone(),
        };
        self.pairs
            .of(&key)
            .is_some_and(|pair| !pair.sending.is_empty() && pair.addresses.contains(&destination))
    }

    /// Which end refuses a pair that no rule admits.
    pub(super) fn denial(&self, key: &PairKey) -> DropReason {
        let sides = || {
            let view = self.cluster.as_ref()?;
            let local = &self.endpoints.of_pod(&key.local)?.known.as_ref()?.facts;
            let entry = self.directory.entry(&key.remote)?;
            let remote = &entry.pod;
            let peer = self.facts_of(entry);
            let egress = view.policies.compile_pair(local, &peer).egress;
            let own = side(&egress, view.policies.isolation(local).egress);
            let peer = self.facts_elsewhere(local);
            let ingress = view.policies.compile_pair(remote, &peer).ingress;
            Some((own, side(&ingress, view.policies.isolation(remote).ingress)))
        };
        match sides() {
            Some((Side::Denies, _)) => DropReason::PolicyEgressDenied,
            Some((Side::Default, _)) => DropReason::DefaultDenyEgress,
            Some((Side::Admits, Side::Denies)) => DropReason::PolicyIngressDenied,
            Some((Side::Admits, Side::Default | Side::Admits)) | None => {
                DropReason::DefaultDenyIngress
            }
        }
    }
}

/// What one end's rules say of a pair as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Admits,
    /// No rule admits it, and one denies it.
    Denies,
    /// No rule speaks of it.
    Default,
}

fn side(map: &PortMap, isolated: bool) -> Side {
    let ranges = || {
        map.ranges()
            .flat_map(|(_, ranges)| ranges.iter().map(|range| range.verdict))
    };
    let all = || map.any_protocol().into_iter().chain(ranges());
    let any_denied = map
        .any_protocol()
        .is_some_and(|verdict| verdict.action == Action::Deny);
    if all().any(|verdict| verdict.action == Action::Allow) || !(isolated || any_denied) {
        Side::Admits
    } else if all().any(|verdict| verdict.action == Action::Deny) {
        Side::Denies
    } else {
        Side::Default
    }
}
