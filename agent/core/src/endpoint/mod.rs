//! Local endpoints: pods of this node with their place in the data path.

pub(crate) mod svid;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use signet_crypto::spiffe_id::SpiffeId;
use signet_policy::{Isolation, PodFacts};

use crate::{
    effects::Bucket,
    ids::{ClassId, EndpointIndex, IdentityId, PodUid},
    rows::{EndpointRow, SendKey},
};
use svid::Certificate;

/// Addresses that the data path keeps of one pod.
pub(crate) const MAX_ADDRESSES: usize = signet_abi::MAX_ADDRESSES;

/// One local pod under enforcement.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) pod: PodUid,
    pub(crate) index: EndpointIndex,
    pub(crate) generation: u32,
    pub(crate) ifindex: u32,
    pub(crate) ifname: String,
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) class: ClassId,
    /// What the cluster says of it.
    pub(crate) known: Option<Known>,
    pub(crate) isolation: Isolation,
    pub(crate) policy_generation: u32,
    /// Not all of its policy could be written, and this is when that is tried again.
    pub(crate) incomplete: Option<Duration>,
    /// Set while the own stream is down and that is to have an end.
    pub(crate) outage_until: Option<Duration>,
    pub(crate) certificate: Certificate,
    /// What a previous instance had proven, until the own certificate is there.
    pub(crate) adopted_until: Option<Duration>,
    pub(crate) new_pairs: Bucket,
}

/// An endpoint's pod as the cluster describes it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) facts: PodFacts,
    pub(crate) id: SpiffeId,
    pub(crate) identity: IdentityId,
}

/// What an interface looks like; the same look after a restart is the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) ifindex: u32,
    pub(crate) ifname: String,
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
}

impl Endpoint {
    /// The node itself, which has no interface of its own.
    pub(crate) fn is_host(&self) -> bool {
        self.pod.node().is_some()
    }

    pub(crate) fn row(&self, now: Duration) -> EndpointRow {
        // Nothing is known of it, or not all of it holds: what no rule allows does not pass.
        let shut = self.known.is_none() || self.incomplete.is_some();
        EndpointRow {
            index: self.index,
            generation: self.generation,
            ifindex: self.ifindex,
            class: self.class,
            identity: self
                .known
                .as_ref()
                .map_or(IdentityId(0), |known| known.identity),
            policy_generation: self.policy_generation,
            ingress_isolated: shut || self.isolation.ingress,
            egress_isolated: shut || self.isolation.egress,
            authenticated_until: match (&self.known, self.certificate.held(now)) {
                (None, _) => None,
                (Some(_), Some(held)) => Some(held.expires),
                (Some(_), None) => self.adopted_until.filter(|until| *until > now),
            }
            .map(|until| self.outage_until.map_or(until, |outage| until.min(outage))),
            mac: self.mac,
            addresses: self.addresses.clone(),
        }
    }

    pub(crate) fn send_key(&self, destination: IpAddr) -> SendKey {
        SendKey {
            endpoint: self.index,
            generation: self.generation,
            destination,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Endpoints {
    by_pod: BTreeMap<PodUid, Endpoint>,
    by_index: BTreeMap<EndpointIndex, PodUid>,
    /// Indexes and generations of a previous instance that nobody claimed yet.
    reserved: BTreeSet<EndpointIndex>,
    last_index: u16,
    last_generation: u32,
    identities: BTreeMap<SpiffeId, IdentityId>,
    last_identity: u32,
}

impl Endpoints {
    pub(crate) fn new() -> Self {
        Self {
            by_pod: BTreeMap::new(),
            by_index: BTreeMap::new(),
            reserved: BTreeSet::new(),
            last_index: 0,
            last_generation: 0,
            identities: BTreeMap::new(),
            last_identity: 0,
        }
    }

    pub(crate) fn of_pod(&self, pod: &PodUid) -> Option<&Endpoint> {
        self.by_pod.get(pod)
    }

    pub(crate) fn of_pod_mut(&mut self, pod: &PodUid) -> Option<&mut Endpoint> {
        self.by_pod.get_mut(pod)
    }

    pub(crate) fn at(&self, index: EndpointIndex, generation: u32) -> Option<&Endpoint> {
        let endpoint = self.by_pod.get(self.by_index.get(&index)?)?;
        (endpoint.generation == generation).then_some(endpoint)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_pod.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.by_pod.values_mut()
    }

    pub(crate) fn pods(&self) -> Vec<PodUid> {
        self.by_pod.keys().cloned().collect()
    }

    /// A free index and a generation never used before. `None` when all indexes are taken.
    pub(crate) fn allocate(&mut self) -> Option<(EndpointIndex, u32)> {
        let highest = u16::try_from(signet_abi::MAX_ENDPOINTS).unwrap_or(u16::MAX);
        let mut index = self.last_index;
        for _ in 0..highest {
            // Onwards from the last one, so that an index is reused as late as possible.
            index = if index >= highest { 1 } else { index + 1 };
            let candidate = EndpointIndex(index);
            if !self.by_index.contains_key(&candidate) && !self.reserved.contains(&candidate) {
                self.last_index = index;
                self.last_generation = self.last_generation.wrapping_add(1).max(1);
                return Some((candidate, self.last_generation));
            }
        }
        None
    }

    /// Keeps an index of a previous instance from being given away.
    pub(crate) fn reserve(&mut self, row: &EndpointRow) {
        self.reserved.insert(row.index);
        self.last_index = self.last_index.max(row.index.0);
        self.reserve_generation(row.generation);
        self.reserve_identity(row.identity);
    }

    /// Keeps the number of an identity and all below from being given away.
    pub(crate) fn reserve_identity(&mut self, identity: IdentityId) {
        self.last_identity = self.last_identity.max(identity.0);
    }

    /// Keeps a generation and all below from being given away.
    pub(crate) fn reserve_generation(&mut self, generation: u32) {
        self.last_generation = self.last_generation.max(generation);
    }

    pub(crate) fn release(&mut self, index: EndpointIndex) {
        self.reserved.remove(&index);
    }

    pub(crate) fn insert(&mut self, endpoint: Endpoint) {
        self.reserved.remove(&endpoint.index);
        self.by_index.insert(endpoint.index, endpoint.pod.clone());
        self.by_pod.insert(endpoint.pod.clone(), endpoint);
    }

    pub(crate) fn remove(&mut self, pod: &PodUid) -> Option<Endpoint> {
        let endpoint = self.by_pod.remove(pod)?;
        self.by_index.remove(&endpoint.index);
        Some(endpoint)
    }

    /// The number of an identity, the same for all endpoints that share it.
    pub(crate) fn identity(&mut self, id: &SpiffeId) -> IdentityId {
        if let Some(known) = self.identities.get(id) {
            return *known;
        }
        self.last_identity = self.last_identity.wrapping_add(1).max(1);
        let fresh = IdentityId(self.last_identity);
        self.identities.insert(id.clone(), fresh);
        fresh
    }

    /// Takes over the number that a previous instance gave an identity.
    pub(crate) fn adopt_identity(&mut self, id: &SpiffeId, number: IdentityId) {
        // Two identities under one number would have each other's labels.
        if number.0 != 0 && !self.identities.values().any(|taken| *taken == number) {
            self.identities.entry(id.clone()).or_insert(number);
        }
    }
}
