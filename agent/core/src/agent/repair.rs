//! The kernel refused to change a row: nothing passes by it, and it is brought in line as soon as
//! there is room.

use crate::{
    agent::Agent,
    authn::{label::PairKey, want::Want},
    effects::Ctx,
    event::Event,
    ids::Label,
    repair::Place,
    rows::{MapOp, RecvRow, SendKey, SendRow},
};

impl Agent {
    pub(super) fn on_map_failed(&mut self, op: &MapOp, error: String, ctx: &mut Ctx<'_>) {
        ctx.event(Event::MapFailed {
            op: name(op),
            error,
        });
        if let MapOp::SetPolicy(key, _) = op {
            self.on_policy_failed(key, ctx);
        }
        if let Some(place) = Place::of(op) {
            self.repairs.add(place, self.config.timers.retry, ctx);
        }
    }

    /// Writes what belongs there now.
    pub(super) fn repair(&mut self, ctx: &mut Ctx<'_>) {
        for place in self.repairs.due(self.config.timers.retry, ctx) {
            let op = match place {
                Place::Send(key) => match self.wanted_send(key) {
                    Some(row) => MapOp::SetSend(key, row),
                    None => MapOp::RemoveSend(key),
                },
                Place::Recv(label) => match self.wanted_recv(label) {
                    Some(row) => MapOp::SetRecv(label, row),
                    None => MapOp::RemoveRecv(label),
                },
                Place::Peer(id) => match self.peers.values_mut().find(|peer| peer.id == id) {
                    Some(peer) => {
                        let row = peer.wanted_row();
                        peer.row = Some(row);
                        MapOp::SetPeer(id, row)
                    }
                    // Peers of a previous instance go with the rows that name them.
                    None if self.adoption.peers.contains_key(&id) => continue,
                    None => MapOp::RemovePeer(id),
                },
                Place::Endpoint(index, ifindex, addresses) => {
                    match self.endpoints.iter().find(|other| other.index == index) {
                        Some(endpoint) => MapOp::SetEndpoint(endpoint.row(ctx.boot())),
                        None => MapOp::RemoveEndpoint {
                            index,
                            ifindex,
                            addresses,
                        },
                    }
                }
                Place::Policy(key) => match self.policy.of(&key) {
                    Some(value) => MapOp::SetPolicy(key, value),
                    None => MapOp::RemovePolicy(key),
                },
                Place::Cidr(net) => match self.world.cidr(&net) {
                    Some(class) => MapOp::SetCidr(net, class),
                    None => MapOp::RemoveCidr(net),
                },
                Place::Range(net) => match self.world.range(&net) {
                    Some(range) => MapOp::SetPodRange(net, range),
                    None => MapOp::RemovePodRange(net),
                },
            };
            ctx.bpf(op);
        }
    }

    fn wanted_send(&self, key: SendKey) -> Option<SendRow> {
        if let Some(row) = self.adoption.send.get(&key) {
            return Some(*row);
        }
        if let Some(Want::Refused { until, reason, row }) = self.wants.of(&key) {
            return row.then_some(SendRow::Refused {
                reason: *reason,
                not_after: *until,
            });
        }
        let local = self.endpoints.at(key.endpoint, key.generation)?.pod.clone();
        let remote = self.directory.at(key.destination)?.uid.clone();
        let of = PairKey { local, remote };
        let pair = self.pairs.of(&of)?;
        self.send_row(&of, pair)
            .filter(|_| pair.addresses.contains(&key.destination))
    }

    fn wanted_recv(&self, label: Label) -> Option<RecvRow> {
        if let Some(row) = self.adoption.recv.get(&label) {
            return Some(row.clone());
        }
        let key = self.labels.owner(label)?;
        let pair = self.pairs.of(key)?;
        let grant = pair.grants.iter().find(|grant| grant.label == label)?;
        self.recv_row(key, pair, grant)
    }
}

fn name(op: &MapOp) -> &'static str {
    match op {
        MapOp::SetEndpoint(_) => "write endpoint",
        MapOp::RemoveEndpoint { .. } => "remove endpoint",
        MapOp::SetSend(..) => "write send row",
        MapOp::RemoveSend(_) => "remove send row",
        MapOp::SetRecv(..) => "write receive row",
        MapOp::RemoveRecv(_) => "remove receive row",
        MapOp::SetPeer(..) => "write peer",
        MapOp::RemovePeer(_) => "remove peer",
        MapOp::SetPolicy(..) => "write policy entry",
        MapOp::RemovePolicy(_) => "remove policy entry",
        MapOp::SetCidr(..) => "write address block",
        MapOp::RemoveCidr(_) => "remove address block",
        MapOp::SetPodRange(..) => "write pod range",
        MapOp::RemovePodRange(_) => "remove pod range",
    }
}
