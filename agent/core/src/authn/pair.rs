//! One pair of a local and a remote pod: what is granted, and what is under way.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use signet_crypto::{spiffe_id::SpiffeId, time::Now};

use crate::{
    authn::label::PairKey,
    ids::{ClassId, ConnId, Epoch, Label, NodeUid, PodUid, RemoteId},
    io::ChannelRole,
};

/// What the local node granted: a receive row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) label: Label,
    pub(crate) epoch: Epoch,
    pub(crate) not_after: Duration,
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
    pub(crate) grant: Option<Grant>,
    /// Grants of earlier epochs, until their slot goes.
    pub(crate) old_grants: Vec<Grant>,
    pub(crate) permit: Option<Permit>,
    /// What the send rows now say, if there are any.
    pub(crate) sending: Option<Permit>,
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
            grant: None,
            old_grants: Vec::new(),
            permit: None,
            sending: None,
            ask: None,
            answers: Vec::new(),
            wanted: None,
            not_before: Duration::ZERO,
            failures: 0,
            remote_expires: Duration::ZERO,
            node_expires: Duration::ZERO,
            session: None,
        }
    }

    /// Both directions are granted in some epoch.
    pub(crate) fn is_open(&self) -> bool {
        self.grant.is_some() && self.sending.is_some()
    }

    /// Both directions are granted in `epoch`.
    pub(crate) fn is_open_in(&self, epoch: Epoch) -> bool {
        self.grant.is_some_and(|grant| grant.epoch == epoch)
            && self.sending.is_some_and(|permit| permit.epoch == epoch)
    }

    /// There are rows of it.
    pub(crate) fn has_rows(&self) -> bool {
        self.grant.is_some() || self.sending.is_some() || !self.old_grants.is_empty()
    }

    /// Rows of it name `epoch`.
    pub(crate) fn uses(&self, epoch: Epoch) -> bool {
        self.grant.is_some_and(|grant| grant.epoch == epoch)
            || self.sending.is_some_and(|permit| permit.epoch == epoch)
    }

    /// Rows in use are of another epoch than `epoch`.
    pub(crate) fn is_behind(&self, epoch: Epoch) -> bool {
        self.grant.is_some_and(|grant| grant.epoch != epoch)
            || self.sending.is_some_and(|permit| permit.epoch != epoch)
    }

    /// Nothing of it is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_rows() && self.wanted.is_none() && self.answers.is_empty() && self.ask.is_none()
    }
}

/// All pairs, with the orders in which they are looked for.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: BTreeMap<PairKey, Pair>,
}

impl Pairs {
    pub(crate) fn of(&self, key: &PairKey) -> Option<&Pair> {
        self.pairs.get(key)
    }

    pub(crate) fn of_mut(&mut self, key: &PairKey) -> Option<&mut Pair> {
        self.pairs.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: PairKey, pair: Pair) {
        self.pairs.insert(key, pair);
    }

    pub(crate) fn remove(&mut self, key: &PairKey) -> Option<Pair> {
        self.pairs.remove(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PairKey, &Pair)> {
        self.pairs.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&PairKey, &mut Pair)> {
        self.pairs.iter_mut()
    }

    pub(crate) fn keys_where(&self, which: impl Fn(&PairKey, &Pair) -> bool) -> Vec<PairKey> {
        let hits = self.pairs.iter().filter(|(key, pair)| which(key, pair));
        hits.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn of_node(&self, node: &NodeUid) -> Vec<PairKey> {
        self.keys_where(|_, pair| pair.node == *node)
    }

    pub(crate) fn of_local(&self, pod: &PodUid) -> Vec<PairKey> {
        self.keys_where(|key, _| key.local == *pod)
    }

    pub(crate) fn of_remote(&self, pod: &PodUid) -> Vec<PairKey> {
        self.keys_where(|key, _| key.remote == *pod)
    }

    /// The pair whose open question has this number.
    pub(crate) fn asking(&self, conn: ConnId, id: u64) -> Option<PairKey> {
        let mut hits = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.ask.is_some_and(|ask| ask.id == id && ask.conn == conn));
        hits.next().map(|(key, _)| key.clone())
    }
}
