//! The latest SVID of each node and pod, for `svid list`.

use std::collections::BTreeMap;

use rustls_pki_types::UnixTime;
use signet_crypto::x509::verify::VerifiedSvid;

use crate::cluster::{NodeUid, PodUid};

/// An SVID that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedSvid {
    /// What a verifier sees in it.
    pub svid: VerifiedSvid,
    /// Name of the node that holds it.
    pub node_name: String,
    /// `namespace/name` of the pod; empty for a node's own.
    pub pod_name: String,
}

/// The latest SVIDs; those of pods under the pod, a node's own without one.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<(NodeUid, Option<PodUid>), IssuedSvid>);

impl Ledger {
    /// Takes note; an earlier one of the same holder is forgotten.
    pub fn record(&mut self, node: NodeUid, pod: Option<PodUid>, issued: IssuedSvid) {
        self.0.insert((node, pod), issued);
    }

    /// Forgets what is not valid any more.
    pub fn expire(&mut self, now: UnixTime) {
        self.0.retain(|_, issued| issued.svid.not_after >= now);
    }

    /// Everything that is valid `now`.
    pub fn valid(
        &self,
        now: UnixTime,
    ) -> impl Iterator<Item = (&NodeUid, Option<&PodUid>, &IssuedSvid)> {
        self.0
            .iter()
            .filter(move |(_, issued)| issued.svid.not_after >= now)
            .map(|((node, pod), issued)| (node, pod.as_ref(), issued))
    }
}
