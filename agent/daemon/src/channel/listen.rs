//! The listening end of node channels.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use signet_agent_core::io::{ChannelRole, Connected};
use signet_crypto::tls::capturing_server;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;
use crate::metrics::Metrics;

/// Handshakes at the same time; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// Connections at the same time.
const CONNECTIONS: usize = 4096;
/// Connections of one address: two while they glare, and some that are dying.
const PER_ADDRESS: usize = 16;

/// Binds the channel port.
///
/// # Errors
/// One line that names the port and the flag.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == ErrorKind::AddrInUse {
            "stop the other program, or choose another with --channel-port"
        } else if error.kind() == ErrorKind::AddrNotAvailable {
            "it must be an address of this machine, see --underlay-ip"
        } else {
            "see --underlay-ip and --channel-port"
        };
        format!("channel address {address} cannot be bound ({error}): {hint}")
    })
}

/// Accepts channels for as long as the process runs.
///
/// # Errors
/// If the TLS configuration is refused.
pub(crate) async fn listen(
    listener: TcpListener,
    channels: Channels,
    metrics: Metrics,
) -> Result<(), String> {
    let auth = ClientAuth::Required(ExpectPeer::Purpose(Purpose::NodeAgent));
    let config = server_config(
        &channels.trust,
        &channels.svid,
        auth,
        &channels.time,
        &[ALPN],
    )
    .map_err(|error| error.to_string())?;
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let places = Places::default();
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "channel connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (Some(place), Ok(connection)) = (
            places.take(remote.ip()),
            Arc::clone(&connections).try_acquire_owned(),
        ) else {
            metrics.channel_refused("limit");
            tracing::debug!(%remote, "channel connection refused: too many");
            continue;
        };
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else {
            return Ok(());
        };
        let (channels, config, metrics) = (channels.clone(), Arc::clone(&config), metrics.clone());
        tokio::spawn(async move {
            let accepted = timeout(HANDSHAKE, channels.accept(stream, remote, &config)).await;
            drop(handshake);
            match accepted {
                Ok(Ok((stream, connected))) => channels.serve(stream, connected).await,
                Ok(Err(problem)) => {
                    metrics.channel_refused("handshake");
                    tracing::warn!(%remote, problem, "channel refused");
                }
                Err(_) => {
                    metrics.channel_refused("timeout");
                    tracing::debug!(%remote, "channel refused: no TLS session in time");
                }
            }
            drop((place, connection));
        });
    }
}

impl Channels {
    async fn accept(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        config: &rustls::ServerConfig,
    ) -> Result<(TlsStream<TcpStream>, Connected), String> {
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let (config, capture) = capturing_server(config);
        let stream = TlsAcceptor::from(config)
            .accept(stream)
            .await
            .map_err(|error| error.to_string())?;
        let tls = stream.get_ref().1;
        let secrets = TlsSecrets::of_server(tls, &capture).map_err(|error| error.to_string())?;
        let expect = node(Usage::Client);
        let connected =
            self.connected(tls, Box::new(secrets), ChannelRole::Server, remote, &expect)?;
        Ok((stream, connected))
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection's place; given back when dropped.
struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place {
            places: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_places_back() {
        let places = Places::default();
        let address = "192.0.2.1".parse().unwrap();
        let mut held: Vec<_> = (0..PER_ADDRESS)
            .map(|_| places.take(address).unwrap())
            .collect();
        assert!(places.take(address).is_none());
        assert!(places.take("192.0.2.2".parse().unwrap()).is_some());
        held.pop();
        assert!(places.take(address).is_some());
        held.clear();
        assert!(places.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = bind(first.local_addr().unwrap()).await.unwrap_err();
        assert!(
            error.contains("--channel-port") && error.contains("127.0.0.1"),
            "{error}"
        );
        let error = bind("192.0.2.7:0".parse().unwrap()).await.unwrap_err();
        assert!(error.contains("--underlay-ip"), "{error}");
    }
}
