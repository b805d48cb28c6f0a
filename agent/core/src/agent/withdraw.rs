//! What is no longer true is no longer granted: at once, both ways.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    agent::Agent,
    authn::want::Want,
    directory::Change,
    effects::Ctx,
    event::PairEnd,
    facts::Entry,
    ids::{NodeUid, PeerId, PodUid, Slot},
    io::LookupKey,
    rows::{MapOp, SendKey},
    wire::{Message, pb},
};

impl Agent {
    /// News of the directory, first what goes, then what comes.
    pub(super) fn on_changes(&mut self, changes: Vec<Change>, ctx: &mut Ctx<'_>) {
        for change in changes {
            match change {
                Change::Gone(entry) => self.on_remote_gone(&entry, ctx),
                Change::New(pod) => self.on_remote_new(&pod, ctx),
                Change::Facts(pod) => self.on_remote_facts(&pod, ctx),
            }
        }
    }

    fn on_remote_gone(&mut self, entry: &Entry, ctx: &mut Ctx<'_>) {
        for key in self.pairs.of_remote(&entry.uid) {
            self.close_pair(&key, PairEnd::RemoteGone, true, ctx);
        }
        if entry.node.uid != self.config.node_uid {
            self.adoption.withdraw_addresses(&entry.pod.addresses, ctx);
        }
    }

    fn on_remote_new(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        let Some(entry) = self.directory.entry(pod) else {
            return;
        };
        let addresses = entry.pod.addresses.clone();
        let node = entry.node.clone();
        self.learn_node(&node, ctx);
        let waiting = addresses.iter().flat_map(|address| self.wants.to(*address));
        let waiting: Vec<_> = waiting.collect();
        let refused = |key: &SendKey| matches!(self.wants.of(key), Some(Want::Refused { .. }));
        let over = waiting.iter().copied().filter(refused).collect();
        self.forget_refusals(over, ctx);
        for key in waiting {
            self.advance_want(key, ctx);
        }
        self.answer_requests_of(pod, true, ctx);
    }

    /// Labels changed: other rules may hold now.
    fn on_remote_facts(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        self.close_unadmitted(ctx);
        let locals: BTreeSet<PodUid> = self
            .pairs
            .of_remote(pod)
            .into_iter()
            .map(|key| key.local)
            .collect();
        let locals: Vec<PodUid> = locals.into_iter().collect();
        self.apply_policy(&locals, ctx);
        let Some(entry) = self.directory.entry(pod) else {
            return;
        };
        let addresses = entry.pod.addresses.clone();
        self.flush_refusals(|key| addresses.contains(&key.destination), ctx);
    }

    pub(super) fn on_node_gone(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let changes = self.directory.forget_node(node, ctx);
        self.on_changes(changes, ctx);
        for key in self.pairs.of_node(node) {
            self.close_pair(&key, PairEnd::NodeGone, false, ctx);
        }
        self.drop_channel(node, pb::ByeReason::NodeGone, ctx);
        for slot in Slot::ALL {
            self.vacate(node, slot, ctx);
        }
        if let Some(peer) = self.peers.remove(node) {
            for conn in peer.greetings.into_keys() {
                self.close_conn(conn, pb::ByeReason::NodeGone, ctx);
            }
            if peer.row.is_some() {
                ctx.bpf(MapOp::RemovePeer(peer.id));
            }
        }
    }

    /// Nodes of the view before that are not in `view`.
    pub(super) fn nodes_gone(&self, view: &crate::facts::ClusterView) -> Vec<NodeUid> {
        let stay: BTreeSet<&NodeUid> = view.nodes.iter().map(|node| &node.uid).collect();
        let before = self.cluster.iter().flat_map(|before| &before.nodes);
        before
            .map(|node| &node.uid)
            .filter(|uid| !stay.contains(uid))
            .cloned()
            .collect()
    }

    /// A peer's own stream from the identity service is down: its lease runs out unless it comes
    /// back. Only the service's word on this stream counts, never a broken stream of my own.
    pub(super) fn on_peer_stream(&mut self, node: &NodeUid, up: bool, ctx: &mut Ctx<'_>) {
        let until = (!up).then(|| ctx.boot() + self.config.timers.lease);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let until = match (peer.lease_until, until) {
            (Some(running), Some(_)) => Some(running),
            (_, until) => until,
        };
        peer.lease_until = until;
        self.write_peer(node, ctx);
    }

    /// The own stream is down: nobody would say that a peer's is up again. It tells anew once it is
    /// back.
    pub(super) fn suspend_leases(&mut self, ctx: &mut Ctx<'_>) {
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.lease_until = None;
            }
            self.write_peer(&node, ctx);
        }
    }

    /// The own data path saw a packet for a pod that its label was not given for.
    pub(super) fn on_stale_seen(&mut self, peer: PeerId, destination: IpAddr, ctx: &mut Ctx<'_>) {
        let channel = self.peers.values().find(|other| other.id == peer);
        if let Some(channel) = channel.and_then(|peer| peer.channel.as_ref()) {
            ctx.counters.stale_sent += 1;
            let address = crate::wire::address_bytes(destination);
            ctx.send(channel.conn, &Message::Stale(pb::Stale { address }));
        }
    }

    /// A peer says that an address is no longer who we think: ask again, hold until then.
    pub(super) fn on_stale_told(&mut self, node: &NodeUid, address: IpAddr, ctx: &mut Ctx<'_>) {
        ctx.counters.stale_received += 1;
        self.on_stale(node, address, ctx);
    }

    /// The pod that we think has this address is no more on that node.
    pub(super) fn on_stale(&mut self, node: &NodeUid, address: IpAddr, ctx: &mut Ctx<'_>) {
        let Some(entry) = self.directory.at(address) else {
            return;
        };
        if entry.node.uid != *node {
            return;
        }
        let pod = entry.uid.clone();
        for key in self.pairs.of_remote(&pod) {
            self.close_pair(&key, PairEnd::Stale, false, ctx);
        }
        self.adoption.withdraw_addresses(&[address], ctx);
        // Of nodes the cluster tells, not the directory.
        if pod.node().is_none() {
            self.directory.forget(&pod, ctx);
        }
        // An answer for somebody who waits will come by another question, if anybody does.
        if !self.wants.resolving_to(address).is_empty() {
            self.directory.resolve(LookupKey::Address(address), ctx);
        }
    }
}
