//! The end of a peer's keys: abandoned, no longer needed, or needed for the next epoch.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    agent::Agent,
    authn::label::PairKey,
    effects::Ctx,
    event::{AuditKind, Event, PairEnd},
    ids::{Epoch, NodeUid, Slot},
    peer::channel::Channel,
    rows::MapOp,
};

impl Agent {
    /// The other side no longer receives in this epoch.
    pub(super) fn on_slot_retire(
        &mut self,
        node: &NodeUid,
        epoch: Epoch,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
        if channel.and_then(|channel| channel.negotiation.keyed()) == Some(epoch) {
            return Err("a SLOT_RETIRE of keys that are being agreed".to_owned());
        }
        let current = channel.and_then(Channel::epoch);
        let held = self
            .peers
            .get(node)
            .is_some_and(|peer| peer.keys(epoch).is_some());
        if held && current != Some(epoch) {
            self.vacate(node, epoch.slot(), ctx);
        }
        Ok(())
    }

    /// Removes a slot's keys, and before them every row that needs them.
    pub(super) fn vacate(&mut self, node: &NodeUid, slot: Slot, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let Some(keys) = peer.slots[slot.index()].take() else {
            return;
        };
        let epoch = keys.epoch;
        peer.forget_epoch(epoch);
        for key in self.pairs.of_node(node) {
            self.drop_epoch(&key, epoch, ctx);
        }
        if keys.adopted {
            self.adoption.withdraw_epoch(epoch, keys.allowed(), ctx);
            self.tell_tx(node, ctx);
        }
        self.write_peer(node, ctx);
        self.engine.remove_peer(node, &keys, ctx);
        ctx.event(Event::SlotRetired {
            node: node.clone(),
            slot,
            epoch,
        });
    }

    /// A pair's rows of one epoch go.
    fn drop_epoch(&mut self, key: &PairKey, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let was_open = pair.is_open();
        let sends = pair.sending.of(epoch).is_some();
        let other = |held: Epoch| held != epoch;
        let stays = pair.grants.iter().any(|grant| other(grant.epoch))
            && pair.sending.iter().any(|permit| other(permit.epoch));
        if was_open && !stays {
            self.audit(key, AuditKind::Closed(PairEnd::KeysGone), ctx);
        }
        let endpoint = self.endpoints.of_pod(&key.local);
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        pair.permits.take(epoch);
        // A label of another epoch stays in the row; this one counts no more once the slot is empty.
        if pair.sending.take(epoch).is_some()
            && pair.sending.is_empty()
            && let Some(endpoint) = endpoint
        {
            for address in &pair.addresses {
                ctx.bpf(MapOp::RemoveSend(endpoint.send_key(*address)));
            }
        }
        let gone = pair.grants.take(epoch);
        if sends && !pair.sending.is_empty() {
            self.write_sends(key, ctx);
        }
        if let Some(grant) = gone {
            ctx.bpf(MapOp::RemoveRecv(grant.label));
            self.labels.free(grant.label);
        }
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        if was_open && !pair.is_open() {
            pair.session = None;
            ctx.counters.pairs_closed += 1;
            let (local, remote) = (key.local.clone(), key.remote.clone());
            ctx.event(Event::PairClosed {
                local,
                remote,
                end: PairEnd::KeysGone,
            });
        }
        self.drop_idle_pair(key, ctx);
    }

    /// A channel is gone: keys that it had not finished are of no use to anybody.
    pub(super) fn abandon_slot(
        &mut self,
        node: &NodeUid,
        channel: Option<Channel>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(channel) = channel else { return };
        let held = |agent: &Self, epoch| {
            let peer = agent.peers.get(node);
            peer.is_some_and(|peer| peer.keys(epoch).is_some())
        };
        if let Some(epoch) = channel.negotiation.keyed()
            && held(self, epoch)
        {
            self.vacate(node, epoch.slot(), ctx);
        }
        self.note_stuck(node, &channel, ctx);
    }

    /// Keys that neither node sends under any more retire after a grace for packets under way.
    pub(super) fn review_slots(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let grace = self.epochs.within(self.config.timers.slot_grace, 3);
        let grace = ctx.boot() + grace;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let (tx, theirs) = (peer.tx, peer.their_tx);
        for keys in peer.slots.iter_mut().flatten() {
            let over = keys.epoch < tx && keys.epoch != theirs;
            if over && !keys.adopted {
                keys.retire = Some(keys.retire.map_or(grace, |at| at.min(grace)));
            }
        }
    }

    /// Brings allowed IPs in line with the pairs that are left.
    pub(super) fn review_allowed(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let pairs = self.pairs.with_node(node);
        let used: BTreeSet<IpAddr> = pairs
            .flat_map(|pair| pair.addresses.iter().copied())
            .collect();
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        for keys in peer.slots.iter_mut().flatten().filter(|keys| !keys.adopted) {
            let left: BTreeSet<IpAddr> = keys.allowed().intersection(&used).copied().collect();
            if left != *keys.allowed() {
                keys.set_allowed(left);
                self.engine.allow(node, keys, ctx);
            }
        }
    }

    /// Writes the peer's row if it is another now.
    pub(super) fn write_peer(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let wanted = peer.wanted_row();
        let keyed = wanted.slot_epoch.iter().any(|epoch| epoch.0 != 0);
        if peer.row == Some(wanted) || (peer.row.is_none() && !keyed) {
            return;
        }
        peer.row = Some(wanted);
        ctx.bpf(MapOp::SetPeer(peer.id, wanted));
    }
}
