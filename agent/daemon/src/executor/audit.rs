//! What becomes an audit record, in its words.

use std::net::IpAddr;

use signet_abi::DropReason;
use signet_agent_core::{
    event::{AuditKind, AuditRecord, PairEnd},
    io::{ChannelRole, NodeUid, PodUid},
};
use signet_audit::{
    line::{Hash, Hex},
    record::{End, Event, Facts, Role, Verdict},
};
use signet_crypto::{spiffe_id::SpiffeId, wg::PublicKey};

use super::Executor;

impl Executor {
    /// Writes the record to the audit log, and a line to the agent's own.
    pub(super) fn audit(&self, record: &AuditRecord) {
        let now = self.time.now();
        let left = record.not_after.saturating_sub(now.boot).as_secs();
        let not_after = now.wall.as_secs().saturating_add(left);
        let event = match record.what {
            AuditKind::Opened => Event::Opened,
            AuditKind::Renewed => Event::Renewed,
            AuditKind::Closed(_) => Event::Closed,
        };
        self.audit.record(Facts {
            remote_node: self.node_id(&record.node),
            ..pair_facts(event, record, not_after)
        });
        tracing::info!(
            target: "audit",
            what = event.as_str(),
            local = record.local_name,
            local_id = %record.local_id,
            local_certificate = hex::encode(record.local_certificate),
            remote = record.remote_name,
            remote_id = %record.remote_id,
            remote_certificate = hex::encode(record.remote_certificate),
            node = self.names.node(record.node.as_str()),
            session = hex::encode(record.session_id),
            key_exchange = record.key_exchange,
            cipher = record.cipher,
            epoch = record.epoch.0,
            not_after,
            "pair"
        );
    }

    /// A destination was refused to a local pod. Nothing was proven: the identities are those that
    /// the directory and the manifests give.
    pub(super) fn audit_refused(
        &mut self,
        local: &PodUid,
        destination: IpAddr,
        reason: DropReason,
        detail: &str,
    ) {
        let names = &self.names;
        self.audit.refusal(local.as_str(), || {
            let local = End {
                id: names.id_of(local.as_str()),
                pod: local.as_str().to_owned(),
                ..End::default()
            };
            let (pod, id) = names.pod_at(destination).unzip();
            let remote = End {
                id: id.flatten(),
                pod: pod.unwrap_or_default(),
                ..End::default()
            };
            Facts {
                remote_address: Some(destination),
                ..Facts::new(Event::Refused)
            }
            .local(local)
            .remote(remote)
            .decided(Verdict::Refused, &format!("{}: {detail}", reason.as_str()))
        });
    }

    /// Another node asked about a pair, or brought a proof, and was refused. `source` and
    /// `destination` are pod UIDs as the other node gave them.
    pub(super) fn audit_peer_refused(
        &mut self,
        event: Event,
        node: &NodeUid,
        source: &str,
        destination: &str,
        detail: &str,
    ) {
        let remote_node = self.node_id(node);
        let names = &self.names;
        let end = |uid: &str| End {
            id: names.id_of(uid),
            pod: uid.to_owned(),
            ..End::default()
        };
        self.audit.refusal(node.as_str(), || {
            Facts {
                remote_node,
                ..Facts::new(event)
            }
            .local(end(destination))
            .remote(end(source))
            .decided(Verdict::Refused, detail)
        });
    }

    fn node_id(&self, node: &NodeUid) -> Option<SpiffeId> {
        SpiffeId::node(self.service.trust.load().trust_domain(), node.as_str()).ok()
    }
}

fn pair_facts(event: Event, record: &AuditRecord, not_after: u64) -> Facts {
    let end = |id: &SpiffeId, pod: &PodUid, certificate, key: Option<PublicKey>| End {
        id: Some(id.clone()),
        pod: pod.as_str().to_owned(),
        certificate: Some(Hex(certificate)),
        wireguard: key.map(|key| Hash::of(key.as_bytes())),
    };
    let local = end(
        &record.local_id,
        &record.local,
        record.local_certificate,
        record.local_key,
    );
    let remote = end(
        &record.remote_id,
        &record.remote,
        record.remote_certificate,
        record.remote_key,
    );
    let (verdict, reason) = match record.what {
        AuditKind::Opened | AuditKind::Renewed => (Verdict::Allowed, ""),
        AuditKind::Closed(end) => (Verdict::Ended, words(end)),
    };
    Facts {
        session_id: Some(Hex(record.session_id)),
        role: Some(match record.role {
            ChannelRole::Client => Role::Client,
            ChannelRole::Server => Role::Server,
        }),
        key_exchange: record.key_exchange.clone(),
        cipher: record.cipher.clone(),
        epoch: Some(record.epoch.0),
        not_after: Some(not_after),
        ..Facts::new(event)
    }
    .local(local)
    .remote(remote)
    .decided(verdict, reason)
}

fn words(end: PairEnd) -> &'static str {
    match end {
        PairEnd::Expired => "a certificate ran out",
        PairEnd::EndpointRemoved => "the local pod is gone",
        PairEnd::RemoteGone => "the remote pod is gone or is another now",
        PairEnd::NodeGone => "the remote node is gone",
        PairEnd::PeerBooted => "the remote node booted again",
        PairEnd::Policy => "no rule admits it any more",
        PairEnd::Revoked => "the other node took it back",
        PairEnd::KeysGone => "the keys it used are gone",
        PairEnd::Stale => "the address belongs to another pod now",
    }
}
