//! The data path: rows decide, nothing else.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{Delivery, NodeIx, World};
use crate::{
    Input,
    ids::{ClassId, EndpointIndex, Label, PeerId, PodUid},
    io::Adopted,
    rows::{
        Direction, EndpointRow, MapOp, PeerRow, PodRange, PolicyKey, PolicyValue, RecvRow, SendKey,
        SendRow,
    },
};

/// The maps of one node.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    pub endpoints: BTreeMap<EndpointIndex, EndpointRow>,
    pub send: BTreeMap<SendKey, SendRow>,
    pub recv: BTreeMap<Label, RecvRow>,
    pub peers: BTreeMap<PeerId, PeerRow>,
    pub policy: BTreeMap<PolicyKey, PolicyValue>,
    pub cidrs: BTreeMap<IpNet, ClassId>,
    pub ranges: BTreeMap<IpNet, PodRange>,
    /// Rows that fit in `send` and in `recv`; without a number all do.
    pub room: Option<usize>,
}

impl Maps {
    /// Whether the kernel would take it.
    pub(crate) fn takes(&self, op: &MapOp) -> bool {
        let full = |rows: usize| self.room.is_some_and(|room| rows >= room);
        match op {
            MapOp::SetSend(key, _) => self.send.contains_key(key) || !full(self.send.len()),
            MapOp::SetRecv(label, _) => self.recv.contains_key(label) || !full(self.recv.len()),
            MapOp::SetEndpoint(_)
            | MapOp::RemoveEndpoint { .. }
            | MapOp::RemoveSend(_)
            | MapOp::RemoveRecv(_)
            | MapOp::SetPeer(..)
            | MapOp::RemovePeer(_)
            | MapOp::SetPolicy(..)
            | MapOp::RemovePolicy(_)
            | MapOp::SetCidr(..)
            | MapOp::RemoveCidr(_)
            | MapOp::SetPodRange(..)
            | MapOp::RemovePodRange(_) => true,
        }
    }

    /// Writes as the kernel would; removing what is not there is a mistake of the agent, unless it
    /// could not be written.
    pub(crate) fn apply(&mut self, op: MapOp) {
        match op {
            MapOp::SetEndpoint(row) => {
                self.endpoints.insert(row.index, row);
            }
            MapOp::RemoveEndpoint { index, .. } => {
                self.endpoints
                    .remove(&index)
                    .expect("an endpoint that is there");
            }
            MapOp::SetSend(key, row) => {
                self.send.insert(key, row);
            }
            MapOp::RemoveSend(key) => {
                let row = self.send.remove(&key);
                assert!(
                    row.is_some() || self.room.is_some(),
                    "a send row that is there"
                );
            }
            MapOp::SetRecv(label, row) => {
                assert!(
                    self.peers.contains_key(&row.peer),
                    "a receive row before its peer"
                );
                self.recv.insert(label, row);
            }
            MapOp::RemoveRecv(label) => {
                let row = self.recv.remove(&label);
                assert!(
                    row.is_some() || self.room.is_some(),
                    "a receive row that is there"
                );
            }
            MapOp::SetPeer(peer, row) => {
                self.peers.insert(peer, row);
            }
            MapOp::RemovePeer(peer) => {
                self.peers.remove(&peer).expect("a peer that is there");
            }
            MapOp::SetPolicy(key, value) => {
                self.policy.insert(key, value);
            }
            MapOp::RemovePolicy(key) => {
                self.policy
                    .remove(&key)
                    .expect("a policy entry that is there");
            }
            MapOp::SetCidr(net, class) => {
                self.cidrs.insert(net, class);
            }
            MapOp::RemoveCidr(net) => {
                self.cidrs.remove(&net).expect("a block that is there");
            }
            MapOp::SetPodRange(net, range) => {
                self.ranges.insert(net, range);
            }
            MapOp::RemovePodRange(net) => {
                self.ranges.remove(&net).expect("a range that is there");
            }
        }
    }

    fn admits(&self, row: &EndpointRow, direction: Direction, class: ClassId) -> bool {
        // Flows are UDP to port 5000.
        let hit = [17, 0].into_iter().find_map(|protocol| {
            let hits = self.policy.iter().filter(|(key, _)| {
                let shift = 16 - u32::from(key.port_bits);
                key.endpoint == row.index
                    && key.direction == direction
                    && key.class == class
                    && key.protocol == protocol
                    && u32::from(key.port) >> shift == 5000 >> shift
            });
            hits.max_by_key(|(key, _)| key.port_bits)
                .map(|(_, value)| value.allow)
        });
        let isolated = match direction {
            Direction::Ingress => row.ingress_isolated,
            Direction::Egress => row.egress_isolated,
        };
        hit.unwrap_or(!isolated)
    }

    fn leased(&self, peer: PeerId, now: Duration) -> bool {
        let row = self.peers.get(&peer);
        row.is_some_and(|row| row.lease_until.is_none_or(|until| now < until))
    }
}

impl World {
    /// Sends one packet; its number tells later whether it arrived.
    pub fn send(&mut self, from: &PodUid, to: IpAddr) -> u64 {
        self.last_packet += 1;
        let id = self.last_packet;
        let Some(pod) = self.pods.get(from) else {
            return id;
        };
        let source = match to {
            IpAddr::V4(_) => pod.entry.pod.addresses[0],
            IpAddr::V6(_) => pod.entry.pod.addresses[1],
        };
        let (node, ifindex) = (pod.node, pod.ifindex);
        let row = self.nodes[node]
            .maps
            .endpoints
            .values()
            .find(|row| row.ifindex == ifindex);
        let Some(row) = row.cloned() else {
            self.drop_at(node, "NO_SOURCE_INDEX");
            return id;
        };
        let packet = encode(id, source, to);
        self.egress(node, &row, &packet, true);
        id
    }

    /// Sends one packet as the node itself.
    pub fn send_as_node(&mut self, node: NodeIx, to: IpAddr) -> u64 {
        self.last_packet += 1;
        let id = self.last_packet;
        let source = self.nodes[node].facts.underlay[0];
        let mut rows = self.nodes[node].maps.endpoints.values();
        let row = rows.find(|row| row.ifindex == 0 && row.addresses.contains(&source));
        match row.cloned() {
            Some(row) => self.egress(node, &row, &encode(id, source, to), true),
            None => self.drop_at(node, "HOST_WITHOUT_LABEL"),
        }
        id
    }

    pub(crate) fn inject(
        &mut self,
        node: NodeIx,
        endpoint: EndpointIndex,
        generation: u32,
        packet: &[u8],
    ) {
        let row = self.nodes[node].maps.endpoints.get(&endpoint).cloned();
        match row.filter(|row| row.generation == generation) {
            Some(row) => self.egress(node, &row, packet, false),
            None => self.drop_at(node, "GENERATION_STALE"),
        }
    }

    fn egress(&mut self, node: NodeIx, row: &EndpointRow, packet: &[u8], may_miss: bool) {
        let (id, source, destination) = decode(packet);
        let key = SendKey {
            endpoint: row.index,
            generation: row.generation,
            destination,
        };
        let maps = &self.nodes[node].maps;
        let (label, epoch) = match maps.send.get(&key).copied() {
            Some(SendRow::Paired {
                tags,
                not_after,
                peer,
                class,
                ..
            }) => {
                if self.boot >= not_after {
                    return self.drop_at(node, "SEND_ROW_EXPIRED");
                }
                if !maps.leased(peer, self.boot) {
                    return self.drop_at(node, "LEASE_EXPIRED");
                }
                if !maps.admits(row, Direction::Egress, class) {
                    return self.drop_at(node, "DEFAULT_DENY_EGRESS");
                }
                let row = &maps.peers[&peer];
                let Some(tag) = row.choose(&tags) else {
                    return self.drop_at(node, "EPOCH_MISMATCH");
                };
                if row.slot_until[tag.epoch.slot().index()].is_some_and(|at| at <= self.boot) {
                    return self.drop_at(node, "EPOCH_TOO_OLD");
                }
                (tag.label, tag.epoch)
            }
            Some(SendRow::Refused { reason, not_after }) if self.boot < not_after => {
                return self.drop_at(node, reason.as_str());
            }
            Some(SendRow::Refused { .. }) | None => {
                if !may_miss && maps.room.is_some() {
                    return self.drop_at(node, "NO_SEND_ROW");
                }
                assert!(may_miss, "a released packet met no row");
                let miss = Input::Miss {
                    endpoint: row.index,
                    generation: row.generation,
                    destination,
                    packet: Some(packet.to_vec()),
                };
                if self.nodes[node].agent.is_none() {
                    return self.drop_at(node, "NO_SEND_ROW");
                }
                return self.input(node, miss);
            }
        };
        let Some(to) = self.carry(node, epoch.slot(), source, destination) else {
            return self.drop_at(node, "WG");
        };
        self.ingress(node, to, id, label, epoch.slot(), source, destination);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "these are the fields of a packet"
    )]
    fn ingress(
        &mut self,
        from: NodeIx,
        node: NodeIx,
        id: u64,
        label: Label,
        slot: crate::ids::Slot,
        source: IpAddr,
        destination: IpAddr,
    ) {
        let maps = &self.nodes[node].maps;
        let Some(row) = maps.recv.get(&label).cloned() else {
            return self.drop_at(node, "UNKNOWN_LABEL");
        };
        let peer = maps.peers.get(&row.peer);
        if peer.is_none_or(|peer| peer.slot_epoch[slot.index()] != row.epoch) {
            return self.drop_at(node, "EPOCH_MISMATCH");
        }
        let until = peer.and_then(|peer| peer.slot_until[slot.index()]);
        if until.is_some_and(|until| until <= self.boot) {
            return self.drop_at(node, "EPOCH_TOO_OLD");
        }
        if self.boot >= row.not_after {
            return self.drop_at(node, "LABEL_EXPIRED");
        }
        if !maps.leased(row.peer, self.boot) {
            return self.drop_at(node, "LEASE_EXPIRED");
        }
        if !row.addresses.contains(&source) {
            return self.drop_at(node, "INNER_SOURCE_MISMATCH");
        }
        let local = maps
            .endpoints
            .values()
            .find(|row| row.addresses.contains(&destination));
        let Some(local) = local
            .filter(|local| local.identity == row.identity)
            .cloned()
        else {
            let stale = Input::Stale {
                peer: row.peer,
                destination,
            };
            self.input(node, stale);
            return self.drop_at(node, "DST_IDENTITY_MISMATCH");
        };
        if !maps.admits(&local, Direction::Ingress, row.class) {
            return self.drop_at(node, "DEFAULT_DENY_INGRESS");
        }
        let itself = |node: NodeIx| PodUid::of_node(&self.nodes[node].facts.uid);
        let mut pods = self.pods.values();
        let to = match local.ifindex {
            0 => Some(itself(node)),
            ifindex => pods
                .find(|pod| pod.ifindex == ifindex)
                .map(|p| p.uid.clone()),
        };
        let sender = self
            .pods
            .values()
            .find(|pod| pod.node == from && pod.entry.pod.addresses.contains(&source));
        let node_sent = self.nodes[from].facts.underlay.contains(&source);
        let sender = sender
            .map(|pod| pod.uid.clone())
            .or_else(|| node_sent.then(|| itself(from)));
        let (Some(to), Some(sender)) = (to, sender) else {
            return self.drop_at(node, "GENERATION_STALE");
        };
        self.oracle.delivered(label, row.epoch, &sender, &to);
        self.deliveries.push(Delivery {
            id,
            from: sender,
            to,
            at: self.boot,
        });
    }

    fn drop_at(&mut self, node: NodeIx, reason: &'static str) {
        *self.nodes[node].drops.entry(reason).or_default() += 1;
    }

    /// What a new instance would find.
    pub(crate) fn adopted(&self, node: NodeIx) -> Adopted {
        let maps = &self.nodes[node].maps;
        let pod = |row: &EndpointRow| {
            self.pods
                .values()
                .find(|pod| pod.ifindex == row.ifindex)
                .map(|pod| pod.uid.clone())
        };
        Adopted {
            last_generation: maps
                .endpoints
                .values()
                .map(|row| row.generation)
                .max()
                .unwrap_or(0),
            endpoints: maps
                .endpoints
                .values()
                .map(|row| (row.clone(), pod(row)))
                .collect(),
            send: maps.send.iter().map(|(key, row)| (*key, *row)).collect(),
            recv: maps
                .recv
                .iter()
                .map(|(label, row)| (*label, row.clone()))
                .collect(),
            peers: maps.peers.iter().map(|(peer, row)| (*peer, *row)).collect(),
            policy: maps
                .policy
                .iter()
                .map(|(key, value)| (*key, *value))
                .collect(),
            cidrs: maps
                .cidrs
                .iter()
                .map(|(net, class)| (*net, *class))
                .collect(),
            pod_ranges: maps.ranges.keys().copied().collect(),
        }
    }
}

fn encode(id: u64, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend(crate::wire::address_bytes(source));
    packet.extend(crate::wire::address_bytes(destination));
    packet
}

fn decode(packet: &[u8]) -> (u64, IpAddr, IpAddr) {
    let id = u64::from_be_bytes(packet[..8].try_into().unwrap());
    let address = |at: usize| crate::wire::address(&packet[at..at + 16]).unwrap();
    (id, address(8), address(24))
}
