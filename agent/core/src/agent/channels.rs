//! Node channels: dialled on demand, greeted, one kept, lost without consequence.

use std::collections::BTreeSet;

use signet_crypto::x509::profile::Purpose;

use crate::{
    agent::Agent,
    authn::{label::PairKey, pair::Permit},
    effects::Ctx,
    event::{Event, PairEnd},
    facts::NodeFacts,
    ids::{ConnId, Epoch, Label, NodeUid, PeerId, PodUid, Slot},
    io::{ChannelRole, Connected, Output},
    peer::{
        Dial, Peer,
        channel::{Channel, Greeting, peer_of},
        glare::{Contender, Outcome, decide},
        request_bucket,
    },
    wire::{self, Message, PROTO, pb},
};

impl Agent {
    /// The peer, made if need be.
    pub(super) fn ensure_peer(&mut self, node: &NodeUid, ctx: &Ctx<'_>) -> &mut Peer {
        let facts = self.cluster.as_ref().and_then(|view| {
            view.nodes.iter().find(|facts| facts.uid == *node).cloned()
        });
        let bucket = request_bucket(&self.config.limits, ctx.now.boot);
        let last = &mut self.last_peer;
        self.peers.entry(node.clone()).or_insert_with(|| {
            *last += 1;
            let mut peer = Peer::new(PeerId(*last), bucket);
            peer.facts = facts;
            peer
        })
    }

    /// An entry told of a node.
    pub(super) fn learn_node(&mut self, facts: &NodeFacts, ctx: &Ctx<'_>) {
        if facts.uid == self.config.node_uid {
            return;
        }
        let peer = self.ensure_peer(&facts.uid, ctx);
        let pod_cidrs = peer.facts.take().map(|facts| facts.pod_cidrs).unwrap_or_default();
        peer.facts = Some(NodeFacts { pod_cidrs, ..facts.clone() });
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
        let Some(peer) = self.peers.get_mut(node) else { return };
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
        let Some(peer) = self.peers.get_mut(node) else { return };
        let failures = match peer.dial {
            Dial::Dialling { failures } | Dial::Waiting { failures, .. } => failures + 1,
            Dial::Idle => 1,
        };
        let at = ctx.boot() + ctx.backoff(retry, failures);
        peer.dial = Dial::Waiting { at, failures };
        peer.problem = Some(error.clone());
        ctx.event(Event::DialFailed { node: node.clone(), error, retry_at: at });
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

    /// TLS is done.
    pub(super) fn on_connected(&mut self, connected: Connected, ctx: &mut Ctx<'_>) {
        if !self.started {
            self.deferred.push(connected);
            return;
        }
        let conn = connected.conn;
        let node = match peer_of(&connected, &self.config) {
            Ok(node) => node,
            Err(error) => {
                let peer = connected.peer.id.to_string();
                return self.violation_of(conn, peer, error.to_string(), ctx);
            }
        };
        let role = connected.role;
        let live = self.live_epoch(&node);
        let deadline = ctx.boot() + self.config.timers.handshake;
        let mut nonce = [0; 32];
        ctx.random.fill(&mut nonce);
        let trust = self.trust.as_ref().map_or(0, |bundle| bundle.sequence());
        let (boot_id, instance) = (self.config.boot_id.to_vec(), self.config.instance);
        let node_uid = self.config.node_uid.as_str().to_owned();
        let peer = self.ensure_peer(&node, ctx);
        if role == ChannelRole::Client {
            peer.dial = Dial::Idle;
        }
        let hello = pb::Hello {
            proto: PROTO,
            node_uid,
            boot_id,
            instance,
            bundle_sequence: trust,
            crl_number: 0,
            time_ms: ctx.now.wall.as_secs().saturating_mul(1000),
            features: 0,
            proof_nonce: nonce.to_vec(),
            last_epoch: peer.highest.0,
            live_epoch: live.0,
        };
        peer.greetings.insert(conn, Greeting { connected, nonce, deadline });
        self.conns.insert(conn, node);
        ctx.send(conn, &Message::Hello(hello));
    }

    pub(super) fn on_frame(&mut self, conn: ConnId, kind: u8, payload: &[u8], ctx: &mut Ctx<'_>) {
        let Some(node) = self.conns.get(&conn).cloned() else { return };
        let message = match Message::decode(kind, payload) {
            Ok(message) => message,
            Err(error) => return self.violation(conn, &node, error.to_string(), ctx),
        };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(greeting) = peer.greetings.remove(&conn) {
            return match message {
                Message::Hello(hello) => self.on_hello(&node, greeting, &hello, ctx),
                Message::Bye(_) => self.close_conn(conn, pb::ByeReason::None, ctx),
                other => {
                    let what = format!("{} came before HELLO", other.name());
                    self.violation(conn, &node, what, ctx);
                }
            };
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

    /// Both sides said HELLO: this channel, or the one in use?
    fn on_hello(
        &mut self,
        node: &NodeUid,
        greeting: Greeting,
        hello: &pb::Hello,
        ctx: &mut Ctx<'_>,
    ) {
        let conn = greeting.connected.conn;
        let channel = match greeting.open(hello, node, &self.config, ctx.now) {
            Ok(channel) => channel,
            Err(error) => return self.violation(conn, node, error.to_string(), ctx),
        };
        let Some(peer) = self.peers.get(node) else { return };
        if let Some((boot, instance)) = peer.boot {
            let older = boot == channel.boot_id && channel.instance < instance;
            if older {
                return self.close_conn(conn, pb::ByeReason::Replaced, ctx);
            }
        }
        let new = contender(&channel);
        match peer.channel.as_ref().map(|current| decide(contender(current), new)) {
            Some(Outcome::KeepCurrent) => {
                return self.close_conn(conn, pb::ByeReason::Glare, ctx);
            }
            Some(Outcome::Replace) => {
                let newer = peer.channel.as_ref().is_some_and(|c| c.instance < channel.instance);
                let reason =
                    if newer { pb::ByeReason::Replaced } else { pb::ByeReason::Glare };
                self.drop_channel(node, reason, ctx);
            }
            Some(Outcome::Rebooted) => self.drop_channel(node, pb::ByeReason::Replaced, ctx),
            None => {}
        }
        let rebooted =
            self.peers.get(node).and_then(|peer| peer.boot).is_some_and(|b| b.0 != channel.boot_id);
        if rebooted {
            self.on_peer_booted(node, ctx);
        }
        self.open_channel(node, channel, ctx);
    }

    fn open_channel(&mut self, node: &NodeUid, channel: Channel, ctx: &mut Ctx<'_>) {
        let bucket = request_bucket(&self.config.limits, ctx.boot());
        let conn = channel.conn;
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.boot = Some((channel.boot_id, channel.instance));
        peer.highest = peer.highest.max(channel.their_last);
        peer.dial = match peer.dial {
            Dial::Waiting { .. } | Dial::Idle => Dial::Idle,
            Dial::Dialling { .. } => Dial::Dialling { failures: 0 },
        };
        peer.problem = None;
        peer.bucket = bucket;
        let expires = channel.peer_expires;
        peer.channel = Some(channel);
        ctx.counters.channels_opened += 1;
        ctx.event(Event::ChannelOpen { node: node.clone(), conn });
        // The handshake proved the node's certificate.
        self.on_node_proven(node, expires, ctx);
        self.begin_slot(node, ctx);
    }

    /// All that was agreed with the boot before died with it.
    fn on_peer_booted(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        for key in self.pairs.of_node(node) {
            if self.pairs.of(&key).is_some_and(crate::authn::pair::Pair::has_rows) {
                self.close_pair(&key, PairEnd::PeerBooted, false, ctx);
            }
        }
        for slot in Slot::ALL {
            self.vacate(node, slot, ctx);
        }
    }

    /// Certificates of the peer's node, as last proven.
    pub(super) fn on_node_proven(
        &mut self,
        node: &NodeUid,
        expires: std::time::Duration,
        ctx: &mut Ctx<'_>,
    ) {
        if let Some(channel) = self.peers.get_mut(node).and_then(|peer| peer.channel.as_mut()) {
            channel.peer_expires = expires;
        }
        for (_, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.node == *node) {
            pair.node_expires = expires;
        }
        self.renew_pairs(|_, pair| pair.node == *node, ctx);
    }

    fn on_message(
        &mut self,
        node: &NodeUid,
        conn: ConnId,
        message: Message,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        match message {
            Message::Hello(_) => Err("a second HELLO".to_owned()),
            Message::SlotOffer(offer) => self.on_slot_offer(node, &offer, ctx),
            Message::SlotAccept(accept) => self.on_slot_accept(node, &accept, ctx),
            Message::SlotReady(ready) => self.on_slot_ready(node, &ready, ctx),
            Message::SlotRefuse(refuse) => self.on_slot_refuse(node, &refuse, ctx),
            Message::SlotRetire(retire) => {
                self.on_slot_retire(node, Epoch(retire.epoch), ctx);
                Ok(())
            }
            Message::ProofReq(request) => self.on_proof_req(node, conn, request, ctx),
            Message::Proof(proof) => self.on_proof(node, conn, &proof, ctx),
            Message::Label(label) => {
                let Some(value) = Label::new(label.label) else {
                    return Err("a LABEL outside of 40 bits".to_owned());
                };
                let key = pair_key(label.src_pod, label.dst_pod);
                let epoch = Epoch(label.epoch);
                let until = super::pairs::boot_at(label.not_after_unix_ms, ctx);
                let expected = self.peers.get(node).and_then(Peer::epoch) == Some(epoch);
                if expected && self.is_with(&key, node) {
                    if let Some(channel) =
                        self.peers.get_mut(node).and_then(|peer| peer.channel.as_mut())
                    {
                        channel.proofs.confirm(&key.local);
                    }
                    self.on_permit(&key, Permit { label: value, epoch, until }, ctx);
                }
                Ok(())
            }
            Message::LabelExtend(extend) => {
                let key = pair_key(extend.src_pod, extend.dst_pod);
                let until = super::pairs::boot_at(extend.not_after_unix_ms, ctx);
                if self.is_with(&key, node) {
                    self.on_extend(&key, Epoch(extend.epoch), until, ctx);
                }
                Ok(())
            }
            Message::LabelRevoke(revoke) => {
                let key = pair_key(revoke.remote_pod.clone(), revoke.local_pod.clone());
                if self.is_with(&key, node) {
                    self.close_pair(&key, PairEnd::Revoked, false, ctx);
                }
                let done = pb::LabelRevoked {
                    local_pod: revoke.local_pod,
                    remote_pod: revoke.remote_pod,
                };
                ctx.send(conn, &Message::LabelRevoked(done));
                Ok(())
            }
            Message::LabelRevoked(_) | Message::Pong(_) => Ok(()),
            Message::Stale(stale) => {
                let Some(address) = wire::address(&stale.address) else {
                    return Err("a STALE without an address".to_owned());
                };
                self.on_stale_told(node, address, ctx);
                Ok(())
            }
            Message::Ping(ping) => {
                ctx.send(conn, &Message::Pong(pb::Pong { nonce: ping.nonce }));
                Ok(())
            }
            Message::Bye(bye) => {
                let reason = format!("the peer said BYE: {:?}", bye.reason());
                ctx.push(Output::CloseChannel { conn, reason: reason.clone() });
                self.on_closed(conn, reason, ctx);
                Ok(())
            }
        }
    }

    fn is_with(&self, key: &PairKey, node: &NodeUid) -> bool {
        self.pairs.of(key).is_some_and(|pair| pair.node == *node)
    }

    /// The connection is gone. Rows stay; questions are asked again on the next channel.
    pub(super) fn on_closed(&mut self, conn: ConnId, reason: String, ctx: &mut Ctx<'_>) {
        self.deferred.retain(|connected| connected.conn != conn);
        let Some(node) = self.conns.remove(&conn) else { return };
        let retry = self.config.timers.retry;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let greeted = peer.greetings.remove(&conn).is_some();
        let current = peer.channel.as_ref().is_some_and(|channel| channel.conn == conn);
        if current {
            let channel = peer.channel.take();
            peer.requests.clear();
            ctx.counters.channels_closed += 1;
            ctx.event(Event::ChannelClosed { node: node.clone(), conn, reason: reason.clone() });
            for (_, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.node == node) {
                pair.answers.clear();
                if pair.ask.take().is_some() {
                    pair.wanted.get_or_insert(ctx.now.boot);
                }
            }
            self.abandon_slot(&node, channel, ctx);
        }
        if !(current || greeted) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.channel.is_none()
            && peer.greetings.is_empty()
        {
            let failures = match peer.dial {
                Dial::Dialling { .. } => return,
                Dial::Waiting { failures, .. } => failures + 1,
                Dial::Idle => 1,
            };
            peer.problem = Some(reason);
            peer.dial = Dial::Waiting { at: ctx.boot() + ctx.backoff(retry, failures), failures };
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
        ctx.push(Output::CloseChannel { conn, reason: reason.clone() });
        self.on_closed(conn, reason, ctx);
    }

    pub(super) fn violation(&mut self, conn: ConnId, node: &NodeUid, what: String, ctx: &mut Ctx<'_>) {
        self.violation_of(conn, format!("node {node}"), what, ctx);
    }

    fn violation_of(&mut self, conn: ConnId, peer: String, what: String, ctx: &mut Ctx<'_>) {
        ctx.counters.channel_violations += 1;
        ctx.event(Event::ChannelViolation { peer, what });
        self.close_conn(conn, pb::ByeReason::Protocol, ctx);
    }

    /// Proof of the peer's own renewed certificate.
    pub(super) fn on_node_refresh(
        &mut self,
        node: &NodeUid,
        proof: &pb::Proof,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let Some(bundle) = self.trust.clone() else { return Ok(()) };
        let Some(channel) = self.peers.get_mut(node).and_then(|peer| peer.channel.as_mut()) else {
            return Ok(());
        };
        let id = channel.peer_id.clone();
        let now = ctx.now;
        let checked = channel.proofs.verify_node(&id, proof.proof_n, &proof.authenticator, &bundle, now);
        match checked {
            Ok(svid) if svid.purpose == Purpose::NodeAgent => {
                ctx.counters.proofs_accepted += 1;
                self.on_node_proven(node, now.deadline(svid.not_after), ctx);
                Ok(())
            }
            Ok(_) => Err("a node certificate for another purpose".to_owned()),
            Err(error) => {
                ctx.counters.proofs_rejected += 1;
                Err(format!("its renewed node certificate is not believed: {error}"))
            }
        }
    }

    pub(super) fn on_shutdown(&mut self, ctx: &mut Ctx<'_>) {
        let conns: BTreeSet<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.close_conn(conn, pb::ByeReason::Shutdown, ctx);
        }
        self.hold.discard_where(|_| true, signet_abi::DropReason::AgentStopped, ctx);
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

    /// The epoch that rows of this peer are in; 0 if there are none.
    pub(super) fn live_epoch(&self, node: &NodeUid) -> Epoch {
        let Some(peer) = self.peers.get(node) else { return Epoch(0) };
        let used = |epoch: Epoch| {
            self.pairs.iter().any(|(_, pair)| pair.node == *node && pair.uses(epoch))
        };
        let live = peer.slots.iter().flatten().filter(|keys| keys.adopted || used(keys.epoch));
        live.map(|keys| keys.epoch).max().unwrap_or_default()
    }
}

/// Dials in a row that fail before destinations on the node are refused, not held.
const UNREACHABLE_AFTER: u32 = 5;

fn contender(channel: &Channel) -> Contender<'_> {
    Contender {
        boot_id: &channel.boot_id,
        instance: channel.instance,
        client: &channel.client,
    }
}

/// The pair of a message that names the receiver's pod first.
fn pair_key(own: String, peers: String) -> PairKey {
    PairKey { local: PodUid::new(own), remote: PodUid::new(peers) }
}

