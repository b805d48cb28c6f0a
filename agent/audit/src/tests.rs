//! A log as an agent writes it, in memory, for the tests of this crate.

mod fields;
mod recovery;
mod tamper;
mod verdicts;

use std::time::Duration;

use rustls_pki_types::UnixTime;
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    x509::{
        build::{LeafSpec, RootAuthority},
        csr,
        profile::Purpose,
    },
};

use crate::{
    chain::{Chain, Moment, Owner, Position},
    key::SigningKey,
    line::{Hash, Line},
    record::{End, Event, Facts, Role, Verdict as Decision},
    segment::file_name,
    verify::{Report, Verdict, Verifier},
};

const NOW_MS: u64 = 1_900_000_000_000;

/// A trust domain.
struct World {
    root: RootAuthority,
}

impl World {
    fn new() -> Self {
        let root = RootAuthority::generate(&domain(), now(), Duration::from_secs(86_400)).unwrap();
        Self { root }
    }

    fn bundle(&self) -> Vec<u8> {
        let authorities = vec![self.root.certificate().clone()];
        let bundle = TrustBundle::new(domain(), 1, authorities).unwrap();
        bundle.to_pem().into_bytes()
    }

    fn node(&self, uid: &str) -> X509Svid {
        let id = SpiffeId::node(&domain(), uid).unwrap();
        let issuing = self
            .root
            .issue_intermediate(now(), Duration::from_secs(7200))
            .unwrap();
        let key = SvidKey::generate().unwrap();
        let spec = LeafSpec {
            public_key: csr::parse(&key.csr(&id).unwrap()).unwrap(),
            id,
            purpose: Purpose::NodeAgent,
            binding: None,
            not_before: UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS - 60_000)),
            not_after: UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS + 3_600_000)),
            serial: [9; 16],
        };
        X509Svid::new(issuing.issue_leaf(&spec).unwrap(), key).unwrap()
    }
}

fn domain() -> TrustDomain {
    TrustDomain::new("td.test").unwrap()
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS))
}

fn workload(name: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "shop", name).unwrap()
}

/// A record with every field of a pair.
fn opened(n: u64) -> Facts {
    let end = |name: &str, byte: u8| End {
        id: Some(workload(name)),
        pod: format!("{name}-{n}"),
        certificate: Some(Hash::of(&[byte])),
        wireguard: Some(Hash::of(&[byte, 1])),
    };
    Facts {
        session_id: Some(Hash::of(&n.to_be_bytes())),
        role: Some(Role::Client),
        remote_node: Some(SpiffeId::node(&domain(), "b").unwrap()),
        remote_address: Some("10.0.0.7".parse().unwrap()),
        key_exchange: "X25519MLKEM768".to_owned(),
        cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
        epoch: Some(n),
        not_after: Some(NOW_MS / 1000 + n),
        ..Facts::new(Event::Opened)
    }
    .local(end("web", 1))
    .remote(end("db", 2))
    .decided(Decision::Allowed, "a \"rule\"\\ admits it")
}

/// Segments of a log, and the newest checkpoint.
#[derive(Clone, PartialEq, Eq)]
struct Log {
    segments: Vec<Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
}

/// An agent that writes a [`Log`].
struct Writer {
    svid: X509Svid,
    chain: Chain,
    log: Log,
    clock: u64,
}

impl Writer {
    fn new(svid: X509Svid) -> Self {
        let chain = Chain::new(
            SigningKey::generate().unwrap(),
            owner(&svid),
            Position::START,
        );
        let log = Log {
            segments: Vec::new(),
            checkpoint: None,
        };
        Self {
            svid,
            chain,
            log,
            clock: 0,
        }
    }

    fn moment(&mut self) -> Moment {
        self.clock += 7;
        Moment {
            wall_ms: NOW_MS + self.clock,
            boot_ms: 5_000 + self.clock,
        }
    }

    fn segment(&mut self) {
        let now = self.moment();
        let header = self.chain.header(now, &self.svid).unwrap();
        self.log.segments.push(header);
    }

    fn record(&mut self, facts: Facts) {
        let now = self.moment();
        let line = self.chain.record(now, facts);
        self.push(&line);
    }

    fn batch(&mut self) {
        let now = self.moment();
        if let Some(line) = self.chain.batch(now) {
            self.push(&line);
        }
    }

    fn checkpoint(&mut self) {
        let now = self.moment();
        if let Some(line) = self.chain.checkpoint(now) {
            self.push(&line);
            self.log.checkpoint = Some(line);
        }
    }

    fn push(&mut self, line: &[u8]) {
        self.log.segments.last_mut().unwrap().extend(line);
    }

    /// Batches of three records; a checkpoint after every second, and one batch behind the last.
    fn fill(&mut self, segments: u64, batches: u64) {
        for segment in 0..segments {
            self.segment();
            for batch in 0..batches {
                for n in 0..3 {
                    self.record(opened(segment * 100 + batch * 10 + n));
                }
                self.batch();
                if batch % 2 == 0 {
                    self.record(Facts::counted(
                        Event::Suppressed,
                        batch,
                        "more than 5 a second",
                    ));
                    self.checkpoint();
                }
            }
        }
    }
}

fn owner(svid: &X509Svid) -> Owner {
    Owner {
        node: svid.id().clone(),
        boot_id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
    }
}

impl Log {
    fn verify(&self, bundle: Option<&[u8]>) -> Report {
        let names = (1..=self.segments.len() as u64).map(file_name);
        self.verify_as(names, bundle)
    }

    fn verify_as(&self, names: impl Iterator<Item = String>, bundle: Option<&[u8]>) -> Report {
        let mut verifier = Verifier::new(bundle);
        if let Some(line) = &self.checkpoint
            && let Err(what) = verifier.checkpoint("checkpoint", line)
        {
            verifier.reject("checkpoint", &what);
        }
        for (name, segment) in names.zip(&self.segments) {
            verifier.segment(&name, segment);
        }
        verifier.finish()
    }

    /// All lines, line feeds included.
    fn lines(&self) -> Vec<Vec<u8>> {
        let lines = self.segments.iter();
        lines
            .flat_map(|segment| segment.split_inclusive(|byte| *byte == b'\n'))
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn joined(&self) -> Vec<u8> {
        self.segments.concat()
    }
}

fn parsed(line: &[u8]) -> Line {
    Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap()
}

fn assert_whole(report: &Report) {
    assert_eq!(report.verdict(), Verdict::Whole, "{:?}", report.broken);
}
