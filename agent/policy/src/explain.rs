//! Why a flow passes or does not.

mod print;

use serde::{Deserialize, Serialize};

use crate::facts::{PeerFacts, PodFacts};
use crate::model::{
    Action, Authentication, Direction, Enforcement, Mode, PolicyRef, RuleId, RuleName, Verdict,
};
use crate::resolve::UnknownPorts;
use crate::set::{PolicySet, Scope};

/// A flow to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Who opens the flow.
    pub from: PeerFacts,
    /// Who is reached.
    pub to: PeerFacts,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 for protocols without ports.
    pub port: u16,
    /// The stricter mode of the two ends.
    pub mode: Mode,
}

/// Whether a flow passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It passes.
    Allowed,
    /// It is dropped.
    Denied,
}

/// What happens to a flow, and why. Prints as a short block of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who opens the flow.
    pub from: String,
    /// Who is reached.
    pub to: String,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 for protocols without ports.
    pub port: u16,
    /// Allowed if no side denies.
    pub outcome: Outcome,
    /// `Required` if a rule that decides asks for it. Pairs of the mesh are authenticated either
    /// way.
    pub authentication: Authentication,
    /// What the source's node does; absent unless the source is a pod of the mesh.
    pub egress: Option<Side>,
    /// What the destination's node does; absent unless the destination is a pod of the mesh.
    pub ingress: Option<Side>,
    /// Dry-run policies that would change a side, each as if it alone were enforced.
    pub dry_run: Vec<DryRunDifference>,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The pod, as `namespace/name`.
    pub endpoint: String,
    /// Whether this side lets the flow pass.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
    /// The policies that isolate the pod in this direction.
    pub isolated_by: Vec<PolicyRef>,
}

/// Why one side decides as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Cause {
    /// A rule allows or denies it.
    Rule {
        /// Its number in the policy map and in events.
        id: RuleId,
        /// Its name.
        rule: RuleName,
        /// Whether the rule asks for it.
        authentication: Authentication,
    },
    /// A rule allows it for authenticated peers, and this peer cannot prove an identity.
    AuthenticationRequired {
        /// Its number in the policy map and in events.
        id: RuleId,
        /// Its name.
        rule: RuleName,
    },
    /// A NetworkPolicy isolates, and a pod's own node may always reach it.
    OwnNode,
    /// A pod may always reach itself.
    Itself,
    /// No rule speaks of the flow and the pod is isolated.
    Isolated,
    /// No rule speaks of the flow and nothing isolates the pod.
    NotIsolated,
    /// No rule speaks of the flow, and in strict mode the world needs one.
    WorldNeedsRule,
}

/// What a dry-run policy would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunDifference {
    /// The policy that is not enforced.
    pub policy: PolicyRef,
    /// The side it would change.
    pub direction: Direction,
    /// What that side would do.
    pub would: Side,
}

impl PolicySet {
    /// Explains a flow: both sides, the rule or default that decides on each, and what dry-run
    /// policies would change.
    pub fn explain(&self, query: &Query) -> Explanation {
        let side = |direction, scope| self.side(query, direction, scope);
        let egress = side(Direction::Egress, Scope::Enforced);
        let ingress = side(Direction::Ingress, Scope::Enforced);
        let mut dry_run = Vec::new();
        for (direction, now) in [(Direction::Egress, &egress), (Direction::Ingress, &ingress)] {
            let Some((local, now)) = ends(query, direction).0.zip(now.as_ref()) else {
                continue;
            };
            for (policy, enforcement) in self.selecting(local) {
                let would = side(direction, Scope::With(policy));
                let Some(would) = would.filter(|_| enforcement == Enforcement::DryRun) else {
                    continue;
                };
                if would.outcome != now.outcome || would.authentication() != now.authentication() {
                    dry_run.push(DryRunDifference {
                        policy: policy.clone(),
                        direction,
                        would,
                    });
                }
            }
        }
        let sides = || egress.iter().chain(&ingress);
        let denied = sides().any(|side| side.outcome == Outcome::Denied);
        let required = sides().any(|side| side.authentication() == Authentication::Required);
        Explanation {
            from: query.from.to_string(),
            to: query.to.to_string(),
            protocol: query.protocol,
            port: query.port,
            outcome: if denied {
                Outcome::Denied
            } else {
                Outcome::Allowed
            },
            authentication: if required {
                Authentication::Required
            } else {
                Authentication::Optional
            },
            egress,
            ingress,
            dry_run,
        }
    }

    pub(crate) fn side(
        &self,
        query: &Query,
        direction: Direction,
        scope: Scope<'_>,
    ) -> Option<Side> {
        let (local, peer) = ends(query, direction);
        let local = local?;
        let map = self.compile_in(local, peer, direction, scope, UnknownPorts::Closed);
        let hit = map.lookup(query.protocol, query.port);
        let isolated = self.isolation_in(local, scope).of(direction);
        let (outcome, cause) = self.decide(hit, isolated, peer, query.mode);
        let isolating = self
            .effective(local, scope)
            .filter(|p| p.isolates.of(direction));
        Some(Side {
            endpoint: local.full_name(),
            outcome,
            cause,
            isolated_by: isolating.map(|policy| policy.name.clone()).collect(),
        })
    }

    /// The defaults of the data path, after the lookup of the policy map.
    fn decide(
        &self,
        hit: Option<Verdict>,
        isolated: bool,
        peer: &PeerFacts,
        mode: Mode,
    ) -> (Outcome, Cause) {
        let Some(Verdict {
            action,
            authentication,
            rule: id,
        }) = hit
        else {
            return if isolated {
                (Outcome::Denied, Cause::Isolated)
            } else if mode == Mode::Strict && peer.is_world() {
                (Outcome::Denied, Cause::WorldNeedsRule)
            } else {
                (Outcome::Allowed, Cause::NotIsolated)
            };
        };
        let Some(rule) = self.rule(id).cloned() else {
            let cause = if id == RuleId::ITSELF {
                Cause::Itself
            } else {
                Cause::OwnNode
            };
            return (Outcome::Allowed, cause);
        };
        match (action, authentication) {
            (Action::Allow, Authentication::Required) if !peer.can_authenticate() => {
                (Outcome::Denied, Cause::AuthenticationRequired { id, rule })
            }
            (Action::Allow, Authentication::Required | Authentication::Optional) => (
                Outcome::Allowed,
                Cause::Rule {
                    id,
                    rule,
                    authentication,
                },
            ),
            (Action::Deny, Authentication::Required | Authentication::Optional) => (
                Outcome::Denied,
                Cause::Rule {
                    id,
                    rule,
                    authentication,
                },
            ),
        }
    }
}

impl Side {
    /// Whether this side asks for an authenticated pair.
    pub fn authentication(&self) -> Authentication {
        match &self.cause {
            Cause::Rule { authentication, .. } => *authentication,
            Cause::AuthenticationRequired { .. } => Authentication::Required,
            Cause::OwnNode
            | Cause::Itself
            | Cause::Isolated
            | Cause::NotIsolated
            | Cause::WorldNeedsRule => Authentication::Optional,
        }
    }
}

/// The pod of the mesh whose node decides in this direction, and the other end.
fn ends(query: &Query, direction: Direction) -> (Option<&PodFacts>, &PeerFacts) {
    let (local, peer) = match direction {
        Direction::Ingress => (&query.to, &query.from),
        Direction::Egress => (&query.from, &query.to),
    };
    (local.pod().filter(|pod| pod.enrolled), peer)
}
