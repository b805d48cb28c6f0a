//! AuthenticatedPolicy, case by case.

use serde_json::{Value, json};

use super::{TCP, UDP, allowed, cluster, peer, set_of};
use crate::{Action, Authentication, Cause, Direction, Mode, Outcome, PeerFacts, Query, RuleId};

fn policy(spec: &Value) -> Value {
    named("ap", spec)
}

fn named(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// An ingress list for `shop/db`.
fn ingress(rules: &Value) -> Value {
    policy(&json!({"endpointSelector": {"matchLabels": {"app": "db"}}, "ingress": rules}))
}

/// Whether `from` reaches `shop/db` at TCP 1 under these ingress rules.
fn reaches(rules: &Value, from: &str) -> bool {
    allowed(&set_of(&[], &[ingress(rules)]), from, "shop/db", TCP, 1)
}

#[test]
fn isolation_follows_the_directions_that_are_given() {
    let set = set_of(&[], &[ingress(&json!([]))]);
    assert!(!allowed(&set, "shop/web", "shop/db", TCP, 1));
    assert!(allowed(&set, "shop/db", "shop/web", TCP, 1));
    let egress = policy(&json!({"endpointSelector": {}, "egress": [
        {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]}));
    let set = set_of(&[], &[egress]);
    assert!(allowed(&set, "shop/web", "shop/db", TCP, 1));
    assert!(!allowed(&set, "shop/web", "pay/api", TCP, 1));
    assert!(allowed(&set, "pay/api", "shop/web", TCP, 1));
}

#[test]
fn selectors_of_every_kind() {
    let table = [
        (
            json!([{"from": [{"serviceAccounts": [{"namespace": "pay", "name": "api"}]}]}]),
            vec!["pay/api"],
        ),
        (
            json!([{"from": [{"serviceAccounts": [{"name": "web"}]}]}]),
            vec!["shop/web"],
        ),
        (
            json!([{"from": [{"spiffeIDs": ["spiffe://lab.signet/ns/pay/sa/batch"]}]}]),
            vec!["pay/batch"],
        ),
        (
            json!([{"from": [{"spiffeIDs": ["spiffe://other.example/ns/pay/sa/batch"]}]}]),
            vec![],
        ),
        (json!([{"from": [{"podSelector": {}}]}]), vec!["shop/web"]),
        (
            json!([{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]),
            vec!["shop/web", "pay/api", "pay/batch"],
        ),
        (
            json!([{"from": [{"entities": ["Cluster"]}]}]),
            vec!["shop/web", "pay/api", "pay/batch", "remote-node"],
        ),
        (
            json!([{"from": [{"entities": ["Cluster"]}], "authentication": "Optional"}]),
            vec![
                "shop/web",
                "pay/api",
                "pay/batch",
                "shop/legacy",
                "host",
                "remote-node",
                "kube-apiserver",
                "unmanaged",
            ],
        ),
        (
            json!([{"from": [{"entities": ["Unmanaged"]}], "authentication": "Optional"}]),
            vec!["shop/legacy", "unmanaged"],
        ),
        (
            json!([{"from": [{"entities": ["World"]}], "authentication": "Optional"}]),
            vec!["203.0.113.9", "10.0.0.99"],
        ),
        (
            json!([{"from": [{"entities": ["Host", "RemoteNode"]}], "authentication": "Optional"}]),
            vec!["host", "remote-node"],
        ),
        (
            json!([{"from": [{"entities": ["KubeAPIServer"]}], "authentication": "Optional"}]),
            vec!["kube-apiserver"],
        ),
        (
            json!([{"from": [{"cidrs": [{"cidr": "203.0.113.0/24"}]}], "authentication": "Optional"}]),
            vec!["203.0.113.9"],
        ),
        // Nobody outside the mesh passes a rule that requires authentication.
        (
            json!([{}]),
            vec!["shop/web", "pay/api", "pay/batch", "remote-node"],
        ),
        // An identity that nobody can prove admits nobody, required or not.
        (
            json!([{"from": [{"serviceAccounts": [{"name": "legacy"}]}], "authentication": "Optional"}]),
            vec![],
        ),
    ];
    for (rules, admitted) in table {
        for from in [
            "shop/web",
            "pay/api",
            "pay/batch",
            "shop/legacy",
            "host",
            "remote-node",
            "kube-apiserver",
            "unmanaged",
            "203.0.113.9",
            "10.0.0.99",
        ] {
            assert_eq!(
                reaches(&rules, from),
                admitted.contains(&from),
                "{rules}: {from}"
            );
        }
    }
}

#[test]
fn names_are_compared_exactly() {
    for name in ["ap", "apis", "api2"] {
        let rules = json!([{"from": [{"serviceAccounts": [{"namespace": "pay", "name": name}]}]}]);
        assert!(!reaches(&rules, "pay/api"), "{name}");
    }
    let upper = json!([{"from": [{"spiffeIDs": ["spiffe://lab.signet/ns/pay/sa/Api"]}]}]);
    assert!(!reaches(&upper, "pay/api"));
}

#[test]
fn a_deny_wins_over_every_allow_of_either_kind() {
    let allow_all = json!({"metadata": {"name": "np", "namespace": "shop"},
        "spec": {"podSelector": {}, "ingress": [{}]}});
    let deny = ingress(&json!([
        {},
        {"from": [{"podSelector": {}}], "ports": [{"port": 80, "endPort": 90}], "action": "Deny"},
    ]));
    let set = set_of(&[allow_all], &[deny]);
    for (port, passes) in [(79, true), (80, false), (90, false), (91, true)] {
        assert_eq!(
            allowed(&set, "shop/web", "shop/db", TCP, port),
            passes,
            "{port}"
        );
        assert!(allowed(&set, "pay/api", "shop/db", TCP, port));
        assert!(allowed(&set, "shop/web", "shop/db", UDP, port));
    }
}

#[test]
fn a_deny_that_cannot_be_resolved_denies() {
    let deny = |peer: Value| {
        json!([{"authentication": "Optional"},
        {"from": [peer], "action": "Deny"}])
    };
    let account = json!({"serviceAccounts": [{"name": "web"}]});
    assert!(!reaches(&deny(account.clone()), "shop/web"));
    assert!(reaches(&deny(account.clone()), "pay/api"));
    assert!(
        !reaches(&deny(account), "unmanaged"),
        "it may be that account's pod"
    );
    assert!(!reaches(
        &deny(json!({"podSelector": {"matchLabels": {"app": "x"}}})),
        "unmanaged"
    ));
    // The world is no pod, and known not to be.
    assert!(reaches(&deny(json!({"podSelector": {}})), "203.0.113.9"));
    let by_name = json!([{}, {"ports": [{"port": "nosuch"}], "action": "Deny"}]);
    assert!(
        !reaches(&by_name, "shop/web"),
        "an unknown port name is every TCP port"
    );
    let set = set_of(&[], &[ingress(&by_name)]);
    assert!(allowed(&set, "shop/web", "shop/db", UDP, 1));
}

#[test]
fn both_kinds_are_one_tier() {
    let np = json!({"metadata": {"name": "np", "namespace": "shop"}, "spec": {
        "podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}});
    let ap = ingress(&json!([{"ports": [{"port": 443}]}]));
    let set = set_of(&[np], &[ap]);
    let db = cluster("shop/db");
    let pair = set.compile_pair(&db, &peer("shop/web"));
    let verdict = |port| pair.ingress.lookup(TCP, port).unwrap();
    assert_eq!(verdict(80).authentication, Authentication::Optional);
    assert_eq!(verdict(443).authentication, Authentication::Required);
    assert_eq!(pair.ingress.lookup(TCP, 81), None);
    // Nodes need a rule once an AuthenticatedPolicy isolates; elsewhere NetworkPolicy lets them in.
    assert!(!allowed(&set, "host", "shop/db", TCP, 81));
    assert!(allowed(&set, "host", "shop/web", TCP, 81));
}

#[test]
fn of_two_allows_the_one_that_asks_for_less_decides() {
    let rules = json!([{"ports": [{"port": 80, "endPort": 90}]},
        {"ports": [{"port": 85}], "authentication": "Optional"}]);
    let set = set_of(&[], &[ingress(&rules)]);
    let pair = set.compile_pair(&cluster("shop/db"), &peer("203.0.113.9"));
    let ranges: Vec<_> = pair
        .ingress
        .ranges()
        .flat_map(|(_, ranges)| ranges)
        .collect();
    let ports: Vec<_> = ranges
        .iter()
        .map(|r| (r.first, r.last, r.verdict.authentication))
        .collect();
    let (required, optional) = (Authentication::Required, Authentication::Optional);
    assert_eq!(
        ports,
        [(80, 84, required), (85, 85, optional), (86, 90, required)]
    );
    assert!(!allowed(&set, "203.0.113.9", "shop/db", TCP, 84));
    assert!(allowed(&set, "203.0.113.9", "shop/db", TCP, 85));
}

#[test]
fn strict_mode_closes_the_world_but_not_the_mesh() {
    let set = set_of(&[], &[]);
    let outcome = |from: &str, to: &str, mode| {
        let (from, to) = (peer(from), peer(to));
        set.explain(&Query {
            from,
            to,
            protocol: TCP,
            port: 1,
            mode,
        })
    };
    assert_eq!(
        outcome("shop/web", "shop/db", Mode::Strict).outcome,
        Outcome::Allowed
    );
    assert_eq!(
        outcome("203.0.113.9", "shop/db", Mode::Permissive).outcome,
        Outcome::Allowed
    );
    for (from, to) in [("203.0.113.9", "shop/db"), ("shop/db", "203.0.113.9")] {
        let explained = outcome(from, to, Mode::Strict);
        assert_eq!(explained.outcome, Outcome::Denied);
        let cause = explained.egress.or(explained.ingress).unwrap().cause;
        assert_eq!(cause, Cause::WorldNeedsRule);
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_change() {
    let spec = json!({"endpointSelector": {"matchLabels": {"app": "db"}}, "enforcement": "DryRun",
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 3306}]}]});
    let set = set_of(&[], &[named("tighten", &spec)]);
    assert!(
        set.compile_pair(&cluster("shop/db"), &peer("shop/web"))
            .ingress
            .is_empty()
    );
    assert!(!set.isolation(&cluster("shop/db")).ingress);
    let explain = |from: &str, port| {
        let (from, to) = (peer(from), peer("shop/db"));
        set.explain(&Query {
            from,
            to,
            protocol: TCP,
            port,
            mode: Mode::Strict,
        })
    };
    let inside = explain("shop/web", 3306);
    assert_eq!(inside.outcome, Outcome::Allowed);
    assert_eq!(
        inside.dry_run[0].would.authentication(),
        Authentication::Required
    );
    let outside = explain("pay/api", 3306);
    assert_eq!(outside.outcome, Outcome::Allowed);
    assert_eq!(outside.dry_run.len(), 1);
    assert_eq!(outside.dry_run[0].direction, Direction::Ingress);
    assert_eq!(outside.dry_run[0].would.outcome, Outcome::Denied);
    assert_eq!(
        outside.to_string(),
        "allowed: pay/api -> shop/db, TCP 3306\n\
        \x20 egress   allowed at pay/api: no policy isolates it\n\
        \x20 ingress  allowed at shop/db: no policy isolates it\n\
        \x20 dry run  AuthenticatedPolicy shop/tighten, ingress: would be denied at shop/db: \
        no rule allows it, isolated by AuthenticatedPolicy shop/tighten"
    );
}

#[test]
fn explanations_name_the_rule_and_survive_json() {
    let rules = json!([{"from": [{"podSelector": {}}], "ports": [{"port": 3306}]}]);
    let set = set_of(&[], &[ingress(&rules)]);
    let explain = |from: &str, protocol, port| {
        let (from, to) = (peer(from), peer("shop/db"));
        set.explain(&Query {
            from,
            to,
            protocol,
            port,
            mode: Mode::Strict,
        })
    };
    let table = [
        (
            explain("shop/web", TCP, 3306),
            "allowed, if authenticated: shop/web -> shop/db, TCP 3306\n\
            \x20 egress   allowed at shop/web: no policy isolates it\n\
            \x20 ingress  allowed at shop/db: AuthenticatedPolicy shop/ap ingress[0], \
            authentication required",
        ),
        (
            explain("shop/web", 1, 0),
            "denied: shop/web -> shop/db, ICMP\n\
            \x20 egress   allowed at shop/web: no policy isolates it\n\
            \x20 ingress  denied at shop/db: no rule allows it, isolated by \
            AuthenticatedPolicy shop/ap",
        ),
        (
            explain("shop/legacy", TCP, 3306),
            "denied: shop/legacy -> shop/db, TCP 3306\n\
            \x20 egress   not a pod of the mesh, nothing decided here\n\
            \x20 ingress  denied at shop/db: AuthenticatedPolicy shop/ap ingress[0] requires \
            authentication, and this peer cannot prove an identity",
        ),
    ];
    for (explained, expected) in table {
        assert_eq!(explained.to_string(), expected);
        let json = serde_json::to_string(&explained).unwrap();
        assert_eq!(
            serde_json::from_str::<crate::Explanation>(&json).unwrap(),
            explained
        );
    }
}

#[test]
fn rule_numbers_do_not_depend_on_other_policies() {
    let one = ingress(&json!([{}]));
    let other = named("a", &json!({"endpointSelector": {}, "egress": [{}, {}]}));
    let number = |policies: &[Value]| {
        let set = set_of(&[], policies);
        let found = set.rules().find(|(_, name)| name.policy.name == "ap");
        let (id, name) = found.unwrap();
        assert_eq!(set.rule(id), Some(name));
        id
    };
    let alone = number(std::slice::from_ref(&one));
    assert_eq!(alone, number(&[other.clone(), one.clone()]));
    assert_eq!(alone, number(&[one, other]));
    // Written down: a change would renumber the rules of running data paths.
    assert!(alone >= RuleId::FIRST);
    assert_eq!(alone.to_string(), "9fe3708a");
}

#[test]
fn ids_of_other_trust_domains_are_listed() {
    let ids = [
        "spiffe://lab.signet/ns/a/sa/b",
        "spiffe://other.example/ns/a/sa/b",
    ];
    let set = set_of(&[], &[ingress(&json!([{"from": [{"spiffeIDs": ids}]}]))]);
    let foreign: Vec<_> = set.foreign_ids("lab.signet").map(|(_, id)| id).collect();
    assert_eq!(foreign, [ids[1]]);
}

#[test]
fn unknown_container_ports_admit_a_pair_but_no_flow() {
    let rules = json!([{"ports": [{"port": "sql"}]}]);
    let set = set_of(&[], &[ingress(&rules)]);
    let mut db = cluster("shop/db");
    db.named_ports = None;
    assert!(
        set.admits_any(&db, &cluster("shop/web")),
        "replies aside, db may talk to web"
    );
    let closed = policy(
        &json!({"endpointSelector": {"matchLabels": {"app": "db"}}, "egress": [],
        "ingress": rules}),
    );
    let set = set_of(&[], &[closed]);
    assert!(set.admits_any(&db, &cluster("shop/web")));
    let pair = set.compile_pair(&db, &PeerFacts::Pod(cluster("shop/web")));
    assert!(pair.ingress.is_empty());
    db.named_ports = Some(Vec::new());
    assert!(!set.admits_any(&db, &cluster("shop/web")));
    assert_eq!(Action::default(), Action::Allow);
}
