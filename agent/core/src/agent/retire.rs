//! The end of a peer's keys: abandoned, no longer needed, or needed for the next epoch.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    agent::Agent,
    authn::{label::PairKey, pair::Grant},
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
        for key in self.pairs.of_node(node) {
            self.drop_epoch(&key, epoch, ctx);
        }
        if keys.adopted {
            self.adoption.withdraw_epoch(epoch, keys.allowed(), ctx);
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
        let sends = pair.sending.is_some_and(|permit| permit.epoch == epoch);
        let grants = pair.grant.is_some_and(|grant| grant.epoch == epoch);
        if was_open && (sends || grants) {
            self.audit(key, AuditKind::Closed(PairEnd::KeysGone), ctx);
        }
        let endpoint = self.endpoints.of_pod(&key.local);
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        if sends {
            pair.sending = None;
            if let Some(endpoint) = endpoint {
                for address in &pair.addresses {
                    ctx.bpf(MapOp::RemoveSend(endpoint.send_key(*address)));
                }
            }
        }
        pair.permit = pair.permit.filter(|permit| permit.epoch != epoch);
        if grants {
            pair.old_grants.extend(pair.grant.take());
        }
        let (gone, stay) = pair
            .old_grants
            .iter()
            .partition(|grant| grant.epoch == epoch);
        pair.old_grants = stay;
        let gone: Vec<Grant> = gone;
        for grant in gone {
            ctx.bpf(MapOp::RemoveRecv(grant.label));
            self.labels.free(grant.label);
        }
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
        let Some(epoch) = channel.epoch() else { return };
        // Pairs that had not moved over stay where they are until there is a channel again.
        let older = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.slots[epoch.slot().other().index()].as_mut());
        if let Some(older) = older.filter(|older| !older.adopted) {
            let mut pairs = self.pairs.with_node(node);
            if pairs.any(|pair| pair.uses(older.epoch)) {
                older.retire = None;
            }
        }
    }

    /// Keys that no pair uses any more retire after a grace for packets under way.
    pub(super) fn review_slots(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let grace = ctx.boot() + self.config.timers.slot_grace;
        let pairs = &self.pairs;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let Some(current) = peer.epoch() else { return };
        for keys in peer.slots.iter_mut().flatten() {
            let epoch = keys.epoch;
            let used = || pairs.with_node(node).any(|pair| pair.uses(epoch));
            if epoch != current && !keys.adopted && !used() {
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
