//! What a previous instance left in the maps: it runs on, is never extended, and is replaced pair
//! by pair as they are proven again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    effects::Ctx,
    event::Event,
    ids::{ClassId, EndpointIndex, Epoch, IdentityId, Label, PeerId},
    rows::{EndpointRow, MapOp, PeerRow, RecvRow, SendKey, SendRow},
};

/// Rows without an owner yet.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// When the rest goes; `None` while nothing is left, or the agent has not started yet.
    pub(crate) until: Option<Duration>,
    pub(crate) endpoints: BTreeMap<EndpointIndex, EndpointRow>,
    pub(crate) send: BTreeMap<SendKey, SendRow>,
    pub(crate) recv: BTreeMap<Label, RecvRow>,
    pub(crate) peers: BTreeMap<PeerId, PeerRow>,
    pub(crate) classes: BTreeSet<ClassId>,
}

impl Adoption {
    /// The endpoint row with this look, if a previous instance had one.
    pub(crate) fn claim(
        &mut self,
        ifindex: u32,
        mac: [u8; 6],
        addresses: &[IpAddr],
    ) -> Option<EndpointRow> {
        let same = |row: &EndpointRow| {
            row.ifindex == ifindex && row.mac == mac && row.addresses == addresses
        };
        let index = self.endpoints.values().find(|row| same(row))?.index;
        self.endpoints.remove(&index)
    }

    /// Addresses of the pods that receive rows are for.
    pub(crate) fn speakers(&self) -> BTreeSet<IpAddr> {
        let rows = self.recv.values();
        rows.flat_map(|row| row.addresses.iter().copied()).collect()
    }

    /// Whether packets to these addresses leave in this epoch by what the instance before has left.
    pub(crate) fn sends_in(&self, epoch: Epoch, addresses: &BTreeSet<IpAddr>) -> bool {
        self.send.iter().any(|(key, row)| match row {
            SendRow::Paired { tags, peer, .. } => {
                let peer = self.peers.get(peer);
                let tag = peer.and_then(|peer| peer.choose(tags));
                addresses.contains(&key.destination) && tag.is_some_and(|tag| tag.epoch == epoch)
            }
            SendRow::Refused { .. } => false,
        })
    }

    /// The end of the keys of this epoch, as the instance before has set it.
    pub(crate) fn until_of(&self, epoch: Epoch, addresses: &BTreeSet<IpAddr>) -> Option<Duration> {
        let rows = self.send.iter();
        let mut rows = rows.filter(|(key, _)| addresses.contains(&key.destination));
        rows.find_map(|(_, row)| match row {
            SendRow::Paired { peer, .. } => {
                let (peer, slot) = (self.peers.get(peer)?, epoch.slot().index());
                peer.slot_until[slot].filter(|_| peer.slot_epoch[slot] == epoch)
            }
            SendRow::Refused { .. } => None,
        })
    }

    /// Packets to these addresses leave in this epoch, if their rows have a label of it.
    pub(crate) fn switch(&mut self, epoch: Epoch, addresses: &BTreeSet<IpAddr>, ctx: &mut Ctx<'_>) {
        let rows = self.send.iter();
        let rows = rows.filter(|(key, _)| addresses.contains(&key.destination));
        let named: BTreeSet<PeerId> = rows
            .filter_map(|(_, row)| match row {
                SendRow::Paired { peer, .. } => Some(*peer),
                SendRow::Refused { .. } => None,
            })
            .collect();
        for (id, row) in &mut self.peers {
            let there = row.slot_epoch[epoch.slot().index()] == epoch;
            if named.contains(id) && there && row.tx_slot != epoch.slot() {
                row.tx_slot = epoch.slot();
                ctx.bpf(MapOp::SetPeer(*id, *row));
            }
        }
    }

    /// A send row gets a new owner; the row as it was.
    pub(crate) fn replaced(&mut self, key: &SendKey) -> Option<SendRow> {
        self.send.remove(key)
    }

    /// Rows to and from these addresses go now.
    pub(crate) fn withdraw_addresses(&mut self, addresses: &[IpAddr], ctx: &mut Ctx<'_>) {
        let held = |row: &RecvRow| row.addresses.iter().any(|own| addresses.contains(own));
        self.drop_send(|key, _| addresses.contains(&key.destination), ctx);
        self.drop_recv(held, ctx);
    }

    /// Rows between this endpoint and the pod with these addresses go now.
    pub(crate) fn withdraw_pair(
        &mut self,
        index: EndpointIndex,
        identity: IdentityId,
        addresses: &[IpAddr],
        ctx: &mut Ctx<'_>,
    ) {
        let held = |row: &RecvRow| row.addresses.iter().any(|own| addresses.contains(own));
        let send = |key: &SendKey| key.endpoint == index && addresses.contains(&key.destination);
        self.drop_send(|key, _| send(key), ctx);
        self.drop_recv(|row| row.identity == identity && held(row), ctx);
    }

    /// Rows of this endpoint go now. Receive rows name identities: those that were for another
    /// endpoint of the same one go, too, rather than outlive the one that they were for.
    pub(crate) fn withdraw_endpoint(
        &mut self,
        index: EndpointIndex,
        identity: Option<IdentityId>,
        ctx: &mut Ctx<'_>,
    ) {
        self.drop_send(|key, _| key.endpoint == index, ctx);
        self.drop_recv(|row| Some(row.identity) == identity, ctx);
    }

    /// Rows of an epoch to and from the addresses that its keys were for.
    pub(crate) fn withdraw_epoch(
        &mut self,
        epoch: Epoch,
        addresses: &BTreeSet<IpAddr>,
        ctx: &mut Ctx<'_>,
    ) {
        let send = |key: &SendKey, row: &SendRow| match row {
            // A label of another epoch stays good.
            SendRow::Paired { tags, .. } => {
                tags.iter().flatten().all(|tag| tag.epoch == epoch)
                    && addresses.contains(&key.destination)
            }
            SendRow::Refused { .. } => false,
        };
        self.drop_send(send, ctx);
        let held = |row: &RecvRow| row.addresses.iter().any(|own| addresses.contains(own));
        self.drop_recv(|row| row.epoch == epoch && held(row), ctx);
    }

    /// Receive rows of an epoch from these addresses, and send rows to them: those whose label
    /// `kept` does not know go now.
    pub(crate) fn withdraw_unkept(
        &mut self,
        epoch: Epoch,
        addresses: &BTreeSet<IpAddr>,
        granted: bool,
        kept: impl Fn(Label) -> bool,
        ctx: &mut Ctx<'_>,
    ) {
        if granted {
            self.drop_send(
                |key, row| match row {
                    SendRow::Paired { tags, .. } => {
                        let mut tags = tags.iter().flatten();
                        addresses.contains(&key.destination)
                            && tags.clone().any(|tag| tag.epoch == epoch)
                            && !tags.any(|tag| kept(tag.label))
                    }
                    SendRow::Refused { .. } => false,
                },
                ctx,
            );
        } else {
            let theirs = |row: &RecvRow| row.addresses.iter().any(|own| addresses.contains(own));
            let gone: BTreeSet<Label> = self
                .recv
                .iter()
                .filter(|(label, row)| row.epoch == epoch && theirs(row) && !kept(**label))
                .map(|(label, _)| *label)
                .collect();
            for label in gone {
                self.recv.remove(&label);
                ctx.bpf(MapOp::RemoveRecv(label));
            }
        }
    }

    /// The rest goes.
    pub(crate) fn end(&mut self, ctx: &mut Ctx<'_>) -> Ended {
        self.until = None;
        let (send, recv) = (self.send.len(), self.recv.len());
        self.drop_send(|_, _| true, ctx);
        self.drop_recv(|_| true, ctx);
        for peer in std::mem::take(&mut self.peers).into_keys() {
            ctx.bpf(MapOp::RemovePeer(peer));
        }
        for row in std::mem::take(&mut self.endpoints).into_values() {
            let EndpointRow {
                index,
                ifindex,
                addresses,
                ..
            } = row;
            ctx.bpf(MapOp::RemoveEndpoint {
                index,
                ifindex,
                addresses,
            });
        }
        ctx.event(Event::AdoptionEnded { send, recv });
        Ended {
            classes: std::mem::take(&mut self.classes),
        }
    }

    fn drop_send(&mut self, gone: impl Fn(&SendKey, &SendRow) -> bool, ctx: &mut Ctx<'_>) {
        self.send.retain(|key, row| {
            let gone = gone(key, row);
            if gone {
                ctx.bpf(MapOp::RemoveSend(*key));
            }
            !gone
        });
    }

    fn drop_recv(&mut self, gone: impl Fn(&RecvRow) -> bool, ctx: &mut Ctx<'_>) {
        self.recv.retain(|label, row| {
            let gone = gone(row);
            if gone {
                ctx.bpf(MapOp::RemoveRecv(*label));
            }
            !gone
        });
    }
}

/// What is to be cleaned up after the rows.
pub(crate) struct Ended {
    /// Policy classes that only those rows named.
    pub(crate) classes: BTreeSet<ClassId>,
}
