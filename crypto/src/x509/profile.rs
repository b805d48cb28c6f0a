//! What Signet writes into certificates beyond the X509-SVID standard.
//!
//! Two private, non-critical extensions, named by UUIDs under the `2.25` arc (ITU-T X.667), so that
//! no registry is needed and no other software is confused:
//!
//! ```text
//! purpose   2.25.<e8b25a6d-3c0f-4e7a-9d41-70c2b6f3158e>
//!           ENUMERATED { nodeAgent(1), workloadApi(2), agentPlane(3), identityService(4) }
//! binding   2.25.<7f14c9d8-62ab-4b35-8e90-1dd53fa7c264>
//!           SEQUENCE { node               OCTET STRING (SIZE(32)),  -- SHA-256 of its SPIFFE ID
//!                      namespaceUid       UTF8String (SIZE(1..128)),
//!                      serviceAccountUid  UTF8String (SIZE(1..128)) }
//! ```
//!
//! `purpose` is in every leaf, `binding` in agent-plane leaves and nowhere else.

use std::fmt;

use crate::spiffe_id::{IdKind, SpiffeId};

/// The UUID whose `2.25` arc names the purpose extension.
pub const PURPOSE_UUID: u128 = 0xe8b2_5a6d_3c0f_4e7a_9d41_70c2_b6f3_158e;
/// The UUID whose `2.25` arc names the binding extension.
pub const BINDING_UUID: u128 = 0x7f14_c9d8_62ab_4b35_8e90_1dd5_3fa7_c264;
/// Content octets of the purpose extension's object identifier.
pub const PURPOSE_OID: [u8; 20] = uuid_oid(PURPOSE_UUID);
/// Content octets of the binding extension's object identifier.
pub const BINDING_OID: [u8; 20] = uuid_oid(BINDING_UUID);
/// The longest UID in a binding, in bytes. Kubernetes UIDs are 36.
pub const MAX_UID_LENGTH: usize = 128;

/// What a leaf certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A node's own: node channels and calls to the identity service.
    NodeAgent,
    /// Handed to the pod for its own use; never accepted between agents.
    WorkloadApi,
    /// Kept by the agent to prove the workload's identity, from one node only.
    AgentPlane,
    /// The identity service's server certificate.
    IdentityService,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [
        Self::NodeAgent,
        Self::WorkloadApi,
        Self::AgentPlane,
        Self::IdentityService,
    ];

    /// The value of the ENUMERATED.
    pub fn number(self) -> u8 {
        match self {
            Self::NodeAgent => 1,
            Self::WorkloadApi => 2,
            Self::AgentPlane => 3,
            Self::IdentityService => 4,
        }
    }

    /// The purpose with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.number() == number)
    }

    /// Whether an ID of this shape may carry this purpose. A workload's certificate can then never
    /// pass for a node's, nor a node's for the identity service's.
    pub fn fits(self, id: &SpiffeId) -> bool {
        match self {
            Self::NodeAgent => matches!(id.kind(), IdKind::Node { .. }),
            Self::WorkloadApi | Self::AgentPlane => matches!(id.kind(), IdKind::Workload { .. }),
            Self::IdentityService => id.kind() == IdKind::IdentityService,
        }
    }

    /// Whether certificates of this purpose carry a [`Binding`].
    pub fn is_bound(self) -> bool {
        self == Self::AgentPlane
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeAgent => "node agent",
            Self::WorkloadApi => "workload API",
            Self::AgentPlane => "agent plane",
            Self::IdentityService => "identity service",
        })
    }
}

/// What an agent-plane certificate is tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// SHA-256 of the SPIFFE ID of the only node that may speak for the workload.
    pub node: [u8; 32],
    /// UID of the workload's namespace: a namespace made anew under the old name is another one.
    pub namespace_uid: String,
    /// UID of the workload's service account, likewise.
    pub service_account_uid: String,
}

impl Binding {
    /// A binding to `node`.
    pub fn new(
        node: &SpiffeId,
        namespace_uid: impl Into<String>,
        service_account_uid: impl Into<String>,
    ) -> Self {
        Self {
            node: node_digest(node),
            namespace_uid: namespace_uid.into(),
            service_account_uid: service_account_uid.into(),
        }
    }
}

/// SHA-256 of a node's SPIFFE ID, as it stands in a [`Binding`].
pub fn node_digest(node: &SpiffeId) -> [u8; 32] {
    sha256(node.as_str().as_bytes())
}

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref());
    out
}

/// Content octets of `2.25.<uuid>`: one byte for the first two arcs, then the UUID in base 128.
const fn uuid_oid(uuid: u128) -> [u8; 20] {
    assert!(
        uuid >> 126 != 0,
        "the first of 19 groups would be a forbidden leading zero"
    );
    let mut out = [0; 20];
    out[0] = 2 * 40 + 25;
    let mut index = 1;
    while index < 20 {
        let group = (uuid >> (7 * (19 - index))) as u8 & 0x7f;
        out[index] = if index < 19 { group | 0x80 } else { group };
        index += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::asn1_rs::Oid;

    fn uuid_of(oid: &[u8]) -> u128 {
        oid[1..]
            .iter()
            .fold(0, |value, byte| (value << 7) | u128::from(byte & 0x7f))
    }

    #[test]
    fn object_identifiers_hold_their_whole_uuid() {
        for (oid, uuid) in [(PURPOSE_OID, PURPOSE_UUID), (BINDING_OID, BINDING_UUID)] {
            assert_eq!(uuid_of(&oid), uuid);
            assert_eq!(uuid >> 76 & 0xf, 4, "version 4");
            assert_eq!(uuid >> 62 & 0b11, 0b10, "variant of RFC 9562");
            assert!(oid[1..19].iter().all(|byte| byte & 0x80 != 0));
            assert_eq!(Oid::new(oid.as_slice().into()).as_bytes(), oid);
        }
        assert_ne!(PURPOSE_OID, BINDING_OID);
    }

    #[test]
    fn purposes_have_lasting_numbers() {
        let numbers = Purpose::ALL.map(Purpose::number);
        assert_eq!(numbers, [1, 2, 3, 4]);
        for number in 0..=u8::MAX {
            let purpose = Purpose::from_number(number);
            assert_eq!(
                purpose.map(Purpose::number),
                numbers.contains(&number).then_some(number)
            );
        }
    }

    #[test]
    fn purposes_fit_only_their_own_shape_of_id() {
        let id = |path: &str| SpiffeId::new(format!("spiffe://td.test{path}")).unwrap();
        let cases = [
            (
                "/ns/shop/sa/web",
                vec![Purpose::WorkloadApi, Purpose::AgentPlane],
            ),
            ("/node/uid-1", vec![Purpose::NodeAgent]),
            ("/signet/identity", vec![Purpose::IdentityService]),
            ("/node/uid-1/more", vec![]),
            ("/ns/shop/sa", vec![]),
            ("", vec![]),
        ];
        for (path, fitting) in cases {
            let found: Vec<_> = Purpose::ALL
                .into_iter()
                .filter(|p| p.fits(&id(path)))
                .collect();
            assert_eq!(found, fitting, "{path}");
        }
    }
}
