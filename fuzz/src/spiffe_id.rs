//! SPIFFE IDs and trust domains: one spelling each, and no other text is one.

use signet_crypto::spiffe_id::{IdKind, SpiffeId, TrustDomain};

/// Any text, held against the rules of SPIFFE-ID section 2 written down a second time.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = SpiffeId::new(text);
    assert_eq!(parsed.is_ok(), is_spiffe_id(text), "{text:?}");
    assert_eq!(TrustDomain::new(text).is_ok(), is_domain(text), "{text:?}");
    let Ok(id) = parsed else { return };
    assert_eq!(id.to_string(), text);
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
    let domain = id.trust_domain();
    assert_eq!(format!("spiffe://{domain}{}", id.path()), text);
    // Whoever gives names of the parts gets this very ID, or the shape is none of ours.
    let again = match id.kind() {
        IdKind::Workload {
            namespace,
            service_account,
        } => SpiffeId::workload(domain, namespace, service_account).unwrap(),
        IdKind::Node { uid } => SpiffeId::node(domain, uid).unwrap(),
        IdKind::IdentityService => SpiffeId::identity_service(domain),
        IdKind::TrustDomain => domain.id(),
        IdKind::Other => id.clone(),
    };
    assert_eq!(again, id);
}

fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return false;
    };
    let mut parts = rest.split('/');
    text.len() <= 2048
        && parts.next().is_some_and(is_domain)
        && parts.all(|part| {
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            !["", ".", ".."].contains(&part) && part.bytes().all(fine)
        })
}

fn is_domain(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(fine)
}

/// One of each shape, and the usual tricks.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    [
        ("workload", "spiffe://example.org/ns/shop/sa/frontend"),
        ("node", "spiffe://example.org/node/9f1c-22"),
        ("service", "spiffe://example.org/signet/identity"),
        ("domain", "spiffe://example.org"),
        ("other", "spiffe://a.b_c-d/x/y.z/W"),
        ("bare-domain", "lab.signet"),
        ("dots", "spiffe://example.org/ns/../sa/x"),
        ("escape", "spiffe://example.org/ns/a%2fb/sa/x"),
        ("port", "spiffe://example.org:443/a"),
        ("slash", "spiffe://example.org/"),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .to_vec()
}
