//! One task owns the core and does what it says, in order.
//!
//! Map operations, held packets and files are done here and at once, so that their order is the
//! core's; whatever waits for somebody else has a task of its own and answers by the inbox.

mod answers;
mod ask;
mod audit;
mod discovery;
mod endpoints;
mod explain;
mod impact;
mod inbox;
mod outputs;
mod policies;
mod take;
mod tick;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use signet_abi::DropReason;
use signet_agent_core::{
    Agent,
    io::{ConnId, Input, PodUid},
    status::{IdentityStatus, TunnelStatus},
};
use signet_crypto::{random::SystemRandom, time::TimeSource};
use signet_source::Snapshot;
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep_until,
};

pub(crate) use ask::{AddError, Ask, NewEndpoint};
pub(crate) use inbox::{Inbox, Outbox, inbox};

use discovery::Discovery;

use crate::{
    audit::Audit,
    channel::{Channels, ConnectionHandle},
    dataplane::DataPlane,
    flows::Flows,
    health::Health,
    hold::HoldDevice,
    host::Host,
    identity::{IdentityService, WatchCommand},
    metrics::Metrics,
    names::Names,
    observe::Observe,
    sources::{Cluster, Reader},
    state::{DataDir, EndpointRecord, EndpointStore},
    tunnel::ToTunnel,
};

/// Counters are read from the kernel, and metrics brought up to date, this often.
const TICK: Duration = Duration::from_secs(1);
/// Calls to the identity service at the same time.
const CALLS: usize = 32;
/// Messages taken in a row before packets and timeouts are looked at.
const MESSAGES: usize = 64;
/// Packets and events taken in a row before messages are: few, since what others wait for may be among those.
const PACKETS: usize = 8;

/// Names and addresses that never change in one run.
pub(crate) struct Facts {
    pub(crate) node_name: String,
    pub(crate) node_uid: String,
    pub(crate) node_spiffe_id: String,
    pub(crate) boot_id: String,
    pub(crate) mode: &'static str,
    pub(crate) underlay_ip: IpAddr,
    pub(crate) tunnel_socket: String,
    pub(crate) started: Instant,
}

/// Everything the executor is made of.
pub(crate) struct Parts {
    pub(crate) facts: Facts,
    pub(crate) agent: Agent,
    pub(crate) time: TimeSource,
    pub(crate) data: DataDir,
    pub(crate) store: EndpointStore,
    pub(crate) dataplane: DataPlane,
    pub(crate) hold: HoldDevice,
    pub(crate) host: Host,
    pub(crate) service: IdentityService,
    pub(crate) watch: mpsc::UnboundedSender<WatchCommand>,
    pub(crate) tunnel: mpsc::UnboundedSender<ToTunnel>,
    pub(crate) channels: Channels,
    pub(crate) reader: Reader,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) cluster: Cluster,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) inbox: Inbox,
}

/// The task's own state.
pub(crate) struct Executor {
    facts: Facts,
    agent: Agent,
    time: TimeSource,
    random: SystemRandom,
    data: DataDir,
    store: EndpointStore,
    dataplane: DataPlane,
    hold: HoldDevice,
    host: Host,
    /// Slot devices as the engine told them.
    slots: Vec<u32>,
    service: IdentityService,
    calls: Arc<Semaphore>,
    watch: mpsc::UnboundedSender<WatchCommand>,
    tunnel: mpsc::UnboundedSender<ToTunnel>,
    channels: Channels,
    connections: BTreeMap<ConnId, ConnectionHandle>,
    reader: Reader,
    snapshot: Arc<Snapshot>,
    cluster: Cluster,
    names: Names,
    observe: Observe,
    flows: Flows,
    /// What the engine and the core dropped; the data path counts its own.
    other_drops: BTreeMap<DropReason, u64>,
    identity_status: IdentityStatus,
    tunnel_status: TunnelStatus,
    subscribed: BTreeSet<PodUid>,
    /// Pods whose object went while their interface is still there.
    dismissed: BTreeMap<String, EndpointRecord>,
    discovery: Discovery,
    /// Set while an endpoint is being added: the first map operation of it that failed.
    refusal: Option<String>,
    /// Why the kernel refused to change a map last.
    map_problem: Option<String>,
    audit: Audit,
    metrics: Metrics,
    health: Health,
    inbox: Inbox,
}

impl Executor {
    pub(crate) fn new(parts: Parts) -> Self {
        let identity_status = IdentityStatus {
            address: parts.service.address.to_string(),
            trust_domain: Some(parts.service.trust.load().trust_domain().to_string()),
            bundle_sequence: parts.service.trust.load().sequence(),
            ..IdentityStatus::default()
        };
        let tunnel_status = TunnelStatus {
            backend: "userspace".to_owned(),
            socket: parts.facts.tunnel_socket.clone(),
            ..TunnelStatus::default()
        };
        let since = parts.time.now().wall.as_secs();
        let mut names = Names::default();
        names.learn_manifests(
            &parts.snapshot,
            parts.service.trust.load().trust_domain(),
            &parts.facts.node_name,
        );
        Self {
            facts: parts.facts,
            agent: parts.agent,
            time: parts.time,
            random: SystemRandom,
            data: parts.data,
            store: parts.store,
            dataplane: parts.dataplane,
            hold: parts.hold,
            host: parts.host,
            slots: Vec::new(),
            service: parts.service,
            calls: Arc::new(Semaphore::new(CALLS)),
            watch: parts.watch,
            tunnel: parts.tunnel,
            channels: parts.channels,
            connections: BTreeMap::new(),
            reader: parts.reader,
            snapshot: parts.snapshot,
            cluster: parts.cluster,
            names,
            observe: Observe::new(),
            flows: Flows::new(since),
            other_drops: BTreeMap::new(),
            identity_status,
            tunnel_status,
            subscribed: BTreeSet::new(),
            dismissed: BTreeMap::new(),
            discovery: Discovery::default(),
            refusal: None,
            map_problem: None,
            audit: parts.audit,
            metrics: parts.metrics,
            health: parts.health,
            inbox: parts.inbox,
        }
    }

    /// Runs until `stop` ends, then lets the core say goodbye.
    pub(crate) async fn run(mut self, mut outbox: Outbox, stop: impl Future<Output = ()>) {
        self.start().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = sleep_until(due.into()) => self.timeout().await,
                _ = tick.tick() => {
                    let lost = outbox.lost.events.swap(0, Ordering::Relaxed);
                    self.metrics.events_lost.inc_by(lost);
                    self.tick(outbox.lost.held.swap(0, Ordering::Relaxed)).await;
                }
                Some(message) = outbox.control.recv() => {
                    self.take(message).await;
                    for _ in 0..MESSAGES {
                        let Ok(message) = outbox.control.try_recv() else { break };
                        self.take(message).await;
                    }
                    // One peer that never stops talking must not keep packets waiting.
                    self.take_waiting(&mut outbox).await;
                }
                held = outbox.held.recv() => {
                    self.take_held(held).await;
                    self.take_waiting(&mut outbox).await;
                }
                Some(event) = outbox.events.recv() => {
                    self.take_event(event).await;
                    self.take_waiting(&mut outbox).await;
                }
            }
        }
        tracing::info!("agent stops; what is authenticated goes on without it");
        self.feed(Input::Shutdown).await;
        // The connections' tasks write what is queued.
        self.connections.clear();
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.audit.stop();
    }

    /// Packets and events that are here already.
    async fn take_waiting(&mut self, outbox: &mut Outbox) {
        for _ in 0..PACKETS {
            let Some(held) = outbox.held.try_recv() else {
                break;
            };
            self.take_held(held).await;
        }
        for _ in 0..PACKETS {
            let Ok(event) = outbox.events.try_recv() else {
                break;
            };
            self.take_event(event).await;
        }
    }

    /// When the core wants to be called.
    fn due(&self) -> Instant {
        let now = Instant::now();
        match self.agent.poll_timeout() {
            Some((at, _)) => now + at.saturating_sub(crate::clock::boot()),
            // Messages wake it earlier.
            None => now + Duration::from_secs(3600),
        }
    }

    async fn timeout(&mut self) {
        self.agent.handle_timeout(self.time.now(), &mut self.random);
        self.drain().await;
    }

    /// Gives one input to the core and does what it says.
    async fn feed(&mut self, input: Input) {
        self.agent.handle(input, self.time.now(), &mut self.random);
        self.drain().await;
    }
}
