//! Rules that never decide anything, because another always comes first.
//!
//! Found by what is written, not by what pods there are: the same or a wider selector, peers and
//! ports, and a verdict that wins. A rule that several others cover together is not found.

use super::Odd;
use crate::model::{Action, Authentication, Peers, Policy, Ports, Rule};
use crate::select::LabelSelector;
use crate::set::PolicySet;

pub(super) fn lint(set: &PolicySet, policy: &Policy, rule: &Rule, report: &mut impl FnMut(Odd)) {
    let same_namespace = set
        .all()
        .filter(|other| other.name.namespace == policy.name.namespace)
        .filter(|other| other.enforcement == policy.enforcement)
        .filter(|other| {
            other.selector == policy.selector || other.selector == LabelSelector::default()
        });
    for other in same_namespace {
        let covering = other.rules.iter().find(|by| {
            (&other.name, by.direction, by.index) != (&policy.name, rule.direction, rule.index)
                && by.direction == rule.direction
                && covers(by, rule)
                && wins(other, by, policy, rule)
        });
        let Some(by) = covering else { continue };
        let name = other.rule_name(by);
        let what = match (by.action, rule.action) {
            (Action::Deny, Action::Allow) => {
                format!("it never admits anything: {name} denies all of it, and a denial wins")
            }
            (Action::Deny, Action::Deny) | (Action::Allow, _) => {
                format!("it changes nothing: {name} already says the same of all of it")
            }
        };
        return report(Odd::new("Shadowed", what, "remove one of the two rules"));
    }
}

/// Whether whatever `rule` is about, `by` is about too.
fn covers(by: &Rule, rule: &Rule) -> bool {
    let peers = match (&by.peers, &rule.peers) {
        (Peers::All, Peers::All | Peers::AnyOf { .. }) => true,
        (Peers::AnyOf { .. }, Peers::All) => false,
        (
            Peers::AnyOf { selectors, blocks },
            Peers::AnyOf {
                selectors: fewer,
                blocks: of_rule,
            },
        ) => {
            fewer.iter().all(|peer| selectors.contains(peer))
                && (of_rule.is_empty() || of_rule == blocks)
        }
    };
    let ports = match (&by.ports, &rule.ports) {
        (Ports::All, Ports::All | Ports::AnyOf(_)) => true,
        (Ports::AnyOf(_), Ports::All) => false,
        (Ports::AnyOf(ports), Ports::AnyOf(fewer)) => fewer.iter().all(|port| ports.contains(port)),
    };
    peers && ports
}

/// Whether what `by` says holds where both speak. Of two that say the same, the first by name.
fn wins(other: &Policy, by: &Rule, policy: &Policy, rule: &Rule) -> bool {
    let first = || (&other.name, by.index) < (&policy.name, rule.index);
    match (by.action, rule.action) {
        (Action::Deny, Action::Allow) => true,
        (Action::Allow, Action::Deny) => false,
        (Action::Deny, Action::Deny) => first() || !covers(rule, by),
        (Action::Allow, Action::Allow) => match (by.authentication, rule.authentication) {
            (Authentication::Optional, Authentication::Required) => true,
            (Authentication::Required, Authentication::Optional) => false,
            (Authentication::Required, Authentication::Required)
            | (Authentication::Optional, Authentication::Optional) => first() || !covers(rule, by),
        },
    }
}
