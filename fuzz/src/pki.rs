//! One trust domain that never changes, so that seeds with its certificates stay good.
//!
//! Its public half is checked in under `fixtures/`. The private half lived while it was made:
//! nobody can sign anything more, which is what the targets count on.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, UnixTime};
use signet_agent_core::sim::network::SimSecrets;
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::{SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    tls::authenticator::Role,
    x509::{
        build::{IssuingAuthority, LeafSpec, RootAuthority},
        csr,
        profile::{Binding, Purpose},
        verify::{Expect, Usage, VerifiedSvid, verify},
    },
};

/// Far from the machine's clock, so that nothing passes by looking at that one.
const PRESENT: u64 = 2_200_000_000;
const HOUR: u64 = 3600;

pub(crate) fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(PRESENT.saturating_add_signed(seconds)))
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("fuzz.test").unwrap()
}

/// Whose certificate the fixture is.
pub(crate) fn web() -> SpiffeId {
    SpiffeId::workload(&domain(), "shop", "web").unwrap()
}

/// The node that it is bound to.
pub(crate) fn node() -> SpiffeId {
    SpiffeId::node(&domain(), "node-1").unwrap()
}

/// What is checked in.
pub(crate) struct Known {
    pub(crate) bundle: TrustBundle,
    /// Another domain's, which signed none of this.
    pub(crate) foreign: TrustBundle,
    /// The one leaf that anybody has the key of, as it verifies.
    pub(crate) web: VerifiedSvid,
}

pub(crate) fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let [root, issuing, web] = ["root", "issuing", "web"].map(|name| {
            let path = folder().join(format!("{name}.der"));
            let der = std::fs::read(&path);
            CertificateDer::from(der.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        });
        let bundle = TrustBundle::new(domain(), 1, vec![root]).unwrap();
        let expect = Expect::any(Usage::Either);
        let web = verify(&[web, issuing], &bundle, at(0), &expect).unwrap();
        let other = TrustDomain::new("other.test").unwrap();
        let root = RootAuthority::generate(&other, at(0), Duration::from_secs(HOUR)).unwrap();
        let foreign = TrustBundle::new(other, 1, vec![root.certificate().clone()]).unwrap();
        Known {
            bundle,
            foreign,
            web,
        }
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A domain with its private half, to make fixtures and seeds from.
pub(crate) struct Fresh {
    root: RootAuthority,
    pub(crate) issuing: IssuingAuthority,
}

pub(crate) fn fresh() -> &'static Fresh {
    static FRESH: OnceLock<Fresh> = OnceLock::new();
    FRESH.get_or_init(|| {
        let root =
            RootAuthority::generate(&domain(), at(0), Duration::from_secs(100 * HOUR)).unwrap();
        let issuing = root
            .issue_intermediate(at(0), Duration::from_secs(50 * HOUR))
            .unwrap();
        Fresh { root, issuing }
    })
}

impl Fresh {
    /// Whom the bundle of the seeds' own making believes.
    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(domain(), 1, vec![self.root.certificate().clone()]).unwrap()
    }

    /// The one certificate whose key is ever used.
    pub(crate) fn web(&self) -> &'static X509Svid {
        static WEB: OnceLock<X509Svid> = OnceLock::new();
        WEB.get_or_init(|| {
            let key = SvidKey::generate().unwrap();
            let chain = self.issuing.issue_leaf(&spec(&key.csr(&web()).unwrap()));
            X509Svid::new(chain.unwrap(), key).unwrap()
        })
    }

    /// The node's own certificate.
    pub(crate) fn node(&self) -> &'static X509Svid {
        static NODE: OnceLock<X509Svid> = OnceLock::new();
        NODE.get_or_init(|| {
            let key = SvidKey::generate().unwrap();
            let node = LeafSpec {
                id: node(),
                purpose: Purpose::NodeAgent,
                binding: None,
                ..spec(&key.csr(&node()).unwrap())
            };
            X509Svid::new(self.issuing.issue_leaf(&node).unwrap(), key).unwrap()
        })
    }
}

/// A leaf for whoever made this certificate request.
pub(crate) fn spec(request: &[u8]) -> LeafSpec {
    LeafSpec {
        id: web(),
        public_key: csr::parse(request).unwrap(),
        purpose: Purpose::AgentPlane,
        binding: Some(Binding::new(
            &node(),
            "namespace-uid",
            "service-account-uid",
        )),
        not_before: at(-60),
        not_after: at(HOUR.cast_signed()),
        serial: [7; 16],
    }
}

/// Writes the public half of [`fresh`] over the fixtures; the seeds must follow.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_fixtures() -> std::io::Result<()> {
    let fresh = fresh();
    std::fs::create_dir_all(folder())?;
    let chain = fresh.web().chain();
    for (name, der) in [
        ("root", fresh.root.certificate()),
        ("web", &chain[0]),
        ("issuing", &chain[1]),
    ] {
        std::fs::write(folder().join(format!("{name}.der")), der)?;
    }
    Ok(())
}

/// One channel, the same for ever; what a TLS exporter would give.
pub(crate) fn channel(role: Role) -> SimSecrets {
    SimSecrets {
        seed: Arc::new([0x5e; 32]),
        role,
    }
}
