use proptest::prelude::*;
use rustls::ServerConnection;

use super::*;
use crate::tls::testing::{Channel, channel, clock, connect};
use crate::tls::{
    ClientAuth, ExpectPeer, SvidStore, TlsSecrets, TrustStore, capturing_client, client_config,
    server_config,
};
use crate::x509::profile::Purpose;
use crate::x509::testing::Pki;

const HASHES: [SuiteHash; 2] = [SuiteHash::Sha256, SuiteHash::Sha384];

fn slot() -> SlotContext {
    let id = |text: &str| SpiffeId::new(text).unwrap();
    SlotContext {
        epoch: 0x0102_0304_0506_0708,
        client_node: id("spiffe://td.test/node/a"),
        server_node: id("spiffe://td.test/node/bb"),
        client_boot_id: [0xca; 16],
        server_boot_id: [0x5a; 16],
        client_wg: PublicKey([0xc1; 32]),
        server_wg: PublicKey([0x51; 32]),
        client_port: 51830,
        server_port: 51831,
    }
}

/// The slot with each field in turn changed, or two of them swapped.
fn neighbours() -> Vec<(&'static str, SlotContext)> {
    let node = SpiffeId::new("spiffe://td.test/node/c").unwrap();
    let slot = slot();
    vec![
        (
            "epoch",
            SlotContext {
                epoch: 9,
                ..slot.clone()
            },
        ),
        (
            "client node",
            SlotContext {
                client_node: node.clone(),
                ..slot.clone()
            },
        ),
        (
            "server node",
            SlotContext {
                server_node: node,
                ..slot.clone()
            },
        ),
        (
            "client boot",
            SlotContext {
                client_boot_id: [1; 16],
                ..slot.clone()
            },
        ),
        (
            "server boot",
            SlotContext {
                server_boot_id: [1; 16],
                ..slot.clone()
            },
        ),
        (
            "client key",
            SlotContext {
                client_wg: PublicKey([1; 32]),
                ..slot.clone()
            },
        ),
        (
            "server key",
            SlotContext {
                server_wg: PublicKey([1; 32]),
                ..slot.clone()
            },
        ),
        (
            "client port",
            SlotContext {
                client_port: 1,
                ..slot.clone()
            },
        ),
        (
            "server port",
            SlotContext {
                server_port: 1,
                ..slot.clone()
            },
        ),
        (
            "roles",
            SlotContext {
                client_node: slot.server_node.clone(),
                server_node: slot.client_node.clone(),
                client_boot_id: slot.server_boot_id,
                server_boot_id: slot.client_boot_id,
                client_wg: slot.server_wg,
                server_wg: slot.client_wg,
                client_port: slot.server_port,
                server_port: slot.client_port,
                epoch: slot.epoch,
            },
        ),
    ]
}

#[test]
fn the_captured_exporter_is_the_one_of_rustls_at_both_ends() {
    let pki = Pki::new("td.test");
    for hash in HASHES {
        let Channel {
            client,
            server,
            client_secrets,
            server_secrets,
        } = channel(&pki, hash);
        assert_eq!(client_secrets.suite_hash(), Ok(hash));
        assert_eq!(server.suite_hash(), Ok(hash));
        let ends: [&dyn ChannelSecrets; 4] = [&client, &server, &client_secrets, &server_secrets];
        assert_eq!(ends.map(|end| end.role()), {
            use Role::{Client, Server};
            [Client, Server, Client, Server]
        });
        let contexts: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"context"), Some(&[7; 5000])];
        for label in [b"EXPORTER-a".as_slice(), b"EXPORTER-b", &[b'l'; 249]] {
            for context in contexts {
                for length in [1, 32, 48, 500] {
                    let outputs = ends.map(|end| {
                        let mut out = vec![0; length];
                        end.export(label, context, &mut out).unwrap();
                        out
                    });
                    assert!(outputs.iter().all(|output| *output == outputs[0]));
                    assert!(length < 32 || outputs[0] != vec![0; length]);
                }
            }
        }
    }
}

#[test]
fn rfc_8446_7_5_no_context_is_an_empty_context() {
    let secrets = channel(&Pki::new("td.test"), SuiteHash::Sha384).client_secrets;
    let with = |context| {
        let mut out = [0; 32];
        secrets.export(b"EXPORTER-a", context, &mut out).unwrap();
        out
    };
    assert_eq!(with(None), with(Some(b"".as_slice())));
    assert_ne!(with(None), with(Some(b"x".as_slice())));
}

#[test]
fn too_long_is_an_error() {
    let secrets = channel(&Pki::new("td.test"), SuiteHash::Sha256).client_secrets;
    let mut out = [0; 32];
    assert!(secrets.export(&[b'l'; 250], None, &mut out).is_err());
    assert!(
        secrets
            .export(b"l", None, &mut vec![0; 255 * 32 + 1])
            .is_err()
    );
    assert!(secrets.export(b"l", None, &mut vec![0; 65_536]).is_err());
}

#[test]
fn nothing_is_derived_before_the_handshake_is_complete() {
    let pki = Pki::new("td.test");
    let trust = TrustStore::new(pki.bundle.clone());
    let svid = SvidStore::new(pki.node("b"));
    let ask = ClientAuth::Required(ExpectPeer::Purpose(Purpose::NodeAgent));
    let config = server_config(&trust, &svid, ask, &clock(), &[]).unwrap();
    let server = ServerConnection::new(config).unwrap();
    assert_eq!(session_id(&server), Err(ExportError::Incomplete));
    assert_eq!(server.suite_hash(), Err(ExportError::Incomplete));
    let capture = crate::tls::ExporterCapture::default();
    let early = TlsSecrets::of_server(&server, &capture);
    assert_eq!(early.unwrap_err(), ExportError::Incomplete);
}

#[test]
fn a_capture_serves_one_connection() {
    let pki = Pki::new("td.test");
    let trust = TrustStore::new(pki.bundle.clone());
    let (a, b) = (SvidStore::new(pki.node("a")), SvidStore::new(pki.node("b")));
    let expect = ExpectPeer::Purpose(Purpose::NodeAgent);
    let client = client_config(&trust, Some(&a), expect.clone(), &clock(), &[]).unwrap();
    let server = server_config(&trust, &b, ClientAuth::Required(expect), &clock(), &[]).unwrap();

    let (reused, capture) = capturing_client(&client);
    let (first, _) = connect(&reused, &server).unwrap();
    TlsSecrets::of_client(&first, &capture).unwrap();
    let again = TlsSecrets::of_client(&first, &capture);
    assert_eq!(again.unwrap_err(), ExportError::Capture { connections: 1 });
    let (second, _) = connect(&reused, &server).unwrap();
    let mixed = TlsSecrets::of_client(&second, &capture);
    assert_eq!(mixed.unwrap_err(), ExportError::Capture { connections: 2 });

    let (_, unused) = capturing_client(&client);
    let none = TlsSecrets::of_client(&second, &unused);
    assert_eq!(none.unwrap_err(), ExportError::Capture { connections: 0 });
}

#[test]
fn only_the_exporter_secret_is_captured() {
    use rustls::KeyLog;
    let capture = crate::tls::ExporterCapture::default();
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        assert!(!capture.will_log(label), "{label}");
    }
    assert!(capture.will_log("EXPORTER_SECRET"));
    assert_eq!(format!("{capture:?}"), "ExporterCapture(..)");
}

#[test]
fn session_id_is_shared_by_the_ends_and_by_nobody_else() {
    let pki = Pki::new("td.test");
    let (one, two) = (
        channel(&pki, SuiteHash::Sha384),
        channel(&pki, SuiteHash::Sha384),
    );
    let id = session_id(&one.client_secrets).unwrap();
    assert_eq!(session_id(&one.server_secrets).unwrap(), id);
    assert_ne!(session_id(&two.client_secrets).unwrap(), id);

    let mut binding = [0; 32];
    one.server
        .export(b"EXPORTER-Channel-Binding", None, &mut binding)
        .unwrap();
    assert_eq!(
        sha256(&[b"signet session".as_slice(), &binding].concat()),
        id
    );
    assert_ne!(binding, id, "what is logged is not what others may bind to");
}

#[test]
fn psk_is_shared_by_the_ends_and_bound_to_channel_and_slot() {
    let pki = Pki::new("td.test");
    for hash in HASHES {
        let (one, two) = (channel(&pki, hash), channel(&pki, hash));
        let of = |channel: &dyn ChannelSecrets, slot: &SlotContext| psk(channel, slot).unwrap();
        let key = of(&one.client_secrets, &slot());
        assert!(
            key.secret()
                .ct_eq(of(&one.server_secrets, &slot()).secret())
        );
        assert!(
            !key.secret()
                .ct_eq(of(&two.client_secrets, &slot()).secret()),
            "other channel"
        );
        for (what, other) in neighbours() {
            assert!(
                !key.secret().ct_eq(of(&one.client_secrets, &other).secret()),
                "{what}"
            );
        }

        let mut raw = [0; 32];
        let context = slot().to_bytes();
        one.client
            .export(b"EXPORTER-signet-wg-psk v1", Some(&context), &mut raw)
            .unwrap();
        assert_eq!(key.secret().expose(), &raw);
    }
}

#[test]
fn confirmation_holds_for_one_role_slot_and_channel() {
    let pki = Pki::new("td.test");
    let (one, two) = (
        channel(&pki, SuiteHash::Sha384),
        channel(&pki, SuiteHash::Sha384),
    );
    let sent = confirm(&one.server_secrets, &slot(), Role::Server).unwrap();
    let accepts = |channel: &dyn ChannelSecrets, slot: &SlotContext, role, presented: &[u8]| {
        confirm_matches(channel, slot, role, presented).unwrap()
    };
    assert!(accepts(&one.client_secrets, &slot(), Role::Server, &sent));
    assert!(
        !accepts(&one.client_secrets, &slot(), Role::Client, &sent),
        "reflected"
    );
    assert!(
        !accepts(&two.client_secrets, &slot(), Role::Server, &sent),
        "other channel"
    );
    assert!(
        !accepts(&one.client_secrets, &slot(), Role::Server, &sent[..31]),
        "cut short"
    );
    assert!(
        !accepts(&one.client_secrets, &slot(), Role::Server, &[]),
        "empty"
    );
    for (what, other) in neighbours() {
        assert!(
            !accepts(&one.client_secrets, &other, Role::Server, &sent),
            "{what}"
        );
    }

    let mut key = [0; 32];
    let context = slot().to_bytes();
    one.client
        .export(b"EXPORTER-signet-slot-confirm v1", Some(&context), &mut key)
        .unwrap();
    let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"server");
    assert_eq!(expected.as_ref(), sent);
}

#[test]
fn slot_context_layout() {
    let bytes = slot().to_bytes();
    let expected = [
        b"signet/1\0".as_slice(),
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 23],
        b"spiffe://td.test/node/a",
        &[0, 24],
        b"spiffe://td.test/node/bb",
        &[0xca; 16],
        &[0x5a; 16],
        &[0xc1; 32],
        &[0x51; 32],
        &51830_u16.to_be_bytes(),
        &51831_u16.to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(bytes.len(), 121 + 23 + 24);
}

/// Reads a context back: what can be read back is injective.
fn read(bytes: &[u8]) -> SlotContext {
    fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (head, rest) = input.split_at(length);
        *input = rest;
        head
    }
    fn id(input: &mut &[u8]) -> SpiffeId {
        let length = u16::from_be_bytes(take(input, 2).try_into().unwrap());
        let text = take(input, length.into()).to_vec();
        SpiffeId::new(String::from_utf8(text).unwrap()).unwrap()
    }
    fn port(input: &mut &[u8]) -> u16 {
        u16::from_be_bytes(take(input, 2).try_into().unwrap())
    }
    let input = &mut &bytes[9..];
    let slot = SlotContext {
        epoch: u64::from_be_bytes(take(input, 8).try_into().unwrap()),
        client_node: id(input),
        server_node: id(input),
        client_boot_id: take(input, 16).try_into().unwrap(),
        server_boot_id: take(input, 16).try_into().unwrap(),
        client_wg: PublicKey(take(input, 32).try_into().unwrap()),
        server_wg: PublicKey(take(input, 32).try_into().unwrap()),
        client_port: port(input),
        server_port: port(input),
    };
    assert!(input.is_empty());
    slot
}

fn any_slot() -> impl Strategy<Value = SlotContext> {
    let id =
        || "spiffe://[a-z]{1,8}(/[a-zA-Z0-9_-]{1,9}){0,4}".prop_map(|t| SpiffeId::new(t).unwrap());
    let boot = || any::<[u8; 16]>();
    let key = || any::<[u8; 32]>().prop_map(PublicKey);
    (
        any::<u64>(),
        (id(), id()),
        (boot(), boot()),
        (key(), key()),
        any::<(u16, u16)>(),
    )
        .prop_map(|(epoch, nodes, boots, keys, ports)| SlotContext {
            epoch,
            client_node: nodes.0,
            server_node: nodes.1,
            client_boot_id: boots.0,
            server_boot_id: boots.1,
            client_wg: keys.0,
            server_wg: keys.1,
            client_port: ports.0,
            server_port: ports.1,
        })
}

proptest! {
    #[test]
    fn slot_context_is_injective(slot in any_slot()) {
        prop_assert_eq!(read(&slot.to_bytes()), slot);
    }

    #[test]
    fn slot_contexts_that_differ_have_bytes_that_differ(one in any_slot(), two in any_slot()) {
        prop_assert_eq!(one.to_bytes() == two.to_bytes(), one == two);
    }
}
