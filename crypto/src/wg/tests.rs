use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::*;
use crate::random::SeededRandom;

#[test]
fn public_keys_agree_with_the_implementation_the_engine_uses() {
    let mut random = SeededRandom::new(7);
    for _ in 0..64 {
        let key = PrivateKey::generate(&mut random);
        let other = x25519_dalek::StaticSecret::from(*key.secret().expose());
        let expected = x25519_dalek::PublicKey::from(&other);
        assert_eq!(key.public_key().unwrap().0, *expected.as_bytes());
    }
}

#[test]
fn generated_keys_differ() {
    let mut random = SeededRandom::new(1);
    let one = PrivateKey::generate(&mut random).public_key().unwrap();
    let two = PrivateKey::generate(&mut random).public_key().unwrap();
    assert_ne!(one, two);
}

#[test]
fn public_key_text_is_base64_both_ways() {
    let key = PublicKey([0xfb; 32]);
    let text = key.to_string();
    assert_eq!(text, "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=");
    assert_eq!(text.parse(), Ok(key));
    for wrong in [
        "",
        "+/v7",
        &text[1..],
        &format!("{text}AAAA"),
        &text.replace('/', "_"),
    ] {
        assert_eq!(wrong.parse::<PublicKey>(), Err(PublicKeyError), "{wrong}");
    }
    let deserializer: StrDeserializer<'_, ValueError> = text.as_str().into_deserializer();
    assert_eq!(PublicKey::deserialize(deserializer).unwrap(), key);
}

#[test]
fn a_preshared_key_of_zeros_is_no_preshared_key() {
    assert!(Psk::new(Secret::new([0; 32])).is_err());
    for position in 0..32 {
        let mut bytes = [0; 32];
        bytes[position] = 1;
        assert_eq!(
            Psk::new(Secret::new(bytes)).unwrap().secret().expose(),
            &bytes
        );
    }
    let zeros = serde::de::value::SeqDeserializer::<_, ValueError>::new([0u8; 32].into_iter());
    assert!(<[u8; 32]>::deserialize(zeros.clone()).is_ok());
    assert!(
        Psk::deserialize(zeros).is_err(),
        "not through the control socket either"
    );
}

#[test]
fn debug_shows_no_secret() {
    let key = PrivateKey::from_secret(Secret::new([0xab; 32]));
    let psk = Psk::new(Secret::new([0xab; 32])).unwrap();
    assert_eq!(format!("{key:?} {psk:?}"), "PrivateKey(..) Psk(..)");
}
