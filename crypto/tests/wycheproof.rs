//! Project Wycheproof's vectors for every primitive this product leans on, in the implementation it
//! leans on: AWS-LC for certificates and channels, ring and x25519-dalek inside WireGuard.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use aws_lc_rs::{agreement, hkdf, hmac};
use wycheproof::TestResult;

/// An "acceptable" vector is weak but legal; either outcome is right.
fn judge(result: TestResult, passed: bool, what: std::fmt::Arguments<'_>) {
    match result {
        TestResult::Valid => assert!(passed, "{what}: valid, but refused"),
        TestResult::Invalid => assert!(!passed, "{what}: invalid, but accepted"),
        TestResult::Acceptable => {}
    }
}

#[test]
fn ecdsa_p256_sha256_verify() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, group.key.key.as_ref());
        for test in &group.tests {
            let passed = key.verify(&test.msg, &test.sig).is_ok();
            judge(
                test.result,
                passed,
                format_args!("case {}: {}", test.tc_id, test.comment),
            );
            count += 1;
        }
    }
    assert!(count > 400, "{count} vectors");
}

#[test]
fn ed25519_verify() {
    use wycheproof::eddsa::{TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        let key = UnparsedPublicKey::new(&ED25519, group.key.pk.as_ref());
        for test in &group.tests {
            let passed = key.verify(&test.msg, &test.sig).is_ok();
            judge(
                test.result,
                passed,
                format_args!("case {}: {}", test.tc_id, test.comment),
            );
            count += 1;
        }
    }
    assert!(count > 100, "{count} vectors");
}

#[test]
fn hmac_sha256_and_sha384() {
    use wycheproof::mac::{TestName, TestSet};
    let mut count = 0;
    for (name, algorithm) in [
        (TestName::HmacSha256, hmac::HMAC_SHA256),
        (TestName::HmacSha384, hmac::HMAC_SHA384),
    ] {
        for group in &TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let tag = hmac::sign(&hmac::Key::new(algorithm, &test.key), &test.msg);
                let passed = tag.as_ref()[..group.tag_size / 8] == test.tag[..];
                judge(
                    test.result,
                    passed,
                    format_args!("case {}: {}", test.tc_id, test.comment),
                );
                count += 1;
            }
        }
    }
    assert!(count > 300, "{count} vectors");
}

#[test]
fn hkdf_sha256_and_sha384() {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    use wycheproof::hkdf::{TestName, TestSet};
    let mut count = 0;
    for (name, algorithm) in [
        (TestName::HkdfSha256, hkdf::HKDF_SHA256),
        (TestName::HkdfSha384, hkdf::HKDF_SHA384),
    ] {
        for group in &TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let prk = hkdf::Salt::new(algorithm, &test.salt).extract(&test.ikm);
                let mut out = vec![0; test.size];
                let info = [&test.info[..]];
                let filled = prk
                    .expand(&info, Length(test.size))
                    .and_then(|okm| okm.fill(&mut out));
                let passed = filled.is_ok() && out == test.okm[..];
                judge(
                    test.result,
                    passed,
                    format_args!("case {}: {}", test.tc_id, test.comment),
                );
                count += 1;
            }
        }
    }
    assert!(count > 150, "{count} vectors");
}

#[test]
fn x25519_of_both_implementations() {
    use wycheproof::xdh::{TestName, TestSet};
    let set = TestSet::load(TestName::X25519).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let what = format_args!("case {}: {}", test.tc_id, test.comment).to_string();
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, &test.public_key[..]);
        let key =
            agreement::PrivateKey::from_private_key(&agreement::X25519, &test.private_key).unwrap();
        let shared = agreement::agree(&key, peer, (), |secret| Ok(secret.to_vec()));
        // AWS-LC refuses an all-zero result outright, which vectors call acceptable.
        match shared {
            Ok(shared) => {
                judge(
                    test.result,
                    shared == test.shared_secret[..],
                    format_args!("{what}"),
                );
            }
            Err(_) => {
                let is_zero = test.shared_secret.iter().all(|byte| *byte == 0);
                assert!(is_zero, "{what}: refused");
            }
        }

        let bytes = |slice: &[u8]| <[u8; 32]>::try_from(slice).unwrap();
        let key = x25519_dalek::StaticSecret::from(bytes(&test.private_key));
        let peer = x25519_dalek::PublicKey::from(bytes(&test.public_key));
        let shared = key.diffie_hellman(&peer);
        let passed = shared.as_bytes()[..] == test.shared_secret[..];
        judge(test.result, passed, format_args!("{what}"));
        let is_zero = test.shared_secret.iter().all(|byte| *byte == 0);
        assert_eq!(shared.was_contributory(), !is_zero, "{what}");
        count += 1;
    }
    assert!(count > 500, "{count} vectors");
}

#[test]
fn chacha20_poly1305_of_ring() {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::ChaCha20Poly1305).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let what = format_args!("case {}: {}", test.tc_id, test.comment).to_string();
            let Ok(nonce) = <[u8; 12]>::try_from(&test.nonce[..]) else {
                judge(test.result, false, format_args!("{what}"));
                continue;
            };
            let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &test.key).unwrap());
            let nonce = || Nonce::assume_unique_for_key(nonce);
            let aad = || Aad::from(&test.aad[..]);

            let mut opened = [&test.ct[..], &test.tag].concat();
            let result = key.open_in_place(nonce(), aad(), &mut opened);
            let passed = result.is_ok_and(|plain| *plain == test.pt[..]);
            judge(test.result, passed, format_args!("{what}"));

            let mut sealed = test.pt.to_vec();
            let tag = key
                .seal_in_place_separate_tag(nonce(), aad(), &mut sealed)
                .unwrap();
            let passed = sealed == test.ct[..] && *tag.as_ref() == test.tag[..];
            judge(test.result, passed, format_args!("{what}, sealing"));
            count += 1;
        }
    }
    assert!(count > 250, "{count} vectors");
}
