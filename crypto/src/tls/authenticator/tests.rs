use super::super::messages;
use super::super::testing::{Channel, channel};
use super::*;
use crate::x509::testing::{HOUR, Pki, at, ed25519};
use crate::x509::verify::Usage;

const HASHES: [SuiteHash; 2] = [SuiteHash::Sha256, SuiteHash::Sha384];
const ROLES: [Role; 2] = [Role::Client, Role::Server];
const REQUEST: Request = Request {
    context: [0x52; 32],
};

/// A channel on which `prover` (on node `a`) proves to the other end.
struct Scene {
    pki: Pki,
    channel: Channel,
    prover: Role,
}

impl Scene {
    fn new(hash: SuiteHash, prover: Role) -> Self {
        let pki = Pki::new("td.test");
        let channel = channel(&pki, hash);
        Self {
            pki,
            channel,
            prover,
        }
    }

    fn usual() -> Self {
        Self::new(SuiteHash::Sha384, Role::Client)
    }

    fn all() -> impl Iterator<Item = Self> {
        HASHES
            .into_iter()
            .flat_map(|hash| ROLES.map(|prover| Self::new(hash, prover)))
    }

    fn end(&self, role: Role) -> &dyn ChannelSecrets {
        match role {
            Role::Client => &self.channel.client_secrets,
            Role::Server => &self.channel.server_secrets,
        }
    }

    /// The prover's own secrets.
    fn proving(&self) -> Secrets {
        Secrets::from_channel(self.end(self.prover), self.prover).unwrap()
    }

    /// The verifier's.
    fn verifying(&self) -> Secrets {
        Secrets::from_channel(self.end(self.prover.other()), self.prover).unwrap()
    }

    fn expect(&self) -> Expect {
        Expect::workload_on(self.pki.workload_id("web"), self.pki.node_id("a"))
    }

    fn proof(&self) -> Vec<u8> {
        create(&self.proving(), &REQUEST, &self.pki.workload("web", "a")).unwrap()
    }

    fn check(&self, authenticator: &[u8]) -> Result<VerifiedSvid, AuthenticatorError> {
        self.check_for(authenticator, &self.expect())
    }

    fn check_for(
        &self,
        authenticator: &[u8],
        expect: &Expect,
    ) -> Result<VerifiedSvid, AuthenticatorError> {
        verify(
            &self.verifying(),
            &REQUEST,
            authenticator,
            &self.pki.bundle,
            at(0),
            expect,
        )
    }
}

#[test]
fn a_proof_holds_on_its_channel_for_its_request_in_every_suite_and_role() {
    for scene in Scene::all() {
        let svid = scene.pki.workload("web", "a");
        let proof = create(&scene.proving(), &REQUEST, &svid).unwrap();
        let found = scene.check(&proof).unwrap();
        assert_eq!(&found.id, svid.id());
        assert_eq!(found.cert_sha256, svid.sha256());
    }
}

#[test]
fn an_ed25519_key_proves_as_well() {
    let scene = Scene::usual();
    let (key, id) = (ed25519(), scene.pki.workload_id("web"));
    let mut spec = scene
        .pki
        .spec(&key, &id, crate::x509::profile::Purpose::AgentPlane);
    spec.binding = Some(scene.pki.binding("a"));
    let svid = X509Svid::new(scene.pki.issuing.issue_leaf(&spec).unwrap(), key).unwrap();
    scene
        .check(&create(&scene.proving(), &REQUEST, &svid).unwrap())
        .unwrap();
}

#[test]
fn relayed_to_another_channel_it_is_refused() {
    for scene in Scene::all() {
        let other = Scene {
            channel: channel(&scene.pki, scene.verifying().hash),
            ..scene
        };
        let first = Scene::new(SuiteHash::Sha384, other.prover);
        let proof = create(&first.proving(), &REQUEST, &other.pki.workload("web", "a")).unwrap();
        assert_eq!(other.check(&proof), Err(AuthenticatorError::Finished));
    }
    // The same two nodes, the same suite, the next connection.
    let scene = Scene::usual();
    let proof = scene.proof();
    scene.check(&proof).unwrap();
    let next = Scene {
        channel: channel(&scene.pki, SuiteHash::Sha384),
        ..scene
    };
    assert_eq!(next.check(&proof), Err(AuthenticatorError::Finished));
}

#[test]
fn replayed_under_another_request_it_is_refused() {
    for scene in Scene::all() {
        let proof = scene.proof();
        for bit in 0..256 {
            let mut context = REQUEST.context;
            context[bit / 8] ^= 1 << (bit % 8);
            let (secrets, request) = (scene.verifying(), Request { context });
            let (bundle, expect) = (&scene.pki.bundle, scene.expect());
            let result = verify(&secrets, &request, &proof, bundle, at(0), &expect);
            assert_eq!(result, Err(AuthenticatorError::Finished));
        }
    }
}

#[test]
fn reflected_to_its_prover_it_is_refused() {
    for scene in Scene::all() {
        let proof = scene.proof();
        let mirror = scene.prover.other();
        for end in ROLES {
            let secrets = Secrets::from_channel(scene.end(end), mirror).unwrap();
            let (bundle, expect) = (&scene.pki.bundle, scene.expect());
            let result = verify(&secrets, &REQUEST, &proof, bundle, at(0), &expect);
            assert_eq!(result, Err(AuthenticatorError::Finished));
        }
    }
}

#[test]
fn no_bit_can_change() {
    for scene in Scene::all() {
        let proof = scene.proof();
        for position in 0..proof.len() {
            for bit in 0..8 {
                let mut bytes = proof.clone();
                bytes[position] ^= 1 << bit;
                assert!(scene.check(&bytes).is_err(), "byte {position} bit {bit}");
            }
        }
    }
}

#[test]
fn cut_short_or_drawn_out_it_is_refused() {
    let scene = Scene::usual();
    let proof = scene.proof();
    for length in 1..proof.len() {
        let result = scene.check(&proof[..length]);
        assert!(
            matches!(result, Err(AuthenticatorError::Malformed(_))),
            "cut to {length}"
        );
    }
    let longer = [proof.as_slice(), &[0]].concat();
    assert!(matches!(
        scene.check(&longer),
        Err(AuthenticatorError::Malformed(_))
    ));
    let twice = [proof.as_slice(), &proof].concat();
    assert!(matches!(
        scene.check(&twice),
        Err(AuthenticatorError::Malformed(_))
    ));
    let huge = vec![11; MAX_LENGTH + 1];
    assert_eq!(
        scene.check(&huge),
        Err(AuthenticatorError::Malformed("too long"))
    );
}

#[test]
fn wrong_id_node_and_purpose_are_refused() {
    let scene = Scene::usual();
    let pki = &scene.pki;
    let proof_of = |svid: &X509Svid| create(&scene.proving(), &REQUEST, svid).unwrap();
    let refused = |proof: &[u8]| match scene.check(proof) {
        Err(AuthenticatorError::Certificate(error)) => error,
        other => panic!("the certificate should have been refused: {other:?}"),
    };

    let other_id = proof_of(&pki.workload("cart", "a"));
    assert!(matches!(refused(&other_id), VerifyError::WrongId { .. }));
    let other_node = proof_of(&pki.workload("web", "b"));
    assert!(matches!(
        refused(&other_node),
        VerifyError::WrongNode { .. }
    ));
    let api = proof_of(&pki.workload_api("web"));
    assert!(matches!(refused(&api), VerifyError::WrongNode { .. }));
    let expect = Expect {
        node: None,
        ..scene.expect()
    };
    assert!(matches!(
        scene.check_for(&api, &expect),
        Err(AuthenticatorError::Certificate(
            VerifyError::WrongPurpose { .. }
        ))
    ));
    let node = proof_of(&pki.node("a"));
    assert!(matches!(refused(&node), VerifyError::WrongId { .. }));
}

#[test]
fn expired_or_of_another_authority_it_is_refused() {
    let scene = Scene::usual();
    let proof = scene.proof();
    let check_at = |seconds| {
        let (bundle, expect) = (&scene.pki.bundle, scene.expect());
        verify(
            &scene.verifying(),
            &REQUEST,
            &proof,
            bundle,
            at(seconds),
            &expect,
        )
    };
    check_at(HOUR as i64).unwrap();
    let expired = check_at(HOUR as i64 + 1);
    assert!(matches!(
        expired,
        Err(AuthenticatorError::Certificate(VerifyError::Expired { .. }))
    ));

    let impostor = Pki::new("td.test").workload("web", "a");
    let proof = create(&scene.proving(), &REQUEST, &impostor).unwrap();
    let unknown = AuthenticatorError::Certificate(VerifyError::UnknownIssuer);
    assert_eq!(scene.check(&proof), Err(unknown));
}

/// What a node can do that has the victim's certificate, as everybody may, but not its key.
#[test]
fn somebody_elses_certificate_is_refused() {
    let scene = Scene::usual();
    let (victim, mallory) = (
        scene.pki.workload("web", "a"),
        scene.pki.workload("mallory", "a"),
    );
    let secrets = scene.proving();
    let certificate = certificate(&REQUEST.context, victim.chain());
    let input = signature_input(&secrets.transcript(&REQUEST, &[&certificate]));
    let signature = mallory.key().sign(&input).unwrap();
    let verify = certificate_verify(mallory.key().scheme(), &signature);
    let finished = finished(&secrets, &REQUEST, &[&certificate, &verify]);
    let proof = [certificate, verify, finished].concat();
    assert_eq!(scene.check(&proof), Err(AuthenticatorError::Signature));
}

/// The leaf's key signs, but not this transcript.
#[test]
fn a_signature_made_for_something_else_is_refused() {
    let scene = Scene::usual();
    let svid = scene.pki.workload("web", "a");
    let secrets = scene.proving();
    let certificate = certificate(&REQUEST.context, svid.chain());
    let transcript = secrets.transcript(&REQUEST, &[&certificate]);
    let handshake = [
        [0x20; 64].as_slice(),
        b"TLS 1.3, client CertificateVerify",
        &[0],
        &transcript,
    ]
    .concat();
    let other_request = secrets.transcript(&Request { context: [1; 32] }, &[&certificate]);
    for input in [handshake, signature_input(&other_request), transcript] {
        let signature = svid.key().sign(&input).unwrap();
        let verify = certificate_verify(svid.key().scheme(), &signature);
        let finished = finished(&secrets, &REQUEST, &[&certificate, &verify]);
        let proof = [certificate.as_slice(), &verify, &finished].concat();
        assert_eq!(scene.check(&proof), Err(AuthenticatorError::Signature));
    }
}

/// Everything a peer can say under a Finished that is right.
#[test]
fn a_peer_that_breaks_the_form_is_refused() {
    let scene = Scene::usual();
    let svid = scene.pki.workload("web", "a");
    let secrets = scene.proving();
    let send = |certificate: Vec<u8>, verify: Vec<u8>| {
        let finished = finished(&secrets, &REQUEST, &[&certificate, &verify]);
        scene.check(&[certificate, verify, finished].concat())
    };
    let signed = |certificate: &[u8], scheme| {
        let input = signature_input(&secrets.transcript(&REQUEST, &[certificate]));
        certificate_verify(scheme, &svid.key().sign(&input).unwrap())
    };
    let good = certificate(&REQUEST.context, svid.chain());
    let scheme = svid.key().scheme();
    send(good.clone(), signed(&good, scheme)).unwrap();

    let other_context = certificate(&[1; 32], svid.chain());
    let verify = signed(&other_context, scheme);
    let context = AuthenticatorError::Malformed("context is not the request's");
    assert_eq!(send(other_context, verify), Err(context));

    let nobody = certificate(&REQUEST.context, &[]);
    let verify = signed(&nobody, scheme);
    let none = AuthenticatorError::Certificate(VerifyError::NoCertificate);
    assert_eq!(send(nobody, verify), Err(none));

    let trailing = message(messages::CERTIFICATE, &[&good[4..], &[0]].concat());
    let verify = signed(&trailing, scheme);
    assert_eq!(send(trailing, verify), Err(MALFORMED_CERTIFICATE));

    // An extension in the leaf's entry: its length is the two bytes after the certificate.
    let leaf = svid.chain()[0].len();
    let mut body = good[4..].to_vec();
    let at = 1 + 32 + 3 + 3 + leaf;
    body.splice(at..at + 2, [0, 4, 0, 0x0d, 0, 0]);
    let list = body.len() - 36;
    body[33..36].copy_from_slice(&(list as u32).to_be_bytes()[1..]);
    let extended = message(messages::CERTIFICATE, &body);
    let verify = signed(&extended, scheme);
    assert_eq!(send(extended, verify), Err(MALFORMED_CERTIFICATE));

    let verify = signed(&good, SignatureScheme::ECDSA_NISTP384_SHA384);
    let scheme_error = AuthenticatorError::Malformed("signature scheme was not asked for");
    assert_eq!(send(good.clone(), verify), Err(scheme_error));
    let verify = signed(&good, SignatureScheme::ED25519);
    assert_eq!(
        send(good.clone(), verify),
        Err(AuthenticatorError::Signature)
    );
    let verify = message(CERTIFICATE_VERIFY, &[4]);
    assert_eq!(send(good, verify), Err(MALFORMED_VERIFY));
}

#[test]
fn a_second_leaf_in_the_message_does_not_impersonate() {
    let scene = Scene::usual();
    let (victim, mallory) = (
        scene.pki.workload("web", "a"),
        scene.pki.workload("mallory", "a"),
    );
    let chain = [mallory.chain(), victim.chain()].concat();
    let svid = X509Svid::new(chain, mallory.key().clone()).unwrap();
    let proof = create(&scene.proving(), &REQUEST, &svid).unwrap();
    for expect in [scene.expect(), Expect::any(Usage::Either)] {
        let result = scene.check_for(&proof, &expect);
        assert!(matches!(
            result,
            Err(AuthenticatorError::Certificate(VerifyError::Intermediate {
                index: 2,
                ..
            }))
        ));
    }
}

#[test]
fn messages_out_of_order_are_refused() {
    let scene = Scene::usual();
    let proof = scene.proof();
    let mut parts = Vec::new();
    let mut rest = proof.as_slice();
    while let Some((message, after)) = Message::split(rest) {
        parts.push(message.whole);
        rest = after;
    }
    let [certificate, verify, finished] = parts[..] else {
        panic!("three messages")
    };
    let out_of_order = Err(AuthenticatorError::Malformed("messages are out of order"));
    for order in [
        [verify, certificate, finished],
        [finished, certificate, verify],
    ] {
        assert_eq!(scene.check(&order.concat()), out_of_order);
    }
    for part in [certificate, verify] {
        let result = scene.check(part);
        assert!(matches!(result, Err(AuthenticatorError::Malformed(_))));
    }
}

#[test]
fn rfc_9261_6_a_refusal_is_authentic_and_proves_nothing() {
    for scene in Scene::all() {
        let refusal = refuse(&scene.proving(), &REQUEST);
        assert_eq!(scene.check(&refusal), Err(AuthenticatorError::Refused));
        assert_eq!(scene.check(&[]), Err(AuthenticatorError::Refused));

        for position in 4..refusal.len() {
            let mut forged = refusal.clone();
            forged[position] ^= 1;
            assert_eq!(scene.check(&forged), Err(AuthenticatorError::Finished));
        }
        let other = refuse(&scene.proving(), &Request { context: [1; 32] });
        assert_eq!(
            scene.check(&other),
            Err(AuthenticatorError::Finished),
            "another request"
        );
    }
}

/// A proof's own Finished, alone, is no refusal.
#[test]
fn a_proof_stripped_to_its_finished_is_refused_as_a_forgery() {
    let scene = Scene::usual();
    let proof = scene.proof();
    let finished = &proof[proof.len() - 4 - 48..];
    assert_eq!(scene.check(finished), Err(AuthenticatorError::Finished));
}

#[test]
fn rfc_9261_4_requests() {
    let context = (0..32).collect::<Vec<u8>>();
    let request = Request {
        context: context.clone().try_into().unwrap(),
    };
    let body = [
        &[0, 0, 45, 32],
        context.as_slice(),
        &[0, 10, 0, 13, 0, 6, 0, 4, 4, 3, 8, 7],
    ]
    .concat();
    assert_eq!(
        request.encode(Role::Client),
        [&[13], body.as_slice()].concat()
    );
    assert_eq!(
        request.encode(Role::Server),
        [&[17], body.as_slice()].concat()
    );
}

/// RFC 9261 section 5, computed here step by step from the connection's own exporter.
#[test]
fn rfc_9261_5_transcript_signature_and_finished() {
    for scene in Scene::all() {
        let svid = scene.pki.workload("web", "a");
        let proof = create(&scene.proving(), &REQUEST, &svid).unwrap();
        let name = match scene.prover {
            Role::Client => "client",
            Role::Server => "server",
        };
        let hash = scene.verifying().hash;
        let export = |what: &str| {
            let label = format!("EXPORTER-{name} authenticator {what}");
            let mut out = vec![0; hash.length()];
            scene
                .channel
                .server
                .export(label.as_bytes(), None, &mut out)
                .unwrap();
            out
        };
        let (context, key) = (export("handshake context"), export("finished key"));
        let request = REQUEST.encode(scene.prover);

        let (certificate, rest) = Message::split(&proof).unwrap();
        let (verify, rest) = Message::split(rest).unwrap();
        let (finished, rest) = Message::split(rest).unwrap();
        assert!(rest.is_empty());

        let before = hash.digest(&[&context, &request, certificate.whole]);
        let signed = [
            [0x20; 64].as_slice(),
            b"Exported Authenticator\0",
            before.as_ref(),
        ]
        .concat();
        let (scheme, signature) = (&verify.body[..2], &verify.body[4..]);
        assert_eq!(scheme, [4, 3]);
        let point = &svid.key().spki()[26..];
        aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            point,
        )
        .verify(&signed, signature)
        .unwrap();

        let all = hash.digest(&[&context, &request, certificate.whole, verify.whole]);
        hmac::verify(&hash.hmac(&key), all.as_ref(), finished.body).unwrap();
    }
}

#[test]
fn debug_shows_no_key() {
    let secrets = Scene::usual().proving();
    assert_eq!(format!("{secrets:?}"), "Secrets(Client, Sha384)");
    assert_eq!(secrets.prover(), Role::Client);
}
