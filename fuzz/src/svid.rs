//! Certificate chains: a certificate is believed if our authority signed it, and then only for
//! whom, when and where it is.

use signet_crypto::x509::verify::{Expect, Usage, verify};

use crate::{
    pki,
    reader::{Reader, part},
};

/// First byte: when, and what is expected. Then certificates, each behind its length.
pub fn run(data: &[u8]) {
    accepts(data);
}

/// The same; whether the chain was believed.
pub fn accepts(data: &[u8]) -> bool {
    let known = pki::known();
    let mut reader = Reader(data);
    let mode = reader.byte();
    let mut chain = Vec::new();
    while !reader.is_empty() && chain.len() < 6 {
        chain.push(reader.part().into());
    }
    let now = match mode & 3 {
        1 => pki::at(-61),
        2 => pki::at(3601),
        _ => pki::at(0),
    };
    let stranger = signet_crypto::spiffe_id::SpiffeId::node(&pki::domain(), "node-2").unwrap();
    let expect = match mode >> 2 & 3 {
        1 => Expect::workload_on(pki::web(), pki::node()),
        2 => Expect::workload_on(pki::web(), stranger),
        3 => Expect::workload_on(pki::domain().id(), pki::node()),
        _ => Expect::any(Usage::Either),
    };
    let bundle = if mode & 16 == 0 {
        &known.bundle
    } else {
        &known.foreign
    };
    let Ok(svid) = verify(&chain, bundle, now, &expect) else {
        return false;
    };
    assert_eq!(
        svid.spki_sha256, known.web.spki_sha256,
        "a key that nobody certified"
    );
    assert_eq!(
        (&svid.id, &svid.binding, svid.purpose),
        (&known.web.id, &known.web.binding, known.web.purpose)
    );
    assert!(
        svid.not_before <= now && now <= svid.not_after,
        "out of its time"
    );
    assert!(
        !matches!(mode & 3, 1 | 2) && mode >> 2 & 3 < 2 && mode & 16 == 0,
        "mode {mode:#x}"
    );
    true
}

/// The good chain under every expectation, and chains in disorder.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let chain = pki::fresh().web().chain();
    let (leaf, issuing) = (part(&chain[0]), part(&chain[1]));
    let seed = |mode: u8, parts: &[&[u8]]| [vec![mode], parts.concat()].concat();
    vec![
        ("good", seed(0, &[&leaf, &issuing])),
        ("good-expected", seed(4, &[&leaf, &issuing])),
        ("early", seed(1, &[&leaf, &issuing])),
        ("late", seed(2, &[&leaf, &issuing])),
        ("other-node", seed(8, &[&leaf, &issuing])),
        ("other-id", seed(12, &[&leaf, &issuing])),
        ("other-domain", seed(16, &[&leaf, &issuing])),
        ("alone", seed(0, &[&leaf])),
        ("second-leaf", seed(0, &[&leaf, &issuing, &leaf])),
        ("turned", seed(0, &[&issuing, &leaf])),
    ]
}
