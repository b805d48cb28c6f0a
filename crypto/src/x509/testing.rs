//! A small public-key infrastructure for tests, and a forger for certificates that must be refused.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::build::{
    IssuingAuthority, LeafSpec, RootAuthority, binding_extension, purpose_extension,
};
use super::csr;
use super::der::{sequence, tlv};
use super::profile::{Binding, Purpose};
use super::template::{
    CLIENT_AUTH, Extension, KEY_USAGE_DIGITAL_SIGNATURE, SERVER_AUTH, Template, empty_name,
};
use crate::bundle::TrustBundle;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::{SvidKey, X509Svid};

/// Far from the machine's clock, so that nothing passes by looking at that one.
pub(crate) const PRESENT: u64 = 2_200_000_000;
pub(crate) const HOUR: u64 = 3600;

/// `seconds` after (or before) the present of the tests.
pub(crate) fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(PRESENT.saturating_add_signed(seconds)))
}

pub(crate) struct Pki {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) root: RootAuthority,
    pub(crate) issuing: IssuingAuthority,
    pub(crate) bundle: TrustBundle,
}

impl Pki {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let trust_domain = TrustDomain::new(trust_domain).unwrap();
        let lifetime = Duration::from_secs(100 * HOUR);
        let root = RootAuthority::generate(&trust_domain, at(0), lifetime).unwrap();
        let issuing = root
            .issue_intermediate(at(0), Duration::from_secs(50 * HOUR))
            .unwrap();
        let authorities = vec![root.certificate().clone()];
        let bundle = TrustBundle::new(trust_domain.clone(), 1, authorities).unwrap();
        Self {
            trust_domain,
            root,
            issuing,
            bundle,
        }
    }

    pub(crate) fn node_id(&self, uid: &str) -> SpiffeId {
        SpiffeId::node(&self.trust_domain, uid).unwrap()
    }

    pub(crate) fn workload_id(&self, name: &str) -> SpiffeId {
        SpiffeId::workload(&self.trust_domain, "shop", name).unwrap()
    }

    pub(crate) fn binding(&self, node: &str) -> Binding {
        Binding::new(&self.node_id(node), "namespace-uid", "service-account-uid")
    }

    pub(crate) fn spec(&self, key: &SvidKey, id: &SpiffeId, purpose: Purpose) -> LeafSpec {
        LeafSpec {
            id: id.clone(),
            public_key: csr::parse(&key.csr(id).unwrap()).unwrap(),
            purpose,
            binding: None,
            not_before: at(-60),
            not_after: at(HOUR as i64),
            serial: [7; 16],
        }
    }

    pub(crate) fn node(&self, uid: &str) -> X509Svid {
        self.svid(&self.node_id(uid), Purpose::NodeAgent, None)
    }

    pub(crate) fn identity_service(&self) -> X509Svid {
        let id = SpiffeId::identity_service(&self.trust_domain);
        self.svid(&id, Purpose::IdentityService, None)
    }

    pub(crate) fn workload(&self, name: &str, node: &str) -> X509Svid {
        self.svid(
            &self.workload_id(name),
            Purpose::AgentPlane,
            Some(self.binding(node)),
        )
    }

    pub(crate) fn workload_api(&self, name: &str) -> X509Svid {
        self.svid(&self.workload_id(name), Purpose::WorkloadApi, None)
    }

    pub(crate) fn svid(
        &self,
        id: &SpiffeId,
        purpose: Purpose,
        binding: Option<Binding>,
    ) -> X509Svid {
        let key = SvidKey::generate().unwrap();
        let spec = LeafSpec {
            binding,
            ..self.spec(&key, id, purpose)
        };
        X509Svid::new(self.issuing.issue_leaf(&spec).unwrap(), key).unwrap()
    }

    /// A forger of certificates that this infrastructure's issuing authority signs. As it comes, the
    /// certificate is a good one.
    pub(crate) fn forger(&self) -> Forger {
        Forger {
            key: SvidKey::generate().unwrap(),
            spki: None,
            uris: vec![self.workload_id("web").to_string()],
            other_names: Vec::new(),
            names_critical: true,
            subject: empty_name(),
            authority: None,
            raw_constraints: None,
            key_usage: Some((true, KEY_USAGE_DIGITAL_SIGNATURE)),
            extended: Some(vec![SERVER_AUTH, CLIENT_AUTH]),
            purpose: Some(purpose_extension(Purpose::AgentPlane)),
            binding: Some(binding_extension(&self.binding("a"))),
            more: Vec::new(),
            not_before: at(-60),
            not_after: at(HOUR as i64),
            issuer: subject(self.issuing.certificate()),
            issuer_key: SvidKey::from_pkcs8(self.issuing.pkcs8()).unwrap(),
        }
    }
}

/// Every field of a certificate, to be set as no builder would.
pub(crate) struct Forger {
    pub(crate) key: SvidKey,
    pub(crate) spki: Option<Vec<u8>>,
    pub(crate) uris: Vec<String>,
    /// DER GeneralNames, before the URIs.
    pub(crate) other_names: Vec<Vec<u8>>,
    pub(crate) names_critical: bool,
    pub(crate) subject: Vec<u8>,
    /// Of basic constraints with CA set.
    pub(crate) authority: Option<Option<u8>>,
    /// Basic constraints as they are to stand there.
    pub(crate) raw_constraints: Option<Vec<u8>>,
    pub(crate) key_usage: Option<(bool, u8)>,
    pub(crate) extended: Option<Vec<&'static [u8]>>,
    pub(crate) purpose: Option<Extension>,
    pub(crate) binding: Option<Extension>,
    pub(crate) more: Vec<Extension>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) issuer: Vec<u8>,
    pub(crate) issuer_key: SvidKey,
}

impl Forger {
    pub(crate) fn signed_by(
        &mut self,
        certificate: &CertificateDer<'_>,
        pkcs8: &[u8],
    ) -> &mut Self {
        self.issuer = subject(certificate);
        self.issuer_key = SvidKey::from_pkcs8(pkcs8).unwrap();
        self
    }

    /// Turns the leaf into a signing certificate for the trust domain `uri`.
    pub(crate) fn as_authority(&mut self, uri: &str, path_length: Option<u8>) -> &mut Self {
        self.uris = vec![uri.to_owned()];
        self.subject = super::template::distinguished_name("forged");
        self.authority = Some(path_length);
        self.key_usage = Some((true, super::template::KEY_USAGE_CERT_SIGN));
        self.extended = None;
        self.purpose = None;
        self.binding = None;
        self
    }

    pub(crate) fn forge(&mut self) -> CertificateDer<'static> {
        let names: Vec<Vec<u8>> = self
            .other_names
            .iter()
            .cloned()
            .chain(self.uris.iter().map(|uri| tlv(0x86, &[uri])))
            .collect();
        let mut constraints =
            Extension::basic_constraints(self.authority.flatten(), self.authority.is_some());
        if let Some(raw) = self.raw_constraints.take() {
            constraints.value = raw;
        }
        let mut extensions = vec![constraints];
        extensions.extend(
            self.key_usage
                .map(|(critical, bits)| Extension::key_usage(critical, bits)),
        );
        extensions.extend(self.extended.as_deref().map(Extension::extended_key_usage));
        if !names.is_empty() {
            let mut extension = Extension::uri_names(self.names_critical, &[]);
            extension.value = sequence(&names);
            extensions.push(extension);
        }
        extensions.extend(self.purpose.take());
        extensions.extend(self.binding.take());
        extensions.append(&mut self.more);
        let spki = self.spki.clone().unwrap_or_else(|| self.key.spki());
        let template = Template {
            serial: [0x41; 16],
            issuer: &self.issuer,
            subject: &self.subject,
            not_before: self.not_before,
            not_after: self.not_after,
            spki: &spki,
            extensions,
        };
        template
            .sign(&self.issuer_key)
            .unwrap_or_else(|_| panic!("cannot sign"))
    }
}

/// DER Name of a certificate's subject.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Vec<u8> {
    X509Certificate::from_der(certificate)
        .unwrap()
        .1
        .subject()
        .as_raw()
        .to_vec()
}

/// An Ed25519 key, made by other software.
pub(crate) fn ed25519() -> SvidKey {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    SvidKey::from_pkcs8(&key.serialize_der()).unwrap()
}
