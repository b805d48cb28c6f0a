//! Node channels: dialled on demand, greeted, one kept, lost without consequence.

use std::collections::BTreeSet;

use crate::{
    agent::{Agent, Deferred},
    authn::label::PairKey,
    effects::Ctx,
    event::Event,
    facts::NodeFacts,
    ids::{ConnId, Epoch, NodeUid, PeerId},
    io::Output,
    peer::{Dial, Peer, channel::Channel},
    wire::{Message, pb},
};

impl Agent {
    /// The peer, made if need be.
    pub(super) fn ensure_peer(&mut self, node: &NodeUid, ctx: &Ctx<'_>) -> &mut Peer {
        let facts = self
            .cluster
            .as_ref()
            .and_then(|view| view.nodes.iter().find(|facts| facts.uid == *node).cloned());
        let (last, limits) = (&mut self.last_peer, &self.config.limits);
        let outage_until = self.outage_until;
        self.peers.entry(node.clone()).or_insert_with(|| {
            *last += 1;
            let mut peer = Peer::new(PeerId(*last), limits, ctx.now.boot);
            peer.facts = facts;
            peer.outage_until = outage_until;
            peer
        })
    }

    /// An entry told of a node.
    pub(super) fn learn_node(&mut self, facts: &NodeFacts, ctx: &Ctx<'_>) {
        if facts.uid == self.config.node_uid {
            return;
        }
        let peer = self.ensure_peer(&facts.uid, ctx);
        let pod_cidrs = peer
            .facts
            .take()
            .map(|facts| facts.pod_cidrs)
            .unwrap_or_default();
        peer.facts = Some(NodeFacts {
            pod_cidrs,
            ..facts.clone()
        });
    }

    pub(super) fn update_peer_facts(&mut self) {
        for facts in self.cluster.iter().flat_map(|view| &view.nodes) {
            if let Some(peer) = self.peers.get_mut(&facts.uid) {
                peer.facts = Some(facts.clone());
            }
        }
    }

    /// Dials, unless there is a channel, somebody is at the door, or it is too early.
    pub(super) fn ensure_channel(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        if !self.started || !self.engine.is_up() {
            return;
        }
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.channel.is_some() || !peer.greetings.is_empty() {
            return;
        }
        let failures = match peer.dial {
            Dial::Idle => 0,
            Dial::Waiting { at, failures } if at <= ctx.boot() => failures,
            Dial::Waiting { .. } | Dial::Dialling { .. } => return,
        };
        let Some(facts) = &peer.facts else { return };
        peer.dial = Dial::Dialling { failures };
        peer.dialled = peer.highest;
        ctx.counters.dials += 1;
        ctx.push(Output::Dial {
            node: node.clone(),
            addresses: facts.underlay.clone(),
            port: facts.channel_port,
            expect: facts.spiffe_id.clone(),
        });
    }

    pub(super) fn on_dial_failed(&mut self, node: &NodeUid, error: String, ctx: &mut Ctx<'_>) {
        ctx.counters.dials_failed += 1;
        let retry = self.config.timers.retry;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let failures = match peer.dial {
            Dial::Dialling { failures } | Dial::Waiting { failures, .. } => failures + 1,
            Dial::Idle => 1,
        };
        let at = ctx.boot() + ctx.backoff(retry, failures);
        peer.dial = Dial::Waiting { at, failures };
        peer.problem = Some(error.clone());
        ctx.event(Event::DialFailed {
            node: node.clone(),
            error,
            retry_at: at,
        });
        if failures >= UNREACHABLE_AFTER && peer.channel.is_none() {
            for key in self.pairs.of_node(node) {
                let reason = signet_abi::DropReason::PeerUnreachable;
                for want in self.wants_of(&key) {
                    self.refuse(want, reason, "its node cannot be reached", ctx);
                }
                self.drop_wanted(&key, ctx);
            }
        }
    }

    pub(super) fn on_frame(&mut self, conn: ConnId, kind: u8, payload: &[u8], ctx: &mut Ctx<'_>) {
        let early = |early: &&mut Deferred| early.connected.conn == conn;
        if let Some(early) = self.deferred.iter_mut().find(early) {
            // HELLO; before it is answered there is nothing else to say.
            if early.frames.len() < MAX_EARLY {
                return early.frames.push((kind, payload.to_vec()));
            }
            let peer = early.connected.peer.id.to_string();
            return self.violation_of(conn, peer, "it does not wait for HELLO".to_owned(), ctx);
        }
        let Some(node) = self.conns.get(&conn).cloned() else {
            return;
        };
        let message = match Message::decode(kind, payload) {
            Ok(message) => message,
            Err(error) => return self.violation(conn, &node, error.to_string(), ctx),
        };
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if let Some(greeting) = peer.greetings.remove(&conn) {
            if let Message::Hello(hello) = message {
                self.on_hello(&node, greeting, &hello, ctx);
            } else if matches!(message, Message::Bye(_)) {
                self.close_conn(conn, pb::ByeReason::None, ctx);
            } else {
                let what = format!("{} came before HELLO", message.name());
                self.violation(conn, &node, what, ctx);
            }
            return;
        }
        let Some(channel) = peer.channel.as_mut().filter(|channel| channel.conn == conn) else {
            return;
        };
        channel.hear(ctx.boot());
        let result = self.on_message(&node, conn, message, ctx);
        if let Err(what) = result {
            self.violation(conn, &node, what, ctx);
        }
    }

    /// The connection is gone. Rows stay; questions are asked again on the next channel.
    pub(super) fn on_closed(&mut self, conn: ConnId, reason: String, ctx: &mut Ctx<'_>) {
        self.deferred.retain(|early| early.connected.conn != conn);
        let Some(node) = self.conns.remove(&conn) else {
            return;
        };
        let retry = self.config.timers.retry;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let greeted = peer.greetings.remove(&conn).is_none();
        if !greeted && peer.channel.is_some() {
            // The other one stays; whoever still wants another does not ask at once.
            let at = ctx.now.boot + ctx.backoff(retry, 4);
            peer.dial = match peer.dial {
                Dial::Idle => Dial::Waiting { at, failures: 0 },
                dial @ (Dial::Waiting { .. } | Dial::Dialling { .. }) => dial,
            };
        }
        let current = peer
            .channel
            .as_ref()
            .is_some_and(|channel| channel.conn == conn);
        let mut ready = false;
        if current {
            let channel = peer.channel.take();
            ready = channel.as_ref().is_some_and(|c| c.epoch().is_some());
            peer.requests.clear();
            ctx.counters.channels_closed += 1;
            ctx.event(Event::ChannelClosed {
                node: node.clone(),
                conn,
                reason: reason.clone(),
            });
            for key in self.pairs.of_node(&node) {
                if let Some(pair) = self.pairs.of_mut(&key) {
                    pair.answers.clear();
                    if pair.ask.take().is_some() {
                        pair.wanted.get_or_insert(ctx.now.boot);
                    }
                }
            }
            self.abandon_slot(&node, channel, ctx);
        }
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.channel.is_none()
            && peer.greetings.is_empty()
        {
            let failures = match peer.dial {
                Dial::Dialling { .. } => return,
                Dial::Waiting { failures, .. } => failures + 1,
                Dial::Idle => peer.flaps + 1,
            };
            if !ready {
                peer.flaps = peer.flaps.saturating_add(1).min(16);
            }
            peer.problem = Some(reason);
            peer.dial = Dial::Waiting {
                at: ctx.boot() + ctx.backoff(retry, failures),
                failures,
            };
        }
    }

    /// Says BYE on the channel in use and forgets it.
    pub(super) fn drop_channel(&mut self, node: &NodeUid, why: pb::ByeReason, ctx: &mut Ctx<'_>) {
        let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
        if let Some(conn) = channel.map(|channel| channel.conn) {
            self.close_conn(conn, why, ctx);
        }
    }

    pub(super) fn close_conn(&mut self, conn: ConnId, why: pb::ByeReason, ctx: &mut Ctx<'_>) {
        if why != pb::ByeReason::None {
            ctx.send(conn, &Message::Bye(pb::Bye { reason: why.into() }));
        }
        let reason = format!("closed here: {why:?}");
        ctx.push(Output::CloseChannel {
            conn,
            reason: reason.clone(),
        });
        self.on_closed(conn, reason, ctx);
    }

    pub(super) fn violation(
        &mut self,
        conn: ConnId,
        node: &NodeUid,
        what: String,
        ctx: &mut Ctx<'_>,
    ) {
        self.violation_of(conn, format!("node {node}"), what, ctx);
    }

    pub(super) fn violation_of(
        &mut self,
        conn: ConnId,
        peer: String,
        what: String,
        ctx: &mut Ctx<'_>,
    ) {
        ctx.counters.channel_violations += 1;
        ctx.event(Event::ChannelViolation { peer, what });
        self.close_conn(conn, pb::ByeReason::Protocol, ctx);
    }

    pub(super) fn on_shutdown(&mut self, ctx: &mut Ctx<'_>) {
        let conns: BTreeSet<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.close_conn(conn, pb::ByeReason::Shutdown, ctx);
        }
        self.hold
            .discard_where(|_| true, signet_abi::DropReason::AgentStopped, ctx);
        self.started = false;
    }

    /// Nobody waits for this pair any more.
    fn drop_wanted(&mut self, key: &PairKey, ctx: &mut Ctx<'_>) {
        if let Some(pair) = self.pairs.of_mut(key)
            && !pair.has_rows()
        {
            pair.wanted = None;
        }
        self.drop_idle_pair(key, ctx);
    }

    pub(super) fn channel_mut(&mut self, node: &NodeUid) -> Option<&mut Channel> {
        self.peers.get_mut(node)?.channel.as_mut()
    }

    /// The epoch that packets to this peer leave in; 0 if there is no row to send by.
    pub(super) fn live_epoch(&self, node: &NodeUid) -> Epoch {
        let Some(peer) = self.peers.get(node) else {
            return Epoch(0);
        };
        let used = |epoch: Epoch| self.pairs.with_node(node).any(|pair| pair.uses(epoch));
        let taken_over = peer.keys(peer.tx).is_some_and(|keys| keys.adopted);
        if taken_over || used(peer.tx) {
            peer.tx
        } else {
            Epoch(0)
        }
    }
}

/// Frames kept of a channel that came before the start.
const MAX_EARLY: usize = 4;

/// Dials in a row that fail before destinations on the node are refused, not held.
const UNREACHABLE_AFTER: u32 = 5;
