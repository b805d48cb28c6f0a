//! Certificate requests: what is certified is the key that was asked for, and nothing else.

use signet_crypto::{
    svid::SvidKey,
    x509::{
        csr,
        verify::{Expect, verify},
    },
};

use crate::pki;

/// A request in DER.
pub fn run(data: &[u8]) {
    accepts(data);
}

/// The same; whether it was a request whose asker has the key.
pub fn accepts(data: &[u8]) -> bool {
    let Ok(request) = csr::parse(data) else {
        return false;
    };
    let spki = request.spki();
    assert!(
        data.windows(spki.len()).any(|window| window == spki),
        "a key from elsewhere"
    );
    if let Some(id) = request.requested_id() {
        let text = id.as_str().as_bytes();
        assert!(data.windows(text.len()).any(|window| window == text));
    }
    // Whatever the request says besides, the certificate says what the spec says.
    let fresh = pki::fresh();
    let chain = fresh.issuing.issue_leaf(&pki::spec(data)).unwrap();
    let expect = Expect::workload_on(pki::web(), pki::node());
    let svid = verify(&chain, &fresh.bundle(), pki::at(0), &expect).unwrap();
    assert_eq!(svid.spki_sha256, request.spki_sha256());
    true
}

/// Requests with an ID and without.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let key = SvidKey::generate().unwrap();
    let good = key.csr(&pki::web()).unwrap();
    let mut unsigned = good.clone();
    if let Some(last) = unsigned.last_mut() {
        *last ^= 1;
    }
    vec![
        ("good", good),
        ("good-anonymous", key.anonymous_csr().unwrap()),
        ("unsigned", unsigned),
    ]
}
