//! Trust bundle and SVID as handles that running connections share, and a renewal swaps.
use std::sync::{Arc, RwLock};
use crate::bundle::TrustBundle;
use crate::svid::X509Svid;

/// The current trust bundle; clones share it.
#[derive(Debug, Clone)]
pub struct TrustStore(Arc<RwLock<Arc<TrustBundle>>>);

impl TrustStore {
    /// A store that holds `bundle`.
    pub fn new(bundle: TrustBundle) -> Self { Self(Arc::new(RwLock::new(Arc::new(bundle)))) }
    /// The bundle of this moment.
    pub fn load(&self) -> Arc<TrustBundle> { todo!() }
    /// Puts a newer bundle of the same trust domain in place.
    ///
    /// # Errors
    /// Refuses another trust domain and a lower sequence.
    pub fn swap(&self, bundle: TrustBundle) -> Result<(), StoreError> { let _ = bundle; todo!() }
}

/// The current SVID; clones share it.
#[derive(Debug, Clone)]
pub struct SvidStore(Arc<RwLock<Arc<X509Svid>>>);

impl SvidStore {
    /// A store that holds `svid`.
    pub fn new(svid: X509Svid) -> Self { Self(Arc::new(RwLock::new(Arc::new(svid)))) }
    /// The SVID of this moment.
    pub fn load(&self) -> Arc<X509Svid> { todo!() }
    /// Puts a renewed SVID of the same identity in place.
    ///
    /// # Errors
    /// Refuses another SPIFFE ID.
    pub fn swap(&self, svid: X509Svid) -> Result<(), StoreError> { let _ = svid; todo!() }
}

/// Why a store keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bundle of another trust domain.
    #[error("trust bundle is of {found}, the store holds {held}")]
    TrustDomain {
        /// What came.
        found: String,
        /// What is held.
        held: String },
    /// An older bundle.
    #[error("trust bundle has sequence {found}, lower than {held} already held; refused as a rollback")]
    Rollback {
        /// What came.
        found: u64,
        /// What is held.
        held: u64 },
    /// Somebody else's SVID.
    #[error("SVID is of {found}, the store holds {held}")]
    Identity {
        /// What came.
        found: String,
        /// What is held.
        held: String },
}
