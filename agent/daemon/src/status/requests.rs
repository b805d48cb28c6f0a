//! Each request and its answer.

use std::{
    io,
    time::{Duration, Instant},
};

use signet_agent_core::status::{
    AuditLog, Endpoint, EndpointAdded, EndpointRemoved, FlowEvent, IdentityStatus, ObserveFilter,
    ObserveLine, Peers, Request, Status, TunnelStatus,
};
use signet_wg::control::PeerStats;
use tokio::{
    sync::{broadcast::error::RecvError, oneshot},
    time::timeout,
};

use super::{Client, Running, Starting};
use crate::{
    executor::{AddError, Ask, NewEndpoint},
    observe,
    state::FoundBy,
    tunnel::ToTunnel,
};

/// The executor and the engine answer within this, or something is badly wrong.
const ANSWER: Duration = Duration::from_secs(10);
/// The engine's counters are worth this much waiting.
const STATS: Duration = Duration::from_secs(1);
/// An added pod's manifest may be this late.
const PLACEMENT: Duration = Duration::from_secs(5);
/// An added pod's certificate is waited for this long before the answer says that it is pending.
const CERTIFICATE: Duration = Duration::from_secs(3);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Client {
    pub(super) async fn answer(&mut self, request: Request, agent: &Running) -> io::Result<()> {
        match request {
            Request::Status => match ask(agent, Ask::Status).await {
                Ok(status) => self.line(&status).await,
                Err(error) => self.fail(error).await,
            },
            Request::Peers => match peers(agent).await {
                Ok(peers) => self.line(&peers).await,
                Err(error) => self.fail(error).await,
            },
            Request::Endpoints => match ask(agent, Ask::Endpoints).await {
                Ok(endpoints) => self.line(&endpoints).await,
                Err(error) => self.fail(error).await,
            },
            Request::AuditPeers => match ask(agent, Ask::AuditPeers).await {
                Ok(pairs) => self.line(&pairs).await,
                Err(error) => self.fail(error).await,
            },
            Request::AuditLog => {
                let directory =
                    std::path::absolute(&agent.audit).unwrap_or_else(|_| agent.audit.clone());
                let directory = directory.display().to_string();
                self.line(&AuditLog { directory }).await
            }
            Request::Observe(filter) => self.observe(&filter, agent).await,
            Request::Policies => match ask(agent, Ask::Policies).await {
                Ok(policies) => self.line(&policies).await,
                Err(error) => self.fail(error).await,
            },
            Request::Impact => match ask(agent, Ask::Impact).await {
                Ok(impact) => self.line(&impact).await,
                Err(error) => self.fail(error).await,
            },
            Request::Explain(query) => {
                match ask(agent, |answer| Ask::Explain(query, answer)).await {
                    Ok(Ok(explanation)) => self.line(&explanation).await,
                    Ok(Err(error)) | Err(error) => self.fail(error).await,
                }
            }
            Request::EndpointAdd { pod_uid, ifname } => match add(agent, pod_uid, &ifname).await {
                Ok(endpoint) => {
                    let ready = endpoint.is_ready();
                    self.line(&EndpointAdded { endpoint, ready }).await
                }
                Err(error) => self.fail(error).await,
            },
            Request::EndpointRemove { pod_uid } => {
                let uid = pod_uid.clone();
                match ask(agent, |answer| Ask::RemoveEndpoint(uid, answer)).await {
                    Ok(existed) => self.line(&EndpointRemoved { pod_uid, existed }).await,
                    Err(error) => self.fail(error).await,
                }
            }
        }
    }

    /// Before the node is attested there is a status and nothing else.
    pub(super) async fn answer_early(
        &mut self,
        request: &Request,
        starting: &Starting,
    ) -> io::Result<()> {
        if *request == Request::Status {
            return self.line(&starting.status()).await;
        }
        let waits = starting.health.checks().into_iter().find(|check| !check.ok);
        let what = waits.map_or_else(String::new, |check| {
            format!(": {}: {}", check.name, check.detail)
        });
        self.fail(format!("agent of {} is starting{what}", starting.node))
            .await
    }

    async fn observe(&mut self, filter: &ObserveFilter, agent: &Running) -> io::Result<()> {
        let (recent, mut events) = match ask(agent, Ask::Observe).await {
            Ok(observed) => observed,
            Err(error) => return self.fail(error).await,
        };
        let wanted: Vec<_> = recent
            .iter()
            .filter(|event| observe::wants(filter, event))
            .collect();
        let last = filter.last.map_or(wanted.len(), |last| {
            usize::try_from(last).unwrap_or(usize::MAX)
        });
        for event in &wanted[wanted.len().saturating_sub(last)..] {
            self.line(&ObserveLine::Flow(Box::new(FlowEvent::clone(event))))
                .await?;
        }
        if !filter.follow {
            return Ok(());
        }
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.gone() => return Ok(()),
            };
            match event {
                Ok(event) if observe::wants(filter, &event) => {
                    self.line(&ObserveLine::Flow(Box::new(FlowEvent::clone(&event))))
                        .await?;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => self.line(&ObserveLine::Lost(count)).await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

impl Starting {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            node_uid: None,
            node_spiffe_id: None,
            boot_id: self.boot_id.clone(),
            mode: self.mode.to_owned(),
            uptime_secs: self.started.elapsed().as_secs(),
            identity: IdentityStatus {
                address: self.identity.clone(),
                ..Default::default()
            },
            tunnel: TunnelStatus {
                backend: "userspace".to_owned(),
                socket: self.tunnel_socket.clone(),
                ..Default::default()
            },
            endpoints: 0,
            peers: 0,
            pairs: Default::default(),
            held: Default::default(),
            svids: Vec::new(),
            drops: Vec::new(),
            policies: Default::default(),
            manifest_problems: Vec::new(),
            checks: self.health.checks(),
        }
    }
}

async fn ask<T>(
    agent: &Running,
    question: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, String> {
    let (sender, receiver) = oneshot::channel();
    agent.inbox.ask(question(sender)).await;
    match timeout(ANSWER, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err("agent stops".into()),
        Err(_) => Err(format!(
            "agent did not answer within {} s: see its log",
            ANSWER.as_secs()
        )),
    }
}

/// The core's peers with what the engine counts for each.
async fn peers(agent: &Running) -> Result<Peers, String> {
    let mut peers = ask(agent, Ask::Peers).await?;
    let (sender, receiver) = oneshot::channel();
    // Without a connection there is no answer, and no counters.
    let _ = agent.tunnel.send(ToTunnel::Stats(sender));
    let stats = match timeout(STATS, receiver).await {
        Ok(Ok(stats)) => stats,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    for peer in &mut peers.peers {
        // Keys of the epoch before still count until their slot is retired.
        let is_its = |stats: &&PeerStats| {
            peer.underlay
                .is_some_and(|underlay| underlay.ip() == stats.underlay.ip())
        };
        let mut newest: Option<&PeerStats> = None;
        for stats in stats.iter().filter(is_its) {
            peer.rx_bytes += stats.rx_bytes;
            peer.tx_bytes += stats.tx_bytes;
            if newest.is_none_or(|known| known.epoch < stats.epoch) {
                newest = Some(stats);
            }
        }
        if let Some(stats) = newest {
            peer.last_handshake_secs = stats.last_handshake_secs;
            peer.public_key = Some(stats.public_key.to_string());
            peer.underlay = Some(stats.underlay);
            peer.epoch = Some(stats.epoch);
            peer.slot = Some(stats.slot);
            peer.allowed_ips = stats.allowed_ips.iter().map(ToString::to_string).collect();
        }
    }
    Ok(peers)
}

async fn add(agent: &Running, pod_uid: String, ifname: &str) -> Result<Endpoint, String> {
    let (link, mac) = agent.netlink.pod_link(ifname).await?;
    let started = Instant::now();
    let mut endpoint = loop {
        let new = NewEndpoint {
            pod_uid: pod_uid.clone(),
            link: link.clone(),
            mac,
            found: FoundBy::Cni,
        };
        match ask(agent, |answer| Ask::AddEndpoint(new, answer)).await? {
            Ok(endpoint) => break endpoint,
            Err(AddError::Failed(problem)) => return Err(problem),
            Err(AddError::NotPlaced) if started.elapsed() < PLACEMENT => {
                tokio::time::sleep(LOOK).await;
            }
            Err(AddError::NotPlaced) => {
                return Err(format!(
                    "pod {pod_uid} is not placed on this node by the manifests: check its uid, \
                     spec.nodeName and status.podIPs"
                ));
            }
        }
    };
    let started = Instant::now();
    while !endpoint.is_ready() && started.elapsed() < CERTIFICATE {
        tokio::time::sleep(LOOK).await;
        let uid = pod_uid.clone();
        match ask(agent, |answer| Ask::Endpoint(uid, answer)).await? {
            Some(now) => endpoint = now,
            None => return Err(format!("pod {pod_uid} was removed while it was added")),
        }
    }
    Ok(endpoint)
}
