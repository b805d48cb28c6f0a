use rcgen::PublicKeyData;

use crate::spiffe_id::SpiffeId;
use crate::svid::SvidKey;
use crate::x509::csr::{CsrError, parse};
use crate::x509::testing::ed25519;

fn id() -> SpiffeId {
    SpiffeId::new("spiffe://td.test/ns/shop/sa/web").unwrap()
}

/// A request made by other software.
fn foreign(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = |name: &&str| rcgen::SanType::URI((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    let request = params.serialize_request(&key).unwrap();
    (request.der().to_vec(), key.subject_public_key_info())
}

#[test]
fn our_own_requests_pass() {
    for key in [SvidKey::generate().unwrap(), ed25519()] {
        let request = parse(&key.csr(&id()).unwrap()).unwrap();
        assert_eq!(request.spki(), key.spki());
        assert_eq!(request.requested_id(), Some(&id()));
        let request = parse(&key.anonymous_csr().unwrap()).unwrap();
        assert_eq!(request.spki(), key.spki());
        assert_eq!(request.requested_id(), None);
    }
}

#[test]
fn other_software_reads_our_requests() {
    let key = SvidKey::generate().unwrap();
    for request in [key.csr(&id()).unwrap(), key.anonymous_csr().unwrap()] {
        let der = rustls_pki_types::CertificateSigningRequestDer::from(request);
        let read = rcgen::CertificateSigningRequestParams::from_der(&der).unwrap();
        assert_eq!(read.public_key.subject_public_key_info(), key.spki());
    }
}

#[test]
fn requests_of_other_software_pass() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let (der, spki) = foreign(&[id().as_str()], algorithm);
        let request = parse(&der).unwrap();
        assert_eq!(request.spki(), spki);
        assert_eq!(request.requested_id(), Some(&id()));
    }
}

#[test]
fn other_keys_are_refused() {
    let (der, _) = foreign(&[], &rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(parse(&der), Err(CsrError::UnsupportedKey));
}

#[test]
fn names_are_at_most_one_spiffe_id() {
    let two = foreign(
        &[id().as_str(), "spiffe://td.test/b"],
        &rcgen::PKCS_ECDSA_P256_SHA256,
    )
    .0;
    assert!(matches!(parse(&two), Err(CsrError::BadId(_))));
    let other = foreign(&["https://td.test/"], &rcgen::PKCS_ECDSA_P256_SHA256).0;
    assert!(matches!(parse(&other), Err(CsrError::BadId(_))));
}

#[test]
fn a_key_that_the_asker_does_not_hold_is_refused() {
    let (mine, theirs) = (SvidKey::generate().unwrap(), SvidKey::generate().unwrap());
    let mut request = mine.csr(&id()).unwrap();
    let spki = mine.spki();
    let at = request
        .windows(spki.len())
        .position(|window| window == spki)
        .unwrap();
    request[at..at + spki.len()].copy_from_slice(&theirs.spki());
    assert_eq!(parse(&request), Err(CsrError::BadSignature));
}

#[test]
fn no_bit_of_what_is_signed_can_change() {
    let key = SvidKey::generate().unwrap();
    let long = SpiffeId::new(format!("spiffe://td.test/{}", "a".repeat(200))).unwrap();
    let request = key.csr(&long).unwrap();
    let good = parse(&request).unwrap();
    assert_eq!(request[..2], [0x30, 0x82], "the header has four bytes");
    let info = 4..4 + 4 + usize::from(u16::from_be_bytes([request[6], request[7]]));
    assert_eq!(request[4..6], [0x30, 0x82], "so has that of what is signed");
    for position in 0..request.len() {
        for bit in 0..8 {
            let mut bytes = request.clone();
            bytes[position] ^= 1 << bit;
            match parse(&bytes) {
                Err(_) => {}
                // The frame around it is not signed: a spelling of it may pass, saying the same.
                Ok(found) => assert_eq!(found, good, "byte {position} bit {bit}"),
            }
            let signed = info.contains(&position);
            assert!(
                !signed || parse(&bytes).is_err(),
                "byte {position} bit {bit}"
            );
        }
    }
}

#[test]
fn size_and_form_are_limited() {
    let request = SvidKey::generate().unwrap().csr(&id()).unwrap();
    let trailing = [request.as_slice(), &[0]].concat();
    assert!(matches!(parse(&trailing), Err(CsrError::Malformed(_))));
    for length in 0..request.len() {
        assert!(parse(&request[..length]).is_err(), "cut to {length}");
    }
    assert_eq!(
        parse(&[0x30; 8193]),
        Err(CsrError::TooLong { length: 8193 })
    );

    let long = format!("spiffe://td.test/{}", "a".repeat(2048 - 17));
    let long = SpiffeId::new(long).unwrap();
    let request = SvidKey::generate().unwrap().csr(&long).unwrap();
    assert_eq!(parse(&request).unwrap().requested_id(), Some(&long));
}
