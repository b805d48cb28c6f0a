//! Switching to the next epoch: new keys are made on a new channel, proven both ways, every live
//! pair gets its labels, both nodes say so, and then one write moves the packets.
//!
//! Nothing before that write concerns packets: whatever fails, they go on in the epoch before, and
//! it is tried again. Nothing after it is in a hurry: the old keys receive until both nodes have
//! moved, and a while longer.

use std::time::Duration;

use crate::{
    agent::Agent,
    effects::Ctx,
    epochs::Schedule,
    event::Event,
    ids::{Epoch, NodeUid, Slot},
    io::Output,
    peer::{Dial, Peer, channel::Channel},
    wire::{Message, pb},
};

impl Agent {
    pub(super) fn on_schedule(&mut self, schedule: Schedule, ctx: &mut Ctx<'_>) {
        if self.epochs.schedule == Some(schedule) {
            return self.tend_schedule(ctx);
        }
        self.epochs.schedule = Some(schedule);
        self.epochs.next = Some(ctx.boot());
        self.tend_schedule(ctx);
        // Keys that were made under another schedule, or none.
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in nodes {
            let keys = self
                .peers
                .get(&node)
                .into_iter()
                .flat_map(|peer| &peer.slots);
            let ready: Vec<Epoch> = keys
                .flatten()
                .filter(|keys| keys.ready.is_some())
                .map(|keys| keys.epoch)
                .collect();
            for epoch in ready {
                self.date_keys(&node, epoch, ctx);
            }
            self.write_peer(&node, ctx);
        }
    }

    /// At the start of an epoch of the cluster the engine gets new static keys; peers are told them
    /// when their turn comes.
    pub(super) fn tend_schedule(&mut self, ctx: &mut Ctx<'_>) {
        let Some(schedule) = self.epochs.schedule else {
            return;
        };
        if self.epochs.next.is_some_and(|next| next > ctx.boot()) && self.epochs.keys_of.is_some() {
            return;
        }
        self.epochs.next = Some(schedule.next(ctx.now));
        let epoch = schedule.epoch(ctx.now);
        if self.engine.is_up() && self.epochs.keys_of != Some(epoch) {
            self.epochs.keys_of = Some(epoch);
            self.engine.renew_keys(ctx);
        }
    }

    /// Keys can be used from now on: until when, and when the next ones are to be made.
    pub(super) fn date_keys(&mut self, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let schedule = self.epochs.schedule;
        let first = self.config.node_uid < *node;
        let Some(keys) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.keys_mut(epoch))
        else {
            return;
        };
        keys.ready.get_or_insert(ctx.now.boot);
        let Some(schedule) = schedule else { return };
        keys.made_in.get_or_insert(schedule.epoch(ctx.now));
        let next = schedule.next(ctx.now);
        let jitter = u64::try_from(schedule.jitter.as_millis()).unwrap_or(u64::MAX);
        // One of the two begins; the other one if it does not.
        let wait = if first {
            Duration::from_millis(ctx.below(jitter.saturating_add(1)))
        } else {
            schedule.jitter + schedule.length / 8
        };
        let due = next + wait;
        let until = next + schedule.length;
        keys.due = Some(keys.due.map_or(due, |at| at.min(due)));
        keys.until = Some(keys.until.map_or(until, |at| at.min(until)));
    }

    /// Whether packets can move to the channel's keys: says so to the peer, and moves them once it
    /// has said the same.
    pub(super) fn review_switch(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        self.review_slots(node, ctx);
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        let Some(channel) = &peer.channel else { return };
        let Some(epoch) = channel.epoch() else { return };
        let conn = channel.conn;
        let Some(keys) = peer.keys(epoch) else { return };
        if keys.proven && peer.prepared != epoch && self.unprepared(node, epoch).is_none() {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.prepared = epoch;
            }
            let prepared = pb::SlotPrepared { epoch: epoch.0 };
            ctx.send(conn, &Message::SlotPrepared(prepared));
        }
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        if peer.tx == epoch {
            return;
        }
        let both = peer.prepared == epoch && peer.their_prepared == epoch;
        if both || !self.sends_in(node, peer.tx) {
            self.switch(node, epoch, ctx);
        }
    }

    /// Whether rows send packets to this node in this epoch.
    fn sends_in(&self, node: &NodeUid, epoch: Epoch) -> bool {
        let taken_over = self.peers.get(node).and_then(|peer| peer.keys(epoch));
        let taken_over = taken_over.filter(|keys| keys.adopted);
        let mut pairs = self.pairs.with_node(node);
        pairs.any(|pair| pair.sending.of(epoch).is_some())
            || taken_over.is_some_and(|keys| self.adoption.sends_in(epoch, keys.allowed()))
    }

    /// A pair that cannot go in this epoch yet.
    fn unprepared(&self, node: &NodeUid, epoch: Epoch) -> Option<String> {
        let keys = self.pairs.of_node(node);
        let key = keys.into_iter().find(|key| {
            let pair = self.pairs.of(key);
            pair.is_some_and(|pair| pair.is_behind(epoch) && pair.refused_in != Some(epoch))
        })?;
        Some(format!(
            "pod {} has no label towards {}",
            key.local, key.remote
        ))
    }

    /// Packets leave in this epoch from now on: one write, for all pairs.
    fn switch(&mut self, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let before = std::mem::replace(&mut peer.tx, epoch);
        if before.0 != 0 {
            ctx.counters.epoch_switches += 1;
            ctx.event(Event::EpochSwitched {
                node: node.clone(),
                epoch,
            });
        }
        self.write_peer(node, ctx);
        self.tell_tx(node, ctx);
        self.review_slots(node, ctx);
    }

    /// Tells the peer in which epoch packets leave, unless rows of a previous instance still send in
    /// another.
    pub(super) fn tell_tx(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let tx = peer.tx;
        let taken_over = peer.slots.iter().flatten().any(|keys| keys.adopted);
        if let Some(channel) = peer.channel.as_mut()
            && tx.0 != 0
            && channel.told_tx != tx
            && !taken_over
        {
            channel.told_tx = tx;
            let conn = channel.conn;
            ctx.send(conn, &Message::SlotTx(pb::SlotTx { epoch: tx.0 }));
        }
    }

    pub(super) fn on_slot_prepared(&mut self, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        if let Some(peer) = self.peers.get_mut(node)
            && peer.keys(epoch).is_some()
        {
            peer.their_prepared = epoch;
        }
        self.review_switch(node, ctx);
    }

    pub(super) fn on_slot_tx(&mut self, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.their_tx = epoch;
        }
        self.review_slots(node, ctx);
    }

    /// The peer's packets leave in an epoch that it said before the last channel was lost, or that a
    /// previous instance agreed to: then this node was prepared, and moves, too.
    pub(super) fn settle(&mut self, node: &NodeUid, theirs: Epoch, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        let Some(keys) = peer.keys(theirs) else {
            return;
        };
        if keys.adopted {
            if peer.tx < theirs {
                let allowed = keys.allowed().clone();
                self.adoption.switch(theirs, &allowed, ctx);
                self.switch(node, theirs, ctx);
            }
        } else if peer.tx < theirs && (peer.prepared == theirs || keys.proven) {
            self.switch(node, theirs, ctx);
        }
    }

    /// When a peer's keys want something.
    pub(super) fn epoch_timeout(&self, node: &NodeUid, peer: &Peer) -> Option<Duration> {
        let Some(channel) = &peer.channel else {
            // Whoever has pairs dials anyway.
            return self.is_idle(node).then(|| idle_due(peer)).flatten();
        };
        let epoch = channel.epoch()?;
        let keys = peer.keys(epoch)?;
        let stuck = (peer.tx != epoch).then(|| self.stuck_at(keys.ready));
        let due = match peer.dial {
            Dial::Idle => keys.due,
            Dial::Waiting { at, .. } => keys.due.map(|due| due.max(at)),
            Dial::Dialling { .. } => None,
        };
        let due = due.filter(|_| peer.greetings.is_empty());
        [stuck.flatten(), due].into_iter().flatten().min()
    }

    fn stuck_at(&self, ready: Option<Duration>) -> Option<Duration> {
        ready.map(|at| at + self.epochs.within(self.config.timers.switch, 4))
    }

    /// Begins a switch when it is due, and anew when it goes nowhere.
    pub(super) fn tend_epoch(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        if peer.channel.is_none() && idle_due(peer).is_some_and(|due| due <= now) {
            if self.is_idle(node) {
                self.forget_keys(node, ctx);
            }
            return;
        }
        let epoch = peer.channel.as_ref().and_then(Channel::epoch);
        let Some(keys) = epoch.and_then(|epoch| peer.keys(epoch)) else {
            return;
        };
        if peer.tx != keys.epoch && self.stuck_at(keys.ready).is_some_and(|at| at <= now) {
            return self.drop_channel(node, pb::ByeReason::Timeout, ctx);
        }
        let waits = match peer.dial {
            Dial::Idle => false,
            Dial::Waiting { at, .. } => at > now,
            Dial::Dialling { .. } => true,
        };
        if waits || !peer.greetings.is_empty() || keys.due.is_none_or(|due| due > now) {
            return;
        }
        if self.is_idle(node) {
            self.drop_channel(node, pb::ByeReason::Idle, ctx);
            return self.forget_keys(node, ctx);
        }
        self.dial_to_renew(node, ctx);
    }

    fn is_idle(&self, node: &NodeUid) -> bool {
        self.pairs.with_node(node).next().is_none()
    }

    /// Nobody talks with that node: its keys go, and come again when somebody does.
    fn forget_keys(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        for slot in Slot::ALL {
            let keys = self.peers.get(node).map(|peer| &peer.slots[slot.index()]);
            if keys.is_some_and(|keys| keys.as_ref().is_some_and(|keys| !keys.adopted)) {
                self.vacate(node, slot, ctx);
            }
        }
    }

    fn dial_to_renew(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let later = ctx.boot() + ctx.backoff(self.config.timers.retry, 4);
        let up = self.engine.is_up();
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let failures = match peer.dial {
            Dial::Waiting { failures, .. } => failures,
            Dial::Idle | Dial::Dialling { .. } => 0,
        };
        let Some(facts) = peer.facts.as_ref().filter(|_| up) else {
            peer.dial = Dial::Waiting {
                at: later,
                failures,
            };
            return;
        };
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

    /// A channel that was to make new keys is gone before packets moved to them.
    pub(super) fn note_stuck(&mut self, node: &NodeUid, channel: &Channel, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        let tx = peer.tx;
        if tx.0 == 0 || channel.epoch() == Some(tx) {
            return;
        }
        let why = match channel.epoch() {
            None => "no keys were agreed".to_owned(),
            Some(epoch) if !peer.keys(epoch).is_some_and(|keys| keys.proven) => {
                "no WireGuard handshake came through in the other slot".to_owned()
            }
            Some(epoch) => match self.unprepared(node, epoch) {
                Some(what) => what,
                None => "the peer did not say that it is prepared".to_owned(),
            },
        };
        ctx.counters.epoch_failures += 1;
        ctx.event(Event::EpochStuck {
            node: node.clone(),
            epoch: tx,
            why,
        });
    }
}

/// When keys without a channel are renewed, or go if nobody needs them.
fn idle_due(peer: &Peer) -> Option<Duration> {
    peer.slots
        .iter()
        .flatten()
        .filter_map(|keys| keys.due)
        .min()
}
