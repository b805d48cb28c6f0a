//! A resumed handshake shows no certificate, so there is none: tried with a peer that wants to, and
//! the same peers are shown to resume among themselves.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig};

use super::Setup;
use super::downgrade::{plain_client, plain_server};
use crate::tls::provider;
use crate::tls::testing::{connect, run};

/// rustls as it comes: resumes whenever it can, sends early data.
fn eager_client(setup: &Setup) -> Arc<ClientConfig> {
    let mut client = plain_client(setup, (*provider()).clone(), &TLS13);
    client.enable_early_data = true;
    Arc::new(client)
}

/// Gives tickets, with state in them or behind them, and takes early data.
fn eager_server(setup: &Setup, stateless: bool) -> Arc<ServerConfig> {
    let mut server = plain_server(setup, (*provider()).clone(), &TLS13);
    server.max_early_data_size = 1024;
    if stateless {
        server.ticketer = Ticketer::new().unwrap();
        server.max_early_data_size = 0;
    }
    Arc::new(server)
}

/// The kind of the second handshake, and the tickets the client got in the first.
fn second(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (HandshakeKind, u32) {
    let exchange = |(mut client, mut server): crate::tls::testing::Ends| {
        server.writer().write_all(b"x").unwrap();
        let (mut client, server) = {
            let ends = run((client, server)).unwrap();
            client = ends.0;
            (client, ends.1)
        };
        let mut byte = [0];
        client.reader().read_exact(&mut byte).unwrap();
        (client, server)
    };
    let (first, _) = exchange(connect(client, server).unwrap());
    let tickets = first.tls13_tickets_received();
    drop(first);
    let (second, _) = exchange(connect(client, server).unwrap());
    (second.handshake_kind().unwrap(), tickets)
}

#[test]
fn the_eager_peers_do_resume_among_themselves() {
    for stateless in [false, true] {
        let setup = Setup::new();
        let (kind, tickets) = second(&eager_client(&setup), &eager_server(&setup, stateless));
        assert_eq!(kind, HandshakeKind::Resumed);
        assert!(tickets > 0);
    }
}

#[test]
fn our_server_gives_no_tickets_and_resumes_nothing() {
    let setup = Setup::new();
    let (kind, tickets) = second(&eager_client(&setup), &setup.server());
    assert_eq!((kind, tickets), (HandshakeKind::Full, 0));
}

#[test]
fn our_client_resumes_nothing() {
    for stateless in [false, true] {
        let setup = Setup::new();
        let (kind, tickets) = second(&setup.client(), &eager_server(&setup, stateless));
        assert_eq!(kind, HandshakeKind::Full);
        assert!(tickets > 0, "the server did offer");
    }
}

#[test]
fn our_two_ends_handshake_in_full_each_time() {
    let setup = Setup::new();
    assert_eq!(
        second(&setup.client(), &setup.server()),
        (HandshakeKind::Full, 0)
    );
}

#[test]
fn a_ticket_of_another_server_is_worth_nothing_to_ours() {
    // The client gets its ticket from an eager server, and shows it to ours.
    let setup = Setup::new();
    let client = eager_client(&setup);
    let (kind, tickets) = second(&client, &eager_server(&setup, true));
    assert_eq!(kind, HandshakeKind::Resumed);
    assert!(tickets > 0);
    let (client, server) = connect(&client, &setup.server()).unwrap();
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    assert!(server.peer_certificates().is_some());
}

fn offers_early_data(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> bool {
    second(client, server);
    let name = "unused.invalid".try_into().unwrap();
    let mut third = ClientConnection::new(Arc::clone(client), name).unwrap();
    third.early_data().is_some()
}

#[test]
fn early_data_is_offered_by_neither_end() {
    let setup = Setup::new();
    assert!(
        offers_early_data(&eager_client(&setup), &eager_server(&setup, false)),
        "can be seen"
    );
    assert!(!offers_early_data(&eager_client(&setup), &setup.server()));
    assert!(!offers_early_data(
        &setup.client(),
        &eager_server(&setup, false)
    ));
}

#[test]
fn early_data_sent_to_our_server_anyway_is_not_taken() {
    let setup = Setup::new();
    let eager = eager_client(&setup);
    second(&eager, &eager_server(&setup, false));
    let name = "unused.invalid".try_into().unwrap();
    let mut client = ClientConnection::new(eager, name).unwrap();
    client.early_data().unwrap().write_all(b"early").unwrap();
    let mut server = rustls::ServerConnection::new(setup.server()).unwrap();
    assert!(server.early_data().is_none());
    let (client, mut server) = run((client, server)).unwrap();
    assert!(!client.is_early_data_accepted());
    assert!(server.early_data().is_none());
    let mut taken = Vec::new();
    let nothing = server
        .reader()
        .read_to_end(&mut taken)
        .map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
    assert!(taken.is_empty());
}

#[test]
fn the_switches_are_off() {
    let setup = Setup::new();
    let server = setup.server();
    assert_eq!(
        (server.send_tls13_tickets, server.max_early_data_size),
        (0, 0)
    );
    assert!(!server.ticketer.enabled());
    assert!(!server.session_storage.can_cache());
    assert!(!setup.client().enable_early_data);
    assert!(!server.enable_secret_extraction && !setup.client().enable_secret_extraction);
}
