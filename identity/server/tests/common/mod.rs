//! The real service on loopback, and nodes that talk to it.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on ends"
)]

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    time::TimeSource,
    tls::{ExpectPeer, SvidStore, TrustStore, client_config},
};
use signet_identity_api::{
    ALPN,
    client::{connect, connect_admin},
    v1::{
        self, AttestRequest, AttestResponse, CreateTokenRequest, IssueWorkloadRequest,
        IssueWorkloadResponse, LookupRequest, LookupResponse, WatchEvent, WatchRequest,
        admin_client::AdminClient, lookup_request::Key, node_client::NodeClient, watch_event,
        watch_request::Change,
    },
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const BASE: &str = "
apiVersion: v1
kind: Node
metadata: {name: a, uid: node-a}
spec: {podCIDRs: [10.1.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, uid: node-b}
spec: {podCIDRs: [10.1.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: ns-shop, labels: {team: red}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop, uid: sa-web}
";

pub(crate) fn pod(name: &str, node: &str, address: &str, label: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: uid-{name}, labels: {{app: {label}}}}}
spec: {{nodeName: {node}, serviceAccountName: web}}
status: {{podIPs: [{{ip: {address}}}]}}
"
    )
}

pub(crate) fn put(dir: &Path, name: &str, text: &str) {
    let beside = dir.join(format!(".{name}.new"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, dir.join(name)).unwrap();
}

pub(crate) fn td() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// A place for a service: its manifests, its data, its ports.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let place = Self {
            dir,
            address: free_port(),
            metrics: free_port(),
        };
        place.put("base.yaml", BASE);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        put(&self.path("manifests"), name, text);
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path("manifests").join(name)).unwrap();
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("data").join("identity.redb")
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signet-identity"));
        command
            .arg("run")
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--manifests")
            .arg(self.path("manifests"))
            .arg("--admin-socket")
            .arg(self.path("admin.sock"))
            .args(["--listen", &self.address.to_string()])
            .args(["--metrics", &self.metrics.to_string()])
            .args(more)
            .env("SIGNET_LOG", "info");
        if !more.contains(&"--trust-domain") {
            command.args(["--trust-domain", "example.org"]);
        }
        command
    }

    /// Runs the service where it must not start; gives its one line.
    pub(crate) fn refused(&self, more: &[&str]) -> String {
        let Output { status, stderr, .. } = self.command(more).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("error:"))
            .collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0].to_owned()
    }

    pub(crate) fn start(&self, more: &[&str]) -> Service<'_> {
        self.try_start(more)
            .unwrap_or_else(|log| panic!("not started: {log}"))
    }

    /// The running service, or what it said before it ended.
    pub(crate) fn try_start(&self, more: &[&str]) -> Result<Service<'_>, String> {
        let log = self.path("log");
        let before = fs::read_to_string(&log).unwrap_or_default().len();
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = self
            .command(more)
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        let mut service = Service { place: self, child };
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = service.child.try_wait().unwrap().is_some();
            let said = service.log().split_off(before);
            if said.contains("identity service is ready") {
                return Ok(service);
            }
            if ended {
                return Err(said);
            }
            assert!(Instant::now() < until, "{said}");
            sleep(Duration::from_millis(20));
        }
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A running service; killed when dropped.
pub(crate) struct Service<'a> {
    pub(crate) place: &'a Place,
    child: Child,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service<'_> {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path("log")).unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(mut self) -> bool {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success());
        self.child.wait().unwrap().success()
    }

    /// What a scrape says of one sample, such as `signet_identity_nodes` or `name{label="x"}`.
    pub(crate) fn metric(&self, sample: &str) -> Option<i64> {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| {
            line.strip_prefix(sample)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(self.place.metrics).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        let socket = self.place.path("admin.sock");
        assert_eq!(
            fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
            0o600
        );
        AdminClient::new(connect_admin(&socket).await.unwrap())
    }

    pub(crate) async fn token(&self, node: &str, ttl_s: u64) -> String {
        let request = CreateTokenRequest {
            node: node.into(),
            ttl_s,
        };
        self.admin()
            .await
            .create_token(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }

    pub(crate) fn trust(&self) -> TrustStore {
        let pem = fs::read(self.place.path("data").join("bundle.pem")).unwrap();
        TrustStore::new(TrustBundle::from_pem(td(), 0, &pem).unwrap())
    }

    /// A client, with or without an SVID.
    pub(crate) async fn client(&self, svid: Option<&SvidStore>) -> NodeClient<Channel> {
        let expect = ExpectPeer::Id(SpiffeId::identity_service(&td()));
        let config = client_config(&self.trust(), svid, expect, &clock(), &[ALPN]).unwrap();
        NodeClient::new(connect(self.place.address, config).await.unwrap())
    }

    pub(crate) async fn attest(
        &self,
        node: &str,
        token: &str,
        key: &SvidKey,
    ) -> Result<AttestResponse, Status> {
        let request = AttestRequest {
            join_token: token.into(),
            node_name: node.into(),
            csr: key.anonymous_csr().unwrap(),
        };
        self.client(None)
            .await
            .attest(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Brings a node in with a fresh token.
    pub(crate) async fn join(&self, node: &str) -> Node {
        let key = SvidKey::generate().unwrap();
        let answer = self
            .attest(node, &self.token(node, 0).await, &key)
            .await
            .unwrap();
        self.node(answer.chain, key).await
    }

    pub(crate) async fn node(&self, chain: Vec<Vec<u8>>, key: SvidKey) -> Node {
        let svid = X509Svid::new(certificates(chain), key).unwrap();
        let store = SvidStore::new(svid);
        Node {
            client: self.client(Some(&store)).await,
            svid: store,
        }
    }
}

pub(crate) fn certificates(chain: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    chain.into_iter().map(CertificateDer::from).collect()
}

pub(crate) fn clock() -> TimeSource {
    let ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    TimeSource::new(ms, u64::try_from(ms().as_millis()).unwrap())
}

/// A node that is in, with a connection that proves it.
pub(crate) struct Node {
    pub(crate) client: NodeClient<Channel>,
    pub(crate) svid: SvidStore,
}

impl Node {
    pub(crate) async fn issue(
        &self,
        pod: &str,
        csr: Vec<u8>,
    ) -> Result<IssueWorkloadResponse, Status> {
        let request = IssueWorkloadRequest {
            pod_uid: pod.into(),
            csr,
        };
        self.client
            .clone()
            .issue_workload(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn at(&self, address: &str) -> Result<LookupResponse, Status> {
        let address: std::net::IpAddr = address.parse().unwrap();
        let key = Key::Address(signet_identity_api::address_bytes(address));
        let request = LookupRequest { key: Some(key) };
        self.client
            .clone()
            .lookup(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn watch(&self) -> Watch {
        let (requests, receiver) = mpsc::channel(1024);
        let events = self
            .client
            .clone()
            .watch(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Watch { requests, events }
    }
}

/// A Watch stream.
pub(crate) struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    events: Streaming<WatchEvent>,
}

impl Watch {
    pub(crate) async fn subscribe(&self, pod: &str) {
        self.requests.send(subscription(pod)).await.unwrap();
    }

    pub(crate) fn requests(&self) -> mpsc::Sender<WatchRequest> {
        self.requests.clone()
    }

    /// The next event but the time.
    pub(crate) async fn next(&mut self) -> Result<watch_event::Event, Status> {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.message())
                .await
                .unwrap()?;
            let event = event.ok_or_else(|| Status::ok("the stream ended without a word"))?;
            match event.event.unwrap() {
                watch_event::Event::Time(_) => {}
                event => return Ok(event),
            }
        }
    }

    pub(crate) async fn entry(&mut self) -> v1::Entry {
        match self.next().await.unwrap() {
            watch_event::Event::Entry(entry) => entry,
            other => panic!("an entry was due, not {other:?}"),
        }
    }

    /// The first events of every stream: the bundle, and when keys are due. The time comes beside.
    pub(crate) async fn first(&mut self) -> v1::TrustBundle {
        let bundle = match self.next().await.unwrap() {
            watch_event::Event::Bundle(bundle) => bundle,
            other => panic!("the bundle was due, not {other:?}"),
        };
        match self.next().await.unwrap() {
            watch_event::Event::Epochs(epochs) => assert!(epochs.length_ms > epochs.jitter_ms),
            other => panic!("the epochs were due, not {other:?}"),
        }
        bundle
    }
}

pub(crate) fn subscription(pod: &str) -> WatchRequest {
    WatchRequest {
        change: Some(Change::Subscribe(pod.into())),
    }
}

/// Waits until `look` says so.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
