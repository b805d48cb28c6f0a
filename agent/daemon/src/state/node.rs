//! The node's key with its certificate, and the newest trust bundle.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use signet_crypto::{
    bundle::{TrustBundle, certificate_pem},
    spiffe_id::TrustDomain,
    svid::{SvidKey, X509Svid},
};
use zeroize::Zeroizing;

use super::{DataDir, read, replace};

const NODE_FILE: &str = "node-svid.pem";
const BUNDLE_FILE: &str = "bundle.json";

/// The node's SVID at rest: private key first, then the chain, PEM.
pub(crate) struct StoredNode;

impl StoredNode {
    /// The stored SVID, or `None` before the first attestation.
    ///
    /// # Errors
    /// A damaged file, by name and with what to do.
    pub(crate) fn load(data: &DataDir) -> Result<Option<X509Svid>, String> {
        let path = data.file(NODE_FILE);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        parse(&bytes).map(Some).map_err(|error| {
            format!(
                "{} is damaged ({error}): remove it and give the node a new join token",
                path.display()
            )
        })
    }

    /// Replaces the stored SVID.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn save(path: &Path, svid: &X509Svid) -> Result<(), String> {
        replace(path, render(svid).as_bytes())
    }

    /// Where it is stored.
    pub(crate) fn path(data: &DataDir) -> PathBuf {
        data.file(NODE_FILE)
    }
}

fn parse(pem: &[u8]) -> Result<X509Svid, String> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem)
        .map_err(|_| "it holds no private key in PEM".to_owned())?;
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "it holds no certificates in PEM".to_owned())?;
    let key = SvidKey::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| error.to_string())?;
    X509Svid::new(chain, key).map_err(|error| error.to_string())
}

fn render(svid: &X509Svid) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(svid.key().pkcs8()));
    // Room for everything, so that growing leaves no copy of the key behind.
    let mut pem = Zeroizing::new(String::with_capacity(
        2 * text.len() + 64 + 4096 * svid.chain().len(),
    ));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        for byte in line {
            pem.push(char::from(*byte));
        }
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    for certificate in svid.chain() {
        pem.push_str(&certificate_pem(certificate));
    }
    pem
}

/// The newest trust bundle at rest: its sequence is what a rollback is measured against.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredBundle {
    trust_domain: String,
    sequence: u64,
    pem: String,
}

impl StoredBundle {
    /// The stored bundle, or `None` before the first attestation.
    ///
    /// # Errors
    /// A damaged file, by name and with what to do.
    pub(crate) fn load(data: &DataDir) -> Result<Option<TrustBundle>, String> {
        let path = data.file(BUNDLE_FILE);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let bundle = serde_json::from_slice::<Self>(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|stored| {
                let domain = TrustDomain::new(&stored.trust_domain).map_err(|e| e.to_string())?;
                TrustBundle::from_pem(domain, stored.sequence, stored.pem.as_bytes())
                    .map_err(|error| error.to_string())
            });
        bundle.map(Some).map_err(|error| {
            format!(
                "{} is damaged ({error}): remove it; --trust-bundle is used then",
                path.display()
            )
        })
    }

    /// Replaces the stored bundle.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn save(data: &DataDir, bundle: &TrustBundle) -> Result<(), String> {
        let path = data.file(BUNDLE_FILE);
        let stored = Self {
            trust_domain: bundle.trust_domain().to_string(),
            sequence: bundle.sequence(),
            pem: bundle.to_pem(),
        };
        let bytes = serde_json::to_vec_pretty(&stored)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        replace(&path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_before_the_first_attestation() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        assert!(StoredNode::load(&data).unwrap().is_none());
        assert!(StoredBundle::load(&data).unwrap().is_none());
    }

    #[test]
    fn damage_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let pem = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for bytes in [&b""[..], b"garbage", pem] {
            replace(&data.file(NODE_FILE), bytes).unwrap();
            let Err(error) = StoredNode::load(&data) else {
                panic!("taken: {bytes:?}")
            };
            assert!(
                error.contains(NODE_FILE) && error.contains("join token"),
                "{error}"
            );
        }
        replace(&data.file(BUNDLE_FILE), b"{}").unwrap();
        let error = StoredBundle::load(&data).err().unwrap();
        assert!(
            error.contains(BUNDLE_FILE) && error.contains("remove it"),
            "{error}"
        );
    }
}
