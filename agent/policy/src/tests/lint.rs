//! Each check finds what it is for, by name and with a way out, and leaves good policies alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cluster as pod;
use crate::PolicySet;
use crate::lint::{Cluster, Finding};

fn cluster() -> Cluster {
    let names = ["shop/web", "shop/db", "pay/api", "pay/batch"];
    let mut pods: Vec<_> = names.into_iter().map(pod).collect();
    // A second web that differs in a label only.
    let mut canary = pod("shop/web");
    canary.name = "canary".to_owned();
    canary.uid = "canary".to_owned();
    canary
        .labels
        .insert("track".to_owned(), "canary".to_owned());
    pods.push(canary);
    let mut agent = pod("shop/web");
    agent.name = "agent".to_owned();
    agent.labels = BTreeMap::from([("app".to_owned(), "agent".to_owned())]);
    let accounts = |pods: &[crate::PodFacts]| -> BTreeSet<(String, String)> {
        pods.iter()
            .map(|pod| (pod.namespace.clone(), pod.service_account.clone()))
            .collect()
    };
    Cluster {
        namespaces: pods
            .iter()
            .map(|pod| (pod.namespace.clone(), pod.namespace_labels.clone()))
            .collect(),
        service_accounts: accounts(&pods),
        pods,
        host_pods: vec![agent],
        trust_domain: Some("lab.signet".to_owned()),
    }
}

fn policy(name: &str, namespace: &str, app: &str, ingress: Value) -> Value {
    json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
           "metadata": {"name": name, "namespace": namespace},
           "spec": {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": ingress}})
}

fn lint(objects: &[Value]) -> Vec<Finding> {
    let (set, problems) = PolicySet::from_objects(&[], objects);
    assert_eq!(problems, []);
    set.lint(&cluster())
}

/// The one finding about one object.
fn only(object: Value) -> (String, String) {
    let found = lint(&[object]);
    assert_eq!(found.len(), 1, "{found:#?}");
    (found[0].check.clone(), found[0].to_string())
}

#[test]
fn nothing_is_odd_about_a_policy_that_does_what_it_says() {
    let good = policy(
        "db",
        "shop",
        "db",
        json!([
            {"from": [{"serviceAccounts": [{"name": "web"}]}], "ports": [{"port": "sql"}]},
            {"from": [{"spiffeIDs": ["spiffe://lab.signet/ns/pay/sa/api"]}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 80}]},
            {"from": [{"entities": ["Host"]}], "authentication": "Optional"}]),
    );
    assert_eq!(lint(&[good]), []);
}

#[test]
fn what_selects_nothing_is_named() {
    let none = |from: Value| policy("p", "shop", "db", json!([{"from": [from]}]));
    for (object, check, words) in [
        (
            policy("p", "shop", "dbx", json!([])),
            "SelectsNothing",
            "AuthenticatedPolicy shop/p: no pod of namespace shop has labels app=dbx; correct",
        ),
        (
            policy("p", "gone", "db", json!([])),
            "NoSuchNamespace",
            "AuthenticatedPolicy gone/p: there is no Namespace gone",
        ),
        (
            none(json!({"serviceAccounts": [{"name": "wbe"}]})),
            "SelectsNothing",
            "AuthenticatedPolicy shop/p ingress[0]: there is no ServiceAccount shop/wbe; create",
        ),
        (
            none(json!({"serviceAccounts": [{"namespace": "shpo", "name": "web"}]})),
            "NoSuchNamespace",
            "there is no Namespace shpo",
        ),
        (
            none(
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]}}),
            ),
            "SelectsNothing",
            "no pod of namespace shop has labels app in (x, y)",
        ),
        (
            none(json!({"namespaceSelector": {"matchLabels": {"team": "nobody"}}})),
            "SelectsNothing",
            "no namespace has labels team=nobody",
        ),
        (
            none(
                json!({"namespaceSelector": {"matchLabels": {"team": "pay"}},
                        "podSelector": {"matchLabels": {"app": "web"}}}),
            ),
            "SelectsNothing",
            "no pod of a namespace with labels team=pay has labels app=web",
        ),
        (
            none(json!({"spiffeIDs": ["spiffe://lab.signet/ns/shop/sa/nobody"]})),
            "SelectsNothing",
            "spiffe://lab.signet/ns/shop/sa/nobody is no workload",
        ),
        (
            none(json!({"spiffeIDs": ["spiffe://other.example/ns/shop/sa/web"]})),
            "FederatedPeerUnsupported",
            "is of another trust domain than lab.signet",
        ),
    ] {
        let (found, line) = only(object);
        assert_eq!(found, check, "{line}");
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn pods_of_one_service_account_are_not_told_apart_by_authentication() {
    let separating = |rule: Value| policy("db", "shop", "db", json!([rule]));
    let canary = json!([{"podSelector": {"matchLabels": {"track": "canary"}}}]);
    let (check, line) = only(separating(json!({"from": canary})));
    assert_eq!(check, "SharedServiceAccount");
    assert!(
        line.contains("admits pod shop/canary but not pod shop/web")
            && line.contains("service account shop/web")
            && line.contains("service accounts of their own"),
        "{line}"
    );
    // Without the demand nothing is claimed, and a denial that hits fewer is no hole.
    assert_eq!(
        lint(&[separating(
            json!({"from": canary, "authentication": "Optional"})
        )]),
        []
    );
    assert_eq!(
        lint(&[separating(json!({"from": canary, "action": "Deny"}))]),
        []
    );
}

#[test]
fn pods_on_their_nodes_network_are_pointed_out_on_both_sides() {
    let (check, line) = only(policy("p", "shop", "agent", json!([])));
    assert_eq!(check, "SelectsHostNetwork");
    assert!(
        line.contains("it selects pod shop/agent, which use"),
        "{line}"
    );
    let from = json!([{"from": [{"podSelector": {"matchLabels": {"app": "agent"}}}]}]);
    let (check, line) = only(policy("p", "shop", "db", from));
    assert_eq!(check, "SelectsHostNetwork");
    assert!(line.contains("entities: [Host, RemoteNode]"), "{line}");
}

#[test]
fn demands_that_cannot_be_met_and_ports_that_nobody_has() {
    let world = json!([{"from": [{"entities": ["World"]}]}]);
    let (check, line) = only(policy("p", "shop", "db", world));
    assert_eq!(check, "CannotAuthenticate");
    assert!(line.contains("authentication: Optional"), "{line}");
    let port = json!([{"ports": [{"port": "mysql"}]}]);
    let (check, line) = only(policy("p", "shop", "db", port));
    assert_eq!(check, "NoSuchPort");
    assert!(line.contains("TCP port named mysql"), "{line}");
}

#[test]
fn rules_that_never_decide_are_shadowed() {
    let web = json!([{"serviceAccounts": [{"name": "web"}]}]);
    let allow = json!({"from": web, "ports": [{"port": 80}]});
    // Denied as a whole, from another policy that is about more pods.
    let wide = json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
        "metadata": {"name": "z-wide", "namespace": "shop"},
        "spec": {"endpointSelector": {}, "ingress": [{"from": web, "action": "Deny"}]}});
    let found = lint(&[policy("db", "shop", "db", json!([allow])), wide.clone()]);
    let shadowed: Vec<String> = (found.iter().filter(|f| f.check == "Shadowed"))
        .map(ToString::to_string)
        .collect();
    assert_eq!(shadowed.len(), 1, "{found:#?}");
    assert!(
        shadowed[0].starts_with("AuthenticatedPolicy shop/db ingress[0]: it never admits anything: AuthenticatedPolicy shop/z-wide ingress[0] denies"),
        "{shadowed:?}"
    );
    // A dry run shadows nothing that is in force.
    let mut dry = wide;
    dry["spec"]["enforcement"] = json!("DryRun");
    let found = lint(&[policy("db", "shop", "db", json!([allow])), dry]);
    assert!(found.iter().all(|f| f.check != "Shadowed"), "{found:#?}");
    // Said twice: one of the two is odd, not both. Said wider: the narrower one.
    for rules in [
        json!([allow, allow]),
        json!([allow, {"from": web}]),
        json!([{"from": web}, allow]),
    ] {
        let found = lint(&[policy("db", "shop", "db", rules.clone())]);
        assert_eq!(found.len(), 1, "{rules}: {found:#?}");
        let narrow = if rules[0] == allow && rules[1] != allow {
            0
        } else {
            1
        };
        assert!(
            found[0].object.ends_with(&format!("ingress[{narrow}]")),
            "{rules}: {found:#?}"
        );
    }
    // The stricter demand is void beside the same without; the other way round neither is.
    let optional = json!({"from": web, "ports": [{"port": 80}], "authentication": "Optional"});
    let found = lint(&[policy("db", "shop", "db", json!([optional, allow]))]);
    assert_eq!(found.len(), 1);
    assert!(found[0].object.ends_with("ingress[1]"), "{found:#?}");
    // Other ports, other peers: nothing to say.
    let other = json!({"from": web, "ports": [{"port": 81}]});
    assert_eq!(
        lint(&[policy("db", "shop", "db", json!([allow, other]))]),
        []
    );
}
