//! Connections to the identity service.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};

/// TCP connect and TLS handshake together take at most this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there, or the handshake failed.
    #[error("identity service at {address} is not reachable: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the network or TLS said.
        reason: String,
    },
    /// The admin socket cannot be opened.
    #[error("admin socket {path} cannot be opened: {reason}")]
    AdminSocket {
        /// Where it should be.
        path: String,
        /// What the system said, and what to do.
        reason: String,
    },
}

/// Connects to the Node service at `address` and completes the TLS handshake.
///
/// `config` decides whom to trust and what to present: take `signet_crypto::tls::client_config` with
/// [`crate::ALPN`]. The channel dials again by itself when the connection is lost, and with the SVID
/// that the configuration's store holds then. HTTP/2 keep-alive finds a dead service within 30 s.
///
/// # Errors
/// When the service does not answer within [`CONNECT_TIMEOUT`], or either side refuses the other.
pub async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Channel, ConnectError> {
    node_endpoint()
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            dial(address, config.clone())
        }))
        .await
        .map_err(|error| unreachable(address, &error))
}

/// As [`connect`], but dials at the first call.
pub fn connect_lazy(address: SocketAddr, config: Arc<ClientConfig>) -> Channel {
    node_endpoint().connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        dial(address, config.clone())
    }))
}

/// Connects to the Admin service at the Unix socket `path`.
///
/// # Errors
/// When the socket is not there, or this user may not open it.
pub async fn connect_admin(path: &Path) -> Result<Channel, ConnectError> {
    let socket = path.to_path_buf();
    // Try once by hand: tonic wraps the reason in several layers of its own.
    UnixStream::connect(&socket)
        .await
        .map_err(|error| ConnectError::AdminSocket {
            path: path.display().to_string(),
            reason: admin_hint(&error),
        })?;
    Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| ConnectError::AdminSocket {
            path: path.display().to_string(),
            reason: root_cause(&error),
        })
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the standard library's kinds have no end"
)]
fn admin_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no such file; is signet-identity running, and is this its --admin-socket?".into()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens; start signet-identity, which replaces a socket left behind".into()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; run as root or as the service's user".into()
        }
        _ => error.to_string(),
    }
}

fn node_endpoint() -> Endpoint {
    // The name is for HTTP only: TLS is ours, in the connector, and knows SPIFFE IDs, not names.
    Endpoint::from_static("http://identity.signet.invalid")
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

async fn dial(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(config).connect(name, stream).await
    };
    let stream = timeout(CONNECT_TIMEOUT, attempt).await.map_err(|_| {
        let text = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })??;
    Ok(TokioIo::new(stream))
}

fn unreachable(address: SocketAddr, error: &dyn std::error::Error) -> ConnectError {
    ConnectError::Unreachable {
        address: address.to_string(),
        reason: root_cause(error),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
