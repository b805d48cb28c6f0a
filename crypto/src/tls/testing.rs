//! Two TLS ends that talk through memory.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::config::client_config_with;
use super::exporter::SuiteHash;
use super::{
    ClientAuth, ExpectPeer, SvidStore, TlsSecrets, TrustStore, capturing_client, capturing_server,
    provider, server_config,
};
use crate::time::{Now, TimeSource};
use crate::x509::profile::Purpose;
use crate::x509::testing::{Pki, at};

pub(crate) const ALPN: &[u8] = b"signet/1";

pub(crate) fn clock() -> TimeSource {
    TimeSource::fixed(Now {
        boot: Duration::from_secs(1000),
        wall: at(0),
    })
}

/// Which end gave up, and why.
#[derive(Debug)]
pub(crate) enum Failure {
    Client(rustls::Error),
    Server(rustls::Error),
}

pub(crate) type Ends = (ClientConnection, ServerConnection);

/// Connects until neither end has anything to say.
pub(crate) fn connect(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<Ends, Failure> {
    let name = "unused.invalid".try_into().unwrap();
    let client = ClientConnection::new(Arc::clone(client), name).map_err(Failure::Client)?;
    let server = ServerConnection::new(Arc::clone(server)).map_err(Failure::Server)?;
    run((client, server))
}

pub(crate) fn run((mut client, mut server): Ends) -> Result<Ends, Failure> {
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let from_client = bytes.len();
        deliver(&bytes, |input| server.read_tls(input));
        server.process_new_packets().map_err(Failure::Server)?;

        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        deliver(&bytes, |input| client.read_tls(input));
        client.process_new_packets().map_err(Failure::Client)?;
        if from_client == 0 && bytes.is_empty() {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok((client, server));
        }
    }
}

fn deliver(bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    let mut input = bytes;
    while !input.is_empty() {
        read(&mut input).unwrap();
    }
}

/// Our provider with one suite.
pub(crate) fn provider_with(hash: SuiteHash) -> Arc<CryptoProvider> {
    let mut provider = (*provider()).clone();
    provider.cipher_suites = vec![match hash {
        SuiteHash::Sha256 => TLS13_CHACHA20_POLY1305_SHA256,
        SuiteHash::Sha384 => TLS13_AES_256_GCM_SHA384,
    }];
    Arc::new(provider)
}

/// A node channel between the nodes `a` (client) and `b` (server).
pub(crate) struct Channel {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) client_secrets: TlsSecrets,
    pub(crate) server_secrets: TlsSecrets,
}

pub(crate) fn channel(pki: &Pki, hash: SuiteHash) -> Channel {
    let trust = TrustStore::new(pki.bundle.clone());
    let (a, b) = (SvidStore::new(pki.node("a")), SvidStore::new(pki.node("b")));
    let expect = ExpectPeer::Purpose(Purpose::NodeAgent);
    let client = client_config_with(
        provider_with(hash),
        &trust,
        Some(&a),
        expect.clone(),
        &clock(),
        &[ALPN],
    );
    let server = server_config(&trust, &b, ClientAuth::Required(expect), &clock(), &[ALPN]);
    let (client, client_capture) = capturing_client(&client.unwrap());
    let (server, server_capture) = capturing_server(&server.unwrap());
    let (client, server) = connect(&client, &server).unwrap();
    Channel {
        client_secrets: TlsSecrets::of_client(&client, &client_capture).unwrap(),
        server_secrets: TlsSecrets::of_server(&server, &server_capture).unwrap(),
        client,
        server,
    }
}
