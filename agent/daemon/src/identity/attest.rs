//! Bringing the node in: from what is stored, by the key it had, or by a join token.

use std::{fs, path::Path};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::{IdKind, SpiffeId, TrustDomain},
    svid::{SvidKey, X509Svid},
    time::TimeSource,
    tls::TrustStore,
    x509::{
        profile::Purpose,
        verify::{Expect, Usage, verify},
    },
};
use signet_identity_api::v1::{AttestRequest, AttestResponse};
use tonic::Code;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use super::{Backoff, CALL_TIMEOUT, csr_for, key_and_csr, node_client, reason};
use crate::{
    cli::RunArgs,
    state::{DataDir, StoredBundle, StoredNode},
};

/// What the node is after it was brought in.
pub(crate) struct Admission {
    pub(crate) trust: TrustStore,
    pub(crate) svid: X509Svid,
    /// The last segment of its SPIFFE ID.
    pub(crate) node_uid: String,
}

/// The way the node proves itself in Attest.
enum Proof {
    /// The key that it was certified with before.
    Key(SvidKey),
    /// A join token, for a new key.
    Token(Zeroizing<String>),
}

/// What there is to prove the node with, read before anything on the host is changed.
pub(crate) struct Credentials {
    trust: TrustStore,
    stored: Option<X509Svid>,
    /// Absent if it cannot be read and is not needed.
    token: Option<Zeroizing<String>>,
}

impl Credentials {
    /// # Errors
    /// What only a person can mend, one line: no token, damaged files, another trust domain.
    pub(crate) fn load(args: &RunArgs, data: &DataDir) -> Result<Self, String> {
        let trust = TrustStore::new(trust_bundle(args, data)?);
        let stored = StoredNode::load(data)?;
        let token = join_token(args.join_token_file.as_deref());
        let token = match &stored {
            None => Some(token?),
            Some(_) => token.ok(),
        };
        let domain = trust.load().trust_domain().clone();
        if let Some(foreign) = stored
            .as_ref()
            .filter(|svid| svid.id().trust_domain() != &domain)
        {
            return Err(format!(
                "data folder {} belongs to {}, the trust bundle to {domain}: use another \
                 --data-dir, or remove it and give a new join token",
                args.data_dir.display(),
                foreign.id()
            ));
        }
        Ok(Self {
            trust,
            stored,
            token,
        })
    }
}

/// Brings the node in; waits for the service as long as it takes.
///
/// # Errors
/// What only a person can mend, one line: the service refuses the token or the key.
pub(crate) async fn admit(
    args: &RunArgs,
    data: &DataDir,
    time: &TimeSource,
    credentials: Credentials,
) -> Result<Admission, String> {
    let Credentials {
        trust,
        stored,
        token,
    } = credentials;
    let mut refusal = "no way to prove this node is left: give a new join token".to_owned();
    if let Some(stored) = stored {
        if stored.not_after() > time.now().wall {
            let node_uid = node_uid(stored.id())?;
            return Ok(Admission {
                trust,
                svid: stored,
                node_uid,
            });
        }
        tracing::info!(
            id = %stored.id(),
            "stored node certificate has run out; attesting with its key"
        );
        let proof = Proof::Key(stored.key().clone());
        match attest(args, data, time, trust.clone(), proof).await {
            Ok(admission) => return Ok(admission),
            Err(error) => refusal = error,
        }
    }
    match token {
        Some(token) => attest(args, data, time, trust, Proof::Token(token)).await,
        None => Err(refusal),
    }
}

async fn attest(
    args: &RunArgs,
    data: &DataDir,
    time: &TimeSource,
    trust: TrustStore,
    proof: Proof,
) -> Result<Admission, String> {
    let (key, csr, join_token) = match proof {
        Proof::Key(key) => {
            let csr = csr_for(&key, None)?;
            (key, csr, Zeroizing::default())
        }
        Proof::Token(token) => {
            let (key, csr) = key_and_csr(None)?;
            (key, csr, token)
        }
    };
    let mut client = node_client(args.identity, &trust, None, time)?;
    let mut backoff = Backoff::new();
    let mut first = true;
    loop {
        let request = AttestRequest {
            join_token: join_token.to_string(),
            node_name: args.node_name.clone(),
            csr: csr.clone(),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let status = match client.attest(request).await {
            Ok(response) => return accept(response.into_inner(), data, time, trust, key),
            Err(status) => status,
        };
        if matches!(
            status.code(),
            Code::PermissionDenied
                | Code::InvalidArgument
                | Code::Unauthenticated
                | Code::NotFound
                | Code::FailedPrecondition
        ) {
            return Err(format!(
                "identity service {} refuses node {}: {}",
                args.identity,
                args.node_name,
                status.message()
            ));
        }
        let delay = backoff.delay();
        let problem = reason(&status);
        if first {
            tracing::warn!(
                service = %args.identity,
                problem,
                retry_in_ms = delay.as_millis(),
                "identity service cannot be reached; check that signet-identity runs, that \
                 --identity is its address, that --trust-bundle is its bundle.pem, and this \
                 machine's clock"
            );
            first = false;
        } else {
            tracing::warn!(
                service = %args.identity,
                problem,
                retry_in_ms = delay.as_millis(),
                "identity service cannot be reached"
            );
        }
        tokio::time::sleep(delay).await;
    }
}

/// Believes nothing that does not verify, then stores key, certificate and bundle.
fn accept(
    response: AttestResponse,
    data: &DataDir,
    time: &TimeSource,
    trust: TrustStore,
    key: SvidKey,
) -> Result<Admission, String> {
    time.anchor(response.server_time_ms);
    if let Some(bundle) = response.bundle {
        let domain = trust.load().trust_domain().clone();
        let bundle = TrustBundle::from_pem(domain, bundle.sequence, bundle.pem.as_bytes())
            .map_err(|error| format!("identity service sent a bad trust bundle: {error}"))?;
        StoredBundle::save(data, &bundle)?;
        trust.swap(bundle).map_err(|error| error.to_string())?;
    }
    let chain = response
        .chain
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let svid = checked(chain, key, None, &trust, time)?;
    let node_uid = node_uid(svid.id())?;
    if node_uid != response.node_uid {
        return Err(format!(
            "identity service certified {} for node UID {}: its directory is inconsistent",
            svid.id(),
            response.node_uid
        ));
    }
    StoredNode::save(&StoredNode::path(data), &svid)?;
    tracing::info!(id = %svid.id(), "node is attested");
    Ok(Admission {
        trust,
        svid,
        node_uid,
    })
}

/// The node's SVID from a chain, if it is believed and is (still) this node's.
pub(super) fn checked(
    chain: Vec<CertificateDer<'static>>,
    key: SvidKey,
    id: Option<SpiffeId>,
    trust: &TrustStore,
    time: &TimeSource,
) -> Result<X509Svid, String> {
    let expect = Expect {
        id,
        purpose: Some(Purpose::NodeAgent),
        node: None,
        usage: Usage::Either,
    };
    verify(&chain, &trust.load(), time.now().wall, &expect)
        .map_err(|error| format!("identity service sent a bad node certificate: {error}"))?;
    X509Svid::new(chain, key)
        .map_err(|error| format!("identity service sent a bad node certificate: {error}"))
}

fn node_uid(id: &SpiffeId) -> Result<String, String> {
    match id.kind() {
        IdKind::Node { uid } => Ok(uid.to_owned()),
        IdKind::Workload { .. } | IdKind::IdentityService | IdKind::TrustDomain | IdKind::Other => {
            Err(format!("{id} is not the SPIFFE ID of a node"))
        }
    }
}

/// The newest bundle there is: the stored one, or the operator's file.
fn trust_bundle(args: &RunArgs, data: &DataDir) -> Result<TrustBundle, String> {
    if let Some(stored) = StoredBundle::load(data)? {
        return Ok(stored);
    }
    let path = args.trust_bundle.display();
    let pem = fs::read(&args.trust_bundle).map_err(|error| {
        format!("trust bundle {path} cannot be read ({error}): see --trust-bundle")
    })?;
    let domain = trust_domain_of(&pem).map_err(|error| {
        format!("trust bundle {path} is not usable: {error}; see --trust-bundle")
    })?;
    TrustBundle::from_pem(domain, 0, &pem)
        .map_err(|error| format!("trust bundle {path} is not usable: {error}; see --trust-bundle"))
}

/// The trust domain that the first authority names.
fn trust_domain_of(pem: &[u8]) -> Result<TrustDomain, String> {
    let first = CertificateDer::pem_slice_iter(pem)
        .next()
        .ok_or("it has no certificate")?
        .map_err(|error| format!("it is not PEM: {error}"))?;
    let (_, certificate) = X509Certificate::from_der(&first)
        .map_err(|error| format!("a certificate is broken: {error}"))?;
    let names = certificate.extensions().iter().filter_map(|extension| {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            Some(&names.general_names)
        } else {
            None
        }
    });
    let mut uris = names.flatten().filter_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some(*uri)
        } else {
            None
        }
    });
    let uri = uris
        .next()
        .ok_or("its first certificate names no trust domain")?;
    let name = uri
        .strip_prefix("spiffe://")
        .ok_or("its first certificate has no SPIFFE ID")?;
    TrustDomain::new(name).map_err(|error| error.to_string())
}

/// The join token, trimmed.
fn join_token(path: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let path = path.ok_or(
        "this node has no certificate yet: make a token with `signetctl token create --node NAME` \
         and give it by --join-token-file",
    )?;
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            format!(
                "join token {} cannot be read ({error}): see --join-token-file",
                path.display()
            )
        })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!(
            "join token {} is empty: make one with `signetctl token create --node NAME`",
            path.display()
        ));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_its_absence_names_the_way_to_get_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("token");
        let missing = join_token(Some(&path)).unwrap_err();
        assert!(missing.contains("--join-token-file"), "{missing}");
        assert!(join_token(None).unwrap_err().contains("token create"));
        fs::write(&path, " \n").unwrap();
        assert!(join_token(Some(&path)).unwrap_err().contains("empty"));
        fs::write(&path, "abc.def\n").unwrap();
        assert_eq!(join_token(Some(&path)).unwrap().as_str(), "abc.def");
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert!(trust_domain_of(b"").unwrap_err().contains("no certificate"));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(trust_domain_of(broken).unwrap_err().contains("broken"));
    }
}
