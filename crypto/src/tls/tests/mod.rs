mod downgrade;
mod handshake;
mod resumption;
mod store;

use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, Error, ServerConfig};

use super::testing::{ALPN, Failure, clock, connect};
use super::{ClientAuth, ExpectPeer, SvidStore, TrustStore, client_config, server_config};
use crate::svid::X509Svid;
use crate::time::TimeSource;
use crate::x509::profile::Purpose;
use crate::x509::testing::Pki;
use crate::x509::verify::VerifyError;

/// Both ends of node channels, to be varied.
struct Setup {
    pki: Pki,
    time: TimeSource,
    client_trust: TrustStore,
    server_trust: TrustStore,
    client_svid: Option<SvidStore>,
    server_svid: SvidStore,
    client_expects: ExpectPeer,
    server_asks: ClientAuth,
}

impl Setup {
    fn new() -> Self {
        let pki = Pki::new("td.test");
        let expect = ExpectPeer::Purpose(Purpose::NodeAgent);
        Self {
            time: clock(),
            client_trust: TrustStore::new(pki.bundle.clone()),
            server_trust: TrustStore::new(pki.bundle.clone()),
            client_svid: Some(SvidStore::new(pki.node("a"))),
            server_svid: SvidStore::new(pki.node("b")),
            client_expects: expect.clone(),
            server_asks: ClientAuth::Required(expect),
            pki,
        }
    }

    fn with_client(svid: impl FnOnce(&Pki) -> X509Svid) -> Self {
        let mut setup = Self::new();
        setup.client_svid = Some(SvidStore::new(svid(&setup.pki)));
        setup
    }

    fn with_server(svid: impl FnOnce(&Pki) -> X509Svid) -> Self {
        let mut setup = Self::new();
        setup.server_svid = SvidStore::new(svid(&setup.pki));
        setup
    }

    fn client(&self) -> Arc<ClientConfig> {
        let (trust, svid) = (&self.client_trust, self.client_svid.as_ref());
        client_config(
            trust,
            svid,
            self.client_expects.clone(),
            &self.time,
            &[ALPN],
        )
        .unwrap()
    }

    fn server(&self) -> Arc<ServerConfig> {
        let (trust, svid) = (&self.server_trust, &self.server_svid);
        server_config(trust, svid, self.server_asks.clone(), &self.time, &[ALPN]).unwrap()
    }

    fn connect(&self) -> Result<super::testing::Ends, Failure> {
        connect(&self.client(), &self.server())
    }

    /// Why the server turns the client away.
    fn client_refused(&self) -> Error {
        match self.connect() {
            Err(Failure::Server(error)) => error,
            other => panic!("the server should have refused: {other:?}"),
        }
    }

    /// Why the client turns away from the server.
    fn server_refused(&self) -> Error {
        match self.connect() {
            Err(Failure::Client(error)) => error,
            other => panic!("the client should have refused: {other:?}"),
        }
    }
}

/// Our own reason inside a TLS error.
fn reason(error: &Error) -> &VerifyError {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        panic!("not a reason of ours: {error}");
    };
    other.0.downcast_ref().expect("a VerifyError")
}
