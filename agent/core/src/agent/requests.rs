//! Questions of peers. No proof oracle: nothing is proven to an asker before the asker's own proof,
//! its pod's place and the policy have been checked.

use crate::{
    agent::Agent,
    authn::{label::PairKey, pair::Answer, proof::ProofError},
    directory::Resolution,
    effects::Ctx,
    event::Event,
    facts::Entry,
    ids::{ConnId, NodeUid, PodUid},
    io::LookupKey,
    peer::Incoming,
    wire::{self, Message, pb},
};

/// Longer than any UID that is in use.
const MAX_UID: usize = 256;

/// What a question needs next.
enum Next {
    /// It waits for the directory or a certificate.
    Wait,
    /// Nobody gets an answer to it but this.
    Refuse(pb::Refusal, String),
    /// All is well.
    Grant(PairKey, Box<Entry>),
}

impl Agent {
    pub(super) fn on_proof_req(
        &mut self,
        node: &NodeUid,
        conn: ConnId,
        request: pb::ProofReq,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        ctx.counters.requests += 1;
        let deadline = ctx.boot() + self.config.timers.proof;
        let open = self.config.limits.requests_open;
        let Some(peer) = self.peers.get_mut(node) else {
            return Ok(());
        };
        let Some(channel) = peer.channel.as_mut() else {
            return Ok(());
        };
        if request.id == 0 {
            return Err("a PROOF_REQ without a number".to_owned());
        }
        if request.src_pod.len().max(request.dst_pod.len()) > MAX_UID {
            return Err("a PROOF_REQ for what cannot be a pod".to_owned());
        }
        let enough = peer.bucket.take(ctx.boot()) && peer.requests.len() < open;
        // Used up even if it is not looked at: a number works once.
        let number = if request.authenticator.is_empty() {
            Ok(())
        } else {
            channel.proofs.take_number(request.proof_n)
        };
        let incoming = Incoming {
            conn,
            id: request.id,
            source: PodUid::new(request.src_pod),
            destination: PodUid::new(request.dst_pod),
            address: wire::address(&request.dst_address),
            proof_n: request.proof_n,
            authenticator: request.authenticator,
            have_proof: request.have_proof,
            deadline,
        };
        if !enough {
            ctx.counters.requests_limited += 1;
            self.send_refusal(conn, incoming.id, pb::Refusal::Busy, ctx);
            return Ok(());
        }
        if let Err(error) = number {
            self.reject(node, &incoming.source, &error, ctx);
            self.send_refusal(conn, incoming.id, pb::Refusal::Proof, ctx);
            return Ok(());
        }
        self.consider(node, incoming, ctx);
        Ok(())
    }

    /// Decides a question, or keeps it until something it needs is there.
    fn consider(&mut self, node: &NodeUid, request: Incoming, ctx: &mut Ctx<'_>) {
        match self.judge(node, &request, ctx) {
            Next::Wait => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.requests.push(request);
                }
            }
            Next::Refuse(refusal, detail) => {
                self.refuse_request(node, &request, refusal, detail, ctx);
            }
            Next::Grant(key, entry) => {
                self.ensure_pair(&key, &entry, ctx);
                if let Some(pair) = self.pairs.of_mut(&key) {
                    // A node is proven by the channel that the question came on.
                    let with_proof = !request.have_proof && key.local.node().is_none();
                    pair.answers.push(Answer {
                        id: request.id,
                        conn: request.conn,
                        with_proof,
                        deadline: request.deadline,
                    });
                }
                self.step(&key, ctx);
            }
        }
    }

    /// The checks, the cheap ones first; nothing is revealed before all of them.
    fn judge(&mut self, node: &NodeUid, request: &Incoming, ctx: &mut Ctx<'_>) -> Next {
        use pb::Refusal;
        let refuse = |refusal, detail: &str| Next::Refuse(refusal, detail.to_owned());
        let endpoint = self.endpoints.of_pod(&request.destination);
        let Some(endpoint) = endpoint.filter(|endpoint| {
            request
                .address
                .is_some_and(|address| endpoint.addresses.contains(&address))
        }) else {
            return refuse(
                Refusal::UnknownDestination,
                "no such pod with that address here",
            );
        };
        let Some(known) = endpoint.known.clone() else {
            return Next::Wait;
        };
        let certified = endpoint.certificate.held(ctx.boot()).is_some();
        if request.source.node().is_some() && self.directory.entry(&request.source).is_none() {
            return refuse(Refusal::UnknownSource, "no such node is known here");
        }
        let key = LookupKey::Pod(request.source.clone());
        let entry = match self.directory.resolve(key, ctx) {
            Resolution::Known(entry) => entry.clone(),
            Resolution::Pending => return Next::Wait,
        };
        if entry.node.uid != *node {
            return refuse(
                Refusal::NotPlaced,
                "the directory places its pod on another node",
            );
        }
        let Some(bundle) = self.trust.clone() else {
            return Next::Wait;
        };
        let peer = self.peers.get(node);
        let granting = peer.is_some_and(|peer| peer.epoch().is_some());
        let Some(channel) = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut())
        else {
            return refuse(Refusal::NoSlot, "its channel is gone");
        };
        if channel.peer_id != entry.node.spiffe_id {
            return refuse(
                Refusal::NotPlaced,
                "the directory gives its node another identity",
            );
        }
        if !granting {
            return refuse(Refusal::NoSlot, "no keys are agreed yet");
        }
        if request.authenticator.is_empty() {
            if channel.proven(&entry, ctx.boot()).is_none() {
                return refuse(
                    Refusal::NotProven,
                    "it brought no proof and made none before",
                );
            }
        } else if request.proof_n != 0 {
            let (n, proof) = (request.proof_n, &request.authenticator);
            let before = channel.proofs.proven(&entry, ctx.boot()).cloned();
            match channel.proofs.verify(&entry, n, proof, &bundle, ctx.now) {
                Ok(proven) => {
                    ctx.counters.proofs_accepted += 1;
                    if before.is_some_and(|before| before.certificate != proven.certificate) {
                        self.on_remote_proven(&request.source, proven.expires, ctx);
                    }
                }
                Err(error) => {
                    self.reject(node, &request.source, &error, ctx);
                    return Next::Refuse(Refusal::Proof, error.to_string());
                }
            }
        }
        if !self.admits(&known.facts, &entry) {
            return refuse(
                Refusal::Policy,
                "no rule admits the pair in either direction",
            );
        }
        if !certified {
            self.request_svid(&request.destination, ctx);
            return Next::Wait;
        }
        let key = PairKey {
            local: request.destination.clone(),
            remote: request.source.clone(),
        };
        Next::Grant(key, Box::new(entry))
    }

    /// The directory answered about a pod that questions came from.
    pub(super) fn answer_requests_of(&mut self, pod: &PodUid, found: bool, ctx: &mut Ctx<'_>) {
        for (node, request) in self.take_requests(|request| request.source == *pod) {
            if found {
                self.consider(&node, request, ctx);
            } else {
                let detail = "the directory knows no such pod".to_owned();
                let refusal = pb::Refusal::UnknownSource;
                self.refuse_request(&node, &request, refusal, detail, ctx);
            }
        }
    }

    /// A local pod may have what questions about it wait for.
    pub(super) fn answer_requests_for(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        for (node, request) in self.take_requests(|request| request.destination == *pod) {
            self.consider(&node, request, ctx);
        }
    }

    /// Questions that waited for too long.
    pub(super) fn expire_requests(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.boot();
        for (node, request) in self.take_requests(|request| request.deadline <= now) {
            let endpoint = self.endpoints.of_pod(&request.destination);
            let certified = endpoint.is_some_and(|e| e.certificate.held(now).is_some());
            let (refusal, detail) = if certified {
                (pb::Refusal::Busy, "the directory did not answer in time")
            } else {
                (pb::Refusal::NoSvid, "the destination has no certificate")
            };
            self.refuse_request(&node, &request, refusal, detail.to_owned(), ctx);
        }
        // What was granted, but could not be written: no keys, or no certificate in time.
        let late = |answer: &Answer| answer.deadline <= now;
        for key in self
            .pairs
            .due_where(now, |pair| pair.answers.iter().any(late))
        {
            let Some(pair) = self.pairs.of_mut(&key) else {
                continue;
            };
            let (gone, stay) = pair.answers.iter().partition(|answer| late(answer));
            pair.answers = stay;
            let (node, gone): (NodeUid, Vec<Answer>) = (pair.node.clone(), gone);
            for answer in gone {
                self.refuse_answer(&node, answer, pb::Refusal::Busy, ctx);
            }
            self.drop_idle_pair(&key, ctx);
        }
    }

    fn take_requests(&mut self, which: impl Fn(&Incoming) -> bool) -> Vec<(NodeUid, Incoming)> {
        let mut taken = Vec::new();
        for (node, peer) in &mut self.peers {
            let (hits, rest) = std::mem::take(&mut peer.requests)
                .into_iter()
                .partition(&which);
            peer.requests = rest;
            let hits: Vec<Incoming> = hits;
            taken.extend(hits.into_iter().map(|request| (node.clone(), request)));
        }
        taken
    }

    pub(super) fn reject(
        &self,
        node: &NodeUid,
        pod: &PodUid,
        error: &ProofError,
        ctx: &mut Ctx<'_>,
    ) {
        ctx.counters.proofs_rejected += 1;
        ctx.event(Event::ProofRejected {
            node: node.clone(),
            pod: pod.clone(),
            detail: error.to_string(),
        });
    }

    fn refuse_request(
        &self,
        node: &NodeUid,
        request: &Incoming,
        refusal: pb::Refusal,
        detail: String,
        ctx: &mut Ctx<'_>,
    ) {
        self.send_refusal(request.conn, request.id, refusal, ctx);
        ctx.event(Event::RequestRefused {
            node: node.clone(),
            source: request.source.to_string(),
            destination: request.destination.to_string(),
            detail,
        });
    }

    /// Refuses a question that had become part of a pair.
    pub(super) fn refuse_answer(
        &self,
        node: &NodeUid,
        answer: Answer,
        refusal: pb::Refusal,
        ctx: &mut Ctx<'_>,
    ) {
        let channel = self.peers.get(node).and_then(|peer| peer.channel.as_ref());
        if channel.is_some_and(|channel| channel.conn == answer.conn) {
            self.send_refusal(answer.conn, answer.id, refusal, ctx);
        }
    }

    fn send_refusal(&self, conn: ConnId, id: u64, refusal: pb::Refusal, ctx: &mut Ctx<'_>) {
        ctx.counters.requests_refused += 1;
        let proof = pb::Proof {
            id,
            refusal: refusal.into(),
            ..pb::Proof::default()
        };
        ctx.send(conn, &Message::Proof(proof));
    }
}
