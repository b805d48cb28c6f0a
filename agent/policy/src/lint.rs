//! What is odd about policies that are well-formed: selectors that select nothing, rules that never
//! decide, demands that nobody can meet.
//!
//! Everything is held against the objects that are there now. A finding is a question to the
//! author, not a verdict: nothing here changes what is enforced.

mod pods;
mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facts::PodFacts;
use crate::model::{Action, Authentication, Entity, Peer, Peers, Policy, Rule};
use crate::set::PolicySet;

/// The objects that policies are held against.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Labels of every namespace, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Namespace and name of every service account.
    pub service_accounts: BTreeSet<(String, String)>,
    /// Pods that have an identity of their own.
    pub pods: Vec<PodFacts>,
    /// Pods that use their node's network, and so its identity.
    pub host_pods: Vec<PodFacts>,
    /// The mesh's trust domain; without it SPIFFE IDs are not looked at.
    pub trust_domain: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or a part of it, is not in force.
    Problem,
    /// It is in force, and most likely not what was meant.
    Warning,
}

/// One thing to look at. One line: which object, what is odd, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A word for the sort of finding, such as `SelectsNothing`; stable.
    pub check: String,
    /// The object, and the rule if it is about one: `AuthenticatedPolicy shop/backend ingress[0]`.
    pub object: String,
    /// What is odd.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.what, self.fix)
    }
}

impl PolicySet {
    /// Everything odd, in the order of the policies' names.
    pub fn lint(&self, cluster: &Cluster) -> Vec<Finding> {
        let mut found = Findings::default();
        for policy in self.all() {
            lint_policy(policy, cluster, &mut found);
            for rule in &policy.rules {
                let mut report = |finding| found.add_rule(policy, rule, finding);
                lint_peers(policy, rule, cluster, &mut report);
                pods::lint_separated(rule, cluster, &mut report);
                pods::lint_ports(policy, rule, cluster, &mut report);
                lint_authentication(rule, &mut report);
                shadow::lint(self, policy, rule, &mut report);
            }
        }
        if let Some(domain) = &cluster.trust_domain {
            for (rule, id) in self.foreign_ids(domain) {
                found.add(
                    rule.to_string(),
                    Odd::new(
                        "FederatedPeerUnsupported",
                        format!(
                            "{id} is of another trust domain than {domain}, so it matches nobody"
                        ),
                        "remove it, or wait until trust domains can be federated",
                    ),
                );
            }
        }
        found.0
    }
}

/// What is odd, without its place.
pub(crate) struct Odd {
    check: &'static str,
    what: String,
    fix: String,
}

impl Odd {
    pub(crate) fn new(
        check: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, object: String, odd: Odd) {
        self.0.push(Finding {
            severity: Severity::Warning,
            check: odd.check.to_owned(),
            object,
            what: odd.what,
            fix: odd.fix,
        });
    }

    fn add_rule(&mut self, policy: &Policy, rule: &Rule, odd: Odd) {
        self.add(policy.rule_name(rule).to_string(), odd);
    }
}

fn lint_policy(policy: &Policy, cluster: &Cluster, found: &mut Findings) {
    let namespace = &policy.name.namespace;
    let object = policy.name.to_string();
    if !cluster.namespaces.contains_key(namespace) {
        let odd = Odd::new(
            "NoSuchNamespace",
            format!("there is no Namespace {namespace}, so it selects nothing"),
            "create the namespace or correct metadata.namespace",
        );
        return found.add(object, odd);
    }
    let selected =
        |pod: &&PodFacts| pod.namespace == *namespace && policy.selector.matches(&pod.labels);
    let on_host: Vec<String> = (cluster.host_pods.iter().filter(selected))
        .map(PodFacts::full_name)
        .collect();
    if !on_host.is_empty() {
        let odd = Odd::new(
            "SelectsHostNetwork",
            format!(
                "it selects {}, which use their node's network, so nothing is enforced for them",
                pods::list(&on_host)
            ),
            "take hostNetwork from them, or leave them out of the selector",
        );
        found.add(object.clone(), odd);
    }
    if !cluster.pods.iter().any(|pod| selected(&pod)) && on_host.is_empty() {
        let odd = Odd::new(
            "SelectsNothing",
            format!("no pod of namespace {namespace} has {}", policy.selector),
            "correct the selector or the pods' labels, or delete the policy",
        );
        found.add(object, odd);
    }
}

/// Peers that are nobody.
fn lint_peers(policy: &Policy, rule: &Rule, cluster: &Cluster, report: &mut impl FnMut(Odd)) {
    let Peers::AnyOf { selectors, .. } = &rule.peers else {
        return;
    };
    for peer in selectors {
        match peer {
            Peer::ServiceAccount { namespace, name } => {
                let account = (namespace.clone(), name.clone());
                if !cluster.namespaces.contains_key(namespace) {
                    report(Odd::new(
                        "NoSuchNamespace",
                        format!(
                            "service account {namespace}/{name}: there is no Namespace {namespace}"
                        ),
                        "create the namespace or correct its name",
                    ));
                } else if !cluster.service_accounts.contains(&account) {
                    report(Odd::new(
                        "SelectsNothing",
                        format!("there is no ServiceAccount {namespace}/{name}"),
                        "create it or correct its name",
                    ));
                }
            }
            Peer::Pods { pods, namespaces } => {
                pods::lint_selector(policy, pods, namespaces, cluster, report);
            }
            Peer::SpiffeId(id) => lint_id(id, cluster, report),
            Peer::Entity(_) => {}
        }
    }
}

/// An ID of the own trust domain names a service account; those of others are told elsewhere.
fn lint_id(id: &str, cluster: &Cluster, report: &mut impl FnMut(Odd)) {
    let Some(domain) = &cluster.trust_domain else {
        return;
    };
    let prefix = format!("spiffe://{domain}/");
    let Some(path) = id.strip_prefix(&prefix) else {
        return;
    };
    let parts: Vec<&str> = path.split('/').collect();
    let known = match parts.as_slice() {
        ["ns", namespace, "sa", name] => cluster
            .service_accounts
            .contains(&((*namespace).to_owned(), (*name).to_owned())),
        _ => false,
    };
    if !known {
        report(Odd::new(
            "SelectsNothing",
            format!("{id} is no workload: there is no such ServiceAccount"),
            format!("write {prefix}ns/<namespace>/sa/<service account> of one that exists"),
        ));
    }
}

/// A rule that demands authentication of those who cannot give it.
fn lint_authentication(rule: &Rule, report: &mut impl FnMut(Odd)) {
    let (Action::Allow, Authentication::Required, Peers::AnyOf { selectors, .. }) =
        (rule.action, rule.authentication, &rule.peers)
    else {
        return;
    };
    for peer in selectors {
        let Peer::Entity(entity) = peer else { continue };
        match entity {
            Entity::Host | Entity::KubeAPIServer | Entity::World | Entity::Unmanaged => {
                report(Odd::new(
                    "CannotAuthenticate",
                    format!("{entity:?} cannot prove an identity, and the rule demands one"),
                    "write `authentication: Optional` in a rule of its own for it",
                ))
            }
            // Other nodes do, and pods of the mesh are among the cluster.
            Entity::RemoteNode | Entity::Cluster => {}
        }
    }
}
