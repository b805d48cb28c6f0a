//! Watches the wire and the deliveries, and trusts no agent.
//!
//! It checks every proof on its own, remembers which pods were proven on which connection, and
//! which labels were granted there. A packet may arrive only under a label that was granted, in its
//! epoch, from the receiver's node to the sender's, on a connection where both pods are proven.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use signet_crypto::{
    bundle::TrustBundle,
    time::UnixTime,
    tls::{
        authenticator::{Request, Secrets, verify},
        exporter::Role,
    },
    x509::{
        profile::Purpose,
        verify::{Expect, Usage},
    },
};

use super::network::{Link, SimSecrets};
use crate::{
    ids::{ConnId, Epoch, Label, PodUid},
    wire::Message,
};

struct Seen {
    secrets: [Secrets; 2],
    nonces: [[u8; 32]; 2],
    asked: BTreeMap<(bool, u64), PodUid>,
    proven: BTreeSet<(bool, PodUid)>,
}

#[derive(Clone, Debug)]
struct Granted {
    conn: ConnId,
    by_client: bool,
    from: PodUid,
    to: PodUid,
    epoch: Epoch,
}

/// What is known from watching.
pub struct Oracle {
    bundle: Arc<TrustBundle>,
    seen: BTreeMap<ConnId, Seen>,
    granted: BTreeMap<Label, Granted>,
    /// Whether a label before its asker's proof stops the run; off where a test plays a peer.
    pub strict: bool,
    /// Proofs that were good.
    pub proofs: u64,
}

impl Oracle {
    pub(crate) fn new(bundle: Arc<TrustBundle>) -> Self {
        Self {
            bundle,
            seen: BTreeMap::new(),
            granted: BTreeMap::new(),
            strict: true,
            proofs: 0,
        }
    }

    /// TLS has proven both nodes.
    pub(crate) fn connected(&mut self, link: &Link, nodes: [PodUid; 2]) {
        let secrets = |role| {
            let channel = SimSecrets {
                seed: link.seed.clone(),
                role,
            };
            Secrets::from_channel(&channel, role).unwrap()
        };
        let seen = Seen {
            secrets: [secrets(Role::Server), secrets(Role::Client)],
            nonces: [[0; 32]; 2],
            asked: BTreeMap::new(),
            proven: [true, false].into_iter().zip(nodes).collect(),
        };
        self.seen.insert(link.client.1, seen);
    }

    pub(crate) fn frame(
        &mut self,
        link: &Link,
        by_client: bool,
        kind: u8,
        payload: &[u8],
        wall: UnixTime,
    ) {
        let conn = link.client.1;
        let Ok(message) = Message::decode(kind, payload) else {
            assert!(!self.strict, "agents send messages");
            return;
        };
        let seen = self.seen.get_mut(&conn).unwrap();
        match message {
            Message::Hello(hello) => {
                if let Ok(nonce) = hello.proof_nonce.try_into() {
                    seen.nonces[usize::from(by_client)] = nonce;
                }
            }
            Message::ProofReq(request) => {
                let pod = PodUid::new(request.src_pod);
                seen.asked
                    .insert((by_client, request.id), PodUid::new(request.dst_pod));
                self.check(
                    conn,
                    by_client,
                    pod,
                    request.proof_n,
                    &request.authenticator,
                    wall,
                );
            }
            Message::Proof(proof) if !proof.authenticator.is_empty() => {
                let pod = match proof.id {
                    0 if proof.pod.is_empty() => return,
                    0 => PodUid::new(proof.pod),
                    id => seen
                        .asked
                        .get(&(!by_client, id))
                        .expect("an answer to a question")
                        .clone(),
                };
                self.check(
                    conn,
                    by_client,
                    pod,
                    proof.proof_n,
                    &proof.authenticator,
                    wall,
                );
            }
            Message::Label(label) => {
                let Some(value) = Label::new(label.label) else {
                    assert!(!self.strict, "a label of 40 bits");
                    return;
                };
                let granted = Granted {
                    conn,
                    by_client,
                    from: PodUid::new(label.src_pod),
                    to: PodUid::new(label.dst_pod),
                    epoch: Epoch(label.epoch),
                };
                let asker = (!by_client, granted.from.clone());
                let proven = seen.proven.contains(&asker);
                assert!(
                    proven || !self.strict,
                    "a label before its asker's proof: {granted:?}"
                );
                if proven {
                    self.granted.insert(value, granted);
                }
            }
            Message::SlotOffer(_)
            | Message::SlotAccept(_)
            | Message::SlotReady(_)
            | Message::SlotRefuse(_)
            | Message::SlotRetire(_)
            | Message::SlotPrepared(_)
            | Message::SlotTx(_)
            | Message::Proof(_)
            | Message::LabelExtend(_)
            | Message::LabelRevoke(_)
            | Message::LabelRevoked(_)
            | Message::LabelKeep(_)
            | Message::Stale(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Bye(_) => {}
        }
    }

    fn check(
        &mut self,
        conn: ConnId,
        by_client: bool,
        pod: PodUid,
        n: u64,
        authenticator: &[u8],
        wall: UnixTime,
    ) {
        if authenticator.is_empty() {
            return;
        }
        let seen = self.seen.get_mut(&conn).unwrap();
        let nonce = seen.nonces[usize::from(!by_client)];
        let context: [u8; 32] = Sha256::new()
            .chain_update(b"signet proof context")
            .chain_update(nonce)
            .chain_update(n.to_be_bytes())
            .finalize()
            .into();
        let expect = Expect {
            id: None,
            purpose: Some(Purpose::AgentPlane),
            node: None,
            usage: Usage::Either,
        };
        let secrets = &seen.secrets[usize::from(by_client)];
        if verify(
            secrets,
            &Request { context },
            authenticator,
            &self.bundle,
            wall,
            &expect,
        )
        .is_ok()
        {
            self.proofs += 1;
            seen.proven.insert((by_client, pod));
        }
    }

    pub(crate) fn delivered(&self, label: Label, epoch: Epoch, from: &PodUid, to: &PodUid) {
        let granted = self
            .granted
            .get(&label)
            .expect("a packet under a label that nobody gave");
        assert_eq!(
            (&granted.from, &granted.epoch),
            (from, &epoch),
            "another's label"
        );
        assert_eq!(&granted.to, to, "a label for another pod");
        let seen = &self.seen[&granted.conn];
        for (by_client, pod) in [(!granted.by_client, from), (granted.by_client, to)] {
            assert!(
                seen.proven.contains(&(by_client, pod.clone())),
                "{pod} was never proven"
            );
        }
    }
}
