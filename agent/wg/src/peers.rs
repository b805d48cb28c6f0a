//! The peers of one slot: their sessions, their numbers on the wire, their addresses.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use ipnet::IpNet;
use signet_crypto::wg::{PrivateKey, PrivateKeyError, Psk, PublicKey};

use crate::{
    allowed_ips::AllowedIps,
    control::{PeerInfo, PeerStats},
    counters::Traffic,
};

/// Handshakes per second and slot that are answered without asking for a cookie first.
const HANDSHAKES_PER_SECOND: u64 = 100;
/// Packets that wait for a session, per peer (boringtun's own limit).
const MAX_QUEUED: usize = 256;
/// Sessions `Tunn` keeps at the same time; their index modulo this is their place.
const SESSIONS: usize = 8;
/// Receiver indices carry the session in the low byte and the peer above.
const SESSION_BITS: u32 = 8;
const MAX_PEER_INDEX: u32 = (1 << (32 - SESSION_BITS)) - 1;

const TYPE_DATA: u8 = 4;

/// The engine's own keys in one slot, and what handshakes are checked against.
pub(crate) struct SlotKeys {
    pub(crate) private: x25519::StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// Every handshake message passes here first: mac1, and cookies under load.
    pub(crate) gate: RateLimiter,
    /// What `Tunn` asks again; the gate has decided by then.
    open: Arc<RateLimiter>,
}

impl SlotKeys {
    pub(crate) fn new(key: &PrivateKey) -> Result<Self, PrivateKeyError> {
        let private = x25519::StaticSecret::from(*key.secret().expose());
        let public = x25519::PublicKey::from(key.public_key()?.0);
        Ok(Self {
            gate: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            open: Arc::new(RateLimiter::new(&public, u64::MAX)),
            private,
            public,
        })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(self.public.to_bytes())
    }
}

/// What the agent says about a peer.
pub(crate) struct PeerSettings {
    /// Of this engine's keys, the one that the peer knows.
    pub(crate) own: Arc<SlotKeys>,
    pub(crate) key: PublicKey,
    pub(crate) psk: Psk,
    pub(crate) underlay: SocketAddr,
    pub(crate) epoch: u64,
    pub(crate) allowed_ips: Vec<IpNet>,
}

/// One remote node in one slot.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    pub(crate) index: u32,
    pub(crate) traffic: Traffic,
    session: Mutex<Session>,
}

impl Peer {
    /// Always taken after the table's lock, never before it.
    #[inline]
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer's keys and timers.
///
/// It has no `Debug`: `Tunn` would print its preshared key.
pub(crate) struct Session {
    pub(crate) tunn: Tunn,
    pub(crate) underlay: SocketAddr,
    epoch: u64,
    psk: Psk,
    /// Kept for as long as the peer is.
    own: Arc<SlotKeys>,
    /// Receiver indices of the sessions that are known to work in both directions.
    confirmed: [Option<u32>; SESSIONS],
    last_handshake: Option<Instant>,
    queued: usize,
}

/// What became of a packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The room begins with a datagram of that length, which carries the packet.
    Data(usize),
    /// There is no session: the packet waits, and the room begins with a handshake message of
    /// that length.
    Handshake(usize),
    /// There is no session: the packet waits.
    Waits,
    /// There is no session, and too many packets wait already.
    Dropped,
}

impl Session {
    /// Seals one packet into `room`, which has 32 bytes more than the packet, and 148 at least.
    #[inline]
    pub(crate) fn seal(&mut self, packet: &[u8], room: &mut [u8]) -> Sealed {
        let message = match self.tunn.encapsulate(packet, room) {
            TunnResult::WriteToNetwork(message) => Some((message.len(), message[0])),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        };
        match message {
            Some((length, TYPE_DATA)) => Sealed::Data(length),
            _ if self.queued >= MAX_QUEUED => Sealed::Dropped,
            Some((length, _)) => {
                self.queued += 1;
                Sealed::Handshake(length)
            }
            None => {
                self.queued += 1;
                Sealed::Waits
            }
        }
    }

    /// Notes that the peer proved to have the keys of the session `receiver`; true the first
    /// time.
    #[inline]
    pub(crate) fn confirm(&mut self, receiver: u32) -> bool {
        let place = &mut self.confirmed[receiver as usize % SESSIONS];
        if *place == Some(receiver) {
            return false;
        }
        *place = Some(receiver);
        self.last_handshake = Some(Instant::now());
        true
    }

    /// The packets that waited are sent or given up; how many.
    pub(crate) fn take_queued(&mut self) -> usize {
        std::mem::take(&mut self.queued)
    }
}

/// Peers of a slot and who owns which address.
pub(crate) struct Table {
    by_key: BTreeMap<PublicKey, Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    allowed: AllowedIps<u32>,
    next_index: u32,
}

impl Table {
    /// An empty table whose receiver indices start somewhere at `seed`.
    pub(crate) fn new(seed: u32) -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_index: HashMap::new(),
            allowed: AllowedIps::default(),
            next_index: seed & MAX_PEER_INDEX,
        }
    }

    /// Adds a peer or brings it in line. Its sessions survive only if PSK, epoch and own key are
    /// the ones it has.
    pub(crate) fn set(&mut self, settings: PeerSettings) -> Arc<Peer> {
        let peer = match self.by_key.get(&settings.key) {
            Some(known) if known.session().is_keyed_by(&settings) => {
                known.session().underlay = settings.underlay;
                Arc::clone(known)
            }
            Some(_) | None => {
                self.remove(&settings.key);
                self.insert(&settings)
            }
        };
        self.replace_allowed(peer.index, &settings.allowed_ips);
        peer
    }

    /// False if there is no such peer.
    pub(crate) fn set_allowed(&mut self, key: &PublicKey, allowed_ips: &[IpNet]) -> bool {
        let Some(index) = self.by_key.get(key).map(|peer| peer.index) else {
            return false;
        };
        self.replace_allowed(index, allowed_ips);
        true
    }

    /// Forgets the peer with its keys and addresses, if it is there.
    pub(crate) fn remove(&mut self, key: &PublicKey) {
        if let Some(peer) = self.by_key.remove(key) {
            self.by_index.remove(&peer.index);
            self.allowed.remove_owner(peer.index);
        }
    }

    pub(crate) fn by_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }

    /// The peer a received message is for, by the receiver index in it.
    #[inline]
    pub(crate) fn by_receiver(&self, receiver: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&(receiver >> SESSION_BITS))
    }

    /// The peer that owns the inner address.
    #[inline]
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_index.get(&self.allowed.lookup(address)?)
    }

    /// Whether `peer` may send from the inner address.
    #[inline]
    pub(crate) fn is_owner(&self, peer: &Peer, address: IpAddr) -> bool {
        self.allowed.lookup(address) == Some(peer.index)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn infos(&self, slot: u8) -> Vec<PeerInfo> {
        let info = |peer: &Arc<Peer>| {
            let session = peer.session();
            PeerInfo {
                slot,
                own_key: session.own.public_key(),
                public_key: peer.key,
                epoch: session.epoch,
                underlay: session.underlay,
                allowed_ips: self.allowed.of(peer.index),
            }
        };
        self.peers().map(info).collect()
    }

    pub(crate) fn stats(&self, slot: u8) -> Vec<PeerStats> {
        let stats = |peer: &Arc<Peer>| {
            let session = peer.session();
            PeerStats {
                slot,
                public_key: peer.key,
                epoch: session.epoch,
                last_handshake_secs: session.last_handshake.map(|at| at.elapsed().as_secs()),
                tx_bytes: peer.traffic.tx_bytes.value(),
                rx_bytes: peer.traffic.rx_bytes.value(),
                tx_packets: peer.traffic.tx_packets.value(),
                rx_packets: peer.traffic.rx_packets.value(),
                underlay: session.underlay,
                allowed_ips: self.allowed.of(peer.index),
            }
        };
        self.peers().map(stats).collect()
    }

    fn insert(&mut self, settings: &PeerSettings) -> Arc<Peer> {
        let keys = &settings.own;
        let index = self.free_index();
        let tunn = Tunn::new(
            keys.private.clone(),
            x25519::PublicKey::from(settings.key.0),
            Some(*settings.psk.secret().expose()),
            None,
            index,
            Some(Arc::clone(&keys.open)),
        );
        let peer = Arc::new(Peer {
            key: settings.key,
            index,
            traffic: Traffic::default(),
            session: Mutex::new(Session {
                tunn,
                underlay: settings.underlay,
                epoch: settings.epoch,
                psk: settings.psk.clone(),
                own: Arc::clone(keys),
                confirmed: [None; SESSIONS],
                last_handshake: None,
                queued: 0,
            }),
        });
        self.by_key.insert(settings.key, Arc::clone(&peer));
        self.by_index.insert(index, Arc::clone(&peer));
        peer
    }

    /// Indices are not reused soon, so that late packets of a removed peer find nobody.
    fn free_index(&mut self) -> u32 {
        loop {
            let index = self.next_index;
            self.next_index = (index + 1) & MAX_PEER_INDEX;
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    fn replace_allowed(&mut self, index: u32, allowed_ips: &[IpNet]) {
        self.allowed.remove_owner(index);
        for prefix in allowed_ips {
            self.allowed.insert(*prefix, index);
        }
    }
}

impl Session {
    fn is_keyed_by(&self, settings: &PeerSettings) -> bool {
        self.epoch == settings.epoch
            && self.own.public_key() == settings.own.public_key()
            && self.psk.secret().ct_eq(settings.psk.secret())
    }
}
