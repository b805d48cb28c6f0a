//! A node that lies: the credentials of a real node of a lab, in the hands of somebody who says what
//! he likes with them. What he may say rightly he says rightly; [`line`] has the rest.

pub mod line;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::Value;
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    time::TimeSource,
    tls::{ExpectPeer, SvidStore, TrustStore, client_config},
};
use signet_identity_api::{
    ALPN,
    client::connect,
    v1::{AttestRequest, IssueWorkloadRequest, node_client::NodeClient},
};
use tonic::{Code, transport::Channel};

use crate::{lab::Lab, netns};

/// What is left of a node whose agent was stopped: its place on the network, its key and certificate.
#[derive(Debug)]
pub struct Rogue {
    netns: String,
    uid: String,
    name: String,
    service: SocketAddr,
    pem: Vec<u8>,
    bundle: (TrustDomain, Vec<u8>),
    instance: AtomicU64,
    /// How often it has "booted": another number is another boot id.
    boots: AtomicU64,
}

/// What the identity service said no with.
pub type Refused = (Code, String);

impl Rogue {
    /// Takes over `node` of a lab; its agent must be down.
    ///
    /// # Errors
    /// If the node has never been in.
    pub fn of(lab: &Lab, node: &str) -> Result<Self> {
        let found = lab.node(node)?;
        let dir = found["config_dir"].as_str().context("config_dir")?;
        let dir = PathBuf::from(dir).join("data");
        let bundle: Value = serde_json::from_slice(&fs::read(dir.join("bundle.json"))?)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let service = lab.describe()?["identity"]["address"].take();
        Ok(Self {
            netns: text(&found["netns"])?,
            uid: text(&found["uid"])?,
            name: node.to_owned(),
            service: text(&service)?.parse()?,
            pem: fs::read(dir.join("node-svid.pem"))?,
            bundle: (
                TrustDomain::new(&text(&bundle["trust_domain"])?)?,
                text(&bundle["pem"])?.into_bytes(),
            ),
            // Newer than the agent's own, which are milliseconds of the boot clock.
            instance: AtomicU64::new(1 << 40),
            boots: AtomicU64::new(1),
        })
    }

    /// The node's SPIFFE ID.
    ///
    /// # Errors
    /// If its UID makes none.
    pub fn id(&self) -> Result<SpiffeId> {
        self.node_id(&self.uid)
    }

    /// The SPIFFE ID of a node of the same trust domain.
    ///
    /// # Errors
    /// If the UID makes none.
    pub fn node_id(&self, uid: &str) -> Result<SpiffeId> {
        Ok(SpiffeId::node(&self.bundle.0, uid)?)
    }

    /// The SPIFFE ID of a service account of the same trust domain.
    ///
    /// # Errors
    /// If the names make none.
    pub fn workload_id(&self, namespace: &str, account: &str) -> Result<SpiffeId> {
        Ok(SpiffeId::workload(&self.bundle.0, namespace, account)?)
    }

    /// The node's own SVID.
    ///
    /// # Errors
    /// If the stored one is damaged.
    pub fn svid(&self) -> Result<X509Svid> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(&self.pem)?;
        let chain = CertificateDer::pem_slice_iter(&self.pem).collect::<Result<Vec<_>, _>>()?;
        Ok(X509Svid::new(
            chain,
            SvidKey::from_pkcs8(key.secret_pkcs8_der())?,
        )?)
    }

    fn trust(&self) -> Result<TrustStore> {
        let (domain, pem) = self.bundle.clone();
        Ok(TrustStore::new(TrustBundle::from_pem(domain, 1, &pem)?))
    }

    fn boot_id(&self) -> [u8; 16] {
        let mut id = [0x5a; 16];
        id[8..].copy_from_slice(&self.boots.load(Ordering::SeqCst).to_be_bytes());
        id
    }

    fn next_instance(&self) -> u64 {
        self.instance.fetch_add(1, Ordering::SeqCst)
    }

    /// Asks for an agent-plane SVID of a pod, naming `id` in the request.
    ///
    /// # Errors
    /// If the service cannot be asked; what it refuses with is the inner error.
    pub fn issue(&self, pod_uid: &str, id: &SpiffeId) -> Result<Result<X509Svid, Refused>> {
        let key = SvidKey::generate()?;
        let request = IssueWorkloadRequest {
            pod_uid: pod_uid.to_owned(),
            csr: key.csr(id)?,
        };
        let answer = self.ask(true, async move |mut service| {
            service.issue_workload(request).await
        })?;
        let issued = match answer {
            Ok(issued) => issued.into_inner(),
            Err(status) => return Ok(Err((status.code(), status.message().to_owned()))),
        };
        let chain = issued.chain.into_iter().map(CertificateDer::from).collect();
        Ok(Ok(X509Svid::new(chain, key)?))
    }

    /// Asks to be let in as `node`, with a join token or (if that is empty) with the own node's key.
    ///
    /// # Errors
    /// If the service cannot be asked; what it refuses with is the inner error.
    pub fn attest(&self, node: &str, token: &str) -> Result<Result<(), Refused>> {
        let request = AttestRequest {
            join_token: token.to_owned(),
            node_name: node.to_owned(),
            csr: self.svid()?.key().anonymous_csr()?,
        };
        let answer = self.ask(false, async move |mut service| {
            service.attest(request).await.map(drop)
        })?;
        Ok(answer.map_err(|status| (status.code(), status.message().to_owned())))
    }

    /// One call of the identity service, from the node's own address.
    fn ask<T: Send + 'static>(
        &self,
        with_svid: bool,
        call: impl AsyncFnOnce(NodeClient<Channel>) -> T + Send + 'static,
    ) -> Result<T> {
        let (trust, time, address) = (self.trust()?, clock()?, self.service);
        let svid = SvidStore::new(self.svid()?);
        let service = SpiffeId::identity_service(&self.bundle.0);
        let config = client_config(
            &trust,
            with_svid.then_some(&svid),
            ExpectPeer::Id(service),
            &time,
            &[ALPN],
        )?;
        netns::within(&self.netns, move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                let channel = connect(address, config)
                    .await
                    .map_err(|error| anyhow!("{error}"))?;
                Ok(call(NodeClient::new(channel)).await)
            })
        })
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's network namespace.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }
}

/// The machine's own clock.
fn clock() -> Result<TimeSource> {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let boot = move || start.elapsed() + Duration::from_secs(1);
    Ok(TimeSource::new(boot, u64::try_from(wall.as_millis())?))
}
