//! `policy list`: what is in force, and whom it concerns.

use std::collections::BTreeMap;

use signet_agent_core::status::{Policies, PolicyInfo};
use signet_policy::{Direction, Enforcement, PodFacts, PolicyRef};

use super::Executor;

impl Executor {
    pub(super) fn policies(&self) -> Policies {
        let set = &self.cluster.view.policies;
        let mut found: BTreeMap<&PolicyRef, PolicyInfo> = set
            .policies()
            .map(|(name, enforcement)| (name, empty(name, enforcement)))
            .collect();
        for (_, rule) in set.rules() {
            if let Some(policy) = found.get_mut(&rule.policy) {
                match rule.direction {
                    Direction::Ingress => policy.ingress_rules += 1,
                    Direction::Egress => policy.egress_rules += 1,
                }
            }
        }
        for pod in self.snapshot.pods.values().filter(|pod| pod.has_identity()) {
            // A pod whose identity cannot be named is selected by nothing.
            let Ok(peer) = self.pod_facts(pod) else {
                continue;
            };
            let Some(facts) = peer.pod() else { continue };
            let here = pod.node.as_deref() == Some(&self.facts.node_name);
            for (name, _) in set.selecting(facts) {
                if let Some(policy) = found.get_mut(name) {
                    select(policy, facts, here);
                }
            }
        }
        let mut policies: Vec<PolicyInfo> = found.into_values().collect();
        policies.sort_by(|a, b| {
            (&a.namespace, &a.name, &a.kind).cmp(&(&b.namespace, &b.name, &b.kind))
        });
        Policies {
            policies,
            problems: self.cluster.policy_problems.clone(),
        }
    }
}

fn empty(name: &PolicyRef, enforcement: Enforcement) -> PolicyInfo {
    PolicyInfo {
        kind: name.kind.to_string(),
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        enforcement: match enforcement {
            Enforcement::Enforce => "enforce",
            Enforcement::DryRun => "dry run",
        }
        .to_owned(),
        ingress_rules: 0,
        egress_rules: 0,
        selects: Vec::new(),
        selects_here: Vec::new(),
    }
}

fn select(policy: &mut PolicyInfo, pod: &PodFacts, here: bool) {
    policy.selects.push(pod.full_name());
    if here {
        policy.selects_here.push(pod.full_name());
    }
}
