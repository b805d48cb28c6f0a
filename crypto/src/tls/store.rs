//! Trust bundle and SVID as handles that running configurations share, and a renewal swaps: the next
//! handshake uses what the store then holds.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::bundle::TrustBundle;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::X509Svid;

/// The current trust bundle; clones share it.
#[derive(Debug, Clone)]
pub struct TrustStore(Cell<TrustBundle>);

impl TrustStore {
    /// A store that holds `bundle`.
    pub fn new(bundle: TrustBundle) -> Self {
        Self(Cell::new(bundle))
    }

    /// The bundle of this moment.
    pub fn load(&self) -> Arc<TrustBundle> {
        self.0.load()
    }

    /// Puts a bundle of the same trust domain in place, unless it is older.
    ///
    /// # Errors
    /// Refuses another trust domain, a lower sequence, and other content under the held sequence.
    pub fn swap(&self, bundle: TrustBundle) -> Result<(), StoreError> {
        self.0.replace(bundle, |held, found| {
            if found.trust_domain() != held.trust_domain() {
                return Err(StoreError::TrustDomain {
                    found: found.trust_domain().clone(),
                    held: held.trust_domain().clone(),
                });
            }
            if found.sequence() < held.sequence() {
                return Err(StoreError::Rollback {
                    found: found.sequence(),
                    held: held.sequence(),
                });
            }
            if found.sequence() == held.sequence() && found != held {
                return Err(StoreError::Fork {
                    sequence: held.sequence(),
                });
            }
            Ok(())
        })
    }
}

/// The current SVID; clones share it.
#[derive(Debug, Clone)]
pub struct SvidStore(Cell<X509Svid>);

impl SvidStore {
    /// A store that holds `svid`.
    pub fn new(svid: X509Svid) -> Self {
        Self(Cell::new(svid))
    }

    /// The SVID of this moment.
    pub fn load(&self) -> Arc<X509Svid> {
        self.0.load()
    }

    /// Puts a renewed SVID of the same identity in place.
    ///
    /// # Errors
    /// Refuses another SPIFFE ID.
    pub fn swap(&self, svid: X509Svid) -> Result<(), StoreError> {
        self.0.replace(svid, |held, found| {
            if found.id() == held.id() {
                return Ok(());
            }
            Err(StoreError::Identity {
                found: found.id().clone(),
                held: held.id().clone(),
            })
        })
    }

    fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(self.load().certified_key())
    }
}

impl ResolvesServerCert for SvidStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified_key())
    }
}

impl ResolvesClientCert for SvidStore {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified_key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Why a store keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bundle of another trust domain.
    #[error("trust bundle is of {found}, and {held} is held")]
    TrustDomain {
        /// What came.
        found: TrustDomain,
        /// What is held.
        held: TrustDomain,
    },
    /// An older bundle.
    #[error("trust bundle has sequence {found}, and {held} is held; an older one is refused")]
    Rollback {
        /// What came.
        found: u64,
        /// What is held.
        held: u64,
    },
    /// Other content under the same number.
    #[error("trust bundle {sequence} differs from the bundle {sequence} that is held")]
    Fork {
        /// The number of both.
        sequence: u64,
    },
    /// Somebody else's SVID.
    #[error("SVID is of {found}, and one of {held} is held")]
    Identity {
        /// What came.
        found: SpiffeId,
        /// What is held.
        held: SpiffeId,
    },
}

/// A shared value that readers take whole. A lock held only to copy a pointer cannot be poisoned in
/// a state that matters.
#[derive(Debug)]
struct Cell<T>(Arc<RwLock<Arc<T>>>);

impl<T> Cell<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Check and replacement are one step, or two writers could each pass the other's check.
    fn replace(
        &self,
        value: T,
        check: impl FnOnce(&T, &T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        check(&held, &value)?;
        *held = Arc::new(value);
        Ok(())
    }
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
