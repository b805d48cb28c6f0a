//! Attesting, renewing, issuing, making tokens. All of it blocks: on the disk, or on signatures.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use signet_crypto::{
    random::SystemRandom,
    x509::csr::{self, CsrError, CsrPublicKey},
};
use signet_identity_core::{
    authority::{AuthorityError, Issued},
    cluster::{Node, NodeUid, PodUid},
    issue::{self, IssueRefusal},
    ledger::IssuedSvid,
    registry::{NodeRecord, NodeRefusal, readmit},
    token::{JoinToken, TokenRecord, TokenRefusal, consume},
};

use super::Service;
use crate::{
    metrics::{Reason, What},
    store::StoreError,
};

/// Why a call is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error(transparent)]
    Node(#[from] NodeRefusal),
    #[error(transparent)]
    Issue(#[from] IssueRefusal),
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error("identity service cannot sign: {0}; see its log")]
    Authority(#[from] AuthorityError),
    /// The details are for the log.
    #[error("identity service cannot use its store; see its log")]
    Store(#[from] StoreError),
}

impl Refused {
    /// The node on which a pod runs that another asked for.
    fn runs_on(&self) -> &str {
        let Self::Issue(IssueRefusal::OtherNode { runs_on, .. }) = self else {
            return "";
        };
        runs_on
    }
}

impl Service {
    /// Brings a node in, by `token` or, if that is empty, by the key it had.
    pub(crate) fn attest(
        &self,
        name: &str,
        token: &str,
        csr: &[u8],
        from: SocketAddr,
    ) -> Result<(Arc<Node>, Issued), Refused> {
        let result = self.try_attest(name, token, csr);
        match &result {
            Ok((node, issued)) => {
                tracing::info!(
                    node = %node.name,
                    uid = %node.uid,
                    %from,
                    by = if token.is_empty() { "key" } else { "join token" },
                    not_after = issued.svid.not_after.as_secs(),
                    "node attested"
                );
            }
            Err(refused) => {
                self.count(refused);
                tracing::warn!(node = name, %from, reason = %refused, "node not attested");
            }
        }
        result
    }

    fn try_attest(
        &self,
        name: &str,
        token: &str,
        csr: &[u8],
    ) -> Result<(Arc<Node>, Issued), Refused> {
        let public_key = csr::parse(csr)?;
        let node = self
            .hub
            .look(|directory| directory.node_named(name).cloned());
        let node = node.ok_or_else(|| NodeRefusal::UnknownName {
            name: name.to_owned(),
        })?;
        let issued = if token.is_empty() {
            self.renew(&node, &public_key, |record, key| {
                readmit(record, &node.name, key)
            })?
        } else {
            self.join(&node, &JoinToken::parse(token)?, &public_key)?
        };
        Ok((node, issued))
    }

    fn join(
        &self,
        node: &Node,
        token: &JoinToken,
        public_key: &CsrPublicKey,
    ) -> Result<Issued, Refused> {
        let now = self.time.now().wall;
        let hash = token.hash();
        // A first look without a transaction of its own: a thousand wrong tokens must not queue up
        // before a right one. What counts is decided below.
        consume(self.store.token(hash)?.as_ref(), &node.name, &node.uid, now)?;
        let joined = self.store.join(hash, &node.uid, |record| {
            let used = consume(record, &node.name, &node.uid, now)?;
            // If it cannot be signed, the token is not spent.
            let issued = self.sign(issue::node(node, public_key))?;
            let key = public_key.spki_sha256();
            let record = NodeRecord::attested(&node.name, key, now, issued.svid.not_after);
            Ok::<_, Refused>((used, record.clone(), (record, issued)))
        })?;
        let (record, issued) = joined?;
        self.metrics
            .tokens
            .get_or_create(&What { event: "consumed" })
            .inc();
        self.note_node(node, record, &issued);
        Ok(issued)
    }

    /// A fresh SVID for a node that proved itself on its connection.
    pub(crate) fn renew_node(&self, uid: &NodeUid, csr: &[u8]) -> Result<Issued, Refused> {
        let result = self.try_renew(uid, csr);
        match &result {
            Ok(issued) => {
                let not_after = issued.svid.not_after.as_secs();
                tracing::debug!(%uid, not_after, "node renewed");
            }
            Err(refused) => {
                self.count(refused);
                tracing::warn!(%uid, reason = %refused, "node not renewed");
            }
        }
        result
    }

    fn try_renew(&self, uid: &NodeUid, csr: &[u8]) -> Result<Issued, Refused> {
        let public_key = csr::parse(csr)?;
        let node = self.hub.look(|directory| directory.node(uid).cloned());
        let node = node.ok_or_else(|| NodeRefusal::Gone { uid: uid.clone() })?;
        self.renew(&node, &public_key, |record, _| {
            record.ok_or_else(|| NodeRefusal::NeverJoined {
                name: node.name.clone(),
            })
        })
    }

    fn renew(
        &self,
        node: &Node,
        public_key: &CsrPublicKey,
        admit: impl for<'a> FnOnce(
            Option<&'a NodeRecord>,
            &[u8; 32],
        ) -> Result<&'a NodeRecord, NodeRefusal>,
    ) -> Result<Issued, Refused> {
        let now = self.time.now().wall;
        let renewed = self.store.update_node(&node.uid, |record| {
            let key = public_key.spki_sha256();
            let record = admit(record, &key)?;
            let issued = self.sign(issue::node(node, public_key))?;
            let record = record.renewed(&node.name, key, now, issued.svid.not_after);
            Ok::<_, Refused>((record.clone(), (record, issued)))
        })?;
        let (record, issued) = renewed?;
        self.note_node(node, record, &issued);
        Ok(issued)
    }

    fn note_node(&self, node: &Node, record: NodeRecord, issued: &Issued) {
        let entry = IssuedSvid {
            svid: issued.svid.clone(),
            node_name: node.name.clone(),
            pod_name: String::new(),
        };
        self.ledger().record(node.uid.clone(), None, entry);
        self.joined().insert(node.uid.clone(), record);
        self.show_joined();
    }

    /// An agent-plane SVID for a pod of the node `caller`.
    pub(crate) fn issue_workload(
        &self,
        caller: &Node,
        pod: &PodUid,
        csr: &[u8],
    ) -> Result<Issued, Refused> {
        let entry = self.hub.look(|directory| directory.entry(pod));
        let grant = issue::workload(entry, &caller.uid, pod, csr);
        let result = grant.map_err(Refused::from).and_then(|grant| {
            let issued = self.sign(grant.leaf())?;
            let entry = &grant.entry.pod;
            let noted = IssuedSvid {
                svid: issued.svid.clone(),
                node_name: caller.name.clone(),
                pod_name: format!("{}/{}", entry.namespace, entry.name),
            };
            self.ledger()
                .record(caller.uid.clone(), Some(pod.clone()), noted);
            Ok(issued)
        });
        match &result {
            Ok(issued) => {
                tracing::debug!(node = %caller.name, %pod, id = %issued.svid.id, "SVID issued")
            }
            Err(refused) => {
                self.count(refused);
                let runs_on = refused.runs_on();
                tracing::warn!(
                    node = %caller.name, node_uid = %caller.uid, %pod, runs_on, reason = %refused,
                    "workload SVID refused"
                );
            }
        }
        result
    }

    /// A join token for the node `name`, and when it expires (Unix milliseconds).
    pub(crate) fn create_token(
        &self,
        name: &str,
        ttl: Duration,
    ) -> Result<(JoinToken, u64), Refused> {
        if self
            .hub
            .look(|directory| directory.node_named(name).is_none())
        {
            return Err(NodeRefusal::UnknownName {
                name: name.to_owned(),
            }
            .into());
        }
        let token = JoinToken::generate(&mut SystemRandom);
        let record = TokenRecord::new(name, self.time.now().wall, ttl)?;
        self.store.add_token(token.hash(), &record)?;
        self.metrics
            .tokens
            .get_or_create(&What { event: "created" })
            .inc();
        tracing::info!(node = name, ttl_s = ttl.as_secs(), "join token created");
        Ok((token, record.expires_ms))
    }

    fn count(&self, refused: &Refused) {
        let (family, reason) = match refused {
            Refused::Token(refusal) => (&self.metrics.tokens_refused, refusal.reason()),
            Refused::Node(refusal) => (&self.metrics.nodes_refused, refusal.reason()),
            Refused::Issue(refusal) => (&self.metrics.svids_refused, refusal.reason()),
            Refused::Csr(_) => (&self.metrics.nodes_refused, "bad_csr"),
            Refused::Authority(error) => {
                tracing::error!(%error, "cannot sign");
                (&self.metrics.svids_refused, "authority")
            }
            Refused::Store(error) => {
                tracing::error!(%error, "cannot use the store");
                (&self.metrics.nodes_refused, "store")
            }
        };
        family.get_or_create(&Reason { reason }).inc();
    }
}
