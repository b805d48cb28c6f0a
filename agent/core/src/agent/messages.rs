//! Messages of an open channel, each to the machine that it is for.

use signet_crypto::x509::profile::Purpose;

use crate::{
    agent::{Agent, pairs::boot_at},
    authn::{label::PairKey, pair::Permit},
    effects::Ctx,
    event::PairEnd,
    ids::{ConnId, Epoch, Label, NodeUid, PodUid},
    io::Output,
    wire::{self, Message, pb},
};

impl Agent {
    /// Certificates of the peer's node, as last proven.
    pub(super) fn on_node_proven(
        &mut self,
        node: &NodeUid,
        expires: std::time::Duration,
        ctx: &mut Ctx<'_>,
    ) {
        if let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        {
            channel.peer_expires = expires;
        }
        let itself = PodUid::of_node(node);
        for key in self.pairs.of_node(node) {
            if let Some(pair) = self.pairs.of_mut(&key) {
                pair.node_expires = expires;
                if key.remote == itself {
                    pair.remote_expires = expires;
                }
            }
        }
        self.renew_pairs(|_, pair| pair.node == *node, ctx);
    }

    pub(super) fn on_message(
        &mut self,
        node: &NodeUid,
        conn: ConnId,
        message: Message,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        match message {
            Message::Hello(_) => Err("a second HELLO".to_owned()),
            Message::SlotOffer(offer) => self.on_slot_offer(node, &offer, ctx),
            Message::SlotAccept(accept) => self.on_slot_accept(node, &accept, ctx),
            Message::SlotReady(ready) => self.on_slot_ready(node, &ready, ctx),
            Message::SlotRefuse(refuse) => self.on_slot_refuse(node, &refuse, ctx),
            Message::SlotRetire(retire) => self.on_slot_retire(node, Epoch(retire.epoch), ctx),
            Message::SlotPrepared(prepared) => {
                self.on_slot_prepared(node, Epoch(prepared.epoch), ctx);
                Ok(())
            }
            Message::SlotTx(tx) => {
                self.on_slot_tx(node, Epoch(tx.epoch), ctx);
                Ok(())
            }
            Message::ProofReq(request) => self.on_proof_req(node, conn, request, ctx),
            Message::Proof(proof) => self.on_proof(node, conn, &proof, ctx),
            Message::Label(label) => {
                let Some(value) = Label::new(label.label) else {
                    return Err("a LABEL outside of 40 bits".to_owned());
                };
                let key = pair_key(label.src_pod, label.dst_pod);
                let epoch = Epoch(label.epoch);
                let until = boot_at(label.not_after_unix_ms, ctx);
                let peer = self.peers.get(node);
                let expected = peer.is_some_and(|peer| peer.epochs().contains(&epoch));
                if expected && self.is_with(&key, node) {
                    if let Some(channel) = self
                        .peers
                        .get_mut(node)
                        .and_then(|peer| peer.channel.as_mut())
                    {
                        channel.proofs.confirm(&key.local);
                    }
                    self.on_permit(
                        &key,
                        Permit {
                            label: value,
                            epoch,
                            until,
                        },
                        ctx,
                    );
                }
                Ok(())
            }
            Message::LabelExtend(extend) => {
                let key = pair_key(extend.src_pod, extend.dst_pod);
                let until = boot_at(extend.not_after_unix_ms, ctx);
                if self.is_with(&key, node) {
                    self.on_extend(&key, Epoch(extend.epoch), until, ctx);
                }
                Ok(())
            }
            Message::LabelRevoke(revoke) => {
                let key = pair_key(revoke.remote_pod.clone(), revoke.local_pod.clone());
                if self.is_with(&key, node) {
                    self.close_pair(&key, PairEnd::Revoked, false, ctx);
                }
                let done = pb::LabelRevoked {
                    local_pod: revoke.local_pod,
                    remote_pod: revoke.remote_pod,
                };
                ctx.send(conn, &Message::LabelRevoked(done));
                Ok(())
            }
            Message::LabelKeep(keep) => self.on_keep(node, &keep, ctx),
            Message::LabelRevoked(_) | Message::Pong(_) => Ok(()),
            Message::Stale(stale) => {
                let Some(address) = wire::address(&stale.address) else {
                    return Err("a STALE without an address".to_owned());
                };
                self.on_stale_told(node, address, ctx);
                Ok(())
            }
            Message::Ping(ping) => {
                ctx.send(conn, &Message::Pong(pb::Pong { nonce: ping.nonce }));
                Ok(())
            }
            Message::Bye(bye) => {
                let reason = format!("the peer said BYE: {:?}", bye.reason());
                ctx.push(Output::CloseChannel {
                    conn,
                    reason: reason.clone(),
                });
                self.on_closed(conn, reason, ctx);
                Ok(())
            }
        }
    }

    fn is_with(&self, key: &PairKey, node: &NodeUid) -> bool {
        self.pairs.of(key).is_some_and(|pair| pair.node == *node)
    }

    /// Proof of the peer's own renewed certificate.
    pub(super) fn on_node_refresh(
        &mut self,
        node: &NodeUid,
        proof: &pb::Proof,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let Some(bundle) = self.trust.clone() else {
            return Ok(());
        };
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return Ok(());
        };
        let id = channel.peer_id.clone();
        let now = ctx.now;
        let checked =
            channel
                .proofs
                .verify_node(&id, proof.proof_n, &proof.authenticator, &bundle, now);
        match checked {
            Ok(svid) if svid.purpose == Purpose::NodeAgent => {
                ctx.counters.proofs_accepted += 1;
                channel.peer_certificate = svid.cert_sha256;
                self.on_node_proven(node, now.deadline(svid.not_after), ctx);
                Ok(())
            }
            Ok(_) => Err("a node certificate for another purpose".to_owned()),
            Err(error) => {
                ctx.counters.proofs_rejected += 1;
                Err(format!(
                    "its renewed node certificate is not believed: {error}"
                ))
            }
        }
    }
}

/// The pair of a message that names the receiver's pod first.
fn pair_key(own: String, peers: String) -> PairKey {
    PairKey {
        local: PodUid::new(own),
        remote: PodUid::new(peers),
    }
}
