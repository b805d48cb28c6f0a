//! All policies of a cluster, and the numbers of their rules.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::facts::PodFacts;
use crate::model::{
    Enforcement, Isolation, Peer, Peers, Policy, PolicyKind, PolicyRef, RuleId, RuleName,
};
use crate::problem::{Fault, PolicyProblem};
use crate::{crd, import};

/// All policies of a cluster: what every question about policy is asked of.
///
/// A set never changes; make a new one from changed objects and compare what it compiles to with
/// [`crate::diff`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// By namespace, because a policy selects pods of its own namespace only; sorted by name.
    policies: BTreeMap<String, Vec<Policy>>,
    names: BTreeMap<RuleId, RuleName>,
}

impl PolicySet {
    /// Takes over policy objects. An object with any fault is refused whole and named among the
    /// problems; the others form the set. It is the caller's to decide whether a set with
    /// problems may replace one without.
    pub fn from_objects(
        network_policies: &[NetworkPolicy],
        authenticated_policies: &[Value],
    ) -> (PolicySet, Vec<PolicyProblem>) {
        let network = network_policies.iter().map(TakenOver::network_policy);
        let authenticated = authenticated_policies
            .iter()
            .map(TakenOver::authenticated_policy);
        PolicySet::collect(network.chain(authenticated))
    }

    /// The set of objects that were taken over one by one: the same as [`PolicySet::from_objects`]
    /// makes of all of them, at the price of those that changed.
    pub fn from_taken_over<'a>(
        objects: impl IntoIterator<Item = &'a TakenOver>,
    ) -> (PolicySet, Vec<PolicyProblem>) {
        PolicySet::collect(objects.into_iter().cloned().map(Ok))
    }

    fn collect(
        objects: impl Iterator<Item = Result<TakenOver, PolicyProblem>>,
    ) -> (PolicySet, Vec<PolicyProblem>) {
        let mut builder = Builder::default();
        for object in objects {
            match object {
                Ok(object) => builder.add(object),
                Err(problem) => builder.problems.push(problem),
            }
        }
        (PolicySet::number(builder.policies), builder.problems)
    }

    /// The name of a rule by the number that the policy map and events carry. `None` for the
    /// reserved numbers of [`RuleId`] and for rules of another set.
    pub fn rule(&self, id: RuleId) -> Option<&RuleName> {
        self.names.get(&id)
    }

    /// Every rule with its number.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RuleName)> {
        self.names.iter().map(|(id, name)| (*id, name))
    }

    /// Every policy, whether it is enforced or a dry run.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyRef, Enforcement)> {
        self.policies
            .values()
            .flatten()
            .map(|policy| (&policy.name, policy.enforcement))
    }

    /// The policies that select a pod, enforced and dry run.
    pub fn selecting(&self, local: &PodFacts) -> impl Iterator<Item = (&PolicyRef, Enforcement)> {
        self.selecting_policies(local)
            .map(|policy| (&policy.name, policy.enforcement))
    }

    /// The directions in which a pod is isolated: flows that no rule allows are denied.
    pub fn isolation(&self, local: &PodFacts) -> Isolation {
        self.isolation_in(local, Scope::Enforced)
    }

    /// Rules that name SPIFFE IDs of other trust domains. No workload of this mesh can prove such
    /// an ID, so the rules match nobody until trust domains are federated.
    pub fn foreign_ids<'a>(
        &'a self,
        trust_domain: &'a str,
    ) -> impl Iterator<Item = (RuleName, &'a str)> {
        let foreign = move |id: &&str| {
            let domain = id
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.split('/').next());
            domain != Some(trust_domain)
        };
        self.policies.values().flatten().flat_map(move |policy| {
            policy.rules.iter().flat_map(move |rule| {
                let peers = match &rule.peers {
                    Peers::All => &[][..],
                    Peers::AnyOf { selectors, .. } => selectors.as_slice(),
                };
                let ids = peers.iter().filter_map(|peer| match peer {
                    Peer::SpiffeId(id) => Some(id.as_str()),
                    Peer::Pods { .. } | Peer::ServiceAccount { .. } | Peer::Entity(_) => None,
                });
                ids.filter(foreign)
                    .map(move |id| (policy.rule_name(rule), id))
            })
        })
    }

    /// Every policy as it was taken over.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().flatten()
    }

    /// Whether some policy is a dry run.
    pub fn has_dry_runs(&self) -> bool {
        self.all()
            .any(|policy| policy.enforcement == Enforcement::DryRun)
    }

    /// Whether the policy is there, and a dry run.
    pub(crate) fn is_dry_run(&self, name: &PolicyRef) -> bool {
        self.all()
            .any(|policy| policy.name == *name && policy.enforcement == Enforcement::DryRun)
    }

    pub(crate) fn selecting_policies(&self, local: &PodFacts) -> impl Iterator<Item = &Policy> {
        let namespace = self.policies.get(&local.namespace);
        namespace
            .into_iter()
            .flatten()
            .filter(|policy| policy.selector.matches(&local.labels))
    }

    /// The policies of `scope` that select a pod.
    pub(crate) fn effective<'a>(
        &'a self,
        local: &PodFacts,
        scope: Scope<'a>,
    ) -> impl Iterator<Item = &'a Policy> {
        self.selecting_policies(local)
            .filter(move |policy| scope.includes(policy))
    }

    pub(crate) fn isolation_in(&self, local: &PodFacts, scope: Scope<'_>) -> Isolation {
        let mut isolation = Isolation::default();
        for policy in self.effective(local, scope) {
            isolation.merge(policy.isolates);
        }
        isolation
    }

    /// Isolation by one kind of policy alone.
    pub(crate) fn isolation_by(
        &self,
        local: &PodFacts,
        scope: Scope<'_>,
        kind: PolicyKind,
    ) -> Isolation {
        let mut isolation = Isolation::default();
        for policy in self
            .effective(local, scope)
            .filter(|policy| policy.name.kind == kind)
        {
            isolation.merge(policy.isolates);
        }
        isolation
    }

    fn number(by_name: BTreeMap<PolicyRef, Policy>) -> PolicySet {
        let mut set = PolicySet::default();
        let mut rank = 0;
        // In the order of names, so that equal sets get equal numbers wherever they come from.
        for mut policy in by_name.into_values() {
            for at in 0..policy.rules.len() {
                let name = policy.rule_name(&policy.rules[at]);
                let mut id = hash(&name);
                while id < RuleId::FIRST || set.names.contains_key(&id) {
                    id = RuleId(id.0.wrapping_add(1));
                }
                policy.rules[at].id = id;
                policy.rules[at].rank = rank;
                rank += 1;
                set.names.insert(id, name);
            }
            set.policies
                .entry(policy.name.namespace.clone())
                .or_default()
                .push(policy);
        }
        set
    }
}

/// Which policies count.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Enforced,
    /// The enforced ones, and this dry run as if it were.
    With(&'a PolicyRef),
    /// All of them, dry runs as if they were enforced.
    All,
}

impl Scope<'_> {
    fn includes(self, policy: &Policy) -> bool {
        match (policy.enforcement, self) {
            (Enforcement::Enforce, Scope::Enforced | Scope::With(_) | Scope::All)
            | (Enforcement::DryRun, Scope::All) => true,
            (Enforcement::DryRun, Scope::With(name)) => *name == policy.name,
            (Enforcement::DryRun, Scope::Enforced) => false,
        }
    }
}

impl Policy {
    pub(crate) fn rule_name(&self, rule: &crate::model::Rule) -> RuleName {
        RuleName {
            policy: self.name.clone(),
            direction: rule.direction,
            index: rule.index,
        }
    }
}

/// One policy object that holds. Worth keeping while the object stays as it is: to take one over
/// costs far more than to put it into a set.
#[derive(Clone, Debug)]
pub struct TakenOver {
    policy: Policy,
    /// Of what kind it is and what its name is.
    object: String,
}

impl TakenOver {
    /// Takes over a NetworkPolicy.
    ///
    /// # Errors
    /// Its first fault.
    pub fn network_policy(written: &NetworkPolicy) -> Result<Self, PolicyProblem> {
        Self::of(import::import(written), import::object_name(written))
    }

    /// Takes over an AuthenticatedPolicy.
    ///
    /// # Errors
    /// Its first fault.
    pub fn authenticated_policy(raw: &Value) -> Result<Self, PolicyProblem> {
        let imported = crd::parse(raw).and_then(|written| crd::import(&written));
        Self::of(imported, crd::object_name(raw))
    }

    fn of(imported: Result<Policy, Fault>, object: String) -> Result<Self, PolicyProblem> {
        match imported {
            Ok(policy) => Ok(Self { policy, object }),
            Err(fault) => Err(fault.within(object)),
        }
    }
}

#[derive(Default)]
struct Builder {
    policies: BTreeMap<PolicyRef, Policy>,
    problems: Vec<PolicyProblem>,
}

impl Builder {
    fn add(&mut self, TakenOver { policy, object }: TakenOver) {
        if self.policies.contains_key(&policy.name) {
            let fault = Fault::new(
                "metadata.name",
                "another policy of this kind has the same name",
                "rename one of them; the first one stays in force",
            );
            self.problems.push(fault.within(object));
        } else {
            self.policies.insert(policy.name.clone(), policy);
        }
    }
}

/// FNV-1a over the printed name, folded to 32 bits.
fn hash(name: &RuleName) -> RuleId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    RuleId(u32::try_from(folded).unwrap_or(u32::MAX))
}
