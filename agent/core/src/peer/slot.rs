//! The two slots of one peer: which keys the engine holds for it, and what it may send.
//!
//! A slot is filled once per epoch and emptied before it is filled again: the PSK of a live peer
//! never changes in place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use signet_crypto::wg::{Psk, PublicKey};

use crate::{
    effects::Ctx,
    ids::{ConnId, Epoch, NodeUid, Slot},
    io::{Output, TunnelCommand},
};

/// Keys of one peer in one slot.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) epoch: Epoch,
    /// The engine's own key towards the peer.
    pub(crate) own_key: PublicKey,
    pub(crate) public_key: PublicKey,
    pub(crate) underlay: SocketAddr,
    /// What the engine is told to accept.
    allowed: BTreeSet<IpAddr>,
    /// What it has confirmed.
    confirmed: BTreeSet<IpAddr>,
    /// When they are removed, once nothing needs them.
    pub(crate) retire: Option<Duration>,
    /// A previous instance made them; its rows go by another peer number.
    pub(crate) adopted: bool,
    /// A WireGuard handshake was completed: the peer has the private key, too, and both ports can
    /// be reached.
    pub(crate) proven: bool,
    /// Both sides confirmed them, then.
    pub(crate) ready: Option<Duration>,
    /// The cluster's epoch then.
    pub(crate) made_in: Option<u64>,
    /// When the next ones are to be made; `None` while nobody says when.
    pub(crate) due: Option<Duration>,
    /// Nothing passes under them after this.
    pub(crate) until: Option<Duration>,
}

impl Keys {
    pub(crate) fn new(
        epoch: Epoch,
        own_key: PublicKey,
        public_key: PublicKey,
        underlay: SocketAddr,
    ) -> Self {
        Self {
            epoch,
            own_key,
            public_key,
            underlay,
            allowed: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            retire: None,
            adopted: false,
            proven: false,
            ready: None,
            made_in: None,
            due: None,
            until: None,
        }
    }

    /// What the engine accepts, as it has confirmed it.
    pub(crate) fn confirmed(&self) -> &BTreeSet<IpAddr> {
        &self.confirmed
    }

    /// The engine's word on what it accepts.
    pub(crate) fn set_confirmed(&mut self, addresses: BTreeSet<IpAddr>) {
        self.confirmed = addresses;
    }

    pub(crate) fn set_allowed(&mut self, addresses: BTreeSet<IpAddr>) {
        self.allowed = addresses;
    }

    pub(crate) fn allowed(&self) -> &BTreeSet<IpAddr> {
        &self.allowed
    }
}

/// What an answer of the engine is for.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) node: NodeUid,
    pub(crate) slot: Slot,
    pub(crate) epoch: Epoch,
    pub(crate) what: Command,
}

/// Which command.
#[derive(Debug)]
pub(crate) enum Command {
    /// Keys were set, for the negotiation on this channel.
    Set(ConnId),
    /// The allowed IPs were set to these.
    Allow(BTreeSet<IpAddr>),
    /// The peer was removed.
    Remove,
}

/// A slot's own key and port.
pub(crate) type Own = (PublicKey, u16);

/// The engine's control connection, seen from here.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    /// Own keys and ports by slot; `None` while there is no connection.
    pub(crate) slots: Option<[Own; 2]>,
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
}

impl Engine {
    pub(crate) fn is_up(&self) -> bool {
        self.slots.is_some()
    }

    pub(crate) fn gone(&mut self) {
        self.slots = None;
        self.waiting.clear();
    }

    /// What an answer is for; `None` if nobody waits for it any more.
    pub(crate) fn answered(&mut self, seq: u64) -> Option<Waiting> {
        self.waiting.remove(&seq)
    }

    pub(crate) fn set_peer(
        &mut self,
        node: &NodeUid,
        keys: &Keys,
        psk: Psk,
        initiate: bool,
        conn: ConnId,
        ctx: &mut Ctx<'_>,
    ) {
        let seq = self.next(node, keys, Command::Set(conn));
        ctx.push(Output::Tunnel(TunnelCommand::SetPeer {
            seq,
            slot: keys.epoch.slot(),
            own: keys.own_key,
            peer: keys.public_key,
            psk,
            underlay: keys.underlay,
            allowed_ips: nets(&keys.allowed),
            epoch: keys.epoch,
            initiate,
        }));
    }

    /// Brings the engine's allowed IPs in line with what `keys` say.
    pub(crate) fn allow(&mut self, node: &NodeUid, keys: &Keys, ctx: &mut Ctx<'_>) {
        if !self.is_up() {
            return;
        }
        let seq = self.next(node, keys, Command::Allow(keys.allowed.clone()));
        ctx.push(Output::Tunnel(TunnelCommand::SetAllowedIps {
            seq,
            slot: keys.epoch.slot(),
            peer: keys.public_key,
            allowed_ips: nets(&keys.allowed),
        }));
    }

    /// Asks for a new static key in both slots.
    pub(crate) fn renew_keys(&mut self, ctx: &mut Ctx<'_>) {
        for slot in Slot::ALL {
            self.last += 1;
            let seq = self.last;
            ctx.push(Output::Tunnel(TunnelCommand::RenewKey { seq, slot }));
        }
    }

    /// The engine has another static key in a slot.
    pub(crate) fn key_renewed(&mut self, slot: Slot, key: PublicKey) {
        if let Some(slots) = &mut self.slots {
            slots[slot.index()].0 = key;
        }
    }

    pub(crate) fn remove_peer(&mut self, node: &NodeUid, keys: &Keys, ctx: &mut Ctx<'_>) {
        if !self.is_up() {
            return;
        }
        let seq = self.next(node, keys, Command::Remove);
        ctx.push(Output::Tunnel(TunnelCommand::RemovePeer {
            seq,
            slot: keys.epoch.slot(),
            peer: keys.public_key,
        }));
    }

    fn next(&mut self, node: &NodeUid, keys: &Keys, what: Command) -> u64 {
        self.last += 1;
        let waiting = Waiting {
            node: node.clone(),
            slot: keys.epoch.slot(),
            epoch: keys.epoch,
            what,
        };
        self.waiting.insert(self.last, waiting);
        self.last
    }
}

/// The next epoch for two nodes that remember `last` and use `live`: higher than any, and not in
/// the slot in use.
pub(crate) fn next_epoch(last: Epoch, live: Epoch) -> Epoch {
    let next = Epoch(last.0.saturating_add(1));
    if live.0 != 0 && next.slot() == live.slot() {
        Epoch(next.0.saturating_add(1))
    } else {
        next
    }
}

/// Single addresses as networks.
pub(crate) fn nets(addresses: &BTreeSet<IpAddr>) -> Vec<IpNet> {
    addresses
        .iter()
        .map(|address| IpNet::from(*address))
        .collect()
}

/// Networks that are single addresses; the agent sets no others.
pub(crate) fn addresses(nets: &[IpNet]) -> BTreeSet<IpAddr> {
    nets.iter().map(IpNet::addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_never_take_the_live_slot() {
        let rows = [
            ((0, 0), 1),
            ((1, 1), 2),
            ((2, 1), 4),
            ((3, 2), 5),
            ((7, 7), 8),
            ((8, 7), 10),
        ];
        for ((last, live), next) in rows {
            assert_eq!(
                next_epoch(Epoch(last), Epoch(live)),
                Epoch(next),
                "{last} {live}"
            );
        }
    }
}
