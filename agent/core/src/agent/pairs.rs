//! A pair's way: wanted or asked for, proven, granted, extended, closed.
//!
//! `step` looks at what a pair has and does the next thing that is possible; it is called after
//! everything that could have made something possible. The order towards a new pair is always:
//! policy entries, allowed IPs, receive row, LABEL; and a send row only once the peer's LABEL is in.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use signet_abi::DropReason;

use crate::{
    agent::Agent,
    authn::{
        label::PairKey,
        pair::{Answer, Ask, Grant, Pair, Permit},
        want::Want,
    },
    effects::Ctx,
    event::{AuditKind, Event, PairEnd},
    ids::{Epoch, NodeUid},
    rows::{MapOp, RecvRow, SendRow, Tag},
    wire::{Message, pb},
};

impl Agent {
    /// Does what is possible for one pair now.
    pub(super) fn step(&mut self, key: &PairKey, ctx: &mut Ctx<'_>) {
        if !self.started {
            return;
        }
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let node = pair.node.clone();
        let active = pair.wanted.is_some() || !pair.answers.is_empty() || pair.ask.is_some();
        let (Some(endpoint), Some(entry)) = (
            self.endpoints.of_pod(&key.local),
            self.directory.entry(&key.remote),
        ) else {
            return;
        };
        let entry = entry.clone();
        let Some(known) = &endpoint.known else { return };
        let (index, identity) = (endpoint.index, known.identity);
        if !self.admits(&known.facts, &entry) {
            let reason = self.denial(key);
            for answer in self.take_answers(key) {
                self.refuse_answer(&node, answer, pb::Refusal::Policy, ctx);
            }
            self.adoption
                .withdraw_pair(index, identity, &entry.pod.addresses, ctx);
            self.refuse_pair(
                key,
                reason,
                "no rule admits the pair in either direction",
                ctx,
            );
            self.close_pair(key, PairEnd::Policy, true, ctx);
            return;
        }
        if endpoint.certificate.held(ctx.boot()).is_none() {
            if endpoint.certificate.failures() >= SVID_FAILURES && pair.wanted.is_some() {
                let detail = "the pod has no certificate: the identity service refuses or is away";
                self.refuse_pair(key, DropReason::IdentityUnavailable, detail, ctx);
            }
            return self.request_svid(&key.local, ctx);
        }
        let epochs = self.peers.get(&node).map(|peer| peer.epochs());
        let epochs = epochs.unwrap_or_default();
        let Some(epoch) = epochs.last().copied() else {
            if active || pair.has_rows() {
                self.ensure_channel(&node, ctx);
            }
            return;
        };
        self.ask(key, &node, epoch, &entry, ctx);
        if !self.may_grant(key, &node, epoch, &entry, ctx.boot()) {
            return;
        }
        for epoch in &epochs {
            if self.allows(key, &node, *epoch, ctx) {
                self.grant(key, &node, *epoch, &entry, ctx);
            }
        }
        self.answer(key, &node, epoch, ctx);
        for of in &epochs {
            self.send_rows(key, *of, *of == epoch, ctx);
        }
    }

    /// Every pair with this node.
    pub(super) fn step_node(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        for key in self.pairs.of_node(node) {
            self.step(&key, ctx);
        }
    }

    /// Sends PROOF_REQ, if this node wants the pair and has not asked yet.
    fn ask(
        &mut self,
        key: &PairKey,
        node: &NodeUid,
        epoch: Epoch,
        entry: &crate::facts::Entry,
        ctx: &mut Ctx<'_>,
    ) {
        let deadline = ctx.boot() + self.config.timers.proof;
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        if pair.is_open_in(epoch) {
            pair.wanted = None;
            return;
        }
        if pair.wanted.is_none() || pair.ask.is_some() || pair.not_before > ctx.boot() {
            return;
        }
        let Some(endpoint) = self.endpoints.of_pod(&key.local) else {
            return;
        };
        let Some(held) = endpoint.certificate.held(ctx.boot()) else {
            return;
        };
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return;
        };
        let (mut proof_n, mut authenticator) = (0, Vec::new());
        // The channel itself proves this node.
        let implied = key.local.node().is_some();
        if !implied && !channel.proofs.is_confirmed(&key.local) {
            match channel.proofs.prove(&held.svid) {
                Ok(made) => {
                    ctx.counters.proofs_made += 1;
                    (proof_n, authenticator) = (made.n, made.authenticator);
                }
                Err(error) => {
                    pair.not_before = deadline;
                    let pod = key.local.clone();
                    let error = format!("it cannot sign: {error}");
                    return ctx.event(Event::SvidFailed {
                        pod: Some(pod),
                        error,
                    });
                }
            }
        }
        let wanted_address = self
            .wants
            .of_endpoint(endpoint.index)
            .find(|(_, state)| matches!(state, Want::Pairing(pod) if *pod == key.remote));
        let address = wanted_address.map(|(want, _)| want.destination);
        let address = address.or(pair.addresses.first().copied());
        let id = channel.next_id();
        let request = pb::ProofReq {
            id,
            src_pod: key.local.as_str().to_owned(),
            dst_pod: key.remote.as_str().to_owned(),
            dst_address: address.map(crate::wire::address_bytes).unwrap_or_default(),
            proof_n,
            authenticator,
            have_proof: channel.proven(entry, ctx.now.boot).is_some(),
        };
        pair.ask = Some(Ask {
            id,
            conn: channel.conn,
            deadline,
            proven: false,
        });
        ctx.send(channel.conn, &Message::ProofReq(request));
    }

    /// Whether the remote pod is proven on this channel, in this pair's name.
    fn may_grant(
        &mut self,
        key: &PairKey,
        node: &NodeUid,
        epoch: Epoch,
        entry: &crate::facts::Entry,
        now: Duration,
    ) -> bool {
        let Some(pair) = self.pairs.of_mut(key) else {
            return false;
        };
        let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) else {
            return false;
        };
        let Some(proven) = channel.proven(entry, now) else {
            return false;
        };
        pair.remote_expires = proven.expires;
        pair.node_expires = channel.peer_expires;
        pair.ask.is_some_and(|ask| ask.proven)
            || !pair.answers.is_empty()
            || pair.grants.of(epoch).is_some()
    }

    /// Whether the engine accepts the remote pod's addresses from this peer; asks it to, if not.
    fn allows(&mut self, key: &PairKey, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) -> bool {
        let Some(pair) = self.pairs.of(key) else {
            return false;
        };
        let addresses: BTreeSet<IpAddr> = pair.addresses.iter().copied().collect();
        let Some(keys) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.keys_mut(epoch))
        else {
            return false;
        };
        if addresses.is_subset(keys.confirmed()) && addresses.is_subset(keys.allowed()) {
            return true;
        }
        if !addresses.is_subset(keys.allowed()) {
            let all = keys.allowed().union(&addresses).copied().collect();
            keys.set_allowed(all);
            self.engine.allow(node, keys, ctx);
        }
        false
    }

    /// Writes the receive row and sends its LABEL, once per epoch.
    fn grant(
        &mut self,
        key: &PairKey,
        node: &NodeUid,
        epoch: Epoch,
        entry: &crate::facts::Entry,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        if pair.grants.of(epoch).is_some() {
            return;
        }
        let not_after = self.limit(key, pair);
        if not_after <= ctx.boot() {
            return;
        }
        let class = pair.class;
        let facts = self.facts_of(entry);
        self.apply_remote_class(&key.local, &facts, class, ctx);
        let label = self.labels.draw(key, ctx);
        let grant = Grant {
            label,
            epoch,
            not_after,
        };
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        pair.grants.put(grant);
        self.write_grant(key, epoch, ctx);
        ctx.counters.labels_granted += 1;
        // A pair that nobody asked for here: the LABEL follows the answer.
        if self
            .pairs
            .of(key)
            .is_some_and(|pair| pair.answers.is_empty())
        {
            self.send_label(key, node, epoch, ctx);
        }
    }

    /// Answers the peer's questions: PROOF, then LABEL.
    fn answer(&mut self, key: &PairKey, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let granted = self
            .pairs
            .of(key)
            .map(|pair| pair.grants)
            .unwrap_or_default();
        if granted.of(epoch).is_none() {
            return;
        }
        let answers = self.take_answers(key);
        for answer in &answers {
            let Some(endpoint) = self.endpoints.of_pod(&key.local) else {
                continue;
            };
            let Some(held) = endpoint.certificate.held(ctx.boot()) else {
                continue;
            };
            let channel = self
                .peers
                .get_mut(node)
                .and_then(|peer| peer.channel.as_mut());
            let Some(channel) = channel.filter(|channel| channel.conn == answer.conn) else {
                continue;
            };
            let mut proof = pb::Proof {
                id: answer.id,
                ..pb::Proof::default()
            };
            if answer.with_proof {
                match channel.proofs.prove(&held.svid) {
                    Ok(made) => {
                        ctx.counters.proofs_made += 1;
                        (proof.proof_n, proof.authenticator) = (made.n, made.authenticator);
                    }
                    Err(_) => proof.set_refusal(pb::Refusal::NoSvid),
                }
            }
            ctx.send(channel.conn, &Message::Proof(proof));
        }
        if !answers.is_empty() {
            let mut epochs: Vec<Epoch> = granted.iter().map(|grant| grant.epoch).collect();
            epochs.sort_unstable();
            for epoch in epochs {
                self.send_label(key, node, epoch, ctx);
            }
        }
    }

    /// Writes the send rows once both directions are granted, and lets held packets go. `newest`:
    /// nothing more is wanted after that.
    fn send_rows(&mut self, key: &PairKey, epoch: Epoch, newest: bool, ctx: &mut Ctx<'_>) {
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let granted = pair.grants.of(epoch).is_some();
        let Some(permit) = pair.permits.of(epoch).filter(|_| granted) else {
            return;
        };
        if pair.sending.of(epoch) == Some(permit) {
            return;
        }
        let renewal = pair.is_open();
        let first_miss = self
            .wants_of(key)
            .iter()
            .filter_map(|want| self.hold.since(want))
            .min();
        let session = self.session(key, ctx.now);
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        pair.sending.put(permit);
        if newest {
            pair.wanted = None;
            pair.ask = None;
            pair.failures = 0;
            pair.refused_in = None;
        }
        let node = pair.node.clone();
        // A label of the epoch before is no news of a pair that is open.
        let fresh = session.as_ref().map(|s| s.id) != pair.session.as_ref().map(|s| s.id)
            && (newest || !renewal);
        if fresh {
            pair.session = session;
        }
        let addresses = pair.addresses.clone();
        self.write_sends(key, ctx);
        let Some(endpoint) = self.endpoints.of_pod(&key.local) else {
            return;
        };
        for address in addresses {
            let want = endpoint.send_key(address);
            self.wants.remove(&want);
            self.hold.release(want, ctx);
        }
        if fresh {
            if !renewal {
                ctx.counters.pairs_opened += 1;
                let first_contact = first_miss.map(|at| ctx.boot().saturating_sub(at));
                let (local, remote) = (key.local.clone(), key.remote.clone());
                ctx.event(Event::PairOpen {
                    local,
                    remote,
                    first_contact,
                });
            }
            self.audit(
                key,
                if renewal {
                    AuditKind::Renewed
                } else {
                    AuditKind::Opened
                },
                ctx,
            );
        }
        self.review_switch(&node, ctx);
    }

    /// The earliest end of all certificates involved.
    pub(super) fn limit(&self, key: &PairKey, pair: &Pair) -> Duration {
        let local = self.endpoints.of_pod(&key.local);
        let local = local.and_then(|endpoint| endpoint.certificate.held(Duration::ZERO));
        let node = self.certificate.held(Duration::ZERO);
        [local, node]
            .into_iter()
            .map(|held| held.map_or(Duration::ZERO, |held| held.expires))
            .chain([pair.remote_expires, pair.node_expires])
            .min()
            .unwrap_or_default()
    }

    pub(super) fn write_grant(&self, key: &PairKey, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let Some(grant) = pair.grants.of(epoch) else {
            return;
        };
        if let Some(row) = self.recv_row(key, pair, grant) {
            ctx.bpf(MapOp::SetRecv(grant.label, row));
        }
    }

    /// The receive row of a grant, as it should be.
    pub(super) fn recv_row(&self, key: &PairKey, pair: &Pair, grant: Grant) -> Option<RecvRow> {
        let known = self.endpoints.of_pod(&key.local)?.known.as_ref()?;
        Some(RecvRow {
            epoch: grant.epoch,
            not_after: grant.not_after,
            peer: self.peers.get(&pair.node)?.id,
            class: pair.class,
            remote: pair.remote,
            identity: known.identity,
            addresses: pair.addresses.clone(),
        })
    }

    /// The label that a row of a previous instance has stays in the row, for as long as packets leave
    /// in its epoch.
    fn take_over_label(&mut self, key: &PairKey) {
        let (Some(pair), Some(endpoint)) =
            (self.pairs.of_mut(key), self.endpoints.of_pod(&key.local))
        else {
            return;
        };
        let peer = self.peers.get(&pair.node);
        for address in &pair.addresses {
            let Some(SendRow::Paired {
                tags, not_after, ..
            }) = self.adoption.replaced(&endpoint.send_key(*address))
            else {
                continue;
            };
            for tag in tags.into_iter().flatten() {
                let keys = peer.and_then(|peer| peer.keys(tag.epoch));
                if keys.is_some_and(|keys| keys.adopted) && pair.sending.of(tag.epoch).is_none() {
                    pair.sending.put(Permit {
                        label: tag.label,
                        epoch: tag.epoch,
                        until: not_after,
                    });
                }
            }
        }
    }

    pub(super) fn write_sends(&mut self, key: &PairKey, ctx: &mut Ctx<'_>) {
        self.take_over_label(key);
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let Some(endpoint) = self.endpoints.of_pod(&key.local) else {
            return;
        };
        let Some(row) = self.send_row(key, pair) else {
            return;
        };
        for address in &pair.addresses {
            ctx.bpf(MapOp::SetSend(endpoint.send_key(*address), row));
        }
    }

    /// The send row of a pair, as it should be.
    pub(super) fn send_row(&self, key: &PairKey, pair: &Pair) -> Option<SendRow> {
        let until = pair.sending.newest()?.until;
        let tag = |permit: Permit| Tag {
            label: permit.label,
            epoch: permit.epoch,
        };
        Some(SendRow::Paired {
            tags: pair.sending.slots().map(|permit| permit.map(tag)),
            peer: self.peers.get(&pair.node)?.id,
            class: pair.class,
            remote: pair.remote,
            not_after: until.min(self.limit(key, pair)),
        })
    }

    pub(super) fn send_label(
        &self,
        key: &PairKey,
        node: &NodeUid,
        epoch: Epoch,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(grant) = self.pairs.of(key).and_then(|pair| pair.grants.of(epoch)) else {
            return;
        };
        let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
        let Some(channel) = channel else { return };
        let label = pb::Label {
            src_pod: key.remote.as_str().to_owned(),
            dst_pod: key.local.as_str().to_owned(),
            label: grant.label.value(),
            epoch: grant.epoch.0,
            not_after_unix_ms: wall_ms(grant.not_after, ctx),
        };
        ctx.send(channel.conn, &Message::Label(label));
    }

    pub(super) fn take_answers(&mut self, key: &PairKey) -> Vec<Answer> {
        self.pairs
            .of_mut(key)
            .map(|pair| std::mem::take(&mut pair.answers))
            .unwrap_or_default()
    }
}

/// Failed requests in a row after which packets are refused, not held.
const SVID_FAILURES: u32 = 3;

/// A moment on the boot clock as Unix milliseconds.
pub(super) fn wall_ms(at: Duration, ctx: &Ctx<'_>) -> u64 {
    let left = at.saturating_sub(ctx.boot());
    let wall = Duration::from_secs(ctx.now.wall.as_secs()).saturating_add(left);
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds as a moment on the boot clock.
pub(super) fn boot_at(unix_ms: u64, ctx: &Ctx<'_>) -> Duration {
    let left =
        Duration::from_millis(unix_ms).saturating_sub(Duration::from_secs(ctx.now.wall.as_secs()));
    ctx.boot().saturating_add(left)
}
