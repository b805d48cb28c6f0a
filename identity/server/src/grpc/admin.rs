//! The Admin service, for `signetctl`, on a Unix socket.

use std::{sync::Arc, time::Duration};

use signet_identity_api::v1::{
    BundleShowRequest, BundleShowResponse, CreateTokenRequest, CreateTokenResponse,
    ListNodesRequest, ListNodesResponse, ListSvidsRequest, ListSvidsResponse, ManifestProblem,
    NodeInfo, StatusRequest, StatusResponse, SvidInfo, admin_server,
};
use signet_identity_core::{cluster::Node, token, unix_ms};
use tonic::{Request, Response, Status};

use super::{blocking, convert, status};
use crate::service::{Refused, Service};

/// The Admin service.
pub(crate) struct AdminService(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let CreateTokenRequest { node, ttl_s } = request.into_inner();
        let ttl = if ttl_s == 0 {
            token::DEFAULT_TTL
        } else {
            Duration::from_secs(ttl_s)
        };
        let service = Arc::clone(&self.0);
        let created = blocking(move || service.create_token(&node, ttl)).await?;
        let (token, expires_ms) = created.map_err(|refused| status(&refused))?;
        Ok(Response::new(CreateTokenResponse {
            token: token.expose().to_owned(),
            expires_ms,
        }))
    }

    async fn list_nodes(
        &self,
        _: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let service = Arc::clone(&self.0);
        let listed = blocking(move || list_nodes(&service)).await?;
        let nodes = listed.map_err(|refused| status(&refused))?;
        Ok(Response::new(ListNodesResponse { nodes }))
    }

    async fn list_svids(
        &self,
        _: Request<ListSvidsRequest>,
    ) -> Result<Response<ListSvidsResponse>, Status> {
        let now = self.0.time.now().wall;
        let ledger = self.0.ledger();
        let mut svids: Vec<_> = ledger
            .valid(now)
            .map(|(_, pod, issued)| SvidInfo {
                spiffe_id: issued.svid.id.to_string(),
                purpose: issued.svid.purpose.to_string(),
                node: issued.node_name.clone(),
                pod: issued.pod_name.clone(),
                pod_uid: pod.map(ToString::to_string).unwrap_or_default(),
                serial: hex::encode(&issued.svid.serial),
                sha256: hex::encode(issued.svid.cert_sha256),
                not_before_ms: unix_ms(issued.svid.not_before),
                not_after_ms: unix_ms(issued.svid.not_after),
            })
            .collect();
        svids.sort_by(|a, b| (&a.spiffe_id, &a.pod, &a.node).cmp(&(&b.spiffe_id, &b.pod, &b.node)));
        Ok(Response::new(ListSvidsResponse { svids }))
    }

    async fn bundle_show(
        &self,
        _: Request<BundleShowRequest>,
    ) -> Result<Response<BundleShowResponse>, Status> {
        Ok(Response::new(BundleShowResponse {
            trust_domain: self.0.trust_domain.to_string(),
            bundle: Some(convert::bundle(&self.0.trust.load())),
            authorities: convert::authorities(&self.0.authorities()),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let service = &self.0;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (nodes, streaming, pods, generation) = service.hub.look(|directory| {
            let nodes: Vec<_> = directory.nodes().map(|node| node.uid.clone()).collect();
            (
                nodes,
                directory.streaming(),
                directory.len(),
                directory.generation(),
            )
        });
        let joined = {
            let joined = service.joined();
            nodes.iter().filter(|uid| joined.contains_key(*uid)).count()
        };
        let problems = service
            .problems()
            .clone()
            .into_iter()
            .map(|problem| ManifestProblem {
                file: problem.file,
                object: problem.object,
                message: problem.message,
            });
        Ok(Response::new(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: service.trust_domain.to_string(),
            started_ms: service.started_ms,
            now_ms: service.time.wall_ms(),
            generation,
            bundle_sequence: service.trust.load().sequence(),
            authorities: convert::authorities(&service.authorities()),
            nodes: count(nodes.len()),
            nodes_attested: count(joined),
            nodes_streaming: count(streaming),
            pods: count(pods),
            problems: problems.collect(),
            svid_ttl_s: service.ttl.as_secs(),
        }))
    }
}

fn list_nodes(service: &Service) -> Result<Vec<NodeInfo>, Refused> {
    let open = service.store.open_tokens(service.time.now().wall)?;
    let rows: Vec<_> = service.hub.look(|directory| {
        let row = |node: &Arc<Node>| {
            let pods = directory.pods_on(&node.uid);
            (Arc::clone(node), pods, directory.is_streaming(&node.uid))
        };
        directory.nodes().map(row).collect()
    });
    let joined = service.joined();
    let mut nodes: Vec<_> = rows
        .into_iter()
        .map(|(node, pods, stream_up)| {
            let record = joined.get(&node.uid);
            NodeInfo {
                name: node.name.clone(),
                uid: node.uid.to_string(),
                spiffe_id: node.spiffe_id.to_string(),
                addresses: node.underlay.iter().map(ToString::to_string).collect(),
                pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
                attested: record.is_some(),
                last_issued_ms: record.map_or(0, |record| record.issued_ms),
                svid_not_after_ms: record.map_or(0, |record| record.not_after_ms),
                stream_up,
                pods: u32::try_from(pods).unwrap_or(u32::MAX),
                open_tokens: open.get(&node.name).copied().unwrap_or_default(),
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}
