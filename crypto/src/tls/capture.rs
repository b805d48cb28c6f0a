//! A connection's exporter, free of the connection.
//!
//! Slot keys are derived in the middle of a channel's life, when its stream is busy reading and
//! writing elsewhere, and their context is not known when the handshake ends. rustls 0.23 exports
//! only through the connection itself. So the exporter secret is caught as it is made, through the
//! key-log interface, by a catcher that lets no other secret through and serves one connection; the
//! exporter on top of it is RFC 8446 section 7.5, and tests hold it equal to the one of rustls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hkdf;
use rustls::{ClientConfig, ClientConnection, CommonState, KeyLog, ServerConfig, ServerConnection};
use zeroize::Zeroizing;

use super::exporter::{ChannelSecrets, ExportError, Role, SuiteHash};

/// `config` for one connection, and the catcher of that connection's exporter secret.
pub fn capturing_client(config: &ClientConfig) -> (Arc<ClientConfig>, Arc<ExporterCapture>) {
    let capture = Arc::new(ExporterCapture::default());
    let mut config = config.clone();
    config.key_log = Arc::<ExporterCapture>::clone(&capture);
    (Arc::new(config), capture)
}

/// `config` for one connection, and the catcher of that connection's exporter secret.
pub fn capturing_server(config: &ServerConfig) -> (Arc<ServerConfig>, Arc<ExporterCapture>) {
    let capture = Arc::new(ExporterCapture::default());
    let mut config = config.clone();
    config.key_log = Arc::<ExporterCapture>::clone(&capture);
    (Arc::new(config), capture)
}

/// Catches the exporter secret of exactly one connection.
#[derive(Default)]
pub struct ExporterCapture {
    caught: Mutex<Caught>,
}

#[derive(Default)]
struct Caught {
    connections: usize,
    secret: Zeroizing<Vec<u8>>,
}

/// The label of the exporter secret in the key-log format.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

impl KeyLog for ExporterCapture {
    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label != EXPORTER_SECRET {
            return;
        }
        let mut caught = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
        caught.connections += 1;
        caught.secret = Zeroizing::new(secret.to_vec());
    }
}

impl fmt::Debug for ExporterCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExporterCapture(..)")
    }
}

/// The exporter of one connection whose handshake is complete.
pub struct TlsSecrets {
    secret: Zeroizing<Vec<u8>>,
    hash: SuiteHash,
    role: Role,
}

impl TlsSecrets {
    /// Of a client's connection, once its handshake is complete.
    ///
    /// # Errors
    /// When it is not complete, or the capture did not see exactly this one connection.
    pub fn of_client(
        connection: &ClientConnection,
        capture: &ExporterCapture,
    ) -> Result<Self, ExportError> {
        Self::take(connection, capture, Role::Client)
    }

    /// Of a server's connection, once its handshake is complete. Before that, the client is not
    /// authenticated, although the secret exists.
    ///
    /// # Errors
    /// As [`TlsSecrets::of_client`].
    pub fn of_server(
        connection: &ServerConnection,
        capture: &ExporterCapture,
    ) -> Result<Self, ExportError> {
        Self::take(connection, capture, Role::Server)
    }

    fn take(
        connection: &CommonState,
        capture: &ExporterCapture,
        role: Role,
    ) -> Result<Self, ExportError> {
        let hash = SuiteHash::of(connection)?;
        let mut caught = capture
            .caught
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if caught.connections != 1 || caught.secret.len() != hash.length() {
            return Err(ExportError::Capture {
                connections: caught.connections,
            });
        }
        Ok(Self {
            secret: std::mem::take(&mut caught.secret),
            hash,
            role,
        })
    }
}

impl ChannelSecrets for TlsSecrets {
    fn export(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), ExportError> {
        let mut derived = Zeroizing::new(vec![0; self.hash.length()]);
        let empty = self.hash.digest(&[]);
        expand_label(self.hash, &self.secret, label, empty.as_ref(), &mut derived)?;
        let context = self.hash.digest(&[context.unwrap_or_default()]);
        expand_label(self.hash, &derived, b"exporter", context.as_ref(), out)
    }

    fn suite_hash(&self) -> Result<SuiteHash, ExportError> {
        Ok(self.hash)
    }

    fn role(&self) -> Role {
        self.role
    }
}

impl fmt::Debug for TlsSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsSecrets({:?}, {:?})", self.role, self.hash)
    }
}

/// HKDF-Expand-Label (RFC 8446, section 7.1).
fn expand_label(
    hash: SuiteHash,
    secret: &[u8],
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Result<(), ExportError> {
    let failed = |what: &'static str| ExportError::Failed(what.to_owned());
    let length = u16::try_from(out.len()).map_err(|_| failed("output is too long"))?;
    let label_length =
        u8::try_from(LABEL_PREFIX.len() + label.len()).map_err(|_| failed("label is too long"))?;
    let context_length = u8::try_from(context.len()).map_err(|_| failed("context is too long"))?;

    let (length, label_length, context_length) =
        (length.to_be_bytes(), [label_length], [context_length]);
    let info: [&[u8]; 6] = [
        &length,
        &label_length,
        LABEL_PREFIX,
        label,
        &context_length,
        context,
    ];
    let algorithm = match hash {
        SuiteHash::Sha256 => hkdf::HKDF_SHA256,
        SuiteHash::Sha384 => hkdf::HKDF_SHA384,
    };
    hkdf::Prk::new_less_safe(algorithm, secret)
        .expand(&info, OutputLength(out.len()))
        .and_then(|output| output.fill(out))
        .map_err(|_| failed("HKDF refused the length"))
}

const LABEL_PREFIX: &[u8] = b"tls13 ";

struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}
