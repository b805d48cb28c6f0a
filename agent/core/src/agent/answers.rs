//! Answers of peers to our questions, and proofs that they renew.

use signet_abi::DropReason;

use crate::{
    agent::Agent,
    authn::label::PairKey,
    effects::Ctx,
    event::PairEnd,
    ids::{ConnId, NodeUid, PodUid},
    wire::pb,
};

impl Agent {
    /// PROOF: an answer to a question of ours, or a renewed proof.
    pub(super) fn on_proof(
        &mut self,
        node: &NodeUid,
        conn: ConnId,
        proof: &pb::Proof,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        if !proof.authenticator.is_empty() {
            let Some(channel) = self
                .peers
                .get_mut(node)
                .and_then(|peer| peer.channel.as_mut())
            else {
                return Ok(());
            };
            if let Err(error) = channel.proofs.take_number(proof.proof_n) {
                ctx.counters.proofs_rejected += 1;
                return Err(error.to_string());
            }
        }
        if proof.id == 0 {
            let peer = self.peers.get_mut(node);
            if !peer.is_some_and(|peer| peer.renewals.take(ctx.boot())) {
                return Err("it renews proofs without end".to_owned());
            }
            return if proof.pod.is_empty() {
                self.on_node_refresh(node, proof, ctx)
            } else {
                self.on_refresh(node, &PodUid::new(proof.pod.clone()), proof, ctx);
                Ok(())
            };
        }
        // An answer that comes after its question was given up is no fault of the peer.
        let Some(key) = self.pairs.asking(conn, proof.id) else {
            return Ok(());
        };
        // One is enough.
        let asked = self.pairs.of(&key).and_then(|pair| pair.ask);
        if asked.is_some_and(|ask| ask.proven) {
            return Ok(());
        }
        let refusal = proof.refusal();
        if refusal == pb::Refusal::None {
            self.on_proven(node, &key, proof, ctx);
        } else {
            self.on_refused(&key, refusal, ctx);
        }
        Ok(())
    }

    pub(super) fn on_proven(
        &mut self,
        node: &NodeUid,
        key: &PairKey,
        proof: &pb::Proof,
        ctx: &mut Ctx<'_>,
    ) {
        let (Some(bundle), Some(entry)) = (
            self.trust.clone(),
            self.directory.entry(&key.remote).cloned(),
        ) else {
            return;
        };
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return;
        };
        channel.proofs.confirm(&key.local);
        let proven = if proof.authenticator.is_empty() {
            channel.proven(&entry, ctx.boot()).is_some()
        } else {
            let (n, authenticator) = (proof.proof_n, &proof.authenticator);
            match channel
                .proofs
                .verify(&entry, n, authenticator, &bundle, ctx.now)
            {
                Ok(_) => {
                    ctx.counters.proofs_accepted += 1;
                    true
                }
                Err(error) => {
                    self.reject(node, &key.remote, &error, ctx);
                    false
                }
            }
        };
        if !proven {
            let detail = "its node could not prove the destination";
            return self.refuse_pair(key, DropReason::AuthenticationFailed, detail, ctx);
        }
        if let Some(ask) = self.pairs.of_mut(key).and_then(|pair| pair.ask.as_mut()) {
            ask.proven = true;
        }
        self.step(key, ctx);
    }

    /// The peer refused a question.
    pub(super) fn on_refused(&mut self, key: &PairKey, refusal: pb::Refusal, ctx: &mut Ctx<'_>) {
        use pb::Refusal;
        let pause = ctx.jitter(std::time::Duration::from_millis(300));
        let again = match refusal {
            Refusal::NotProven | Refusal::NoSlot | Refusal::Busy => true,
            // The peer's directory may be behind; ours is where its pods are placed by now.
            Refusal::UnknownSource | Refusal::NoSvid | Refusal::Internal => true,
            // A pod that is just being started.
            Refusal::UnknownDestination => true,
            Refusal::None | Refusal::NotPlaced | Refusal::Proof | Refusal::Policy => false,
        };
        let Some(pair) = self.pairs.of_mut(key) else {
            return;
        };
        let node = pair.node.clone();
        if pair.has_rows() && refusal == Refusal::UnknownDestination {
            // What the rows are for is no more; who has its address now is to be asked again.
            let addresses = pair.addresses.clone();
            return addresses
                .iter()
                .for_each(|address| self.on_stale(&node, *address, ctx));
        }
        if pair.has_rows() && refusal == Refusal::Policy {
            return self.close_pair(key, PairEnd::Revoked, false, ctx);
        }
        pair.failures += 1;
        let failures = pair.failures;
        if refusal == Refusal::NotProven
            && let Some(channel) = self
                .peers
                .get_mut(&node)
                .and_then(|peer| peer.channel.as_mut())
        {
            channel.proofs.unconfirm(&key.local);
        }
        if again && failures < MAX_FAILURES {
            if let Some(pair) = self.pairs.of_mut(key) {
                pair.ask = None;
                pair.not_before = ctx.now.boot + pause;
            }
            return;
        }
        let reason = match refusal {
            Refusal::Policy => DropReason::DefaultDenyIngress,
            Refusal::UnknownDestination => DropReason::UnknownDestination,
            Refusal::None
            | Refusal::Busy
            | Refusal::UnknownSource
            | Refusal::NotPlaced
            | Refusal::Proof
            | Refusal::NotProven
            | Refusal::NoSvid
            | Refusal::NoSlot
            | Refusal::Internal => DropReason::AuthenticationRefused,
        };
        if let Some(pair) = self.pairs.of_mut(key) {
            pair.failures = 0;
        }
        let detail = format!("its node refused: {}", refusal.as_str_name());
        self.refuse_pair(key, reason, &detail, ctx);
    }

    /// A renewed proof of a remote pod.
    pub(super) fn on_refresh(
        &mut self,
        node: &NodeUid,
        pod: &PodUid,
        proof: &pb::Proof,
        ctx: &mut Ctx<'_>,
    ) {
        // A question that waits is judged by the newest proof.
        let waiting = self.peers.get_mut(node).into_iter();
        for request in waiting.flat_map(|peer| &mut peer.requests) {
            if request.source == *pod {
                request.proof_n = proof.proof_n;
                request.authenticator.clone_from(&proof.authenticator);
            }
        }
        let placed = self
            .directory
            .entry(pod)
            .filter(|entry| entry.node.uid == *node)
            .cloned();
        let (Some(entry), Some(bundle)) = (placed, self.trust.clone()) else {
            return;
        };
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return;
        };
        let (n, authenticator) = (proof.proof_n, &proof.authenticator);
        match channel
            .proofs
            .verify(&entry, n, authenticator, &bundle, ctx.now)
        {
            Ok(proven) => {
                ctx.counters.proofs_accepted += 1;
                self.on_remote_proven(pod, proven.expires, ctx);
            }
            Err(error) => self.reject(node, pod, &error, ctx),
        }
    }

    pub(super) fn on_remote_proven(
        &mut self,
        pod: &PodUid,
        expires: std::time::Duration,
        ctx: &mut Ctx<'_>,
    ) {
        for key in self.pairs.of_remote(pod) {
            if let Some(pair) = self.pairs.of_mut(&key) {
                pair.remote_expires = expires;
            }
        }
        self.renew_pairs(|key, _| key.remote == *pod, ctx);
    }
}

/// Refusals of one pair, of the kind that may pass, before its destinations are refused here.
const MAX_FAILURES: u32 = 5;
