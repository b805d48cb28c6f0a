//! What is due: one place that asks every machine, and one that lets each do its part.

use std::{collections::BTreeSet, time::Duration};

use signet_abi::DropReason;

use crate::{
    agent::Agent,
    authn::pair::Pair,
    effects::{Ctx, Earliest},
    event::PairEnd,
    ids::{NodeUid, PodUid, Slot},
    io::{Output, Reason, Timeout},
    peer::Dial,
    wire::{Message, pb},
};

impl Agent {
    pub(super) fn next_timeout(&self) -> Option<Timeout> {
        let mut earliest = Earliest::default();
        let timers = &self.config.timers;
        earliest.add(self.hold.timeout(timers.hold), Reason::Hold);
        earliest.add(self.wants.timeout(), Reason::Pair);
        if let Some((at, reason)) = self.pairs.timeout() {
            earliest.add(Some(at), reason);
        }
        for (node, peer) in &self.peers {
            let greetings = peer.greetings.values().map(|greeting| greeting.deadline);
            earliest.add(greetings.min(), Reason::Channel);
            let channel = peer.channel.as_ref();
            earliest.add(
                channel.map(|channel| channel.timeout(timers.dead)),
                Reason::Channel,
            );
            if let Dial::Waiting { at, .. } = peer.dial
                && peer.channel.is_none()
                && peer.greetings.is_empty()
            {
                earliest.add(Some(at), Reason::Dial);
            }
            for keys in peer.slots.iter().flatten() {
                earliest.add(keys.retire, Reason::Slot);
            }
            earliest.add(self.epoch_timeout(node, peer), Reason::Epoch);
            let requests = peer.requests.iter().map(|request| request.deadline);
            earliest.add(requests.min(), Reason::Request);
        }
        earliest.add(self.epochs.next, Reason::Epoch);
        earliest.add(self.certificate.timeout(), Reason::Svid);
        for endpoint in self.endpoints.iter() {
            earliest.add(endpoint.certificate.timeout(), Reason::Svid);
            earliest.add(endpoint.incomplete, Reason::Policy);
        }
        earliest.add(self.directory.timeout(), Reason::Directory);
        earliest.add(self.adoption.until, Reason::Adoption);
        earliest.add(self.repairs.timeout(), Reason::Repair);
        earliest.0
    }

    pub(super) fn on_timeout(&mut self, ctx: &mut Ctx<'_>) {
        // What ends first, so that nothing below goes on with it.
        self.expire_pairs(ctx);
        if self.adoption.until.is_some_and(|until| until <= ctx.boot()) {
            self.end_adoption(ctx);
        }
        self.hold.handle_timeout(self.config.timers.hold, ctx);
        self.expire_refusals(ctx);
        self.expire_wants(ctx);
        self.expire_requests(ctx);
        self.renew_svids(ctx);
        self.repeat_policies(ctx);
        self.repair(ctx);
        if self.directory.timeout().is_some_and(|at| at <= ctx.boot()) {
            let wanted = self.wanted_lookups();
            self.directory.handle_timeout(&wanted, ctx);
        }
        self.tend_schedule(ctx);
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.tend_channel(&node, ctx);
            self.tend_epoch(&node, ctx);
            self.retire_slots(&node, ctx);
            self.tend_dial(&node, ctx);
        }
        self.repeat_asks(ctx);
        let idle = self.config.limits.directory_idle;
        if self.directory.len() > idle {
            let used = self.pairs.iter().map(|(key, _)| key.remote.clone());
            let used: BTreeSet<PodUid> = used.collect();
            self.directory.shrink(&used, idle, ctx);
        }
    }

    fn expire_pairs(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        let over = |pair: &Pair| {
            let (grant, sending) = (pair.grants.newest(), pair.sending.newest());
            grant.is_some_and(|grant| grant.not_after <= now)
                || sending.is_some_and(|permit| permit.until <= now)
        };
        for key in self.pairs.due_where(now, over) {
            self.close_pair(&key, PairEnd::Expired, false, ctx);
        }
        for key in self.pairs.due_where(now, |_| true) {
            let Some(pair) = self.pairs.of_mut(&key) else {
                continue;
            };
            let over: Vec<_> = pair
                .grants
                .iter()
                .filter(|grant| grant.not_after <= now)
                .collect();
            for grant in over {
                pair.grants.take(grant.epoch);
                ctx.bpf(crate::rows::MapOp::RemoveRecv(grant.label));
                self.labels.free(grant.label);
            }
        }
    }

    fn expire_refusals(&mut self, ctx: &mut Ctx<'_>) {
        let over = self.wants.over(ctx.boot());
        self.forget_refusals(over, ctx);
    }

    fn renew_svids(&mut self, ctx: &mut Ctx<'_>) {
        if self.certificate.due(ctx.boot()) {
            ctx.push(Output::RenewNodeSvid);
        }
        for endpoint in self.endpoints.iter_mut() {
            if let Some(known) = &endpoint.known
                && endpoint.certificate.due(ctx.boot())
            {
                let (pod, id) = (endpoint.pod.clone(), known.id.clone());
                ctx.push(Output::RequestSvid { pod, id });
            }
        }
    }

    fn tend_channel(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let (now, timers) = (ctx.boot(), self.config.timers);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let late: Vec<_> = peer
            .greetings
            .iter()
            .filter(|(_, greeting)| greeting.deadline <= now)
            .map(|(conn, _)| *conn)
            .collect();
        let silent = peer.channel.as_ref().is_some_and(|channel| {
            channel.is_dead(now, timers.dead)
                || channel.negotiation.deadline().is_some_and(|at| at <= now)
        });
        for conn in late {
            self.close_conn(conn, pb::ByeReason::Timeout, ctx);
        }
        if silent {
            return self.drop_channel(node, pb::ByeReason::Timeout, ctx);
        }
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return;
        };
        if channel.ping_due(now, timers.ping) {
            ctx.send(
                channel.conn,
                &Message::Ping(pb::Ping {
                    nonce: channel.next_id(),
                }),
            );
        }
        if channel.offer_at.is_some_and(|at| at <= now) {
            channel.offer_at = None;
            self.begin_slot(node, ctx);
        }
        let Some(channel) = self.channel_mut(node) else {
            return;
        };
        if channel.reprove_at.is_some_and(|at| at <= now) {
            channel.reprove_at = None;
            self.reprove(node, ctx);
            self.step_node(node, ctx);
        }
    }

    fn retire_slots(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        for slot in Slot::ALL {
            let keys = self
                .peers
                .get(node)
                .and_then(|peer| peer.slots[slot.index()].as_ref());
            let Some(keys) = keys.filter(|keys| keys.retire.is_some_and(|at| at <= now)) else {
                continue;
            };
            let epoch = keys.epoch;
            self.vacate(node, slot, ctx);
            let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
            if let Some(channel) = channel {
                let retire = pb::SlotRetire { epoch: epoch.0 };
                ctx.send(channel.conn, &Message::SlotRetire(retire));
            }
        }
    }

    /// Dials again while there is something to say.
    fn tend_dial(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let due = matches!(peer.dial, Dial::Waiting { at, .. } if at <= now);
        if !due || peer.channel.is_some() || !peer.greetings.is_empty() {
            return;
        }
        let needs = |pair: &Pair| pair.has_rows() || pair.wanted.is_some();
        if self.pairs.with_node(node).any(needs) {
            self.ensure_channel(node, ctx);
            // Whoever cannot dial now (no engine, no address) looks again a little later.
            if let Some(peer) = self.peers.get_mut(node)
                && let Dial::Waiting { at, .. } = &mut peer.dial
                && *at <= now
            {
                *at = now + self.config.timers.retry.1;
            }
        } else if let Some(peer) = self.peers.get_mut(node) {
            peer.dial = Dial::Idle;
        }
    }

    fn repeat_asks(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        let retry = self.config.timers.retry;
        let late = self
            .pairs
            .due_where(now, |pair| pair.ask.is_some_and(|ask| ask.deadline <= now));
        for key in late {
            let Some(pair) = self.pairs.of_mut(&key) else {
                continue;
            };
            pair.ask = None;
            pair.failures += 1;
            let failures = pair.failures;
            pair.not_before = now + ctx.backoff(retry, failures);
            if failures >= 3 {
                pair.failures = 0;
                let detail = "its node did not answer in time";
                self.refuse_pair(&key, DropReason::AuthenticationFailed, detail, ctx);
            }
        }
        let paused = |pair: &Pair| {
            pair.ask.is_none() && pair.not_before > Duration::ZERO && pair.not_before <= now
        };
        let again = |pair: &Pair| pair.wanted.is_some() && paused(pair);
        for key in self.pairs.due_where(now, again) {
            if let Some(pair) = self.pairs.of_mut(&key) {
                pair.not_before = Duration::ZERO;
            }
            self.step(&key, ctx);
        }
        // Pairs with rows of an old epoch that were refused are tried again.
        let behind = |pair: &Pair| pair.wanted.is_none() && paused(pair);
        for key in self.pairs.due_where(now, behind) {
            let node = self.pairs.of(&key).map(|pair| pair.node.clone());
            let epoch = node.and_then(|node| self.peers.get(&node)?.epoch());
            let Some(pair) = self.pairs.of_mut(&key) else {
                continue;
            };
            pair.not_before = Duration::ZERO;
            if epoch.is_some_and(|epoch| pair.is_behind(epoch)) {
                pair.wanted = Some(now);
                self.step(&key, ctx);
            }
        }
    }
}
