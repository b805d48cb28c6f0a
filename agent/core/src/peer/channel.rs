//! One node channel: TLS is done elsewhere; here are HELLO, liveness and the slot's negotiation.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use signet_crypto::{
    spiffe_id::{IdKind, SpiffeId},
    time::Now,
    tls::exporter::{ChannelSecrets, Role, SlotContext, session_id},
    x509::profile::Purpose,
};

use crate::{
    authn::proof::Proofs,
    facts::{Config, Entry},
    ids::{ConnId, Epoch, NodeUid},
    io::{ChannelRole, Connected},
    peer::slot::Own,
    wire::{PROTO, pb},
};

/// Feature of HELLO: LABEL_KEEP is understood.
pub(crate) const KEEPS: u64 = 1;

/// A channel before the peer's HELLO.
pub(crate) struct Greeting {
    pub(crate) connected: Connected,
    pub(crate) nonce: [u8; 32],
    /// The highest epoch that was known here when the peer was dialled.
    pub(crate) follows: Epoch,
    pub(crate) deadline: Duration,
}

/// A channel on which both sides said HELLO.
pub(crate) struct Channel {
    pub(crate) conn: ConnId,
    pub(crate) role: ChannelRole,
    /// Who dialled.
    pub(crate) client: NodeUid,
    /// The highest epoch that it knew then: the channel is to make the keys after these.
    pub(crate) follows: Epoch,
    pub(crate) peer_id: SpiffeId,
    /// End of the peer's node certificate, as last proven here, and the SHA-256 of it.
    pub(crate) peer_expires: Duration,
    pub(crate) peer_certificate: [u8; 32],
    pub(crate) secrets: Box<dyn ChannelSecrets + Send>,
    pub(crate) key_exchange: String,
    pub(crate) cipher: String,
    pub(crate) remote: SocketAddr,
    pub(crate) session_id: [u8; 32],
    pub(crate) since: Now,
    pub(crate) boot_id: [u8; 16],
    pub(crate) instance: u64,
    pub(crate) proofs: Proofs,
    pub(crate) negotiation: Negotiation,
    /// The peer takes LABEL_KEEP.
    pub(crate) keeps: bool,
    /// Names of labels that the peer has said so far: those it was given, and those it gave.
    pub(crate) kept: [BTreeSet<[u8; 16]>; 2],
    /// When the rest of the pairs is proven again, on the side that waits for the other to begin.
    pub(crate) reprove_at: Option<Duration>,
    /// When the client offers a slot, if the other node has to move out of it first.
    pub(crate) offer_at: Option<Duration>,
    /// The epoch that the peer was told packets leave in.
    pub(crate) told_tx: Epoch,
    pub(crate) their_last: Epoch,
    pub(crate) their_live: Epoch,
    heard: Duration,
    ping_at: Duration,
    last_id: u64,
}

/// An identity that was proven on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// SHA-256 of the certificate.
    pub(crate) certificate: [u8; 32],
    /// Its end.
    pub(crate) expires: Duration,
}

/// How far the slot of this channel is. One slot per channel.
#[derive(Debug)]
pub(crate) enum Negotiation {
    /// The server waits for SLOT_OFFER.
    Awaiting { deadline: Duration },
    /// The client has sent SLOT_OFFER.
    Offered {
        epoch: Epoch,
        /// The own key in the offer.
        own: Own,
        tries: u32,
        deadline: Duration,
    },
    /// The own engine is being told.
    Keying {
        context: Box<SlotContext>,
        deadline: Duration,
    },
    /// The server has sent SLOT_ACCEPT.
    Accepted {
        context: Box<SlotContext>,
        deadline: Duration,
    },
    /// Packets can go.
    Ready { epoch: Epoch },
}

impl Negotiation {
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Negotiation::Awaiting { deadline }
            | Negotiation::Offered { deadline, .. }
            | Negotiation::Keying { deadline, .. }
            | Negotiation::Accepted { deadline, .. } => Some(*deadline),
            Negotiation::Ready { .. } => None,
        }
    }

    /// The epoch whose keys an engine has, before both sides know that of each other.
    pub(crate) fn keyed(&self) -> Option<Epoch> {
        match self {
            Negotiation::Keying { context, .. } | Negotiation::Accepted { context, .. } => {
                Some(Epoch(context.epoch))
            }
            Negotiation::Awaiting { .. }
            | Negotiation::Offered { .. }
            | Negotiation::Ready { .. } => None,
        }
    }
}

/// What is wrong with a peer at the door.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("{0} is no node of this trust domain")]
    NotANode(SpiffeId),
    #[error("the peer is this node itself; is another node using a copy of its key?")]
    Myself,
    #[error("protocol {0} is not spoken here; run matching versions")]
    Proto(u32),
    #[error("HELLO is of node {said}, the certificate of {proven}")]
    Node { said: String, proven: NodeUid },
    #[error("{0} in HELLO has a wrong length")]
    Length(&'static str),
    #[error("TLS secrets cannot be used: {0}")]
    Secrets(String),
}

/// The node behind a TLS connection, if it may be a peer.
pub(crate) fn peer_of(connected: &Connected, config: &Config) -> Result<NodeUid, GreetingError> {
    let id = &connected.peer.id;
    let not_a_node = || GreetingError::NotANode(id.clone());
    if connected.peer.purpose != Purpose::NodeAgent || id.trust_domain() != &config.trust_domain {
        return Err(not_a_node());
    }
    let node = match id.kind() {
        IdKind::Node { uid } => NodeUid::new(uid),
        IdKind::Workload { .. } | IdKind::IdentityService | IdKind::TrustDomain | IdKind::Other => {
            return Err(not_a_node());
        }
    };
    if node == config.node_uid {
        return Err(GreetingError::Myself);
    }
    Ok(node)
}

impl Greeting {
    /// The channel, if `hello` is in order.
    pub(crate) fn open(
        self,
        hello: &pb::Hello,
        node: &NodeUid,
        config: &Config,
        now: Now,
    ) -> Result<Channel, GreetingError> {
        if hello.proto != PROTO {
            return Err(GreetingError::Proto(hello.proto));
        }
        if hello.node_uid != node.as_str() {
            let said = hello.node_uid.clone();
            return Err(GreetingError::Node {
                said,
                proven: node.clone(),
            });
        }
        let length = |what| move |_| GreetingError::Length(what);
        let boot_id = hello
            .boot_id
            .as_slice()
            .try_into()
            .map_err(length("boot_id"))?;
        let nonce = hello
            .proof_nonce
            .as_slice()
            .try_into()
            .map_err(length("proof_nonce"))?;
        let Connected {
            conn,
            role,
            peer,
            secrets,
            key_exchange,
            cipher,
            remote,
        } = self.connected;
        let agrees = match (secrets.role(), role) {
            (Role::Client, ChannelRole::Client) | (Role::Server, ChannelRole::Server) => true,
            (Role::Client, ChannelRole::Server) | (Role::Server, ChannelRole::Client) => false,
        };
        if !agrees {
            return Err(GreetingError::Secrets(
                "they are of the other role".to_owned(),
            ));
        }
        let secret = |error: signet_crypto::tls::exporter::ExportError| {
            GreetingError::Secrets(error.to_string())
        };
        let deadline = now.boot + config.timers.handshake;
        Ok(Channel {
            conn,
            role,
            client: match role {
                ChannelRole::Client => config.node_uid.clone(),
                ChannelRole::Server => node.clone(),
            },
            follows: match role {
                ChannelRole::Client => self.follows,
                ChannelRole::Server => Epoch(hello.follows),
            },
            peer_expires: now.deadline(peer.not_after),
            peer_certificate: peer.cert_sha256,
            peer_id: peer.id,
            session_id: session_id(secrets.as_ref()).map_err(secret)?,
            proofs: Proofs::new(secrets.as_ref(), self.nonce, nonce).map_err(secret)?,
            secrets,
            key_exchange,
            cipher,
            remote,
            since: now,
            boot_id,
            instance: hello.instance,
            negotiation: Negotiation::Awaiting { deadline },
            keeps: hello.features & KEEPS != 0,
            kept: [BTreeSet::new(), BTreeSet::new()],
            reprove_at: None,
            offer_at: None,
            told_tx: Epoch(0),
            their_last: Epoch(hello.last_epoch),
            their_live: Epoch(hello.live_epoch),
            heard: now.boot,
            ping_at: now.boot + config.timers.ping,
            last_id: 0,
        })
    }
}

impl Channel {
    /// The epoch whose keys this channel has made, once they can be used.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match &self.negotiation {
            Negotiation::Ready { epoch } => Some(*epoch),
            Negotiation::Awaiting { .. }
            | Negotiation::Offered { .. }
            | Negotiation::Keying { .. }
            | Negotiation::Accepted { .. } => None,
        }
    }

    /// What the peer has proven here of one of its pods, or of itself: the handshake did that, and
    /// whatever it has shown of a renewed certificate since.
    pub(crate) fn proven(&self, entry: &Entry, now: Duration) -> Option<Shown> {
        if entry.uid.node().is_some() {
            let itself = entry.spiffe_id == self.peer_id && self.peer_expires > now;
            return itself.then_some(Shown {
                certificate: self.peer_certificate,
                expires: self.peer_expires,
            });
        }
        self.proofs.proven(entry, now).map(|proven| Shown {
            certificate: proven.certificate,
            expires: proven.expires,
        })
    }

    /// A number for a question.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn hear(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Silent for too long.
    pub(crate) fn is_dead(&self, now: Duration, dead: Duration) -> bool {
        self.heard + dead <= now
    }

    /// True when a PING is due; the next one is `every` later.
    pub(crate) fn ping_due(&mut self, now: Duration, every: Duration) -> bool {
        let due = self.ping_at <= now;
        if due {
            self.ping_at = now + every;
        }
        due
    }

    pub(crate) fn timeout(&self, dead: Duration) -> Duration {
        let alive = self.ping_at.min(self.heard + dead);
        let negotiated = self
            .negotiation
            .deadline()
            .map_or(alive, |at| at.min(alive));
        let later = [self.reprove_at, self.offer_at];
        later.into_iter().flatten().fold(negotiated, Duration::min)
    }
}
