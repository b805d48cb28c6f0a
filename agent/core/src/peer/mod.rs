//! Remote nodes: at most one channel and two slots each.

pub(crate) mod channel;
pub(crate) mod glare;
pub(crate) mod slot;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    effects::Bucket,
    facts::{Limits, NodeFacts},
    ids::{ConnId, Epoch, PeerId, PodUid, Slot},
    rows::PeerRow,
};
use channel::{Channel, Greeting};
use slot::Keys;

/// Whether and when this node dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dial {
    /// Nothing under way, nothing failed.
    Idle,
    /// The answer is awaited.
    Dialling { failures: u32 },
    /// Not before that.
    Waiting { at: Duration, failures: u32 },
}

/// A PROOF_REQ that waits for the directory or a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) conn: ConnId,
    pub(crate) id: u64,
    pub(crate) source: PodUid,
    pub(crate) destination: PodUid,
    pub(crate) address: Option<IpAddr>,
    pub(crate) proof_n: u64,
    pub(crate) authenticator: Vec<u8>,
    pub(crate) have_proof: bool,
    pub(crate) deadline: Duration,
}

/// One remote node.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    /// What the directory or the cluster says of it; a peer that dialled may come before that.
    pub(crate) facts: Option<NodeFacts>,
    pub(crate) channel: Option<Channel>,
    pub(crate) greetings: BTreeMap<ConnId, Greeting>,
    pub(crate) dial: Dial,
    /// The highest epoch when it was last dialled.
    pub(crate) dialled: Epoch,
    pub(crate) problem: Option<String>,
    pub(crate) slots: [Option<Keys>; 2],
    /// The epoch that packets leave in; 0 is none.
    pub(crate) tx: Epoch,
    /// The one that the peer's packets leave in, as it says.
    pub(crate) their_tx: Epoch,
    /// The epoch that the peer was told it can be switched to.
    pub(crate) prepared: Epoch,
    /// The epoch that the peer says it can be switched to.
    pub(crate) their_prepared: Epoch,
    /// The highest epoch ever seen with it.
    pub(crate) highest: Epoch,
    /// The service has said that its stream is down.
    pub(crate) lease_until: Option<Duration>,
    /// The own stream is.
    pub(crate) outage_until: Option<Duration>,
    pub(crate) boot: Option<([u8; 16], u64)>,
    pub(crate) requests: Vec<Incoming>,
    /// Of PROOF_REQ; it outlives channels, so that dialling again gives nothing.
    pub(crate) bucket: Bucket,
    /// Of renewed proofs.
    pub(crate) renewals: Bucket,
    /// Connections in a row that ended before there were keys.
    pub(crate) flaps: u32,
    /// The row that the data path has.
    pub(crate) row: Option<PeerRow>,
}

impl Peer {
    pub(crate) fn new(id: PeerId, limits: &Limits, now: Duration) -> Self {
        Self {
            id,
            facts: None,
            channel: None,
            greetings: BTreeMap::new(),
            dial: Dial::Idle,
            dialled: Epoch(0),
            problem: None,
            slots: [None, None],
            tx: Epoch(0),
            their_tx: Epoch(0),
            prepared: Epoch(0),
            their_prepared: Epoch(0),
            highest: Epoch(0),
            lease_until: None,
            outage_until: None,
            boot: None,
            requests: Vec::new(),
            bucket: Bucket::new(limits.request_burst, limits.request_rate, now),
            renewals: Bucket::new(limits.renewal_burst, limits.request_rate, now),
            flaps: 0,
            row: None,
        }
    }

    /// The epochs in which pairs are granted now, the older first: that of the packets, and that of
    /// the channel's own keys.
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        let Some(channel) = &self.channel else {
            return Vec::new();
        };
        let agreed = channel.epoch();
        let granted = self.slots.iter().flatten().filter(|keys| {
            keys.ready.is_some()
                && !keys.adopted
                && (keys.epoch == self.tx || Some(keys.epoch) == agreed)
        });
        let mut epochs: Vec<Epoch> = granted.map(|keys| keys.epoch).collect();
        epochs.sort_unstable();
        epochs
    }

    /// The newest of them.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.epochs().last().copied()
    }

    /// An epoch is gone: nothing refers to it any more.
    pub(crate) fn forget_epoch(&mut self, epoch: Epoch) {
        if self.tx == epoch {
            let left = self.slots.iter().flatten();
            let left = left.filter(|keys| keys.ready.is_some() && !keys.adopted);
            self.tx = left.map(|keys| keys.epoch).max().unwrap_or_default();
        }
        for told in [&mut self.prepared, &mut self.their_prepared] {
            if *told == epoch {
                *told = Epoch(0);
            }
        }
    }

    pub(crate) fn keys(&self, epoch: Epoch) -> Option<&Keys> {
        self.slots[epoch.slot().index()]
            .as_ref()
            .filter(|keys| keys.epoch == epoch)
    }

    pub(crate) fn keys_mut(&mut self, epoch: Epoch) -> Option<&mut Keys> {
        self.slots[epoch.slot().index()]
            .as_mut()
            .filter(|keys| keys.epoch == epoch)
    }

    /// What keys of a previous instance are for, by epoch.
    pub(crate) fn adopted_addresses(&self) -> Vec<(Epoch, BTreeSet<IpAddr>)> {
        let keys = self.slots.iter().flatten().filter(|keys| keys.adopted);
        keys.map(|keys| (keys.epoch, keys.allowed().clone()))
            .collect()
    }

    /// The row of `peers` as it should be.
    pub(crate) fn wanted_row(&self) -> PeerRow {
        let epoch = |slot: Slot| {
            let keys = self.slots[slot.index()].as_ref();
            keys.map_or(Epoch(0), |keys| keys.epoch)
        };
        let until = |slot: Slot| self.slots[slot.index()].as_ref()?.until;
        PeerRow {
            lease_until: self.ends(),
            slot_epoch: Slot::ALL.map(epoch),
            slot_until: Slot::ALL.map(until),
            tx_slot: self.tx.slot(),
        }
    }

    /// When nothing of it passes any more, if there is such a moment.
    pub(crate) fn ends(&self) -> Option<Duration> {
        let ends = [self.lease_until, self.outage_until];
        ends.into_iter().flatten().min()
    }

    /// Where WireGuard packets go: the address that the directory knows, and if it knows several
    /// the one that the channel uses.
    pub(crate) fn underlay(&self, seen: IpAddr) -> IpAddr {
        let known = self.facts.as_ref().map_or(&[][..], |facts| &facts.underlay);
        if known.contains(&seen) {
            return seen;
        }
        known.first().copied().unwrap_or(seen)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.facts.as_ref().map(|facts| facts.name.as_str())
    }
}
