//! Who is calling: from the TLS connection, never from the message.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use signet_crypto::{spiffe_id::IdKind, time::UnixTime, x509::verify::VerifiedSvid};
use signet_identity_core::{
    cluster::{Node, NodeUid},
    registry::NodeRefusal,
};
use tonic::{Extensions, Status};

use crate::{metrics::Reason, service::Service};

/// The other end of a TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    node: Option<Arc<PeerNode>>,
}

#[derive(Debug)]
struct PeerNode {
    uid: NodeUid,
    /// Sequence of the bundle that it was believed under.
    bundle_sequence: u64,
    proof: Mutex<Proof>,
}

/// What the connection's right hangs on. A renewal over this very connection takes its place: whoever
/// is at the other end has both keys.
#[derive(Clone, Copy, Debug)]
struct Proof {
    key: [u8; 32],
    not_after: UnixTime,
}

impl Peer {
    /// The peer that presented `svid`, verified under the bundle with that sequence, or nothing.
    pub(crate) fn new(address: SocketAddr, svid: Option<VerifiedSvid>, sequence: u64) -> Self {
        let node = svid.and_then(|svid| match svid.id.kind() {
            IdKind::Node { uid } => Some(PeerNode {
                uid: NodeUid::from(uid),
                bundle_sequence: sequence,
                proof: Mutex::new(Proof {
                    key: svid.spki_sha256,
                    not_after: svid.not_after,
                }),
            }),
            IdKind::Workload { .. }
            | IdKind::IdentityService
            | IdKind::TrustDomain
            | IdKind::Other => None,
        });
        Self {
            address,
            node: node.map(Arc::new),
        }
    }

    /// Whether it has not proven to be a node.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.node.is_none()
    }

    /// Takes note of a renewal over this connection.
    pub(crate) fn renewed(&self, svid: &VerifiedSvid) {
        if let Some(node) = &self.node {
            let proof = Proof {
                key: svid.spki_sha256,
                not_after: svid.not_after,
            };
            *node.proof.lock().unwrap_or_else(PoisonError::into_inner) = proof;
        }
    }

    /// How long its proof is still good.
    pub(crate) fn left(&self, now: UnixTime) -> Duration {
        let end = self
            .node
            .as_ref()
            .map_or(0, |node| node.proof().not_after.as_secs());
        Duration::from_secs(end.saturating_sub(now.as_secs()))
    }
}

impl PeerNode {
    fn proof(&self) -> Proof {
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peer of the connection that a request came on.
pub(crate) fn peer(extensions: &Extensions) -> Result<Peer, Status> {
    let peer = extensions.get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the request came on no connection of ours"))
}

/// The node that is calling: its SVID is still valid, and the node still there and joined with that
/// key. Checked for every call, because a connection outlives all of these.
pub(crate) fn caller(service: &Service, peer: &Peer) -> Result<Arc<Node>, Status> {
    check(service, peer).map_err(|(reason, status)| {
        service
            .metrics
            .nodes_refused
            .get_or_create(&Reason { reason })
            .inc();
        tracing::warn!(from = %peer.address, reason = status.message(), "call refused");
        status
    })
}

fn check(service: &Service, peer: &Peer) -> Result<Arc<Node>, (&'static str, Status)> {
    let Some(node) = &peer.node else {
        let text = "this call needs the node's SVID on the connection; attest first";
        return Err(("no_svid", Status::unauthenticated(text)));
    };
    let proof = node.proof();
    if proof.not_after <= service.time.now().wall {
        let text = "the SVID of this connection has expired; connect with a renewed one";
        return Err(("expired", Status::unauthenticated(text)));
    }
    if service.trust.load().sequence() != node.bundle_sequence {
        let text = "the trust bundle has changed since this connection was made; connect again";
        return Err(("old_bundle", Status::unauthenticated(text)));
    }
    let refuse = |refusal: NodeRefusal| {
        (
            refusal.reason(),
            Status::permission_denied(refusal.to_string()),
        )
    };
    let Some(known) = service
        .hub
        .look(|directory| directory.node(&node.uid).cloned())
    else {
        return Err(refuse(NodeRefusal::Gone {
            uid: node.uid.clone(),
        }));
    };
    match service.joined().get(&node.uid) {
        None => Err(refuse(NodeRefusal::NeverJoined {
            name: known.name.clone(),
        })),
        Some(record) if !record.knows(&proof.key) => Err(refuse(NodeRefusal::OtherKey {
            name: known.name.clone(),
        })),
        Some(_) => Ok(known),
    }
}
