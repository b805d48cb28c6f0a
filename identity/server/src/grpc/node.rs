//! The Node service, for agents.

use std::{pin::Pin, sync::Arc};

use signet_identity_api::{
    parse_address,
    v1::{
        AttestRequest, AttestResponse, IssueWorkloadRequest, IssueWorkloadResponse, LookupRequest,
        LookupResponse, RenewNodeRequest, RenewNodeResponse, WatchEvent, WatchRequest,
        lookup_request::Key, node_server,
    },
};
use signet_identity_core::{cluster::PodUid, unix_ms};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    blocking,
    caller::{caller, peer},
    convert, status, watch,
};
use crate::{metrics::Outcome, service::Service};

/// Attestations at work or waiting. Anybody may ask for one, so they have room of their own.
const ATTESTATIONS: usize = 4096;
/// Signatures and store transactions at work at once: the machine has no more cores than this.
const WORKERS: usize = 32;

/// The Node service.
#[derive(Clone)]
pub(crate) struct NodeService {
    service: Arc<Service>,
    attestations: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl NodeService {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            attestations: Arc::new(Semaphore::new(ATTESTATIONS)),
            workers: Arc::new(Semaphore::new(WORKERS)),
        }
    }

    /// Waits for a free worker and lets it do `act`.
    async fn work<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Service) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let permit = Arc::clone(&self.workers).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the service is stopping"))?;
        let service = Arc::clone(&self.service);
        blocking(move || {
            let _permit = permit;
            act(&service)
        })
        .await
    }
}

#[tonic::async_trait]
impl node_server::Node for NodeService {
    async fn attest(
        &self,
        request: Request<AttestRequest>,
    ) -> Result<Response<AttestResponse>, Status> {
        let from = peer(request.extensions())?.address;
        let _room = self
            .attestations
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many attestations; try again"))?;
        let AttestRequest {
            join_token,
            node_name,
            csr,
        } = request.into_inner();
        let attested = self
            .work(move |service| service.attest(&node_name, &join_token, &csr, from))
            .await?;
        let (node, issued) = attested.map_err(|refused| status(&refused))?;
        Ok(Response::new(AttestResponse {
            chain: convert::chain(&issued),
            bundle: Some(convert::bundle(&self.service.trust.load())),
            node_uid: node.uid.to_string(),
            server_time_ms: self.service.time.wall_ms(),
        }))
    }

    async fn renew_node(
        &self,
        request: Request<RenewNodeRequest>,
    ) -> Result<Response<RenewNodeResponse>, Status> {
        let peer = peer(request.extensions())?;
        let node = caller(&self.service, &peer)?;
        let csr = request.into_inner().csr;
        let renewed = self
            .work(move |service| service.renew_node(&node.uid, &csr))
            .await?;
        let issued = renewed.map_err(|refused| status(&refused))?;
        peer.renewed(&issued.svid);
        Ok(Response::new(RenewNodeResponse {
            chain: convert::chain(&issued),
            not_after_ms: unix_ms(issued.svid.not_after),
        }))
    }

    async fn issue_workload(
        &self,
        request: Request<IssueWorkloadRequest>,
    ) -> Result<Response<IssueWorkloadResponse>, Status> {
        let node = caller(&self.service, &peer(request.extensions())?)?;
        let IssueWorkloadRequest { pod_uid, csr } = request.into_inner();
        let pod = PodUid::from(pod_uid.as_str());
        let issued = self
            .work(move |service| service.issue_workload(&node, &pod, &csr))
            .await?;
        let issued = issued.map_err(|refused| status(&refused))?;
        Ok(Response::new(IssueWorkloadResponse {
            chain: convert::chain(&issued),
            spiffe_id: issued.svid.id.to_string(),
            not_after_ms: unix_ms(issued.svid.not_after),
        }))
    }

    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        caller(&self.service, &peer(request.extensions())?)?;
        let key = request.into_inner().key;
        let key = key.ok_or_else(|| Status::invalid_argument("neither address nor pod_uid"))?;
        let address = match &key {
            Key::Address(bytes) => Some(
                parse_address(bytes)
                    .ok_or_else(|| Status::invalid_argument("an address has 4 or 16 bytes"))?,
            ),
            Key::PodUid(_) => None,
        };
        let (entry, generation) = self.service.hub.look(|directory| {
            let entry = match (&key, address) {
                (_, Some(address)) => directory.at(address),
                (Key::PodUid(uid), None) => directory.entry(&PodUid::from(uid.as_str())),
                (Key::Address(_), None) => None,
            };
            (entry, directory.generation())
        });
        let outcome = if entry.is_some() { "hit" } else { "miss" };
        self.service
            .metrics
            .lookups
            .get_or_create(&Outcome { outcome })
            .inc();
        let entry = entry.map(|entry| convert::entry(&entry));
        Ok(Response::new(LookupResponse { entry, generation }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = peer(request.extensions())?;
        let node = caller(&self.service, &peer)?;
        let events = watch::start(Arc::clone(&self.service), peer, &node, request.into_inner())?;
        Ok(Response::new(Box::pin(events)))
    }
}
