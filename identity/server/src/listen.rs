//! TCP and TLS: connections come out ready for gRPC, each with who is at its other end.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use signet_crypto::{
    tls::{ClientAuth, ExpectPeer, SvidStore, peer_svid, require_alpn, server_config},
    x509::{
        profile::Purpose,
        verify::{Expect, Usage},
    },
};
use signet_identity_api::ALPN;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{grpc::caller::Peer, metrics::Outcome, service::Service};

/// A TLS handshake takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// TLS handshakes at once.
const HANDSHAKES: usize = 512;
/// Connections of nodes at once.
const NODES: usize = 16_384;
/// Connections at once that did not prove to be a node's: they have room of their own, so that they
/// take none from nodes.
const STRANGERS: usize = 1_024;
/// A connection that did not prove to be a node's is for attestation, and ends after this.
const ANONYMOUS: Duration = Duration::from_secs(30);

/// Accepts connections until the receiver is dropped.
pub(crate) fn accept(
    listener: TcpListener,
    service: Arc<Service>,
    svid: &SvidStore,
) -> anyhow::Result<mpsc::Receiver<io::Result<Connection>>> {
    let auth = ClientAuth::Optional(ExpectPeer::Purpose(Purpose::NodeAgent));
    let config = server_config(&service.trust, svid, auth, &service.time, &[ALPN])?;
    let acceptor = TlsAcceptor::from(config);
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept_loop(listener, acceptor, service, sender));
    Ok(receiver)
}

async fn accept_loop(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    service: Arc<Service>,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let room = Room {
        nodes: Arc::new(Semaphore::new(NODES)),
        strangers: Arc::new(Semaphore::new(STRANGERS)),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: at once would be the same again.
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(busy) = Arc::clone(&handshakes).try_acquire_owned() else {
            count(&service, "too_many");
            continue;
        };
        let (acceptor, service, sender) = (acceptor.clone(), Arc::clone(&service), sender.clone());
        let room = room.clone();
        tokio::spawn(async move {
            let connection = handshake(stream, address, &acceptor, &service, &room).await;
            drop(busy);
            if let Some(connection) = connection {
                // Nobody takes it if the service is stopping.
                let _ = sender.send(Ok(connection)).await;
            }
        });
    }
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    service: &Service,
    room: &Room,
) -> Option<Connection> {
    let shaken = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    let stream = match timeout(HANDSHAKE, shaken).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            count(service, "handshake_failed");
            tracing::debug!(from = %address, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            count(service, "handshake_timeout");
            return None;
        }
    };
    let peer = match identify(&stream, address, service) {
        Ok(peer) => peer,
        Err(error) => {
            count(service, "handshake_failed");
            tracing::debug!(from = %address, error, "connection refused");
            return None;
        }
    };
    let Some(place) = room.place(&peer) else {
        count(service, "too_many");
        return None;
    };
    count(service, "accepted");
    let deadline = peer.is_anonymous().then(|| Box::pin(sleep(ANONYMOUS)));
    let open = Open::new(service.metrics.connections_open.clone());
    Some(Connection {
        stream,
        peer,
        deadline,
        _open: open,
        _place: place,
    })
}

/// How many more connections there may be.
#[derive(Clone)]
struct Room {
    nodes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Room {
    fn place(&self, peer: &Peer) -> Option<OwnedSemaphorePermit> {
        let room = if peer.is_anonymous() {
            &self.strangers
        } else {
            &self.nodes
        };
        Arc::clone(room).try_acquire_owned().ok()
    }
}

fn identify(
    stream: &TlsStream<TcpStream>,
    address: SocketAddr,
    service: &Service,
) -> Result<Peer, String> {
    let (_, tls) = stream.get_ref();
    require_alpn(tls, ALPN).map_err(|error| error.to_string())?;
    let sequence = service.trust.load().sequence();
    let Some(presented) = tls.peer_certificates() else {
        return Ok(Peer::new(address, None, sequence));
    };
    let expect = Expect {
        purpose: Some(Purpose::NodeAgent),
        ..Expect::any(Usage::Client)
    };
    let svid = peer_svid(Some(presented), &service.trust, &service.time, &expect)
        .map_err(|error| error.to_string())?;
    Ok(Peer::new(address, Some(svid), sequence))
}

fn count(service: &Service, outcome: &'static str) {
    service
        .metrics
        .connections
        .get_or_create(&Outcome { outcome })
        .inc();
}

/// A TLS connection whose handshake is done.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    deadline: Option<Pin<Box<Sleep>>>,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts as long as it lives.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
