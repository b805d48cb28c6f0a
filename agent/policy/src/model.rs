//! Policies of every kind, brought into one shape.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::block::{AddressBlock, Blocks};
use crate::facts::Protocol;
use crate::select::LabelSelector;

/// Which way a flow goes, seen from the pod a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the selected pod.
    Ingress,
    /// From the selected pod.
    Egress,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// The number of the direction in the policy map: 0 ingress, 1 egress.
    pub fn number(self) -> u8 {
        match self {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// What a rule does with what it matches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Action {
    /// Lets it pass.
    #[default]
    Allow,
    /// Stops it, whatever else allows it.
    Deny,
}

/// Whether what a rule allows must be an authenticated pair of identities.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Authentication {
    /// Both ends must have proven who they are. Never downgraded.
    #[default]
    Required,
    /// Peers that cannot prove an identity pass too.
    Optional,
}

/// Whether a policy takes effect or only tells what it would do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Enforcement {
    /// The policy isolates, allows and denies.
    #[default]
    Enforce,
    /// The policy changes no verdict; `explain` reports what it would change.
    DryRun,
}

/// A kind of peer that has no labels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Entity {
    /// The node the selected pod runs on.
    Host,
    /// Any other node.
    RemoteNode,
    /// The Kubernetes API server.
    KubeAPIServer,
    /// Any address outside the cluster.
    World,
    /// Pods outside the mesh.
    Unmanaged,
    /// Everything but `World`.
    Cluster,
}

/// How strictly what no rule speaks of is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// What is not isolated passes.
    Permissive,
    /// As `Permissive`, but the world needs a rule that allows it without authentication.
    Strict,
}

/// The kind of the object a policy was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `signet.dev/v1alpha1 AuthenticatedPolicy`.
    AuthenticatedPolicy,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyKind::AuthenticatedPolicy => "AuthenticatedPolicy",
            PolicyKind::NetworkPolicy => "NetworkPolicy",
        })
    }
}

/// The full name of a policy. Prints as `AuthenticatedPolicy shop/backend`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyRef {
    /// The object's kind.
    pub kind: PolicyKind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where a rule stands. Prints as `AuthenticatedPolicy shop/backend ingress[0]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleName {
    /// The policy it stands in.
    pub policy: PolicyRef,
    /// The list it stands in.
    pub direction: Direction,
    /// Its place in that list, from 0.
    pub index: u32,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}

/// The number of a rule in the policy map and in events; `PolicySet::rule` gives its name.
///
/// It is a hash of the rule's name, so every node and every run of an agent gives a rule the same
/// number, unless two names of one set collide, when the later name moves to the next free number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No rule.
    pub const NONE: RuleId = RuleId(0);
    /// NetworkPolicy's standing permission between a pod and its own node.
    pub const OWN_NODE: RuleId = RuleId(1);
    /// NetworkPolicy's standing permission of a pod to talk to itself.
    pub const ITSELF: RuleId = RuleId(2);
    /// The first number a written rule can have.
    pub const FIRST: RuleId = RuleId(16);
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The answer of the rules for one flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it passes.
    pub action: Action,
    /// Whether it passes only authenticated. `Optional` where `action` is `Deny`.
    pub authentication: Authentication,
    /// The rule that decided.
    pub rule: RuleId,
}

/// Whether an endpoint is isolated: what no rule allows is denied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Isolation {
    /// For flows towards it.
    pub ingress: bool,
    /// For flows from it.
    pub egress: bool,
}

impl Isolation {
    /// The flag of one direction.
    pub fn of(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    pub(crate) fn merge(&mut self, other: Isolation) {
        self.ingress |= other.ingress;
        self.egress |= other.egress;
    }
}

/// One policy object, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) name: PolicyRef,
    pub(crate) selector: LabelSelector,
    pub(crate) enforcement: Enforcement,
    pub(crate) isolates: Isolation,
    pub(crate) rules: Vec<Rule>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) direction: Direction,
    pub(crate) index: u32,
    /// `RuleId::NONE` until the rule is part of a set.
    pub(crate) id: RuleId,
    /// The rule's place among all rules of its set, sorted by name: it breaks ties.
    pub(crate) rank: u32,
    pub(crate) peers: Peers,
    pub(crate) ports: Ports,
    pub(crate) action: Action,
    pub(crate) authentication: Authentication,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    All,
    AnyOf {
        selectors: Vec<Peer>,
        blocks: Blocks,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Pods {
        pods: LabelSelector,
        namespaces: Namespaces,
    },
    ServiceAccount {
        namespace: String,
        name: String,
    },
    SpiffeId(String),
    Entity(Entity),
}

/// One entry of a written list of peers.
pub(crate) enum ListedPeer {
    Selector(Peer),
    Block(AddressBlock),
}

impl Peers {
    /// Whoever is in the list.
    pub(crate) fn any_of(list: Vec<ListedPeer>) -> Self {
        let (mut selectors, mut blocks) = (Vec::new(), Blocks::default());
        for peer in list {
            match peer {
                ListedPeer::Selector(peer) => selectors.push(peer),
                ListedPeer::Block(block) => blocks.insert(block),
            }
        }
        Self::AnyOf { selectors, blocks }
    }
}

/// The namespaces a pod selector looks into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Namespaces {
    /// The policy's own.
    Named(String),
    Matching(LabelSelector),
}

/// Which ports a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Every protocol, ICMP included.
    All,
    AnyOf(Vec<PortMatch>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortMatch {
    pub(crate) protocol: Protocol,
    pub(crate) port: PortChoice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortChoice {
    Any,
    Range {
        first: u16,
        last: u16,
    },
    /// A container port's name, looked up on the flow's destination pod.
    Named(String),
}

/// Checks the name of a container port (an IANA service name): what is wrong and what to do.
pub(crate) fn check_port_name(name: &str) -> Result<(), (String, String)> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = (1..=15).contains(&name.len())
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-')
        && name.chars().any(|c| c.is_ascii_lowercase())
        && !name.contains("--");
    if valid {
        return Ok(());
    }
    Err((
        format!("`{name}` is neither a port number nor a port name"),
        "use a number from 1 to 65535 without quotes, or the name of a container port".to_owned(),
    ))
}
