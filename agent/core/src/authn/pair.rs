//! One pair of a local and a remote pod: what is granted, and what is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use signet_crypto::{spiffe_id::SpiffeId, time::Now};

use crate::{
    authn::label::PairKey,
    effects::Earliest,
    ids::{ClassId, ConnId, Epoch, Label, NodeUid, PodUid, RemoteId},
    io::{ChannelRole, Reason, Timeout},
};

/// What the local node granted: a receive row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) label: Label,
    pub(crate) epoch: Epoch,
    pub(crate) not_after: Duration,
}

/// Something that belongs to one epoch.
pub(crate) trait InEpoch: Copy {
    fn epoch(&self) -> Epoch;
}

impl InEpoch for Grant {
    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl InEpoch for Permit {
    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// At most one in each slot: two while a switch of epochs is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BySlot<T>([Option<T>; 2]);

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self([None, None])
    }
}

impl<T: InEpoch> BySlot<T> {
    /// That of exactly this epoch.
    pub(crate) fn of(&self, epoch: Epoch) -> Option<T> {
        self.0[epoch.slot().index()].filter(|held| held.epoch() == epoch)
    }

    /// Takes the place of what was in that slot.
    pub(crate) fn put(&mut self, held: T) {
        self.0[held.epoch().slot().index()] = Some(held);
    }

    /// Takes out that of exactly this epoch.
    pub(crate) fn take(&mut self, epoch: Epoch) -> Option<T> {
        let held = self.of(epoch)?;
        self.0[epoch.slot().index()] = None;
        Some(held)
    }

    pub(crate) fn newest(&self) -> Option<T> {
        self.iter().max_by_key(InEpoch::epoch)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// By slot.
    pub(crate) fn slots(&self) -> [Option<T>; 2] {
        self.0
    }
}

/// What the peer granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    pub(crate) label: Label,
    pub(crate) epoch: Epoch,
    /// As the peer says; the send row ends here or earlier.
    pub(crate) until: Duration,
}

/// A question to the peer that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) conn: ConnId,
    pub(crate) deadline: Duration,
    /// Whether its PROOF was there and good.
    pub(crate) proven: bool,
}

/// A question of the peer that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) conn: ConnId,
    /// Whether the peer wants a proof of the local pod.
    pub(crate) with_proof: bool,
    /// Refused then.
    pub(crate) deadline: Duration,
}

/// Under which channel and certificates the pair is open. For audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: [u8; 32],
    /// This node's side of the channel.
    pub(crate) role: ChannelRole,
    pub(crate) key_exchange: String,
    pub(crate) cipher: String,
    pub(crate) since: Now,
    pub(crate) local_certificate: [u8; 32],
    pub(crate) remote_certificate: [u8; 32],
}

/// Everything about one pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) node: NodeUid,
    /// The remote pod's addresses; a pod with others is another subject.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) class: ClassId,
    pub(crate) remote: RemoteId,
    /// Who the remote pod is, as the directory said when the pair was made.
    pub(crate) remote_id: SpiffeId,
    pub(crate) grants: BySlot<Grant>,
    pub(crate) permits: BySlot<Permit>,
    /// What the send rows now say, if there are any.
    pub(crate) sending: BySlot<Permit>,
    /// The epoch that it could not be proven in: a switch does not wait for it.
    pub(crate) refused_in: Option<Epoch>,
    pub(crate) ask: Option<Ask>,
    pub(crate) answers: Vec<Answer>,
    /// Whether this node wants it open in the current epoch, and since when.
    pub(crate) wanted: Option<Duration>,
    /// Not asked again before this.
    pub(crate) not_before: Duration,
    pub(crate) failures: u32,
    /// Ends of the remote pod's and the remote node's certificates, as last proven.
    pub(crate) remote_expires: Duration,
    pub(crate) node_expires: Duration,
    pub(crate) session: Option<Session>,
    /// Under which it is found.
    found: Found,
}

/// A pair's places in the orders that follow what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    timeout: Option<Timeout>,
    ask: Option<(ConnId, u64)>,
}

impl Pair {
    pub(crate) fn new(
        node: NodeUid,
        addresses: Vec<IpAddr>,
        class: ClassId,
        remote: RemoteId,
        remote_id: SpiffeId,
    ) -> Self {
        Self {
            node,
            addresses,
            class,
            remote,
            remote_id,
            grants: BySlot::default(),
            permits: BySlot::default(),
            sending: BySlot::default(),
            refused_in: None,
            ask: None,
            answers: Vec::new(),
            wanted: None,
            not_before: Duration::ZERO,
            failures: 0,
            remote_expires: Duration::ZERO,
            node_expires: Duration::ZERO,
            session: None,
            found: Found::default(),
        }
    }

    /// When something of it is due.
    fn timeout(&self) -> Option<Timeout> {
        let mut earliest = Earliest::default();
        earliest.add(self.ask.map(|ask| ask.deadline), Reason::Pair);
        let answers = self.answers.iter().map(|answer| answer.deadline);
        earliest.add(answers.min(), Reason::Request);
        if self.ask.is_none() && self.not_before > Duration::ZERO {
            earliest.add(Some(self.not_before), Reason::Pair);
        }
        for grant in self.grants.iter() {
            earliest.add(Some(grant.not_after), Reason::Expiry);
        }
        let sending = self.sending.newest();
        earliest.add(sending.map(|permit| permit.until), Reason::Expiry);
        earliest.0
    }

    /// Both directions are granted in some epoch.
    pub(crate) fn is_open(&self) -> bool {
        !self.grants.is_empty() && !self.sending.is_empty()
    }

    /// Both directions are granted in `epoch`.
    pub(crate) fn is_open_in(&self, epoch: Epoch) -> bool {
        self.grants.of(epoch).is_some() && self.sending.of(epoch).is_some()
    }

    /// There are rows of it.
    pub(crate) fn has_rows(&self) -> bool {
        !(self.grants.is_empty() && self.sending.is_empty())
    }

    /// Rows of it name `epoch`.
    pub(crate) fn uses(&self, epoch: Epoch) -> bool {
        self.grants.of(epoch).is_some() || self.sending.of(epoch).is_some()
    }

    /// It has rows of another epoch, and not all that it needs in `epoch`.
    pub(crate) fn is_behind(&self, epoch: Epoch) -> bool {
        let mut grants = self.grants.iter().map(|grant| grant.epoch);
        let mut sending = self.sending.iter().map(|permit| permit.epoch);
        let other = |of: Epoch| of != epoch;
        (grants.any(other) || sending.any(other)) && !self.is_open_in(epoch)
    }

    /// Nothing of it is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_rows() && self.wanted.is_none() && self.answers.is_empty() && self.ask.is_none()
    }
}

/// All pairs, with the orders in which they are looked for.
///
/// The orders by time and by question follow what pairs hold as of the last [`Pairs::settle`].
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: BTreeMap<PairKey, Pair>,
    by_remote: BTreeMap<PodUid, BTreeSet<PairKey>>,
    by_node: BTreeMap<NodeUid, BTreeSet<PairKey>>,
    due: BTreeSet<(Duration, PairKey)>,
    asks: BTreeMap<(ConnId, u64), PairKey>,
    /// What may have changed since.
    touched: BTreeSet<PairKey>,
}

impl Pairs {
    pub(crate) fn of(&self, key: &PairKey) -> Option<&Pair> {
        self.pairs.get(key)
    }

    pub(crate) fn of_mut(&mut self, key: &PairKey) -> Option<&mut Pair> {
        let pair = self.pairs.get_mut(key)?;
        if !self.touched.contains(key) {
            self.touched.insert(key.clone());
        }
        Some(pair)
    }

    pub(crate) fn insert(&mut self, key: PairKey, pair: Pair) {
        self.remove(&key);
        let of_remote = self.by_remote.entry(key.remote.clone()).or_default();
        of_remote.insert(key.clone());
        let of_node = self.by_node.entry(pair.node.clone()).or_default();
        of_node.insert(key.clone());
        self.touched.insert(key.clone());
        self.pairs.insert(key, pair);
    }

    pub(crate) fn remove(&mut self, key: &PairKey) -> Option<Pair> {
        let pair = self.pairs.remove(key)?;
        self.lose(key, pair.found);
        self.touched.remove(key);
        forget(&mut self.by_remote, &key.remote, key);
        forget(&mut self.by_node, &pair.node, key);
        Some(pair)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PairKey, &Pair)> {
        self.pairs.iter()
    }

    pub(crate) fn keys_where(&self, which: impl Fn(&PairKey, &Pair) -> bool) -> Vec<PairKey> {
        let hits = self.pairs.iter().filter(|(key, pair)| which(key, pair));
        hits.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn of_node(&self, node: &NodeUid) -> Vec<PairKey> {
        self.by_node
            .get(node)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Pairs with this node, as they are.
    pub(crate) fn with_node(&self, node: &NodeUid) -> impl Iterator<Item = &Pair> {
        let keys = self.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| self.pairs.get(key))
    }

    pub(crate) fn of_local(&self, pod: &PodUid) -> Vec<PairKey> {
        let first = PairKey {
            local: pod.clone(),
            remote: PodUid::new(""),
        };
        let from_here = self.pairs.range(first..).map(|(key, _)| key);
        let own = from_here.take_while(|key| key.local == *pod);
        own.cloned().collect()
    }

    pub(crate) fn of_remote(&self, pod: &PodUid) -> Vec<PairKey> {
        self.by_remote
            .get(pod)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// The pair whose open question has this number.
    pub(crate) fn asking(&self, conn: ConnId, id: u64) -> Option<PairKey> {
        let key = self.asks.get(&(conn, id))?;
        let ask = self.pairs.get(key)?.ask?;
        (ask.id == id && ask.conn == conn).then(|| key.clone())
    }

    /// When the next pair has something due.
    pub(crate) fn timeout(&self) -> Option<Timeout> {
        self.pairs.get(&self.due.first()?.1)?.found.timeout
    }

    /// Pairs of which something is due at `now`, and `which` says it is this.
    pub(crate) fn due_where(&self, now: Duration, which: impl Fn(&Pair) -> bool) -> Vec<PairKey> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let hits = due.filter(|(_, key)| self.pairs.get(key).is_some_and(&which));
        hits.map(|(_, key)| key.clone()).collect()
    }

    /// Brings the orders in line. Called after every call of the agent.
    pub(crate) fn settle(&mut self) {
        for key in std::mem::take(&mut self.touched) {
            let Some(pair) = self.pairs.get_mut(&key) else {
                continue;
            };
            let found = Found {
                timeout: pair.timeout(),
                ask: pair.ask.map(|ask| (ask.conn, ask.id)),
            };
            let before = std::mem::replace(&mut pair.found, found);
            if before == found {
                continue;
            }
            self.lose(&key, before);
            if let Some(ask) = found.ask {
                self.asks.insert(ask, key.clone());
            }
            if let Some((at, _)) = found.timeout {
                self.due.insert((at, key));
            }
        }
    }

    fn lose(&mut self, key: &PairKey, found: Found) {
        if let Some((at, _)) = found.timeout {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(ask) = found.ask {
            self.asks.remove(&ask);
        }
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<PairKey>>, of: &K, key: &PairKey) {
    if let Some(keys) = index.get_mut(of) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(of);
        }
    }
}
