//! What the core wants done, in its order.

use std::{collections::VecDeque, sync::Arc};

use signet_agent_core::{
    event::Event,
    io::{Input, MapOp, Output, PodUid},
};
use signet_audit::record::Event as Record;

use super::Executor;
use crate::{
    channel::{Frame, ToConnection},
    hold,
    identity::WatchCommand,
    observe,
    state::StoredNode,
    tunnel::ToTunnel,
};

impl Executor {
    /// Does everything the core has to say, what that makes it say included.
    pub(super) async fn drain(&mut self) {
        let mut inputs = VecDeque::new();
        loop {
            while let Some(output) = self.agent.poll_output() {
                self.perform(output, &mut inputs);
            }
            let Some(input) = inputs.pop_front() else {
                return;
            };
            self.agent.handle(input, self.time.now(), &mut self.random);
        }
    }

    /// Does one thing; what is known at once goes to `answers`.
    fn perform(&mut self, output: Output, answers: &mut VecDeque<Input>) {
        match output {
            Output::Bpf(op) => self.change_map(op, answers),
            Output::Lookup(key) => {
                let (service, inbox) = (self.service.clone(), self.inbox.clone());
                let calls = Arc::clone(&self.calls);
                tokio::spawn(async move {
                    let _turn = calls.acquire_owned().await;
                    let answer = service.lookup(key).await;
                    inbox.input(Input::Directory(answer)).await;
                });
            }
            // While the stream is down nobody reads; the core asks again when it is up.
            Output::Subscribe(pod) => {
                self.subscribed.insert(pod.clone());
                drop(self.watch.send(WatchCommand::Subscribe(pod)));
            }
            Output::Unsubscribe(pod) => {
                self.subscribed.remove(&pod);
                drop(self.watch.send(WatchCommand::Unsubscribe(pod)));
            }
            Output::RequestSvid { pod, id } => {
                let (service, inbox) = (self.service.clone(), self.inbox.clone());
                let calls = Arc::clone(&self.calls);
                tokio::spawn(async move {
                    let _turn = calls.acquire_owned().await;
                    let input = match service.issue_workload(pod.as_str(), &id).await {
                        Ok(svid) => Input::SvidIssued {
                            pod,
                            svid: Arc::new(svid),
                        },
                        Err(error) => Input::SvidFailed { pod, error },
                    };
                    inbox.input(input).await;
                });
            }
            Output::RenewNodeSvid => self.renew_node(),
            Output::Dial {
                node,
                addresses,
                port,
                expect,
            } => {
                let channels = self.channels.clone();
                let from = self.facts.underlay_ip;
                tokio::spawn(channels.dial(node, addresses, port, expect, from));
            }
            Output::SendFrame {
                conn,
                kind,
                payload,
            } => {
                self.hand_over(conn, ToConnection::Send(Frame { kind, payload }), answers);
            }
            Output::CloseChannel { conn, reason } => {
                tracing::debug!(%conn, reason, "channel is closed");
                self.hand_over(conn, ToConnection::Close, answers);
                self.connections.remove(&conn);
            }
            // Without a connection nobody reads; the core starts over at the next Welcome.
            Output::Tunnel(command) => drop(self.tunnel.send(ToTunnel::Command(command))),
            Output::Inject {
                endpoint,
                generation,
                packet,
            } => match hold::frame(endpoint.0, generation, &packet) {
                Some(frame) => {
                    if let Err(error) = self.hold.write(&frame) {
                        tracing::warn!(%error, "a held packet could not be released");
                    }
                }
                None => tracing::error!("a held packet came back damaged"),
            },
            Output::DropHeld {
                endpoint,
                destination,
                reason,
                count,
            } => {
                self.metrics.hold_dropped(reason, count);
                self.count_drops(reason, count);
                let source = self.dataplane.first_address(endpoint, destination);
                let drop = observe::Drop {
                    time_ms: self.time.wall_ms(),
                    node: &self.facts.node_name,
                    hook: "hold",
                    reason,
                    source,
                    destination: Some(destination),
                    suppressed: count.saturating_sub(1),
                };
                let event = drop.into_event(&self.names);
                self.observe.push(event);
            }
            Output::Event(event) => self.tell(event),
            Output::Audit(record) => self.audit(&record),
        }
    }

    fn change_map(&mut self, op: MapOp, answers: &mut VecDeque<Input>) {
        match self.dataplane.apply(&op) {
            Ok(()) => self.remember(&op),
            Err(error) => {
                self.metrics.map_failures.inc();
                self.map_problem = Some(error.clone());
                if self.refusal.is_none() {
                    self.refusal = Some(error.clone());
                }
                answers.push_back(Input::MapFailed {
                    op: Box::new(op),
                    error,
                });
            }
        }
    }

    fn hand_over(
        &mut self,
        conn: signet_agent_core::io::ConnId,
        message: ToConnection,
        answers: &mut VecDeque<Input>,
    ) {
        let Some(handle) = self.connections.get(&conn) else {
            return;
        };
        if handle.try_send(message).is_err() {
            // Its task is gone, or the peer does not read: either way it is of no use.
            self.connections.remove(&conn);
            answers.push_back(Input::ChannelClosed {
                conn,
                reason: "the peer does not read".into(),
            });
        }
    }

    fn renew_node(&self) {
        let (service, inbox) = (self.service.clone(), self.inbox.clone());
        let path = StoredNode::path(&self.data);
        tokio::spawn(async move {
            let input = match service.renew_node().await {
                Ok(svid) => {
                    if let Err(problem) = StoredNode::save(&path, &svid) {
                        tracing::warn!(problem, "the renewed node certificate is not stored");
                    }
                    Input::NodeSvid { svid }
                }
                Err(error) => Input::NodeSvidFailed { error },
            };
            inbox.input(input).await;
        });
    }

    /// The log line and the metric of an event.
    fn tell(&mut self, event: Event) {
        let node = |uid: &signet_agent_core::io::NodeUid| self.names.node(uid.as_str());
        let pod = |uid: &PodUid| self.names.pod(uid.as_str());
        match event {
            Event::ChannelOpen { node: uid, conn } => {
                tracing::info!(peer = node(&uid), %conn, "channel is open");
            }
            Event::ChannelClosed {
                node: uid,
                conn,
                reason,
            } => {
                tracing::info!(peer = node(&uid), %conn, reason, "channel is closed");
            }
            Event::ChannelViolation { peer, what } => {
                tracing::warn!(peer, what, "peer broke the protocol; its channel is closed");
            }
            Event::DialFailed {
                node: uid,
                error,
                retry_at,
            } => {
                let wait = retry_at.saturating_sub(crate::clock::boot());
                tracing::warn!(
                    peer = node(&uid),
                    error,
                    retry_in_ms = wait.as_millis(),
                    "node cannot be reached"
                );
            }
            Event::SlotReady { node: uid, epoch } => {
                tracing::info!(peer = node(&uid), %epoch, "tunnel slot is ready");
            }
            Event::EpochSwitched { node: uid, epoch } => {
                tracing::info!(peer = node(&uid), %epoch, "packets leave under new keys");
            }
            Event::EpochStuck {
                node: uid,
                epoch,
                why,
            } => {
                tracing::warn!(
                    peer = node(&uid),
                    %epoch,
                    why,
                    "keys could not be renewed; the ones in use go on until they are two epochs old"
                );
            }
            Event::SlotRetired {
                node: uid,
                slot,
                epoch,
            } => {
                let slot = slot.number();
                tracing::info!(peer = node(&uid), slot, %epoch, "tunnel slot is retired");
            }
            Event::PairOpen {
                local,
                remote,
                first_contact,
            } => {
                if let Some(took) = first_contact {
                    self.metrics.contact(took);
                }
                let took_ms = first_contact.map(|took| took.as_millis());
                tracing::info!(
                    local = pod(&local),
                    remote = pod(&remote),
                    took_ms,
                    "pair is authenticated"
                );
            }
            Event::PairClosed { local, remote, end } => {
                tracing::info!(local = pod(&local), remote = pod(&remote), why = ?end, "pair is over");
            }
            Event::PairRefused {
                local,
                destination,
                reason,
                detail,
            } => {
                self.audit_refused(&local, destination, reason, &detail);
                let reason = reason.as_str();
                let local = self.names.pod(local.as_str());
                tracing::info!(local, %destination, reason, detail, "pair is refused");
            }
            Event::RequestRefused {
                node: uid,
                source,
                destination,
                detail,
            } => {
                let event = Record::RequestRefused;
                self.audit_peer_refused(event, &uid, &source, &destination, &detail);
                tracing::info!(
                    peer = self.names.node(uid.as_str()),
                    source,
                    destination,
                    detail,
                    "request is refused"
                );
            }
            Event::ProofRejected {
                node: uid,
                pod,
                detail,
            } => {
                self.audit_peer_refused(Record::ProofRejected, &uid, pod.as_str(), "", &detail);
                tracing::warn!(
                    peer = self.names.node(uid.as_str()),
                    pod = self.names.pod(pod.as_str()),
                    detail,
                    "proof is not believed"
                );
            }
            Event::SvidFailed {
                pod: Some(uid),
                error,
            } => {
                self.metrics.svid_failed("workload");
                tracing::warn!(
                    pod = pod(&uid),
                    error,
                    "certificate could not be had; asked again"
                );
            }
            Event::SvidFailed { pod: None, error } => {
                self.metrics.svid_failed("node");
                tracing::warn!(error, "node certificate could not be renewed; asked again");
            }
            Event::LookupFailed { key, error } => {
                self.metrics.lookup_failures.inc();
                tracing::warn!(key, error, "directory could not be asked");
            }
            Event::TunnelFailed { error } => {
                self.metrics.tunnel_failures.inc();
                tracing::warn!(error, "tunnel engine refused a command");
            }
            Event::MapFailed { op, error } => {
                // Said once a second for all of them, and in `status`.
                tracing::debug!(op, error, "data path could not be changed; tried again");
            }
            Event::EndpointRefused { pod: uid, error } => {
                if self.refusal.is_none() {
                    self.refusal = Some(error.clone());
                }
                tracing::warn!(pod = pod(&uid), error, "endpoint is refused");
            }
            Event::AdoptionStarted { send, recv } => {
                tracing::info!(send, recv, "pairs of the agent before are taken over");
            }
            Event::AdoptionEnded { send, recv } => {
                tracing::info!(send, recv, "pairs that were not confirmed are gone");
            }
        }
    }
}
