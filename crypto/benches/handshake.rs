//! What a node channel and its proofs cost: both ends of a mutual handshake, one proof made, one
//! proof checked, one leaf issued.

use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use signet_crypto::bundle::TrustBundle;
use signet_crypto::spiffe_id::{SpiffeId, TrustDomain};
use signet_crypto::svid::{SvidKey, X509Svid};
use signet_crypto::time::{Now, TimeSource, UnixTime};
use signet_crypto::tls::authenticator::{Request, Role, Secrets, create, verify};
use signet_crypto::tls::{
    ClientAuth, ExpectPeer, SvidStore, TrustStore, client_config, server_config,
};
use signet_crypto::x509::build::{IssuingAuthority, LeafSpec, RootAuthority};
use signet_crypto::x509::csr;
use signet_crypto::x509::profile::{Binding, Purpose};
use signet_crypto::x509::verify::Expect;

const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));
const HOUR: Duration = Duration::from_secs(3600);

type Failed = Box<dyn std::error::Error>;

struct World {
    issuing: IssuingAuthority,
    bundle: TrustBundle,
    trust_domain: TrustDomain,
}

impl World {
    fn new() -> Result<Self, Failed> {
        let trust_domain = TrustDomain::new("td.test")?;
        let root = RootAuthority::generate(&trust_domain, NOW, 10 * HOUR)?;
        let issuing = root.issue_intermediate(NOW, 5 * HOUR)?;
        let bundle = TrustBundle::new(trust_domain.clone(), 1, vec![root.certificate().clone()])?;
        Ok(Self {
            issuing,
            bundle,
            trust_domain,
        })
    }

    fn spec(
        &self,
        key: &SvidKey,
        id: SpiffeId,
        binding: Option<Binding>,
    ) -> Result<LeafSpec, Failed> {
        let purpose = if binding.is_some() {
            Purpose::AgentPlane
        } else {
            Purpose::NodeAgent
        };
        Ok(LeafSpec {
            public_key: csr::parse(&key.csr(&id)?)?,
            id,
            purpose,
            binding,
            not_before: NOW,
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs()) + HOUR),
            serial: [1; 16],
        })
    }

    fn svid(&self, id: SpiffeId, binding: Option<Binding>) -> Result<X509Svid, Failed> {
        let key = SvidKey::generate()?;
        let chain = self.issuing.issue_leaf(&self.spec(&key, id, binding)?)?;
        Ok(X509Svid::new(chain, key)?)
    }
}

fn connect(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Failed> {
    let mut client = ClientConnection::new(Arc::clone(client), "unused.invalid".try_into()?)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut bytes = Vec::with_capacity(16 * 1024);
    while client.is_handshaking() || server.is_handshaking() {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes)?;
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            server.read_tls(&mut input)?;
        }
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes)?;
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            client.read_tls(&mut input)?;
        }
        client.process_new_packets()?;
    }
    Ok((client, server))
}

fn measure(criterion: &mut Criterion) -> Result<(), Failed> {
    let world = World::new()?;
    let trust = TrustStore::new(world.bundle.clone());
    let time = TimeSource::fixed(Now {
        boot: HOUR,
        wall: NOW,
    });
    let node = |uid| SpiffeId::node(&world.trust_domain, uid);
    let (a, b) = (world.svid(node("a")?, None)?, world.svid(node("b")?, None)?);
    let expect = ExpectPeer::Purpose(Purpose::NodeAgent);
    let a = SvidStore::new(a);
    let client = client_config(&trust, Some(&a), expect.clone(), &time, &[b"signet/1"])?;
    let ask = ClientAuth::Required(expect);
    let server = server_config(&trust, &SvidStore::new(b), ask, &time, &[b"signet/1"])?;
    criterion.bench_function("mutual handshake, both ends", |bencher| {
        bencher.iter(|| {
            connect(&client, &server)
                .map(drop)
                .map_err(|error| error.to_string())
        });
    });

    let (client, server) = connect(&client, &server)?;
    let proving = Secrets::from_channel(&client, Role::Client)?;
    let verifying = Secrets::from_channel(&server, Role::Client)?;
    let id = SpiffeId::workload(&world.trust_domain, "shop", "web")?;
    let binding = Binding::new(&node("a")?, "namespace-uid", "service-account-uid");
    let workload = world.svid(id.clone(), Some(binding.clone()))?;
    let request = Request { context: [7; 32] };
    criterion.bench_function("proof create", |bencher| {
        bencher.iter(|| create(&proving, &request, &workload));
    });

    let proof = create(&proving, &request, &workload)?;
    let expect = Expect::workload_on(id.clone(), node("a")?);
    verify(&verifying, &request, &proof, &world.bundle, NOW, &expect)?;
    criterion.bench_function("proof verify", |bencher| {
        bencher.iter(|| verify(&verifying, &request, &proof, &world.bundle, NOW, &expect));
    });

    let spec = world.spec(&SvidKey::generate()?, id, Some(binding))?;
    criterion.bench_function("leaf issue", |bencher| {
        bencher.iter(|| world.issuing.issue_leaf(&spec));
    });
    Ok(())
}

fn main() -> Result<(), Failed> {
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
