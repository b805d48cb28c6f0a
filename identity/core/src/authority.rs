//! The authorities: one root in the trust bundle, issuing authorities below it, leaves below those.
//!
//! An authority is prepared, then active, then old, in the words of SPIRE. The issuing authority turns
//! over by itself at half of its life: nobody needs to learn of the new one, since it travels in each
//! leaf's chain. The root is in everybody's bundle; it has the same states, for the day it is replaced.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use signet_crypto::{
    bundle::{BundleError, TrustBundle},
    random::Random,
    spiffe_id::{SpiffeId, TrustDomain},
    x509::{
        build::{BuildError, IssuingAuthority, LeafSpec, RootAuthority},
        csr::CsrPublicKey,
        profile::{Binding, Purpose},
        verify::{Expect, Usage, VerifiedSvid, VerifyError, verify},
    },
};
use zeroize::Zeroizing;

use crate::{earlier, later};

/// Validity of a root.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Validity of an issuing authority. It is replaced at half of it.
pub const ISSUING_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// How far a leaf's validity begins before its making, for clocks that are behind; a tenth of its
/// validity if that is less, since holders renew at half of what the certificate says.
pub const LEAF_BACKDATE: Duration = Duration::from_secs(60);

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Issuing authorities. In the trust bundle.
    Root,
    /// Leaves. In their chains.
    Issuing,
}

impl Role {
    /// `root` or `issuing`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
        }
    }
}

/// Where an authority is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Made and published, signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// Signs nothing more; what it signed is valid until it expires.
    Old,
}

impl State {
    /// `prepared`, `active` or `old`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
        }
    }
}

/// An authority as it is stored.
pub struct Record {
    /// What it signs.
    pub role: Role,
    /// Where it is in its life.
    pub state: State,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key. Old authorities have none any more: it is empty.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// End of validity.
    pub not_after: UnixTime,
}

impl Record {
    /// SHA-256 of the certificate, lower-case hex: how people tell authorities apart.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.certificate))
    }
}

/// All authorities of a trust domain.
pub struct Authorities {
    trust_domain: TrustDomain,
    root: RootAuthority,
    issuing: IssuingAuthority,
    /// End of validity and half life of the active issuing authority.
    renew_at: UnixTime,
    old: Vec<Record>,
    bundle: TrustBundle,
}

impl Authorities {
    /// The first root and issuing authority of `trust_domain`.
    ///
    /// # Errors
    /// When AWS-LC cannot make keys or sign.
    pub fn generate(trust_domain: &TrustDomain, now: UnixTime) -> Result<Self, AuthorityError> {
        let root = RootAuthority::generate(trust_domain, now, ROOT_LIFETIME)?;
        let issuing = root.issue_intermediate(now, issuing_lifetime(&root, now))?;
        Self::assemble(root, issuing, Vec::new(), 1)
    }

    /// The authorities from storage: exactly one active of each role.
    ///
    /// # Errors
    /// When one is missing, does not match its key, or is of another trust domain.
    pub fn restore(
        trust_domain: &TrustDomain,
        records: Vec<Record>,
        bundle_sequence: u64,
    ) -> Result<Self, AuthorityError> {
        let (active, old): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.state == State::Active);
        let one = |role: Role| {
            let mut found = active.iter().filter(|record| record.role == role);
            match (found.next(), found.next()) {
                (Some(record), None) => Ok(record),
                (None, _) => Err(AuthorityError::Missing(role.name())),
                (Some(_), Some(_)) => Err(AuthorityError::Several(role.name())),
            }
        };
        let root = one(Role::Root)?;
        let root = RootAuthority::from_parts(root.certificate.clone(), &root.pkcs8)?;
        let issuing = one(Role::Issuing)?;
        let issuing = IssuingAuthority::from_parts(issuing.certificate.clone(), &issuing.pkcs8)?;
        if root.trust_domain() != trust_domain || issuing.trust_domain() != trust_domain {
            return Err(AuthorityError::TrustDomain {
                found: root.trust_domain().clone(),
            });
        }
        Self::assemble(root, issuing, old, bundle_sequence)
    }

    fn assemble(
        root: RootAuthority,
        issuing: IssuingAuthority,
        old: Vec<Record>,
        sequence: u64,
    ) -> Result<Self, AuthorityError> {
        let trust_domain = root.trust_domain().clone();
        let roots = vec![root.certificate().clone()];
        let bundle = TrustBundle::new(trust_domain.clone(), sequence, roots)?;
        let renew_at = earlier(issuing.not_after(), ISSUING_LIFETIME / 2);
        Ok(Self {
            trust_domain,
            root,
            issuing,
            renew_at,
            old,
            bundle,
        })
    }

    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What everybody must trust.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// When [`Authorities::maintain`] will next have something to do.
    pub fn due(&self) -> UnixTime {
        self.renew_at
    }

    /// Replaces the issuing authority at half of its life, and forgets old ones that expired. True if
    /// anything changed and must be stored before the next leaf is signed.
    ///
    /// # Errors
    /// When the root is about to expire, or AWS-LC fails; the authority in use stays.
    pub fn maintain(&mut self, now: UnixTime) -> Result<bool, AuthorityError> {
        let before = self.old.len();
        self.old.retain(|record| record.not_after > now);
        if now < self.renew_at {
            return Ok(self.old.len() != before);
        }
        let next = self
            .root
            .issue_intermediate(now, issuing_lifetime(&self.root, now))?;
        let previous = std::mem::replace(&mut self.issuing, next);
        self.old.push(Record {
            role: Role::Issuing,
            state: State::Old,
            certificate: previous.certificate().clone(),
            pkcs8: Zeroizing::default(),
            not_after: previous.not_after(),
        });
        self.renew_at = earlier(self.issuing.not_after(), ISSUING_LIFETIME / 2);
        Ok(true)
    }

    /// Everything to store: active ones with their keys, then old ones.
    pub fn records(&self) -> Vec<Record> {
        let active = [
            Record {
                role: Role::Root,
                state: State::Active,
                certificate: self.root.certificate().clone(),
                pkcs8: self.root.pkcs8().to_vec().into(),
                not_after: self.root.not_after(),
            },
            Record {
                role: Role::Issuing,
                state: State::Active,
                certificate: self.issuing.certificate().clone(),
                pkcs8: self.issuing.pkcs8().to_vec().into(),
                not_after: self.issuing.not_after(),
            },
        ];
        let old = self.old.iter().map(|record| Record {
            role: record.role,
            state: record.state,
            certificate: record.certificate.clone(),
            pkcs8: record.pkcs8.clone(),
            not_after: record.not_after,
        });
        active.into_iter().chain(old).collect()
    }

    /// Signs a leaf valid for `ttl` from `now`, or until the issuing authority's end if that is
    /// earlier, and checks it with the code that its receivers check it with.
    ///
    /// # Errors
    /// When the leaf would break a rule, or the check fails: then nothing leaves.
    pub fn issue(
        &self,
        leaf: Leaf<'_>,
        ttl: Duration,
        now: UnixTime,
        random: &mut dyn Random,
    ) -> Result<Issued, AuthorityError> {
        let mut serial = [0; 16];
        random.fill(&mut serial);
        let spec = LeafSpec {
            id: leaf.id.clone(),
            public_key: leaf.public_key.clone(),
            purpose: leaf.purpose,
            binding: leaf.binding,
            not_before: earlier(now, LEAF_BACKDATE.min(ttl / 10)),
            not_after: later(now, ttl).min(self.issuing.not_after()),
            serial,
        };
        let chain = self.issuing.issue_leaf(&spec)?;
        let expect = Expect {
            id: Some(leaf.id.clone()),
            purpose: Some(leaf.purpose),
            node: leaf.node.cloned(),
            usage: Usage::Either,
        };
        let svid = verify(&chain, &self.bundle, now, &expect)?;
        if svid.spki_sha256 != leaf.public_key.spki_sha256() {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Issued { chain, svid })
    }
}

/// A leaf to be signed.
pub struct Leaf<'a> {
    /// Whose.
    pub id: &'a SpiffeId,
    /// For which key.
    pub public_key: &'a CsrPublicKey,
    /// For what use.
    pub purpose: Purpose,
    /// What an agent-plane leaf is bound to.
    pub binding: Option<Binding>,
    /// The node in that binding.
    pub node: Option<&'a SpiffeId>,
}

/// A signed leaf.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// What a verifier sees in it.
    pub svid: VerifiedSvid,
}

/// What is wrong with the authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// None of that role is active.
    #[error("no active {0} authority")]
    Missing(&'static str),
    /// More than one of that role is active.
    #[error("several active {0} authorities")]
    Several(&'static str),
    /// Another trust domain's.
    #[error("authorities are of trust domain {found}")]
    TrustDomain {
        /// Whose they are.
        found: TrustDomain,
    },
    /// A certificate cannot be made, or does not match its key.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The roots are no trust bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What was made does not pass the check that everybody makes.
    #[error("certificate just made would not be believed: {0}")]
    Unbelievable(#[from] VerifyError),
    /// The certificate bears another key than asked for.
    #[error("certificate just made is for another key")]
    OtherKey,
}

/// No authority outlives its root.
fn issuing_lifetime(root: &RootAuthority, now: UnixTime) -> Duration {
    let left = root.not_after().as_secs().saturating_sub(now.as_secs());
    ISSUING_LIFETIME.min(Duration::from_secs(left))
}
