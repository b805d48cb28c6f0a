//! What is granted, over time: extended with its certificates, recorded, ended in both directions.

use std::time::Duration;

use signet_abi::DropReason;
use signet_crypto::time::Now;

use crate::{
    agent::{Agent, pairs::wall_ms},
    authn::{
        label::PairKey,
        pair::{Grant, Pair, Permit, Session},
    },
    effects::Ctx,
    event::{AuditKind, AuditRecord, Event, PairEnd},
    ids::{Epoch, NodeUid},
    io::Output,
    rows::MapOp,
    wire::{Message, pb},
};

impl Agent {
    /// Certificates were renewed: grants of these pairs end later now (or earlier).
    pub(super) fn renew_pairs(
        &mut self,
        which: impl Fn(&PairKey, &Pair) -> bool,
        ctx: &mut Ctx<'_>,
    ) {
        for key in self.pairs.keys_where(which) {
            let Some(pair) = self.pairs.of(&key) else {
                continue;
            };
            let not_after = self.limit(&key, pair);
            let node = pair.node.clone();
            let grants = pair.grants.iter();
            let changed: Vec<_> = grants
                .filter(|grant| grant.not_after != not_after)
                .collect();
            if changed.is_empty() {
                continue;
            }
            for grant in changed {
                if let Some(pair) = self.pairs.of_mut(&key) {
                    pair.grants.put(Grant { not_after, ..grant });
                }
                self.write_grant(&key, grant.epoch, ctx);
                let peer = self.peers.get(&node);
                let peer = peer.filter(|peer| peer.epochs().contains(&grant.epoch));
                if let Some(channel) = peer.and_then(|peer| peer.channel.as_ref()) {
                    let extend = pb::LabelExtend {
                        src_pod: key.remote.as_str().to_owned(),
                        dst_pod: key.local.as_str().to_owned(),
                        epoch: grant.epoch.0,
                        not_after_unix_ms: wall_ms(not_after, ctx),
                    };
                    ctx.send(channel.conn, &Message::LabelExtend(extend));
                }
            }
            self.write_sends(&key, ctx);
            if let Some(session) = self.session(&key, ctx.now)
                && let Some(pair) = self.pairs.of_mut(&key)
                && pair
                    .session
                    .as_ref()
                    .is_some_and(|before| before.id == session.id)
            {
                let changed = pair.session.as_ref().is_some_and(|before| {
                    before.local_certificate != session.local_certificate
                        || before.remote_certificate != session.remote_certificate
                });
                let since = pair.session.as_ref().map_or(ctx.now, |before| before.since);
                pair.session = Some(Session { since, ..session });
                if changed {
                    self.audit(&key, AuditKind::Renewed, ctx);
                }
            }
        }
    }

    /// The peer's word on a label it gave.
    pub(super) fn on_permit(&mut self, key: &PairKey, permit: Permit, ctx: &mut Ctx<'_>) {
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        let before = pair.permits.of(permit.epoch);
        if before.is_none_or(|before| before.label != permit.label) {
            ctx.counters.labels_received += 1;
        }
        pair.permits.put(permit);
        self.step(key, ctx);
    }

    /// LABEL_EXTEND.
    pub(super) fn on_extend(
        &mut self,
        key: &PairKey,
        epoch: Epoch,
        until: Duration,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        let Some(permit) = pair.permits.of(epoch) else {
            return;
        };
        let extended = Permit { until, ..permit };
        pair.permits.put(extended);
        if pair.sending.of(epoch) == Some(permit) {
            pair.sending.put(extended);
            self.write_sends(key, ctx);
        }
    }

    pub(super) fn session(&self, key: &PairKey, now: Now) -> Option<Session> {
        let pair = self.pairs.of(key)?;
        let channel = self.peers.get(&pair.node)?.channel.as_ref()?;
        let entry = self.directory.entry(&key.remote)?;
        let proven = channel.proven(entry, Duration::ZERO)?;
        let local = self
            .endpoints
            .of_pod(&key.local)?
            .certificate
            .held(Duration::ZERO)?;
        let before = pair
            .session
            .as_ref()
            .filter(|session| session.id == channel.session_id);
        Some(Session {
            id: channel.session_id,
            role: channel.role,
            key_exchange: channel.key_exchange.clone(),
            cipher: channel.cipher.clone(),
            since: before.map_or(now, |session| session.since),
            local_certificate: local.svid.sha256(),
            remote_certificate: proven.certificate,
        })
    }

    pub(super) fn audit(&self, key: &PairKey, what: AuditKind, ctx: &mut Ctx<'_>) {
        let record = || {
            let pair = self.pairs.of(key)?;
            let session = pair.session.as_ref()?;
            let known = self.endpoints.of_pod(&key.local)?.known.as_ref()?;
            let entry = self.directory.entry(&key.remote);
            let sending = pair.sending.newest().map(|permit| permit.epoch);
            let grant = sending.and_then(|epoch| pair.grants.of(epoch));
            let grant = grant.or(pair.grants.newest())?;
            // What is over may have ended because the engine has other keys now.
            let live = !matches!(what, AuditKind::Closed(_));
            let peer = self.peers.get(&pair.node).filter(|_| live);
            let keys = peer.and_then(|peer| peer.keys(grant.epoch));
            Some(AuditRecord {
                what,
                local: key.local.clone(),
                local_name: known.facts.full_name(),
                local_id: known.id.clone(),
                local_certificate: session.local_certificate,
                remote: key.remote.clone(),
                remote_name: entry.map(|entry| entry.pod.full_name()).unwrap_or_default(),
                remote_id: pair.remote_id.clone(),
                remote_certificate: session.remote_certificate,
                node: pair.node.clone(),
                session_id: session.id,
                role: session.role,
                key_exchange: session.key_exchange.clone(),
                cipher: session.cipher.clone(),
                epoch: grant.epoch,
                local_key: keys.map(|keys| keys.own_key),
                remote_key: keys.map(|keys| keys.public_key),
                not_after: grant.not_after,
            })
        };
        if let Some(record) = record() {
            ctx.push(Output::Audit(Box::new(record)));
        }
    }

    /// Ends a pair in both directions, whoever made its rows. `tell` says LABEL_REVOKE to the peer.
    pub(super) fn close_pair(
        &mut self,
        key: &PairKey,
        end: PairEnd,
        tell: bool,
        ctx: &mut Ctx<'_>,
    ) {
        let known = self
            .endpoints
            .of_pod(&key.local)
            .and_then(|endpoint| Some((endpoint.index, endpoint.known.as_ref()?.identity)));
        if let (Some((index, identity)), Some(pair)) = (known, self.pairs.of(key)) {
            self.adoption
                .withdraw_pair(index, identity, &pair.addresses, ctx);
        }
        self.forget_pair(key, end, tell, ctx);
    }

    fn forget_pair(&mut self, key: &PairKey, end: PairEnd, tell: bool, ctx: &mut Ctx<'_>) {
        let Some(pair) = self.pairs.of(key) else {
            return;
        };
        let (node, open, rows) = (pair.node.clone(), pair.is_open(), pair.has_rows());
        if open {
            self.audit(key, AuditKind::Closed(end), ctx);
        }
        for answer in self.take_answers(key) {
            self.refuse_answer(&node, answer, pb::Refusal::Internal, ctx);
        }
        let wants = self.wants_of(key);
        let Some(pair) = self.pairs.remove(key) else {
            return;
        };
        let index = self
            .endpoints
            .of_pod(&key.local)
            .map(|endpoint| endpoint.index);
        if let Some(endpoint) = self.endpoints.of_pod(&key.local)
            && !pair.sending.is_empty()
        {
            for address in &pair.addresses {
                ctx.bpf(MapOp::RemoveSend(endpoint.send_key(*address)));
            }
        }
        for grant in pair.grants.iter() {
            ctx.bpf(MapOp::RemoveRecv(grant.label));
            self.labels.free(grant.label);
        }
        if let Some(index) = index {
            self.policy.remove(index, pair.class, ctx);
        }
        for want in wants {
            self.wants.remove(&want);
            self.hold.discard(want, held_reason(end), ctx);
        }
        if tell && rows {
            self.send_revoke(key, &node, ctx);
        }
        if open {
            ctx.counters.pairs_closed += 1;
            let (local, remote) = (key.local.clone(), key.remote.clone());
            ctx.event(Event::PairClosed { local, remote, end });
        }
        self.forget_remote(&key.remote);
        self.review_allowed(&node, ctx);
        self.review_switch(&node, ctx);
    }

    pub(super) fn send_revoke(&self, key: &PairKey, node: &NodeUid, ctx: &mut Ctx<'_>) {
        if let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) {
            ctx.counters.labels_revoked += 1;
            let revoke = pb::LabelRevoke {
                local_pod: key.local.as_str().to_owned(),
                remote_pod: key.remote.as_str().to_owned(),
            };
            ctx.send(channel.conn, &Message::LabelRevoke(revoke));
        }
    }

    pub(super) fn drop_idle_pair(&mut self, key: &PairKey, ctx: &mut Ctx<'_>) {
        if self.pairs.of(key).is_some_and(Pair::is_idle) && self.wants_of(key).is_empty() {
            self.forget_pair(key, PairEnd::Revoked, false, ctx);
        }
    }

    /// Nothing names the remote pod any more: its numbers can go.
    pub(super) fn forget_remote(&mut self, remote: &crate::ids::PodUid) {
        if self.pairs.of_remote(remote).is_empty() && self.endpoints.of_pod(remote).is_none() {
            self.handles.forget(remote);
        }
    }
}

fn held_reason(end: PairEnd) -> DropReason {
    match end {
        PairEnd::EndpointRemoved => DropReason::EndpointGone,
        PairEnd::RemoteGone | PairEnd::NodeGone | PairEnd::Stale => DropReason::UnknownDestination,
        PairEnd::Policy => DropReason::DefaultDenyEgress,
        PairEnd::Expired | PairEnd::PeerBooted | PairEnd::Revoked | PairEnd::KeysGone => {
            DropReason::AuthenticationRefused
        }
    }
}
