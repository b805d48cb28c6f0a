//! Node channels: TCP and TLS around the frames that the core reads and writes.

mod frame;
mod listen;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::CommonState;
use rustls_pki_types::ServerName;
use signet_agent_core::io::{ChannelRole, ConnId, Connected, Input, NodeUid};
use signet_crypto::{
    spiffe_id::SpiffeId,
    time::TimeSource,
    tls::{
        ClientAuth, ExpectPeer, SvidStore, TlsSecrets, TrustStore, capturing_client, client_config,
        exporter::ChannelSecrets, peer_svid, require_alpn, server_config,
    },
    x509::{
        profile::Purpose,
        verify::{Expect, Usage},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::executor::Inbox;
pub(crate) use frame::Frame;
pub(crate) use listen::{bind, listen};

/// The protocol's name in TLS.
const ALPN: &[u8] = b"signet/1";
/// TCP connect and TLS handshake together.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Frames that may wait for a slow peer before its channel is closed.
const QUEUE: usize = 4096;
/// A closing side waits this long for its last frames to leave.
const LINGER: Duration = Duration::from_secs(2);

/// What goes to the task that owns a connection.
pub(crate) enum ToConnection {
    Send(Frame),
    /// Send what is queued, then close.
    Close,
}

/// The near end of a connection.
pub(crate) type ConnectionHandle = mpsc::Sender<ToConnection>;

/// What both ends of all channels share.
#[derive(Clone)]
pub(crate) struct Channels {
    trust: TrustStore,
    svid: SvidStore,
    time: TimeSource,
    next: Arc<AtomicU64>,
    inbox: Inbox,
}

impl Channels {
    pub(crate) fn new(trust: TrustStore, svid: SvidStore, time: TimeSource, inbox: Inbox) -> Self {
        Self {
            trust,
            svid,
            time,
            next: Arc::new(AtomicU64::new(1)),
            inbox,
        }
    }

    /// Dials a node and serves the channel until it ends.
    pub(crate) async fn dial(
        self,
        node: NodeUid,
        addresses: Vec<IpAddr>,
        port: u16,
        expect: SpiffeId,
        from: IpAddr,
    ) {
        let connected = timeout(HANDSHAKE, self.connect(&addresses, port, expect, from)).await;
        let result = connected
            .unwrap_or_else(|_| Err(format!("no TLS session within {} s", HANDSHAKE.as_secs())));
        match result {
            Ok((stream, connected)) => self.serve(stream, connected).await,
            Err(error) => self.inbox.input(Input::DialFailed { node, error }).await,
        }
    }

    async fn connect(
        &self,
        addresses: &[IpAddr],
        port: u16,
        expect: SpiffeId,
        from: IpAddr,
    ) -> Result<(tokio_rustls::client::TlsStream<TcpStream>, Connected), String> {
        let mut problem = "the directory tells no address of it".to_owned();
        // An address of the other family cannot be reached from ours.
        let usable = addresses
            .iter()
            .filter(|address| address.is_ipv4() == from.is_ipv4());
        for address in usable {
            let remote = SocketAddr::new(*address, port);
            let stream = match TcpStream::connect(remote).await {
                Ok(stream) => stream,
                Err(error) => {
                    problem = format!("{remote}: {error}; is signet-agent running there?");
                    continue;
                }
            };
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            let expect_peer = ExpectPeer::Id(expect.clone());
            let config = client_config(
                &self.trust,
                Some(&self.svid),
                expect_peer,
                &self.time,
                &[ALPN],
            )
            .map_err(|error| error.to_string())?;
            let (config, capture) = capturing_client(&config);
            let name = ServerName::IpAddress(remote.ip().into());
            let stream = TlsConnector::from(config)
                .connect(name, stream)
                .await
                .map_err(|error| format!("{remote}: {error}"))?;
            let tls = stream.get_ref().1;
            let secrets =
                TlsSecrets::of_client(tls, &capture).map_err(|error| error.to_string())?;
            let wanted = Expect {
                id: Some(expect),
                ..node(Usage::Server)
            };
            let connected =
                self.connected(tls, Box::new(secrets), ChannelRole::Client, remote, &wanted)?;
            return Ok((stream, connected));
        }
        Err(problem)
    }

    fn connected(
        &self,
        tls: &CommonState,
        secrets: Box<dyn ChannelSecrets + Send>,
        role: ChannelRole,
        remote: SocketAddr,
        expect: &Expect,
    ) -> Result<Connected, String> {
        require_alpn(tls, ALPN).map_err(|error| error.to_string())?;
        let peer = peer_svid(tls.peer_certificates(), &self.trust, &self.time, expect)
            .map_err(|error| error.to_string())?;
        let key_exchange = tls
            .negotiated_key_exchange_group()
            .map_or_else(String::new, |group| format!("{:?}", group.name()));
        let cipher = tls
            .negotiated_cipher_suite()
            .and_then(|suite| {
                suite
                    .suite()
                    .as_str()
                    .map(|name| name.replacen("TLS13_", "TLS_", 1))
            })
            .unwrap_or_default();
        Ok(Connected {
            conn: ConnId(self.next.fetch_add(1, Ordering::Relaxed)),
            role,
            peer,
            secrets,
            key_exchange,
            cipher,
            remote,
        })
    }

    /// Hands the connection to the core and moves its frames until either side ends it.
    async fn serve<S: AsyncRead + AsyncWrite>(&self, stream: S, connected: Connected) {
        let conn = connected.conn;
        let (handle, queue) = mpsc::channel(QUEUE);
        self.inbox.connected(connected, handle).await;
        let (mut reader, writer) = tokio::io::split(stream);
        let reason = tokio::select! {
            reason = read_frames(&mut reader, conn, &self.inbox) => reason,
            reason = write_frames(writer, queue) => reason,
        };
        self.inbox
            .input(Input::ChannelClosed { conn, reason })
            .await;
    }
}

fn node(usage: Usage) -> Expect {
    Expect {
        id: None,
        purpose: Some(Purpose::NodeAgent),
        node: None,
        usage,
    }
}

async fn read_frames(reader: &mut (impl AsyncRead + Unpin), conn: ConnId, inbox: &Inbox) -> String {
    loop {
        match Frame::read(reader).await {
            Ok(Some(Frame { kind, payload })) => {
                inbox
                    .input(Input::Frame {
                        conn,
                        kind,
                        payload,
                    })
                    .await;
            }
            Ok(None) => return "the peer closed it".into(),
            Err(reason) => return reason,
        }
    }
}

/// Writes until told to close; frames that wait together leave together.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<ToConnection>,
) -> String {
    let mut buffer = Vec::new();
    let mut closing = false;
    while !closing {
        let Some(first) = queue.recv().await else {
            break;
        };
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                ToConnection::Send(frame) => {
                    if let Err(reason) = frame.encode(&mut buffer) {
                        return reason;
                    }
                }
                ToConnection::Close => {
                    closing = true;
                    break;
                }
            }
            next = if buffer.len() < frame::MAX_LENGTH {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        let written = async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        };
        let result = if closing {
            timeout(LINGER, written).await.unwrap_or(Ok(()))
        } else {
            written.await
        };
        buffer.clear();
        if let Err(error) = result {
            return error.to_string();
        }
    }
    let _ = timeout(LINGER, writer.shutdown()).await;
    "this side closed it".into()
}
