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
    pub(crate) epoch: Epoch,
    pub(crate) psk: [u8; 32],
    pub(crate) underlay: SocketAddr,
    pub(crate) allowed: BTreeSet<IpAddr>,
}

pub(crate) struct Engine {
    pub(crate) keys: [PublicKey; 2],
    pub(crate) peers: BTreeMap<(Slot, PublicKey), Peer>,
}

impl Engine {
    pub(crate) fn new(random: &mut SeededRandom) -> Self {
        let keys = [PublicKey(random.bytes()), PublicKey(random.bytes())];
        Self {
            keys,
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
        let seq = match command {
            TunnelCommand::SetPeer {
                seq,
                slot,
                peer,
                psk,
                underlay,
                allowed_ips,
                epoch,
                initiate: _,
            } => {
                assert_eq!(epoch.slot(), slot);
                let before = engine.peers.insert(
                    (slot, peer),
                    Peer {
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
            TunnelCommand::RemovePeer { seq, slot, peer } => {
                engine.peers.remove(&(slot, peer));
                seq
            }
        };
        let at = self.boot + Duration::from_micros(50);
        self.later(node, at, Input::Tunnel(TunnelEvent::Done { seq }));
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
        let ((_, key), peer) = hits.next()?;
        let to = self
            .nodes
            .iter()
            .position(|node| node.facts.underlay.contains(&peer.underlay.ip()))?;
        if self.is_cut(from, to) || self.nodes[to].engine.keys[slot.index()] != *key {
            return None;
        }
        let own = engine.keys[slot.index()];
        let back = self.nodes[to].engine.peers.get(&(slot, own))?;
        (back.psk == peer.psk && back.allowed.contains(&source)).then_some(to)
    }
}
