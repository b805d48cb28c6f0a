//! A simulated cluster: agents, one identity service, channels, engines and data paths, on one clock.
//!
//! Everything around the agents is the plainest model that tells whether a packet passes: a map is
//! a `BTreeMap`, an engine a list of peers, the directory a table. Certificates and proofs are real.
//! [`oracle`] watches the wire on its own and says which labels may be honoured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code: a broken assumption of the simulation must stop it"
)]

pub mod data_path;
mod engine;
pub mod network;
pub mod oracle;
mod service;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use signet_crypto::{
    bundle::TrustBundle,
    random::{Random, SeededRandom},
    spiffe_id::{SpiffeId, TrustDomain},
    svid::X509Svid,
    time::{Now, UnixTime},
    x509::build::{IssuingAuthority, RootAuthority},
};
use signet_policy::{PodFacts, PolicySet};

use crate::{
    Agent, Input, Output,
    event::{AuditRecord, Event},
    facts::{ClusterView, Config, Entry, Limits, LocalPod, NodeFacts, Outage, Timers},
    ids::{EndpointIndex, NodeUid, PodUid},
};
use data_path::Maps;
use engine::Engine;
use network::{Links, Queue};
use oracle::Oracle;

/// A node by its place.
pub type NodeIx = usize;

/// A pod as the cluster knows it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: PodUid,
    pub node: NodeIx,
    pub address: IpAddr,
    pub entry: Entry,
    ifindex: u32,
}

/// One node.
pub struct Node {
    pub facts: NodeFacts,
    pub agent: Option<Agent>,
    pub maps: Maps,
    pub events: Vec<Event>,
    pub audit: Vec<AuditRecord>,
    /// Drops by the agent and the data path, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    pub wall_offset: i64,
    engine: Engine,
    /// The node's certificate, which TLS would use.
    svid: Option<Arc<X509Svid>>,
    instance: u64,
    boot_id: [u8; 16],
    subscriptions: BTreeSet<PodUid>,
}

/// One packet that reached a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: u64,
    pub from: PodUid,
    pub to: PodUid,
    pub at: Duration,
}

/// How unkind the network is.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub delay: (Duration, Duration),
    /// Chance in a thousand that a connection breaks instead of carrying a frame.
    pub break_permille: u64,
    /// No connection between agents comes about; packets go.
    pub deaf: bool,
}

/// Everything.
pub struct World {
    pub boot: Duration,
    pub nodes: Vec<Node>,
    pub pods: BTreeMap<PodUid, Pod>,
    pub deliveries: Vec<Delivery>,
    pub faults: Faults,
    pub oracle: Oracle,
    pub policies: Arc<PolicySet>,
    pub svid_ttl: Duration,
    pub service_up: bool,
    /// Pods that get no certificate.
    pub no_svid: BTreeSet<PodUid>,
    /// Pairs of nodes that cannot reach each other.
    pub cut: BTreeSet<(NodeIx, NodeIx)>,
    pub timers: Timers,
    pub outage: Outage,
    /// What the identity service says of epochs, if it does.
    pub schedule: Option<crate::epochs::Schedule>,
    pub limits: Limits,
    pub frames: u64,
    /// Frames that came to a node without an agent: a test plays it.
    pub captured: Vec<(NodeIx, crate::ids::ConnId, u8, Vec<u8>)>,
    random: SeededRandom,
    queue: Queue,
    links: Links,
    domain: TrustDomain,
    authority: IssuingAuthority,
    bundle: Arc<TrustBundle>,
    generation: u64,
    last_packet: u64,
    last_pod: u32,
}

const WALL: u64 = 1_800_000_000;

impl World {
    pub fn new(seed: u64) -> Self {
        let domain = TrustDomain::new("sim.test").unwrap();
        let start = UnixTime::since_unix_epoch(Duration::from_secs(WALL));
        let day = Duration::from_secs(86_400);
        let root = RootAuthority::generate(&domain, start, day * 365).unwrap();
        let authority = root.issue_intermediate(start, day * 7).unwrap();
        let authorities = vec![root.certificate().clone()];
        let bundle = Arc::new(TrustBundle::new(domain.clone(), 1, authorities).unwrap());
        Self {
            boot: Duration::from_secs(1000),
            nodes: Vec::new(),
            pods: BTreeMap::new(),
            deliveries: Vec::new(),
            faults: Faults {
                delay: (Duration::from_micros(200), Duration::from_millis(2)),
                break_permille: 0,
                deaf: false,
            },
            oracle: Oracle::new(bundle.clone()),
            policies: Arc::new(PolicySet::default()),
            svid_ttl: Duration::from_secs(3600),
            service_up: true,
            no_svid: BTreeSet::new(),
            cut: BTreeSet::new(),
            outage: Outage::default(),
            timers: Timers {
                slot_grace: Duration::from_secs(10),
                ..Timers::default()
            },
            schedule: None,
            limits: Limits::default(),
            frames: 0,
            captured: Vec::new(),
            random: SeededRandom::new(seed),
            queue: Queue::default(),
            links: Links::default(),
            domain,
            authority,
            bundle,
            generation: 0,
            last_packet: 0,
            last_pod: 0,
        }
    }

    /// Wall and boot time as a node sees them.
    pub fn now(&self, node: NodeIx) -> Now {
        let passed = self.boot.as_secs() - 1000;
        let offset = self.nodes.get(node).map_or(0, |node| node.wall_offset);
        let wall = WALL.saturating_add(passed).saturating_add_signed(offset);
        Now {
            boot: self.boot,
            wall: UnixTime::since_unix_epoch(Duration::from_secs(wall)),
        }
    }

    pub fn add_node(&mut self) -> NodeIx {
        let index = self.nodes.len();
        let uid = NodeUid::new(format!("node-{index}"));
        let octet = u8::try_from(index).unwrap();
        let facts = NodeFacts {
            spiffe_id: SpiffeId::node(&self.domain, uid.as_str()).unwrap(),
            uid,
            name: format!("n{index}"),
            underlay: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, octet + 1))],
            channel_port: 7447,
            pod_cidrs: vec![format!("10.{index}.0.0/16").parse().unwrap()],
        };
        let engine = Engine::new(&mut self.random);
        let boot_id = self.random.bytes();
        self.nodes.push(Node {
            facts,
            agent: None,
            maps: Maps::default(),
            events: Vec::new(),
            audit: Vec::new(),
            drops: BTreeMap::new(),
            wall_offset: 0,
            engine,
            svid: None,
            instance: 0,
            boot_id,
            subscriptions: BTreeSet::new(),
        });
        for other in 0..index {
            self.tell_cluster(other);
        }
        self.start(index);
        index
    }

    /// A pod with an address of its own.
    pub fn add_pod(&mut self, node: NodeIx, namespace: &str, account: &str) -> Pod {
        let last = u16::try_from(self.last_pod + 1).unwrap();
        let octet = u8::try_from(node).unwrap();
        let [high, low] = last.to_be_bytes();
        self.add_pod_at(
            node,
            namespace,
            account,
            IpAddr::V4(Ipv4Addr::new(10, octet, high, low)),
        )
    }

    /// A pod with this address.
    pub fn add_pod_at(
        &mut self,
        node: NodeIx,
        namespace: &str,
        account: &str,
        address: IpAddr,
    ) -> Pod {
        self.last_pod += 1;
        self.generation += 1;
        let uid = PodUid::new(format!("pod-{}", self.last_pod));
        let id = SpiffeId::workload(&self.domain, namespace, account).unwrap();
        let second = Ipv6Addr::new(
            0xfd00,
            0,
            0,
            0,
            0,
            0,
            0,
            u16::try_from(self.last_pod).unwrap(),
        );
        let facts = PodFacts {
            uid: uid.as_str().to_owned(),
            namespace: namespace.to_owned(),
            name: format!("{account}-{}", self.last_pod),
            service_account: account.to_owned(),
            spiffe_id: id.to_string(),
            labels: BTreeMap::from([("app".to_owned(), account.to_owned())]),
            namespace_labels: BTreeMap::new(),
            addresses: vec![address, IpAddr::V6(second)],
            named_ports: None,
            enrolled: true,
        };
        let entry = Entry {
            generation: self.generation,
            uid: uid.clone(),
            pod: facts,
            spiffe_id: id,
            namespace_uid: format!("ns-{namespace}"),
            service_account_uid: format!("sa-{account}"),
            node: self.nodes[node].facts.clone(),
        };
        let pod = Pod {
            uid: uid.clone(),
            node,
            address,
            entry,
            ifindex: 100 + self.last_pod,
        };
        self.pods.insert(uid, pod.clone());
        self.tell_cluster(node);
        self.input(node, self.endpoint_input(&pod));
        pod
    }

    /// The pod is deleted: the directory says so, and its node's interface goes.
    pub fn remove_pod(&mut self, uid: &PodUid) {
        let pod = self.pods.remove(uid).unwrap();
        self.generation += 1;
        self.input(pod.node, Input::EndpointRemoved { pod: uid.clone() });
        self.tell_cluster(pod.node);
        self.push_gone(uid);
    }

    /// The pod is of another service account from now on. Nobody is told yet.
    pub fn set_account(&mut self, uid: &PodUid, account: &str) {
        let entry = &mut self.pods.get_mut(uid).unwrap().entry;
        let id = SpiffeId::workload(&self.domain, &entry.pod.namespace, account).unwrap();
        entry.pod.service_account = account.to_owned();
        entry.pod.spiffe_id = id.to_string();
        entry.service_account_uid = format!("sa-{account}");
        entry.spiffe_id = id;
    }

    /// Policies of everybody, at once.
    pub fn set_policies(&mut self, policies: PolicySet) {
        self.policies = Arc::new(policies);
        for node in 0..self.nodes.len() {
            self.tell_cluster(node);
        }
    }

    /// A new agent on what the old one left. The engine and the maps have gone on.
    pub fn start(&mut self, node: NodeIx) {
        self.begin(node);
        self.welcome(node);
    }

    /// The engine greets: that was all that the agent waited for.
    pub fn welcome(&mut self, node: NodeIx) {
        let welcome = self.nodes[node].engine.welcome();
        self.input(node, Input::Tunnel(welcome));
    }

    /// A new agent that has no engine yet.
    pub fn begin(&mut self, node: NodeIx) {
        let config = {
            let node = &mut self.nodes[node];
            node.instance += 1;
            node.subscriptions.clear();
            Config {
                trust_domain: self.domain.clone(),
                node_uid: node.facts.uid.clone(),
                node_id: node.facts.spiffe_id.clone(),
                boot_id: node.boot_id,
                instance: node.instance,
                limits: self.limits,
                timers: self.timers,
                outage: self.outage,
            }
        };
        self.nodes[node].agent = Some(Agent::new(config));
        self.input(
            node,
            Input::Trust {
                bundle: self.bundle.clone(),
            },
        );
        if let Some(schedule) = self.schedule {
            self.input(node, Input::Schedule(schedule));
        }
        let adopted = self.adopted(node);
        self.input(node, Input::Adopted(Box::new(adopted)));
        self.tell_cluster(node);
        let svid = self.issue_node(node);
        self.input(node, Input::NodeSvid { svid });
        let pods: Vec<Pod> = self
            .pods
            .values()
            .filter(|pod| pod.node == node)
            .cloned()
            .collect();
        for pod in pods {
            self.input(node, self.endpoint_input(&pod));
        }
        if self.service_up {
            self.input(node, Input::Directory(crate::io::DirectoryInput::Up));
        }
    }

    /// kill -9.
    pub fn kill(&mut self, node: NodeIx) {
        self.nodes[node].agent = None;
        self.break_links(|link| link.touches(node));
    }

    pub fn restart(&mut self, node: NodeIx) {
        self.kill(node);
        self.start(node);
    }

    /// Power is lost: maps, keys and agent are gone, and it comes up as another boot.
    pub fn reboot(&mut self, node: NodeIx) {
        self.kill(node);
        self.nodes[node].maps = Maps::default();
        self.nodes[node].engine = Engine::new(&mut self.random);
        self.nodes[node].boot_id = self.random.bytes();
        self.start(node);
    }

    /// The engine crashes and comes back without keys.
    pub fn crash_engine(&mut self, node: NodeIx) {
        self.nodes[node].engine = Engine::new(&mut self.random);
        self.input(node, Input::Tunnel(crate::io::TunnelEvent::Gone));
        let welcome = self.nodes[node].engine.welcome();
        self.input(node, Input::Tunnel(welcome));
    }

    /// Gives an input to a node's agent and does what it wants done.
    pub fn input(&mut self, node: NodeIx, input: Input) {
        let now = self.now(node);
        let Some(agent) = self.nodes[node].agent.as_mut() else {
            if let Input::Frame {
                conn,
                kind,
                payload,
            } = input
            {
                self.captured.push((node, conn, kind, payload));
            }
            return;
        };
        agent.handle(input, now, &mut self.random);
        self.drain(node);
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.boot + span;
        loop {
            let timers = self.nodes.iter().enumerate().filter_map(|(index, node)| {
                let (at, _) = node.agent.as_ref()?.poll_timeout()?;
                Some((at.max(self.boot), index))
            });
            let timer = timers.min();
            let event = self.queue.next_at();
            let next = [timer.map(|(at, _)| at), event].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else {
                break;
            };
            self.boot = self.boot.max(at);
            if event.is_some_and(|event| event <= at) {
                self.happen();
            } else if let Some((_, node)) = timer {
                let now = self.now(node);
                if let Some(agent) = self.nodes[node].agent.as_mut() {
                    agent.handle_timeout(now, &mut self.random);
                    let again = agent.poll_timeout();
                    assert!(
                        again.is_none_or(|(next, _)| next > now.boot),
                        "node {node} is busy at {now:?}: {again:?} is due right after a timeout"
                    );
                }
                self.drain(node);
            }
        }
        self.boot = end;
    }

    /// Whether a packet has arrived.
    pub fn arrived(&self, id: u64) -> bool {
        self.deliveries
            .iter()
            .rev()
            .any(|delivery| delivery.id == id)
    }

    /// Sends one packet, waits a little, and says whether it arrived.
    pub fn passes(&mut self, from: &PodUid, to: IpAddr) -> bool {
        let id = self.send(from, to);
        self.run(Duration::from_secs(4));
        self.arrived(id)
    }

    /// The same from a node itself.
    pub fn passes_from_node(&mut self, from: NodeIx, to: IpAddr) -> bool {
        let id = self.send_as_node(from, to);
        self.run(Duration::from_secs(4));
        self.arrived(id)
    }

    pub fn endpoint_index(&self, pod: &PodUid) -> Option<(EndpointIndex, u32)> {
        let node = self.pods.get(pod)?.node;
        let snapshot = self.nodes[node].agent.as_ref()?.endpoints();
        let own = snapshot.into_iter().find(|endpoint| endpoint.pod == *pod)?;
        Some((own.index, own.generation))
    }

    /// From now on keys are renewed at these times.
    pub fn set_schedule(&mut self, schedule: crate::epochs::Schedule) {
        self.schedule = Some(schedule);
        for node in 0..self.nodes.len() {
            self.input(node, Input::Schedule(schedule));
        }
    }

    fn endpoint_input(&self, pod: &Pod) -> Input {
        Input::EndpointAdded {
            pod: pod.uid.clone(),
            ifindex: pod.ifindex,
            ifname: format!("veth{}", pod.ifindex),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: pod.entry.pod.addresses.clone(),
        }
    }

    fn tell_cluster(&mut self, node: NodeIx) {
        let own = self.pods.values().filter(|pod| pod.node == node);
        let view = ClusterView {
            pods: own
                .map(|pod| LocalPod {
                    uid: pod.uid.clone(),
                    pod: pod.entry.pod.clone(),
                })
                .collect(),
            policies: self.policies.clone(),
            nodes: self.nodes.iter().map(|node| node.facts.clone()).collect(),
            kube_api_servers: Vec::new(),
        };
        self.input(node, Input::Cluster(Box::new(view)));
    }

    fn drain(&mut self, node: NodeIx) {
        let mut failed = Vec::new();
        while let Some(output) = self.nodes[node].agent.as_mut().and_then(Agent::poll_output) {
            match output {
                Output::Bpf(op) if self.nodes[node].maps.takes(&op) => {
                    self.nodes[node].maps.apply(op);
                }
                Output::Bpf(op) => {
                    let (op, error) = (Box::new(op), "the map is full".to_owned());
                    failed.push(Input::MapFailed { op, error });
                }
                Output::Lookup(key) => self.lookup(node, key),
                Output::Subscribe(pod) => self.subscribe(node, pod),
                Output::Unsubscribe(pod) => {
                    self.nodes[node].subscriptions.remove(&pod);
                }
                Output::RequestSvid { pod, id } => self.request_svid(node, pod, &id),
                Output::RenewNodeSvid => self.renew_node(node),
                Output::Dial {
                    node: to,
                    addresses,
                    port,
                    expect,
                } => {
                    assert!(!addresses.is_empty() && port == 7447);
                    self.dial(node, &to, &expect);
                }
                Output::SendFrame {
                    conn,
                    kind,
                    payload,
                } => {
                    self.send_frame(node, conn, kind, payload);
                }
                Output::CloseChannel { conn, reason } => self.close(node, conn, reason),
                Output::Tunnel(command) => self.command(node, command),
                Output::Inject {
                    endpoint,
                    generation,
                    packet,
                } => {
                    self.inject(node, endpoint, generation, &packet);
                }
                Output::DropHeld { reason, count, .. } => {
                    *self.nodes[node].drops.entry(reason.as_str()).or_default() += count;
                }
                Output::Event(event) => {
                    let full = matches!(event, Event::MapFailed { .. })
                        && self.nodes[node].maps.room.is_some();
                    assert!(
                        full || !matches!(
                            event,
                            Event::MapFailed { .. } | Event::TunnelFailed { .. }
                        ),
                        "{event:?}"
                    );
                    self.nodes[node].events.push(event);
                }
                Output::Audit(record) => self.nodes[node].audit.push(*record),
            }
        }
        for input in failed {
            self.input(node, input);
        }
    }
}
