//! The agent's side of the identity service: attestation, certificates, directory.

mod attest;
mod calls;
mod convert;
mod stream;

use std::{net::SocketAddr, time::Duration};

use signet_crypto::{
    random::{Random as _, SystemRandom},
    spiffe_id::SpiffeId,
    svid::SvidKey,
    time::TimeSource,
    tls::{ExpectPeer, SvidStore, TrustStore, client_config},
};
use signet_identity_api::{ALPN, MAX_MESSAGE, client, v1::node_client::NodeClient};
use tonic::transport::Channel;

pub(crate) use attest::{Admission, Credentials, admit};
pub(crate) use stream::{StreamStatus, WatchCommand, watch};

/// First and last delay between tries to reach the service.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// No unary call takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to the identity service that proves this node. Clones share one connection, which is made
/// again by itself, with the SVID of that moment.
#[derive(Clone)]
pub(crate) struct IdentityService {
    pub(crate) address: SocketAddr,
    pub(crate) node_name: String,
    pub(crate) trust: TrustStore,
    pub(crate) svid: SvidStore,
    pub(crate) time: TimeSource,
    client: NodeClient<Channel>,
}

impl IdentityService {
    /// # Errors
    /// If rustls refuses the configuration.
    pub(crate) fn new(
        address: SocketAddr,
        node_name: String,
        trust: TrustStore,
        svid: SvidStore,
        time: TimeSource,
    ) -> Result<Self, String> {
        let client = node_client(address, &trust, Some(&svid), &time)?;
        Ok(Self {
            address,
            node_name,
            trust,
            svid,
            time,
            client,
        })
    }
}

fn node_client(
    address: SocketAddr,
    trust: &TrustStore,
    svid: Option<&SvidStore>,
    time: &TimeSource,
) -> Result<NodeClient<Channel>, String> {
    let service = SpiffeId::identity_service(trust.load().trust_domain());
    let config = client_config(trust, svid, ExpectPeer::Id(service), time, &[ALPN])
        .map_err(|error| error.to_string())?;
    let channel = client::connect_lazy(address, config);
    Ok(NodeClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

/// A key and the request to certify it for `id`.
fn key_and_csr(id: Option<&SpiffeId>) -> Result<(SvidKey, Vec<u8>), String> {
    let key = SvidKey::generate().map_err(|error| error.to_string())?;
    let csr = csr_for(&key, id)?;
    Ok((key, csr))
}

fn csr_for(key: &SvidKey, id: Option<&SpiffeId>) -> Result<Vec<u8>, String> {
    match id {
        Some(id) => key.csr(id),
        None => key.anonymous_csr(),
    }
    .map_err(|error| error.to_string())
}

/// Doubling delays with ±20 % jitter, so that a thousand agents don't come back at once.
struct Backoff {
    next: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { next: BACKOFF.0 }
    }

    fn delay(&mut self) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(BACKOFF.1);
        let jitter = u32::from(SystemRandom.bytes::<1>()[0]) * 40 / 255;
        base * (80 + jitter) / 100
    }
}

/// One line for a failed call: the service's own words, or what the connection died of.
fn reason(status: &tonic::Status) -> String {
    let mut deepest: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    let text = deepest.map_or_else(|| status.message().to_owned(), ToString::to_string);
    // rustls ends some of its errors with an address of its manual.
    match text.split_once(": https://") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_within_its_bounds() {
        let mut backoff = Backoff::new();
        let mut base = BACKOFF.0;
        for _ in 0..12 {
            let delay = backoff.delay();
            assert!(
                delay >= base * 80 / 100 && delay <= base * 120 / 100,
                "{delay:?} for {base:?}"
            );
            base = (base * 2).min(BACKOFF.1);
        }
    }
}
