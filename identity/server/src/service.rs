//! What the calls have in common: the state, and the few acts that change it.

mod acts;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use signet_crypto::{
    random::SystemRandom,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    time::TimeSource,
    tls::TrustStore,
    x509::{csr, profile::Purpose},
};
use signet_identity_api::v1::Epochs;
use signet_identity_core::{
    authority::{Authorities, Issued, Leaf},
    cluster::NodeUid,
    ledger::Ledger,
    registry::NodeRecord,
};
use signet_source::Problem;

use crate::{
    hub::Hub,
    metrics::{Metrics, Purpose as PurposeLabel, Role, gauge},
    store::{Opened, Store, StoreError},
};

pub(crate) use acts::Refused;

/// Everything that the calls share.
pub(crate) struct Service {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) trust: TrustStore,
    pub(crate) time: TimeSource,
    pub(crate) ttl: Duration,
    /// When agents renew the keys between nodes.
    pub(crate) epochs: Epochs,
    pub(crate) metrics: Metrics,
    pub(crate) started_ms: u64,
    authorities: RwLock<Authorities>,
    /// What the store has of nodes, for a check with every call.
    joined: Mutex<BTreeMap<NodeUid, NodeRecord>>,
    ledger: Mutex<Ledger>,
    problems: Mutex<Vec<Problem>>,
}

impl Service {
    pub(crate) fn new(
        opened: Opened,
        time: TimeSource,
        ttl: Duration,
        epochs: Epochs,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let Opened {
            store,
            mut authorities,
            run,
            ..
        } = opened;
        // After a long rest the issuing authority may have expired.
        if authorities.maintain(time.now().wall)? {
            store.save_authorities(&authorities)?;
        }
        let service = Self {
            trust_domain: authorities.trust_domain().clone(),
            hub: Hub::new(run, metrics.clone()),
            trust: TrustStore::new(authorities.bundle().clone()),
            started_ms: time.wall_ms(),
            joined: Mutex::new(store.nodes()?),
            authorities: RwLock::new(authorities),
            ledger: Mutex::default(),
            problems: Mutex::default(),
            store,
            time,
            ttl,
            epochs,
            metrics,
        };
        service.show_authorities();
        Ok(service)
    }

    /// A fresh SVID for the service itself.
    pub(crate) fn own_svid(&self) -> anyhow::Result<X509Svid> {
        let id = SpiffeId::identity_service(&self.trust_domain);
        let key = SvidKey::generate()?;
        let leaf = Leaf {
            id: &id,
            public_key: &csr::parse(&key.csr(&id)?)?,
            purpose: Purpose::IdentityService,
            binding: None,
            node: None,
        };
        let Issued { chain, svid } = self.sign(leaf)?;
        let end = i64::try_from(svid.not_after.as_secs()).unwrap_or(i64::MAX);
        self.metrics.own_not_after.set(end);
        Ok(X509Svid::new(chain, key)?)
    }

    /// Brings metrics in line with the active authorities.
    pub(crate) fn show_authorities(&self) {
        // Active ones come first, one of each role.
        for record in self.authorities().records().iter().take(2) {
            let end = i64::try_from(record.not_after.as_secs()).unwrap_or(i64::MAX);
            let role = Role {
                role: record.role.name(),
            };
            self.metrics
                .authority_not_after
                .get_or_create(&role)
                .set(end);
        }
    }

    pub(crate) fn authorities(&self) -> RwLockReadGuard<'_, Authorities> {
        self.authorities
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn authorities_mut(&self) -> RwLockWriteGuard<'_, Authorities> {
        self.authorities
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn problems(&self) -> MutexGuard<'_, Vec<Problem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn joined(&self) -> MutexGuard<'_, BTreeMap<NodeUid, NodeRecord>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts nodes that are there and have joined.
    pub(crate) fn show_joined(&self) {
        let joined = self.joined();
        let count = self.hub.look(|directory| {
            directory
                .nodes()
                .filter(|node| joined.contains_key(&node.uid))
                .count()
        });
        self.metrics.nodes_joined.set(gauge(count));
    }

    fn sign(
        &self,
        leaf: Leaf<'_>,
    ) -> Result<Issued, signet_identity_core::authority::AuthorityError> {
        let purpose = match leaf.purpose {
            Purpose::NodeAgent => "node_agent",
            Purpose::WorkloadApi => "workload_api",
            Purpose::AgentPlane => "agent_plane",
            Purpose::IdentityService => "identity_service",
        };
        let now = self.time.now().wall;
        let issued = self
            .authorities()
            .issue(leaf, self.ttl, now, &mut SystemRandom)?;
        self.metrics
            .svids_issued
            .get_or_create(&PurposeLabel { purpose })
            .inc();
        Ok(issued)
    }
}
