//! Rows that the kernel would not write or remove, most often because a map is full.
//!
//! What is remembered is the place, not the value: by the time there is room, the row may have to
//! be another one, or none.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    effects::Ctx,
    ids::{EndpointIndex, Label, PeerId},
    rows::{MapOp, PolicyKey, SendKey},
};

/// Tried again in one go; more would keep packets waiting.
const BATCH: usize = 1024;

/// Where a row belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Peer(PeerId),
    Endpoint(EndpointIndex, u32, Vec<IpAddr>),
    Recv(Label),
    Send(SendKey),
    /// An entry that could not be removed; those that could not be written are the endpoint's to
    /// repeat as a whole.
    Policy(PolicyKey),
    Cidr(IpNet),
    Range(IpNet),
}

impl Place {
    pub(crate) fn of(op: &MapOp) -> Option<Self> {
        Some(match op {
            MapOp::SetEndpoint(row) => {
                Self::Endpoint(row.index, row.ifindex, row.addresses.clone())
            }
            MapOp::RemoveEndpoint {
                index,
                ifindex,
                addresses,
            } => Self::Endpoint(*index, *ifindex, addresses.clone()),
            MapOp::SetSend(key, _) | MapOp::RemoveSend(key) => Self::Send(*key),
            MapOp::SetRecv(label, _) | MapOp::RemoveRecv(label) => Self::Recv(*label),
            MapOp::SetPeer(peer, _) | MapOp::RemovePeer(peer) => Self::Peer(*peer),
            MapOp::SetPolicy(..) => return None,
            MapOp::RemovePolicy(key) => Self::Policy(*key),
            MapOp::SetCidr(net, _) | MapOp::RemoveCidr(net) => Self::Cidr(*net),
            MapOp::SetPodRange(net, _) | MapOp::RemovePodRange(net) => Self::Range(*net),
        })
    }
}

/// Places whose row is not what it should be.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    places: BTreeSet<Place>,
    at: Option<Duration>,
    /// Tries in a row that did not do, and when the last was.
    tries: u32,
    last: Duration,
}

impl Repairs {
    pub(crate) fn add(&mut self, place: Place, retry: (Duration, Duration), ctx: &mut Ctx<'_>) {
        self.places.insert(place);
        if self.at.is_none() {
            // What went well for so long is over.
            if self.last + retry.1 * 4 < ctx.boot() {
                self.tries = 0;
            }
            self.at = Some(ctx.boot() + ctx.backoff(retry, self.tries + 1));
        }
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.at
    }

    /// What is to be tried now, in the order in which rows need each other. What fails again comes
    /// back by [`Repairs::add`].
    pub(crate) fn due(&mut self, retry: (Duration, Duration), ctx: &mut Ctx<'_>) -> Vec<Place> {
        if self.at.is_none_or(|at| at > ctx.boot()) {
            return Vec::new();
        }
        self.tries = self.tries.saturating_add(1).min(16);
        self.last = ctx.boot();
        let due: Vec<Place> = self.places.iter().take(BATCH).cloned().collect();
        for place in &due {
            self.places.remove(place);
        }
        let left = !self.places.is_empty();
        self.at = left.then(|| ctx.boot() + ctx.backoff(retry, 1));
        due
    }

    /// Whether packets of this destination wait for a row that cannot be written.
    pub(crate) fn lacks(&self, key: SendKey) -> bool {
        !self.places.is_empty() && self.places.contains(&Place::Send(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}
