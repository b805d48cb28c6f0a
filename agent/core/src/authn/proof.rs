//! Proofs of workload identities inside one channel: RFC 9261 exported authenticators.
//!
//! The context of a prover's n-th proof is `SHA-256("signet proof context" || verifier's nonce ||
//! u64 n)`; n only grows. The verifier chose the nonce for this channel, so no context is ever used
//! twice, and a proof made elsewhere fails at its Finished MAC.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::SpiffeId,
    svid::X509Svid,
    time::Now,
    tls::{
        authenticator::{self, AuthenticatorError, Request, Secrets},
        exporter::{ChannelSecrets, ExportError, Role},
    },
    x509::{
        profile::Purpose,
        verify::{Expect, Usage, VerifiedSvid},
    },
};

use crate::{facts::Entry, ids::PodUid};

/// A proof that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) id: SpiffeId,
    pub(crate) certificate: [u8; 32],
    /// End of the certificate, fixed on the boot clock when the proof came.
    pub(crate) expires: Duration,
    /// What it was bound to: namespace and service account by UID.
    bound: [String; 2],
}

/// A number and the authenticator made for it.
pub(crate) struct Made {
    pub(crate) n: u64,
    pub(crate) authenticator: Vec<u8>,
}

/// Why a proof was not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("proof number {n} is not above {seen}: replayed or reordered")]
    Number { n: u64, seen: u64 },
    #[error(transparent)]
    Authenticator(#[from] AuthenticatorError),
    #[error("certificate is bound to {what} of another {of}, not to what the directory says")]
    Binding {
        what: &'static str,
        of: &'static str,
    },
}

/// Both directions of proofs on one channel.
pub(crate) struct Proofs {
    mine: Secrets,
    theirs: Secrets,
    my_nonce: [u8; 32],
    their_nonce: [u8; 32],
    made: u64,
    seen: u64,
    /// Local pods whose proof the peer has confirmed.
    confirmed: BTreeSet<PodUid>,
    proven: BTreeMap<PodUid, Proven>,
}

impl Proofs {
    pub(crate) fn new(
        channel: &dyn ChannelSecrets,
        my_nonce: [u8; 32],
        their_nonce: [u8; 32],
    ) -> Result<Self, ExportError> {
        let (mine, theirs) = match channel.role() {
            Role::Client => (Role::Client, Role::Server),
            Role::Server => (Role::Server, Role::Client),
        };
        Ok(Self {
            mine: Secrets::from_channel(channel, mine)?,
            theirs: Secrets::from_channel(channel, theirs)?,
            my_nonce,
            their_nonce,
            made: 0,
            seen: 0,
            confirmed: BTreeSet::new(),
            proven: BTreeMap::new(),
        })
    }

    /// Makes the next proof.
    pub(crate) fn prove(&mut self, svid: &X509Svid) -> Result<Made, AuthenticatorError> {
        self.made += 1;
        let request = request(&self.their_nonce, self.made);
        let authenticator = authenticator::create(&self.mine, &request, svid)?;
        Ok(Made {
            n: self.made,
            authenticator,
        })
    }

    /// Whether the peer holds a proof of this local pod.
    pub(crate) fn is_confirmed(&self, local: &PodUid) -> bool {
        self.confirmed.contains(local)
    }

    pub(crate) fn confirm(&mut self, local: &PodUid) {
        self.confirmed.insert(local.clone());
    }

    pub(crate) fn unconfirm(&mut self, local: &PodUid) {
        self.confirmed.remove(local);
    }

    /// What `remote` has proven here, if it still holds and is who the directory says.
    pub(crate) fn proven(&self, entry: &Entry, now: Duration) -> Option<&Proven> {
        let proven = self.proven.get(&entry.uid)?;
        let [namespace, account] = &proven.bound;
        let bound = *namespace == entry.namespace_uid && *account == entry.service_account_uid;
        (bound && proven.id == entry.spiffe_id && proven.expires > now).then_some(proven)
    }

    /// Uses up a proof's number. Called when a proof arrives, before anything is awaited for it.
    pub(crate) fn take_number(&mut self, n: u64) -> Result<(), ProofError> {
        if n <= self.seen {
            return Err(ProofError::Number { n, seen: self.seen });
        }
        self.seen = n;
        Ok(())
    }

    /// Checks a proof whose number was taken, and remembers it.
    pub(crate) fn verify(
        &mut self,
        entry: &Entry,
        n: u64,
        proof: &[u8],
        bundle: &TrustBundle,
        now: Now,
    ) -> Result<Proven, ProofError> {
        let expect = Expect {
            id: Some(entry.spiffe_id.clone()),
            purpose: Some(Purpose::AgentPlane),
            node: Some(entry.node.spiffe_id.clone()),
            usage: Usage::Either,
        };
        let svid = self.check(n, proof, bundle, now, &expect)?;
        let binding = svid.binding.as_ref();
        let bound = |uid: fn(&signet_crypto::x509::profile::Binding) -> &String,
                     expected: &String| {
            binding.is_some_and(|binding| uid(binding) == expected)
        };
        if !bound(|binding| &binding.namespace_uid, &entry.namespace_uid) {
            return Err(ProofError::Binding {
                what: "the UID",
                of: "namespace",
            });
        }
        if !bound(
            |binding| &binding.service_account_uid,
            &entry.service_account_uid,
        ) {
            return Err(ProofError::Binding {
                what: "the UID",
                of: "service account",
            });
        }
        let proven = Proven {
            id: svid.id,
            certificate: svid.cert_sha256,
            expires: now.deadline(svid.not_after),
            bound: [
                entry.namespace_uid.clone(),
                entry.service_account_uid.clone(),
            ],
        };
        self.proven.insert(entry.uid.clone(), proven.clone());
        Ok(proven)
    }

    /// Checks a proof of the peer's own node SVID.
    pub(crate) fn verify_node(
        &self,
        node: &SpiffeId,
        n: u64,
        proof: &[u8],
        bundle: &TrustBundle,
        now: Now,
    ) -> Result<VerifiedSvid, ProofError> {
        let expect = Expect {
            id: Some(node.clone()),
            purpose: Some(Purpose::NodeAgent),
            node: None,
            usage: Usage::Either,
        };
        self.check(n, proof, bundle, now, &expect)
    }

    fn check(
        &self,
        n: u64,
        proof: &[u8],
        bundle: &TrustBundle,
        now: Now,
        expect: &Expect,
    ) -> Result<VerifiedSvid, ProofError> {
        let request = request(&self.my_nonce, n);
        Ok(authenticator::verify(
            &self.theirs,
            &request,
            proof,
            bundle,
            now.wall,
            expect,
        )?)
    }
}

fn request(verifier_nonce: &[u8; 32], n: u64) -> Request {
    let mut hash = Sha256::new();
    hash.update(b"signet proof context");
    hash.update(verifier_nonce);
    hash.update(n.to_be_bytes());
    Request {
        context: hash.finalize().into(),
    }
}
