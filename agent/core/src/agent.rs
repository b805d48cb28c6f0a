//! The agent: routes inputs to its machines and collects what they want done.

mod answers;
mod channels;
mod cluster;
mod endpoints;
mod epochs;
mod grants;
mod greet;
mod host;
mod keep;
mod messages;
mod outage;
mod pairs;
mod repair;
mod requests;
mod retire;
mod slots;
mod start;
mod timeouts;
mod wants;
mod withdraw;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use signet_crypto::{bundle::TrustBundle, random::Random, time::Now};

use crate::{
    adopt::Adoption,
    agent::cluster::World,
    authn::{hold::Hold, label::Labels, pair::Pairs, want::Wants},
    directory::Directory,
    effects::{Counters, Ctx},
    endpoint::{Endpoints, svid::Certificate},
    epochs::Epochs,
    facts::{ClusterView, Config},
    handles::Handles,
    ids::{ConnId, NodeUid},
    io::{Connected, DirectoryInput, EnginePeer, Input, Output, Timeout},
    peer::{Peer, slot::Engine},
    policy_map::PolicyMap,
    repair::Repairs,
    rows::SendKey,
};

/// A channel that came too early, with what it said meanwhile.
struct Deferred {
    connected: Connected,
    frames: Vec<(u8, Vec<u8>)>,
}

/// One node's agent, without the world around it.
///
/// Single-threaded: one owner calls the four verbs. A typical loop:
///
/// 1. `handle(input, now, random)` for one input, or `handle_timeout(now, random)` when the time
///    of `poll_timeout` is reached (early or late calls do no harm).
/// 2. `poll_output()` until it gives `None`, doing each output in order.
/// 3. `poll_timeout()` to know how long to sleep at most.
pub struct Agent {
    pub(crate) config: Config,
    outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    /// Everything that a start needs is in.
    pub(crate) started: bool,
    adopted: bool,
    /// Endpoints and views that came before the pinned maps were read.
    early: Vec<Input>,
    /// Channels that came before the start.
    deferred: Vec<Deferred>,
    pub(crate) trust: Option<Arc<TrustBundle>>,
    pub(crate) certificate: Certificate,
    pub(crate) cluster: Option<Box<ClusterView>>,
    pub(crate) endpoints: Endpoints,
    pub(crate) directory: Directory,
    pub(crate) handles: Handles,
    pub(crate) policy: PolicyMap,
    world: World,
    pub(crate) engine: Engine,
    pub(crate) epochs: Epochs,
    /// What the engine said it serves, until it is compared.
    serving: Vec<EnginePeer>,
    pub(crate) peers: BTreeMap<NodeUid, Peer>,
    conns: BTreeMap<ConnId, NodeUid>,
    last_peer: u32,
    pub(crate) pairs: Pairs,
    labels: Labels,
    pub(crate) wants: Wants,
    pub(crate) hold: Hold,
    pub(crate) adoption: Adoption,
    pub(crate) repairs: Repairs,
    /// When everything ends unless the own stream is back by then.
    outage_until: Option<Duration>,
}

impl Agent {
    /// An agent that knows nothing yet. Feed [`Input::Trust`], [`Input::NodeSvid`],
    /// [`Input::Cluster`], [`Input::Adopted`] and `Tunnel(Welcome)` in any order; nobody is dialled
    /// and no pair is made before all of them are in.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            started: false,
            adopted: false,
            early: Vec::new(),
            deferred: Vec::new(),
            trust: None,
            certificate: Certificate::new(),
            cluster: None,
            endpoints: Endpoints::new(),
            directory: Directory::default(),
            handles: Handles::default(),
            policy: PolicyMap::default(),
            world: World::default(),
            engine: Engine::default(),
            epochs: Epochs::default(),
            serving: Vec::new(),
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            last_peer: 0,
            pairs: Pairs::default(),
            labels: Labels::default(),
            wants: Wants::default(),
            hold: Hold::default(),
            adoption: Adoption::default(),
            repairs: Repairs::default(),
            outage_until: None,
        }
    }

    /// Takes one input. Call [`Agent::poll_output`] and [`Agent::poll_timeout`] afterwards.
    pub fn handle(&mut self, input: Input, now: Now, random: &mut dyn Random) {
        self.with(now, random, |agent, ctx| agent.route(input, ctx));
    }

    /// Does what is due at `now`. Call when the time of [`Agent::poll_timeout`] has come, then
    /// [`Agent::poll_output`] and [`Agent::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now, random: &mut dyn Random) {
        self.with(now, random, Agent::on_timeout);
    }

    /// The earliest moment on the boot clock at which [`Agent::handle_timeout`] has something to
    /// do. Ask again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        self.next_timeout()
    }

    /// The next thing to do, in order. Call until `None` after every `handle` and
    /// `handle_timeout`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Counts since the start, for metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn with(
        &mut self,
        now: Now,
        random: &mut dyn Random,
        act: impl FnOnce(&mut Self, &mut Ctx<'_>),
    ) {
        let out = std::mem::take(&mut self.outputs);
        let mut ctx = Ctx {
            now,
            random,
            out,
            counters: self.counters,
        };
        act(self, &mut ctx);
        self.take_turns(&mut ctx);
        self.pairs.settle();
        self.outputs = ctx.out;
        self.counters = ctx.counters;
    }

    fn route(&mut self, input: Input, ctx: &mut Ctx<'_>) {
        match input {
            Input::Adopted(adopted) => self.on_adopted(*adopted, ctx),
            // Rows of a previous instance are to be known before anything is numbered, and what the
            // cluster says of a pod before its row is written.
            early @ Input::Cluster(_) if !self.adopted => self.early.push(early),
            early @ Input::EndpointAdded { .. } if !self.adopted || self.cluster.is_none() => {
                self.early.push(early);
            }
            Input::EndpointAdded {
                pod,
                ifindex,
                ifname,
                mac,
                addresses,
            } => {
                if pod.node().is_some() {
                    let error = "its UID is a node's: give the pod another one".to_owned();
                    return ctx.event(crate::event::Event::EndpointRefused { pod, error });
                }
                let interface = crate::endpoint::Interface {
                    ifindex,
                    ifname,
                    mac,
                    addresses,
                };
                self.on_endpoint_added(pod, interface, ctx);
            }
            Input::EndpointRemoved { pod } => self.on_endpoint_removed(&pod, ctx),
            Input::Cluster(view) => self.on_cluster(view, ctx),
            Input::SvidIssued { pod, svid } => self.on_svid(&pod, svid, ctx),
            Input::SvidFailed { pod, error } => self.on_svid_failed(pod, error, ctx),
            Input::NodeSvid { svid } => self.on_node_svid(svid, ctx),
            Input::NodeSvidFailed { error } => self.on_node_svid_failed(error, ctx),
            Input::Trust { bundle } => self.on_trust(bundle, ctx),
            Input::Miss {
                endpoint,
                generation,
                destination,
                packet,
            } => {
                let key = SendKey {
                    endpoint,
                    generation,
                    destination,
                };
                self.on_miss(key, packet, ctx);
            }
            Input::Stale { peer, destination } => self.on_stale_seen(peer, destination, ctx),
            Input::MapFailed { op, error } => self.on_map_failed(&op, error, ctx),
            Input::Schedule(schedule) => self.on_schedule(schedule, ctx),
            Input::Directory(news) => self.on_directory(news, ctx),
            Input::ChannelConnected(connected) => self.on_connected(*connected, ctx),
            Input::Frame {
                conn,
                kind,
                payload,
            } => self.on_frame(conn, kind, &payload, ctx),
            Input::ChannelClosed { conn, reason } => self.on_closed(conn, reason, ctx),
            Input::DialFailed { node, error } => self.on_dial_failed(&node, error, ctx),
            Input::Tunnel(event) => self.on_tunnel(event, ctx),
            Input::Shutdown => self.on_shutdown(ctx),
        }
    }

    fn on_trust(&mut self, bundle: Arc<TrustBundle>, ctx: &mut Ctx<'_>) {
        let older = self
            .trust
            .as_ref()
            .is_some_and(|held| bundle.sequence() < held.sequence());
        if !older && bundle.trust_domain() == &self.config.trust_domain {
            self.trust = Some(bundle);
            self.try_start(ctx);
        }
    }

    fn on_directory(&mut self, news: DirectoryInput, ctx: &mut Ctx<'_>) {
        match news {
            DirectoryInput::Answer { key, entry } => {
                let found = entry.is_some();
                let changes = self.directory.answer(&key, entry.map(|entry| *entry), ctx);
                self.on_changes(changes, ctx);
                self.on_answered(&key, found, ctx);
            }
            DirectoryInput::Failed { key, error } => {
                let retry = self.config.timers.retry;
                self.directory.failed(key, error, retry, ctx);
            }
            DirectoryInput::Entry(entry) => {
                let changes = self.directory.put(*entry, ctx);
                self.on_changes(changes, ctx);
            }
            DirectoryInput::Gone { pod, generation } => {
                let known = self.directory.entry(&pod);
                if known.is_some_and(|entry| entry.generation <= generation) {
                    let change = self.directory.forget(&pod, ctx);
                    self.on_changes(change.into_iter().collect(), ctx);
                }
            }
            DirectoryInput::NodeGone { node } => self.on_node_gone(&node, ctx),
            DirectoryInput::PeerStream { node, up } => self.on_peer_stream(&node, up, ctx),
            DirectoryInput::Up => {
                self.directory.stream_up(ctx);
                self.outage_over(ctx);
                self.certificate.hurry(ctx.boot());
                for endpoint in self.endpoints.iter_mut() {
                    endpoint.certificate.hurry(ctx.boot());
                }
            }
            DirectoryInput::Down => {
                self.directory.stream_down();
                self.suspend_leases(ctx);
                self.outage_begins(ctx);
            }
        }
    }
}
