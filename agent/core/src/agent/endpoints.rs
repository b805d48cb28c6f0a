//! Local pods come, get their certificates, and go.

use std::{collections::BTreeSet, sync::Arc};

use signet_crypto::{spiffe_id::SpiffeId, svid::X509Svid};
use signet_policy::Isolation;

use crate::{
    agent::Agent,
    authn::pair::Pair,
    effects::{Bucket, Ctx},
    endpoint::{Endpoint, Interface, Known, MAX_ADDRESSES, svid::Certificate},
    event::{Event, PairEnd},
    ids::{ClassId, NodeUid, PodUid},
    io::Output,
    rows::MapOp,
    wire::{Message, pb},
};
use signet_abi::DropReason;

impl Agent {
    pub(super) fn on_endpoint_added(
        &mut self,
        pod: PodUid,
        mut interface: Interface,
        ctx: &mut Ctx<'_>,
    ) {
        let mut addresses = Vec::new();
        for address in interface
            .addresses
            .drain(..)
            .map(|address| address.to_canonical())
        {
            if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
                addresses.push(address);
            }
        }
        interface.addresses = addresses;
        if let Some(known) = self.endpoints.of_pod_mut(&pod) {
            let same = known.ifindex == interface.ifindex
                && known.mac == interface.mac
                && known.addresses == interface.addresses;
            if same {
                known.ifname = interface.ifname;
                self.write_endpoint(&pod, ctx);
                return;
            }
            self.on_endpoint_removed(&pod, ctx);
        }
        // Whoever had these addresses here is gone, whether or not somebody said so.
        let stale: Vec<PodUid> = self
            .endpoints
            .iter()
            .filter(|other| {
                other.ifindex == interface.ifindex
                    || other
                        .addresses
                        .iter()
                        .any(|own| interface.addresses.contains(own))
            })
            .map(|other| other.pod.clone())
            .collect();
        for other in stale {
            self.on_endpoint_removed(&other, ctx);
        }
        let adopted = self
            .adoption
            .claim(interface.ifindex, interface.mac, &interface.addresses);
        let place = match &adopted {
            Some(row) => Some((row.index, row.generation)),
            None => self.endpoints.allocate(),
        };
        let Some((index, generation)) = place else {
            let error = format!(
                "all {} endpoint indexes are in use; remove pods from this node",
                signet_abi::MAX_ENDPOINTS
            );
            ctx.event(Event::EndpointRefused { pod, error });
            return;
        };
        if let Some(row) = &adopted {
            self.handles.adopt(&pod, row.class);
        }
        let limits = &self.config.limits;
        let mut endpoint = Endpoint {
            index,
            generation,
            ifindex: interface.ifindex,
            ifname: interface.ifname,
            mac: interface.mac,
            addresses: interface.addresses,
            class: match pod.node() {
                Some(_) => ClassId(signet_abi::CLASS_HOST),
                None => self.handles.class(&pod),
            },
            known: None,
            isolation: Isolation::default(),
            policy_generation: adopted.as_ref().map_or(1, |row| row.policy_generation + 1),
            incomplete: None,
            outage_until: self.outage_until,
            certificate: match pod.node() {
                Some(_) => Certificate::lent(&self.certificate),
                None => Certificate::new(),
            },
            adopted_until: adopted.as_ref().and_then(|row| row.authenticated_until),
            new_pairs: Bucket::new(limits.pair_burst, limits.pair_rate, ctx.boot()),
            pod: pod.clone(),
        };
        endpoint.known = self.known(&pod, adopted.map(|row| row.identity));
        self.endpoints.insert(endpoint);
        self.apply_local_class(&pod, ctx);
        self.apply_policy(std::slice::from_ref(&pod), ctx);
        self.request_svid(&pod, ctx);
        self.answer_requests_for(&pod, ctx);
    }

    /// What the cluster says of a local pod.
    pub(super) fn known(
        &mut self,
        pod: &PodUid,
        adopted: Option<crate::ids::IdentityId>,
    ) -> Option<Known> {
        if pod.node().is_some() {
            return self.host_known(adopted);
        }
        let local = self
            .cluster
            .as_ref()?
            .pods
            .iter()
            .find(|local| local.uid == *pod)?;
        let facts = &local.pod;
        let domain = &self.config.trust_domain;
        let id = SpiffeId::workload(domain, &facts.namespace, &facts.service_account).ok()?;
        let facts = facts.clone();
        if let Some(number) = adopted {
            self.endpoints.adopt_identity(&id, number);
        }
        let identity = self.endpoints.identity(&id);
        Some(Known {
            facts,
            id,
            identity,
        })
    }

    /// What the cluster says of a local pod may have changed. A pod that is another identity now, or
    /// none, keeps nothing of what it had: no pair, no certificate.
    pub(super) fn set_known(&mut self, pod: &PodUid, known: Option<Known>, ctx: &mut Ctx<'_>) {
        let id = |known: &Option<Known>| known.as_ref().map(|known| known.id.clone());
        let Some(endpoint) = self.endpoints.of_pod(pod) else {
            return;
        };
        let before = id(&endpoint.known);
        if before.is_some() && before != id(&known) {
            self.withdraw_local(pod, ctx);
            if let Some(endpoint) = self.endpoints.of_pod_mut(pod) {
                endpoint.certificate = Certificate::new();
                endpoint.adopted_until = None;
            }
        }
        if let Some(endpoint) = self.endpoints.of_pod_mut(pod) {
            endpoint.known = known;
        }
    }

    /// Everything between a local pod and others ends.
    fn withdraw_local(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        for key in self.pairs.of_local(pod) {
            self.close_pair(&key, PairEnd::EndpointRemoved, true, ctx);
        }
        let Some(endpoint) = self.endpoints.of_pod(pod) else {
            return;
        };
        let index = endpoint.index;
        let identity = endpoint.known.as_ref().map(|known| known.identity);
        self.adoption.withdraw_endpoint(index, identity, ctx);
        self.drop_wants_where(|key| key.endpoint == index, ctx);
        self.hold
            .discard_where(|key| key.endpoint == index, DropReason::EndpointGone, ctx);
    }

    pub(super) fn on_endpoint_removed(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        self.withdraw_local(pod, ctx);
        let Some(endpoint) = self.endpoints.remove(pod) else {
            return;
        };
        let Endpoint {
            index,
            ifindex,
            addresses,
            class,
            ..
        } = endpoint;
        ctx.bpf(MapOp::RemoveEndpoint {
            index,
            ifindex,
            addresses,
        });
        self.policy.remove_endpoint(index, ctx);
        if class.0 >= signet_abi::CLASS_DYNAMIC {
            self.policy.remove_class(class, ctx);
        }
        self.handles.forget(pod);
    }

    /// Asks for the pod's certificate, once its name is known.
    pub(super) fn request_svid(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        let Some(endpoint) = self.endpoints.of_pod_mut(pod) else {
            return;
        };
        let Some(known) = &endpoint.known else { return };
        if endpoint.certificate.begin() {
            ctx.push(Output::RequestSvid {
                pod: pod.clone(),
                id: known.id.clone(),
            });
        }
    }

    pub(super) fn on_svid(&mut self, pod: &PodUid, svid: Arc<X509Svid>, ctx: &mut Ctx<'_>) {
        let retry = self.config.timers.retry;
        let Some(endpoint) = self.endpoints.of_pod_mut(pod) else {
            return;
        };
        let expected = endpoint.known.as_ref().map(|known| &known.id);
        let now_id = ctx.now.wall.as_secs();
        if expected != Some(svid.id()) || svid.not_after().as_secs() <= now_id {
            endpoint.certificate.failed(retry, ctx);
            let error = format!("the certificate is of {} or has run out already", svid.id());
            ctx.event(Event::SvidFailed {
                pod: Some(pod.clone()),
                error,
            });
            return;
        }
        endpoint.certificate.issued(svid, ctx);
        endpoint.adopted_until = None;
        self.write_endpoint(pod, ctx);
        self.refresh_local(pod, ctx);
        self.answer_requests_for(pod, ctx);
        for key in self.pairs.of_local(pod) {
            self.step(&key, ctx);
        }
    }

    pub(super) fn on_svid_failed(&mut self, pod: PodUid, error: String, ctx: &mut Ctx<'_>) {
        let retry = self.config.timers.retry;
        if let Some(endpoint) = self.endpoints.of_pod_mut(&pod) {
            endpoint.certificate.failed(retry, ctx);
            ctx.event(Event::SvidFailed {
                pod: Some(pod),
                error,
            });
        }
    }

    pub(super) fn on_node_svid(&mut self, svid: Arc<X509Svid>, ctx: &mut Ctx<'_>) {
        if svid.id() != &self.config.node_id {
            let error = format!("the certificate is of {}, not of this node", svid.id());
            ctx.event(Event::SvidFailed { pod: None, error });
            return;
        }
        self.certificate.issued(svid, ctx);
        self.lend_certificate(ctx);
        self.try_start(ctx);
        let nodes: Vec<_> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.prove_node(&node, ctx);
            self.renew_pairs(|_, pair| pair.node == node, ctx);
        }
    }

    /// A channel whose handshake may have shown the node's certificate of before.
    pub(super) fn prove_renewed(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let held = self.certificate.held(ctx.boot());
        // TLS and HELLO take so long at most.
        let under_way = self.config.timers.handshake * 2;
        if held.is_some_and(|held| held.since + under_way > ctx.boot()) {
            self.prove_node(node, ctx);
        }
    }

    /// Shows a peer the node's certificate.
    fn prove_node(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let Some(held) = self.certificate.held(ctx.boot()) else {
            return;
        };
        let channel = self
            .peers
            .get_mut(node)
            .and_then(|peer| peer.channel.as_mut());
        if let Some(channel) = channel
            && let Ok(made) = channel.proofs.prove(&held.svid)
        {
            ctx.counters.proofs_made += 1;
            let proof = pb::Proof {
                id: 0,
                refusal: pb::Refusal::None.into(),
                pod: String::new(),
                proof_n: made.n,
                authenticator: made.authenticator,
            };
            ctx.send(channel.conn, &Message::Proof(proof));
        }
    }

    pub(super) fn on_node_svid_failed(&mut self, error: String, ctx: &mut Ctx<'_>) {
        self.certificate.failed(self.config.timers.retry, ctx);
        ctx.event(Event::SvidFailed { pod: None, error });
    }

    /// A local pod has a new certificate: peers that know the old one learn the new one.
    fn refresh_local(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        let Some(endpoint) = self.endpoints.of_pod(pod) else {
            return;
        };
        let Some(held) = endpoint.certificate.held(ctx.boot()).cloned() else {
            return;
        };
        // Where a proof is under way, it is of the certificate of before.
        let under_way = |pair: &Pair| pair.ask.is_some() || !pair.grants.is_empty();
        let pairs = self.pairs.iter();
        let shown: BTreeSet<NodeUid> = pairs
            .filter(|(key, pair)| key.local == *pod && under_way(pair))
            .map(|(_, pair)| pair.node.clone())
            .collect();
        for (node, peer) in &mut self.peers {
            let Some(channel) = peer.channel.as_mut() else {
                continue;
            };
            if !(channel.proofs.is_confirmed(pod) || shown.contains(node)) {
                continue;
            }
            let Ok(made) = channel.proofs.prove(&held.svid) else {
                continue;
            };
            ctx.counters.proofs_made += 1;
            let proof = pb::Proof {
                id: 0,
                refusal: pb::Refusal::None.into(),
                pod: pod.as_str().to_owned(),
                proof_n: made.n,
                authenticator: made.authenticator,
            };
            ctx.send(channel.conn, &Message::Proof(proof));
        }
        self.renew_pairs(|key, _| key.local == *pod, ctx);
    }

    pub(super) fn write_endpoint(&self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        if let Some(endpoint) = self.endpoints.of_pod(pod) {
            ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
        }
    }
}
