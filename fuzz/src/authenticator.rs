//! RFC 9261 authenticators: only the holder of a certified key proves an identity, on one channel,
//! in one direction, in answer to one request.

use aws_lc_rs::{digest, hmac};
use signet_crypto::{
    tls::{
        authenticator::{AuthenticatorError, Request, Role, Secrets, create, refuse, verify},
        exporter::ChannelSecrets as _,
    },
    x509::verify::Expect,
};

use crate::{pki, reader::Reader};

const CONTEXT: [u8; 32] = [0xc0; 32];

/// First byte: who proves, and whether a right Finished is put behind the rest, as the channel's
/// own peer could, so that the checks behind the MAC are reached.
pub fn run(data: &[u8]) {
    accepts(data);
}

/// The same; whether it was believed.
pub fn accepts(data: &[u8]) -> bool {
    let known = pki::known();
    let mut reader = Reader(data);
    let mode = reader.byte();
    let prover = role(mode);
    let authenticator = if mode & 2 == 0 {
        reader.0.to_vec()
    } else {
        finish(prover, reader.0)
    };
    let expect = Expect::workload_on(pki::web(), pki::node());
    let check = |prover, context, bundle| {
        let secrets = Secrets::from_channel(&pki::channel(prover), prover).unwrap();
        verify(
            &secrets,
            &Request { context },
            &authenticator,
            bundle,
            pki::at(0),
            &expect,
        )
    };
    let svid = match check(prover, CONTEXT, &known.bundle) {
        Ok(svid) => svid,
        Err(error) => {
            assert!(
                !authenticator.is_empty() || error == AuthenticatorError::Refused,
                "{error}"
            );
            return false;
        }
    };
    assert_eq!(
        svid.spki_sha256, known.web.spki_sha256,
        "a key that signed nothing"
    );
    assert_eq!((&svid.id, &svid.binding), (&pki::web(), &known.web.binding));
    let other = match prover {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    let twice = [
        ("reflected", check(other, CONTEXT, &known.bundle)),
        ("replayed", check(prover, [0xc1; 32], &known.bundle)),
        ("in another domain", check(prover, CONTEXT, &known.foreign)),
    ];
    for (what, result) in twice {
        assert!(result.is_err(), "believed when {what}");
    }
    true
}

fn role(mode: u8) -> Role {
    if mode & 1 == 0 {
        Role::Client
    } else {
        Role::Server
    }
}

/// `messages` and a Finished over all of them, by RFC 9261 section 5.2.3 written down once more.
fn finish(prover: Role, messages: &[u8]) -> Vec<u8> {
    let name = match prover {
        Role::Client => "client",
        Role::Server => "server",
    };
    let export = |what: &str| {
        let mut out = [0; 32];
        let label = format!("EXPORTER-{name} authenticator {what}");
        pki::channel(prover)
            .export(label.as_bytes(), None, &mut out)
            .unwrap();
        out
    };
    let request = Request { context: CONTEXT }.encode(prover);
    let transcript = [export("handshake context").as_slice(), &request, messages].concat();
    let transcript = digest::digest(&digest::SHA256, &transcript);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &export("finished key"));
    let tag = hmac::sign(&key, transcript.as_ref());
    [messages, &[20, 0, 0, 32], tag.as_ref()].concat()
}

/// Good ones of both sides, whole and to be finished, a declined one, and one for another request.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let make = |prover, context| {
        let secrets = Secrets::from_channel(&pki::channel(prover), prover).unwrap();
        create(&secrets, &Request { context }, pki::fresh().web()).unwrap()
    };
    let secrets = Secrets::from_channel(&pki::channel(Role::Client), Role::Client).unwrap();
    let declined = refuse(&secrets, &Request { context: CONTEXT });
    let (client, server) = (make(Role::Client, CONTEXT), make(Role::Server, CONTEXT));
    let unfinished = |whole: &[u8]| whole[..whole.len() - 36].to_vec();
    let seed = |mode: u8, bytes: &[u8]| [&[mode], bytes].concat();
    vec![
        ("good-client", seed(0, &client)),
        ("good-server", seed(1, &server)),
        ("good-client-unfinished", seed(2, &unfinished(&client))),
        ("good-server-unfinished", seed(3, &unfinished(&server))),
        ("reflected", seed(0, &server)),
        (
            "replayed",
            seed(2, &unfinished(&make(Role::Client, [1; 32]))),
        ),
        ("declined", seed(0, &declined)),
        ("empty", seed(0, &[])),
    ]
}
