//! What comes in, one thing at a time.

use std::sync::Arc;

use signet_abi::{EventKind, HoldHeader};
use signet_agent_core::{
    io::{Input, PeerId, PodUid, TunnelEvent},
    status::SlotStatus,
};
use signet_source::Snapshot;
use signet_wg::control::Event as EngineEvent;

use super::{Executor, inbox::Message};
use crate::{
    clock,
    dataplane::SlotDevice,
    hold::{Held, HoldDevice},
    identity::StreamStatus,
    observe, sources,
    state::{StoredBundle, StoredSchedule},
    tunnel::{self, TunnelNews},
};

impl Executor {
    /// The first things after the start, before anybody else is heard.
    pub(super) async fn start(&mut self) {
        self.report_flows();
        self.reconcile_host().await;
        self.drain().await;
        self.readopt_endpoints().await;
        self.discover();
    }

    pub(super) async fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if let Input::Directory(news) = &*input {
                    self.names.learn_directory(news);
                }
                if let Input::ChannelClosed { conn, .. } = &*input {
                    self.connections.remove(conn);
                }
                self.feed(*input).await;
            }
            Message::Connected(connected, handle) => {
                self.connections.insert(connected.conn, handle);
                self.feed(Input::ChannelConnected(connected)).await;
            }
            Message::Bundle(bundle) => {
                self.identity_status.bundle_sequence = bundle.sequence();
                if let Err(problem) = StoredBundle::save(&self.data, &bundle) {
                    tracing::warn!(problem, "the new trust bundle is in force but not stored");
                }
            }
            Message::Schedule(schedule) => {
                if let Err(problem) = StoredSchedule::save(&self.data, &schedule) {
                    tracing::warn!(problem, "the length of epochs is in force but not stored");
                }
                self.feed(Input::Schedule(schedule)).await;
            }
            Message::Stream(status) => self.take_stream(status),
            Message::Tunnel(news) => self.take_tunnel(news).await,
            Message::Manifests(snapshot) => self.take_manifests(snapshot).await,
            Message::LinkGone(ifindex) => self.link_gone(ifindex).await,
            Message::Discovered(found) => self.discovered(found).await,
            Message::Ask(ask) => self.answer(ask).await,
        }
    }

    fn take_stream(&mut self, status: StreamStatus) {
        let up = status == StreamStatus::Up;
        if up != self.identity_status.connected || self.identity_status.since.is_none() {
            self.identity_status.since = Some(self.time.now().wall.as_secs());
        }
        self.identity_status.connected = up;
        self.metrics.identity_up.set(i64::from(up));
        self.identity_status.problem = match status {
            StreamStatus::Up => None,
            StreamStatus::Down(problem) => {
                self.metrics.identity_down.inc();
                Some(problem)
            }
        };
        self.health.identity(&self.identity_status);
    }

    async fn take_tunnel(&mut self, news: TunnelNews) {
        match news {
            TunnelNews::Welcome(event) => self.welcome(event).await,
            TunnelNews::Event(event) => self.take_engine(event).await,
            TunnelNews::Gone(problem) => {
                let was_up = std::mem::replace(&mut self.tunnel_status.connected, false);
                if was_up || self.tunnel_status.since.is_none() {
                    self.tunnel_status.since = Some(self.time.now().wall.as_secs());
                }
                self.tunnel_status.problem = Some(problem);
                self.metrics.tunnel_up.set(0);
                self.health.tunnel(&self.tunnel_status);
                if was_up {
                    self.metrics.tunnel_down.inc();
                    self.feed(Input::Tunnel(TunnelEvent::Gone)).await;
                }
            }
        }
    }

    /// Slots first, then the core: its first rows need somewhere to send.
    async fn welcome(&mut self, event: EngineEvent) {
        let problem = match self.set_up_slots(&event).await {
            Ok(()) => match tunnel::for_core(&event) {
                Ok(Some(welcome)) => {
                    self.tunnel_status.connected = true;
                    self.tunnel_status.since = Some(self.time.now().wall.as_secs());
                    self.tunnel_status.problem = None;
                    self.metrics.tunnel_up.set(1);
                    self.health.tunnel(&self.tunnel_status);
                    tracing::info!(
                        socket = self.facts.tunnel_socket,
                        "tunnel engine is connected"
                    );
                    self.feed(Input::Tunnel(welcome)).await;
                    return;
                }
                Ok(None) => "the engine did not greet".to_owned(),
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        tracing::error!(problem, "tunnel engine cannot be used");
        self.tunnel_status.problem = Some(problem);
        self.health.tunnel(&self.tunnel_status);
    }

    async fn set_up_slots(&mut self, event: &EngineEvent) -> Result<(), String> {
        let EngineEvent::Welcome { slots, .. } = event else {
            return Err("the engine did not greet".to_owned());
        };
        self.tunnel_status.slots = slots
            .iter()
            .map(|slot| SlotStatus {
                slot: slot.slot,
                public_key: slot.public_key.to_string(),
                port: slot.port,
                interface: slot.ifname.clone(),
                peers: 0,
            })
            .collect();
        let names: Vec<_> = slots.iter().map(|slot| slot.ifname.clone()).collect();
        self.host.set_up_slots(&names)?;
        let devices: Vec<_> = slots
            .iter()
            .map(|slot| SlotDevice {
                slot: slot.slot,
                ifindex: slot.ifindex,
                name: slot.ifname.clone(),
            })
            .collect();
        self.dataplane.set_slots(&devices)?;
        self.slots = slots.iter().map(|slot| slot.ifindex).collect();
        self.reconcile_host().await;
        Ok(())
    }

    async fn take_engine(&mut self, event: EngineEvent) {
        if let EngineEvent::Dropped {
            reason,
            underlay,
            inner,
            suppressed,
            ..
        } = &event
        {
            let drop = observe::Drop {
                time_ms: self.time.wall_ms(),
                node: &self.facts.node_name,
                hook: "tunnel",
                reason: *reason,
                source: inner
                    .map(|(source, _)| source)
                    .or(underlay.map(|address| address.ip())),
                destination: inner.map(|(_, destination)| destination),
                suppressed: u64::from(*suppressed),
            };
            let event = drop.into_event(&self.names);
            self.count_drops(*reason, 1 + u64::from(*suppressed));
            self.observe.push(event);
        }
        match tunnel::for_core(&event) {
            Ok(Some(event)) => self.feed(Input::Tunnel(event)).await,
            Ok(None) => {}
            Err(problem) => tracing::warn!(problem, "event of the tunnel engine is ignored"),
        }
    }

    async fn take_manifests(&mut self, snapshot: Arc<Snapshot>) {
        let cluster = match self.reader.read(&snapshot) {
            Ok(cluster) => cluster,
            Err(problem) => {
                tracing::warn!(
                    problem,
                    "manifests are not taken over; the last good state stays"
                );
                return;
            }
        };
        for problem in &cluster.manifest_problems {
            let object = problem.object.as_deref().unwrap_or("whole file");
            tracing::warn!(
                file = problem.file,
                object,
                problem = problem.message,
                "manifest is wrong; its last good state is in force"
            );
        }
        for problem in &cluster.policy_problems {
            tracing::warn!(
                object = problem.object,
                problem = problem.message,
                "policy is wrong"
            );
        }
        self.snapshot = snapshot;
        self.cluster = cluster;
        self.report_flows();
        let trust = self.service.trust.load();
        self.names
            .learn_manifests(&self.snapshot, trust.trust_domain(), &self.facts.node_name);
        self.reconcile_host().await;
        self.feed(Input::Cluster(Box::new(self.cluster.view.clone())))
            .await;
        self.follow_pods().await;
    }

    /// A packet that waits for its pair.
    pub(super) async fn take_held(&mut self, held: Held) {
        let HoldHeader {
            endpoint,
            generation,
            ..
        } = held.header;
        self.metrics.held_bytes.inc_by(held.bytes.len() as u64);
        self.feed(Input::Miss {
            endpoint: signet_agent_core::io::EndpointIndex(endpoint),
            generation,
            destination: held.destination,
            packet: Some(held.bytes),
        })
        .await;
    }

    /// An event of the data path.
    pub(super) async fn take_event(&mut self, event: signet_abi::Event) {
        let age = clock::boot()
            .as_millis()
            .saturating_sub(u128::from(event.time / 1_000_000));
        let time_ms = self
            .time
            .wall_ms()
            .saturating_sub(u64::try_from(age).unwrap_or(0));
        let policies = &self.cluster.view.policies;
        let node = &self.facts.node_name;
        if let Some(flow) = observe::from_kernel(&event, time_ms, node, &self.names, policies) {
            self.observe.push(flow);
        }
        self.note_flow(&event, time_ms);
        if event.event_kind() == Some(EventKind::Stale) {
            let destination = event.dst.to_ip();
            self.feed(Input::Stale {
                peer: PeerId(event.peer),
                destination,
            })
            .await;
        }
    }

    async fn link_gone(&mut self, ifindex: u32) {
        let gone: Vec<_> = self
            .store
            .records()
            .filter(|record| record.ifindex == ifindex)
            .map(|record| record.pod_uid.clone())
            .collect();
        for pod in gone {
            tracing::info!(
                pod = self.names.pod(&pod),
                ifindex,
                "the pod's interface is gone"
            );
            self.remove_endpoint(PodUid::new(pod)).await;
        }
        self.dismissed.retain(|_, old| old.ifindex != ifindex);
        if let Err(problem) = self.dataplane.interface_gone(ifindex) {
            tracing::warn!(
                problem,
                ifindex,
                "pins of a vanished interface are left behind"
            );
        }
        // No route may name it; the engine tells of another when it has one.
        self.slots.retain(|slot| *slot != ifindex);
        if self.host.needs(ifindex) {
            self.host.look_soon();
        }
        self.reconcile_host().await;
    }

    pub(super) async fn reconcile_host(&mut self) {
        match self.bring_host_in_line().await {
            Ok(()) => {
                self.health.host(None);
            }
            Err(problem) => {
                if self.health.host(Some(problem.clone())) {
                    tracing::error!(
                        problem,
                        "host network is not in line; tried again each second"
                    );
                }
            }
        }
    }

    /// Devices first, then the programs on them, then the routes that lead there.
    async fn bring_host_in_line(&mut self) -> Result<(), String> {
        let renewed = self.host.renew().await?;
        if renewed.is_something() {
            tracing::warn!(
                devices = renewed.names().join(", "),
                "devices were removed from outside; they are made anew"
            );
            let followed = self.dataplane.follow(&renewed);
            if let Some((_, file)) = renewed.hold {
                self.hold = HoldDevice::new(file, self.inbox.clone())?;
            }
            followed?;
        }
        let facts = sources::host_facts(
            &self.cluster.view,
            &self.facts.node_name,
            self.facts.underlay_ip,
            self.slots.clone(),
        );
        let changed = self.host.reconcile(facts).await?;
        if !changed.is_empty() {
            tracing::warn!(
                changed = changed.join(", "),
                "host network was changed from outside; it is in line again"
            );
        }
        Ok(())
    }

    pub(super) fn put_programs_back(&mut self) {
        match self.dataplane.put_back() {
            Ok(names) => {
                if !names.is_empty() {
                    tracing::warn!(
                        programs = names.join(", "),
                        "programs were detached from outside; they are attached again"
                    );
                }
                match self.unwritten() {
                    None => {
                        self.health.data_path(Ok(self.dataplane.describe()));
                    }
                    Some(problem) => self.not_whole(problem),
                }
            }
            Err(problem) => self.not_whole(problem),
        }
    }

    fn not_whole(&self, problem: String) {
        if self.health.data_path(Err(problem.clone())) {
            tracing::error!(problem, "data path is not whole; tried again and again");
        }
    }

    /// What the kernel would not take, if there is anything left of it.
    fn unwritten(&self) -> Option<String> {
        let rows = self.agent.summary().unwritten;
        let why = self.map_problem.as_deref().unwrap_or("the kernel refused");
        (rows > 0)
            .then(|| format!("{rows} rows are not written, and nothing passes by them: {why}"))
    }
}
