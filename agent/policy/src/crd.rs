//! `signet.dev/v1alpha1 AuthenticatedPolicy` as people write it.
//!
//! Every field is documented in `docs/policy.md`; unknown fields are refused.

mod import;
mod parse;
mod port;

pub use self::port::PortRef;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use crate::facts::Protocol;
use crate::model::{Action, Authentication, Enforcement, Entity};

pub(crate) use self::import::import;
pub(crate) use self::parse::{object_name, parse};

/// `apiVersion` of the object.
pub const API_VERSION: &str = "signet.dev/v1alpha1";
/// `kind` of the object.
pub const KIND: &str = "AuthenticatedPolicy";

/// Who may talk with the selected pods, and whether both ends must have proven who they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticatedPolicy {
    /// `signet.dev/v1alpha1`.
    pub api_version: String,
    /// `AuthenticatedPolicy`.
    pub kind: String,
    /// Name and namespace; the policy selects pods of its namespace only.
    pub metadata: ObjectMeta,
    /// What the policy says.
    pub spec: Spec,
}

/// What an [`AuthenticatedPolicy`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The pods it is about; empty is every pod of the namespace.
    pub endpoint_selector: LabelSelector,
    /// Whether it takes effect.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// Rules for flows towards the pods. Present, even if empty, it isolates them for ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for flows from the pods. Present, even if empty, it isolates them for egress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

/// One rule for flows towards the selected pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressRule {
    /// The sources; none listed is all.
    #[serde(default)]
    pub from: Vec<PolicyPeer>,
    /// The ports of the selected pods; none listed is every protocol and port.
    #[serde(default)]
    pub ports: Vec<PolicyPort>,
    /// Whether both ends must have proven who they are.
    #[serde(default)]
    pub authentication: Authentication,
    /// What to do with what matches.
    #[serde(default)]
    pub action: Action,
}

/// One rule for flows from the selected pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// The destinations; none listed is all.
    #[serde(default)]
    pub to: Vec<PolicyPeer>,
    /// The ports of the destination; none listed is every protocol and port.
    #[serde(default)]
    pub ports: Vec<PolicyPort>,
    /// Whether both ends must have proven who they are.
    #[serde(default)]
    pub authentication: Authentication,
    /// What to do with what matches.
    #[serde(default)]
    pub action: Action,
}

/// Peers of one sort. Exactly one field is set, but for `podSelector` with `namespaceSelector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyPeer {
    /// Pods with these labels, in the policy's namespace or in those `namespaceSelector` selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Pods of the namespaces with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Pods that run as one of these service accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<Vec<ServiceAccountRef>>,
    /// Workloads with one of these SPIFFE IDs, compared byte for byte.
    #[serde(default, rename = "spiffeIDs", skip_serializing_if = "Option::is_none")]
    pub spiffe_ids: Option<Vec<String>>,
    /// Addresses in one of these blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidrs: Option<Vec<CidrPeer>>,
    /// Peers that are not selected by labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entities: Option<Vec<Entity>>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountRef {
    /// Its namespace; the policy's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// An address block with holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CidrPeer {
    /// The block.
    pub cidr: String,
    /// Smaller blocks inside it that are left out.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyPort {
    /// The protocol; TCP if not given.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// A number, or the name of a container port of the destination; every port if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortRef>,
    /// Makes `port`, which must be a number, the first of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}
