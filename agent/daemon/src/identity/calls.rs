//! Unary calls: certificates and lookups.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use signet_agent_core::io::{DirectoryInput, Entry, LookupKey};
use signet_crypto::{
    spiffe_id::SpiffeId,
    svid::X509Svid,
    x509::{
        profile::Purpose,
        verify::{Expect, Usage, verify},
    },
};
use signet_identity_api::{
    address_bytes,
    v1::{
        AttestRequest, IssueWorkloadRequest, LookupRequest, RenewNodeRequest, lookup_request::Key,
    },
};
use tonic::Request;

use super::{
    CALL_TIMEOUT, IdentityService, attest::checked, convert, csr_for, key_and_csr, node_client,
    reason,
};

impl IdentityService {
    /// An agent-plane SVID for a pod of this node, with a key that never leaves this process.
    ///
    /// # Errors
    /// One line: the service's refusal, or why it could not be asked.
    pub(crate) async fn issue_workload(
        &self,
        pod_uid: &str,
        id: &SpiffeId,
    ) -> Result<X509Svid, String> {
        let (key, csr) = key_and_csr(Some(id))?;
        let request = IssueWorkloadRequest {
            pod_uid: pod_uid.to_owned(),
            csr,
        };
        let answer = self.client.clone().issue_workload(timed(request)).await;
        let response = answer.map_err(|status| reason(&status))?.into_inner();
        let chain: Vec<_> = response
            .chain
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let expect = Expect {
            id: Some(id.clone()),
            purpose: Some(Purpose::AgentPlane),
            node: Some(self.svid.load().id().clone()),
            usage: Usage::Either,
        };
        verify(&chain, &self.trust.load(), self.time.now().wall, &expect).map_err(|error| {
            format!("identity service sent a bad certificate for {id}: {error}")
        })?;
        X509Svid::new(chain, key).map_err(|error| error.to_string())
    }

    /// A fresh SVID for this node and the same key, already put into the store that TLS uses.
    ///
    /// # Errors
    /// As [`IdentityService::issue_workload`]; the SVID before stays in use.
    pub(crate) async fn renew_node(&self) -> Result<Arc<X509Svid>, String> {
        let current = self.svid.load();
        let key = current.key().clone();
        let csr = csr_for(&key, None)?;
        let expired = current.not_after() <= self.time.now().wall;
        let chain = if expired {
            // TLS would refuse the old certificate; the key itself still brings the node in.
            let mut client = node_client(self.address, &self.trust, None, &self.time)?;
            let node_name = self.node_name.clone();
            let request = AttestRequest {
                join_token: String::new(),
                node_name,
                csr,
            };
            client
                .attest(timed(request))
                .await
                .map(|response| response.into_inner().chain)
        } else {
            let answer = self
                .client
                .clone()
                .renew_node(timed(RenewNodeRequest { csr }))
                .await;
            answer.map(|response| response.into_inner().chain)
        };
        let chain = chain.map_err(|status| reason(&status))?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let svid = checked(
            chain,
            key,
            Some(current.id().clone()),
            &self.trust,
            &self.time,
        )?;
        self.svid.swap(svid).map_err(|error| error.to_string())?;
        Ok(self.svid.load())
    }

    /// Asks the directory.
    pub(crate) async fn lookup(&self, key: LookupKey) -> DirectoryInput {
        match self.look_up(&key).await {
            Ok(entry) => DirectoryInput::Answer {
                key,
                entry: entry.map(Box::new),
            },
            Err(error) => DirectoryInput::Failed { key, error },
        }
    }

    async fn look_up(&self, key: &LookupKey) -> Result<Option<Entry>, String> {
        let wire = match key {
            LookupKey::Address(address) => Key::Address(address_bytes(*address)),
            LookupKey::Pod(uid) => Key::PodUid(uid.as_str().to_owned()),
        };
        let request = timed(LookupRequest { key: Some(wire) });
        let answer = self.client.clone().lookup(request).await;
        let response = answer.map_err(|status| reason(&status))?.into_inner();
        response
            .entry
            .map(|entry| convert::entry(entry, &self.trust))
            .transpose()
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}
