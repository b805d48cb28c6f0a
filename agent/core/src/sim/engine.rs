//! The engine: keys by slot and peer, allowed IPs both ways, at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use signet_crypto::{
    random::{Random, SeededRandom},
    wg::PublicKey,
};

use super::{NodeIx, World};
use crate::{
    Input,
    ids::{Epoch, Slot},
    io::{EnginePeer, EngineSlot, TunnelCommand, TunnelEvent},
    peer::slot::{addresses, nets},
};

pub(crate) struct Peer {
    pub(crate) own: PublicKey,
    pub(crate) epoch: Epoch,
    pub(crate) psk: [u8; 32],
    pub(crate) underlay: SocketAddr,
    pub(crate) allowed: BTreeSet<IpAddr>,
}

pub(crate) struct Engine {
    /// The newest of each slot.
    pub(crate) keys: [PublicKey; 2],
    /// How often they were renewed.
    pub(crate) renewals: u64,
    /// Slots whose UDP port a firewall swallows.
    pub(crate) blocked: BTreeSet<Slot>,
    pub(crate) peers: BTreeMap<(Slot, PublicKey), Peer>,
}

impl Engine {
    pub(crate) fn new(random: &mut SeededRandom) -> Self {
        let keys = [PublicKey(random.bytes()), PublicKey(random.bytes())];
        Self {
            keys,
            renewals: 0,
            blocked: BTreeSet::new(),
            peers: BTreeMap::new(),
        }
    }

    pub(crate) fn welcome(&self) -> TunnelEvent {
        let slot = |slot: Slot| EngineSlot {
            public_key: self.keys[slot.index()],
            port: 51830 + u16::from(slot.number()),
        };
        let peers = self.peers.iter().map(|((slot, key), peer)| EnginePeer {
            slot: *slot,
            own_key: peer.own,
            public_key: *key,
            epoch: peer.epoch,
            underlay: peer.underlay,
            allowed_ips: nets(&peer.allowed),
        });
        let peers = peers.collect();
        TunnelEvent::Welcome {
            slots: Slot::ALL.map(slot),
            peers,
        }
    }
}

impl World {
    pub(crate) fn command(&mut self, node: NodeIx, command: TunnelCommand) {
        let engine = &mut self.nodes[node].engine;
        let mut handshakes = Vec::new();
        let seq = match command {
            TunnelCommand::SetPeer {
                seq,
                slot,
                own,
                peer,
                psk,
                underlay,
                allowed_ips,
                epoch,
                initiate,
            } => {
                assert_eq!(epoch.slot(), slot);
                let at = self.boot + Duration::from_micros(300);
                let handshake = initiate.then_some((at, slot, peer));
                handshakes.extend(handshake);
                let before = engine.peers.insert(
                    (slot, peer),
                    Peer {
                        own,
                        epoch,
                        psk: *psk.secret().expose(),
                        underlay,
                        allowed: addresses(&allowed_ips),
                    },
                );
                assert!(before.is_none(), "a live peer's keys were changed in place");
                seq
            }
            TunnelCommand::SetAllowedIps {
                seq,
                slot,
                peer,
                allowed_ips,
            } => {
                let allowed = addresses(&allowed_ips);
                for ((of, key), other) in &mut engine.peers {
                    if *of == slot && *key != peer {
                        other.allowed.retain(|address| !allowed.contains(address));
                    }
                }
                let peer = engine.peers.get_mut(&(slot, peer)).expect("a known peer");
                peer.allowed = allowed;
                seq
            }
            TunnelCommand::RenewKey { seq, slot } => {
                let public_key = PublicKey(self.random.bytes());
                engine.keys[slot.index()] = public_key;
                engine.renewals += 1;
                let renewed = TunnelEvent::KeyRenewed {
                    seq,
                    slot,
                    public_key,
                };
                let at = self.boot + Duration::from_micros(50);
                return self.later(node, at, Input::Tunnel(renewed));
            }
            TunnelCommand::RemovePeer { seq, slot, peer } => {
                engine.peers.remove(&(slot, peer));
                seq
            }
        };
        let at = self.boot + Duration::from_micros(50);
        self.later(node, at, Input::Tunnel(TunnelEvent::Done { seq }));
        for (at, slot, peer) in handshakes {
            self.handshake(node, at, slot, peer);
        }
    }

    /// The WireGuard handshake that the engine begins, if both ends have the same keys.
    fn handshake(&mut self, node: NodeIx, at: Duration, slot: Slot, key: PublicKey) {
        let Some((to, own)) = self.opposite(node, slot, key) else {
            return;
        };
        let done = |peer| Input::Tunnel(TunnelEvent::Handshake { slot, peer });
        self.later(node, at, done(key));
        self.later(to, at, done(own));
    }

    /// Where datagrams to this peer are understood, and as whose.
    fn opposite(&self, from: NodeIx, slot: Slot, key: PublicKey) -> Option<(NodeIx, PublicKey)> {
        let peer = self.nodes[from].engine.peers.get(&(slot, key))?;
        let to = self
            .nodes
            .iter()
            .position(|node| node.facts.underlay.contains(&peer.underlay.ip()))?;
        let blocked = |node: NodeIx| self.nodes[node].engine.blocked.contains(&slot);
        if self.is_cut(from, to) || blocked(from) || blocked(to) {
            return None;
        }
        let back = self.nodes[to].engine.peers.get(&(slot, peer.own))?;
        (back.own == key && back.psk == peer.psk).then_some((to, peer.own))
    }

    /// Where a packet for `destination` comes out, if the engines at both ends agree.
    pub(crate) fn carry(
        &self,
        from: NodeIx,
        slot: Slot,
        source: IpAddr,
        destination: IpAddr,
    ) -> Option<NodeIx> {
        let engine = &self.nodes[from].engine;
        let of_slot = engine.peers.iter().filter(|((of, _), _)| *of == slot);
        let mut hits = of_slot.filter(|(_, peer)| peer.allowed.contains(&destination));
        let ((_, key), _) = hits.next()?;
        let (to, own) = self.opposite(from, slot, *key)?;
        let back = self.nodes[to].engine.peers.get(&(slot, own))?;
        back.allowed.contains(&source).then_some(to)
    }
}
