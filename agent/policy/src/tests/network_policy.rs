//! NetworkPolicy as its documentation states it, case by case.

use serde_json::{Value, json};

use super::{TCP, UDP, address, allowed, cluster, set_of};
use crate::PeerFacts;

const ICMP: u8 = 1;
const SCTP: u8 = 132;

/// One policy for `shop/db`, and flows `(from, to, protocol, port, passes)`.
struct Case {
    name: &'static str,
    spec: Value,
    flows: &'static [(&'static str, &'static str, u8, u16, bool)],
}

#[test]
fn documented_semantics() {
    let db = json!({"matchLabels": {"app": "db"}});
    let cases = [
        Case {
            name: "a pod no policy selects is not isolated",
            spec: json!({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": []}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, true),
                ("shop/web", "shop/db", ICMP, 0, true),
            ],
        },
        Case {
            name: "default deny of ingress leaves egress and replies alone",
            spec: json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, false),
                ("shop/db", "pay/api", TCP, 1, true),
            ],
        },
        Case {
            name: "default deny of egress leaves ingress alone",
            spec: json!({"podSelector": db, "policyTypes": ["Egress"]}),
            flows: &[
                ("shop/db", "pay/api", TCP, 1, false),
                ("pay/api", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "without policyTypes, ingress is meant, whatever is absent",
            spec: json!({"podSelector": db}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, false),
                ("shop/db", "shop/web", TCP, 1, true),
            ],
        },
        Case {
            name: "without policyTypes, egress rules mean egress too",
            spec: json!({"podSelector": db, "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, false),
                ("shop/db", "pay/api", UDP, 53, true),
                ("shop/db", "pay/api", TCP, 53, false),
            ],
        },
        Case {
            name: "rules of a direction that policyTypes leaves out say nothing",
            spec: json!({"podSelector": db, "policyTypes": ["Egress"], "ingress": [], "egress": [{}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, true),
                ("shop/db", "pay/api", TCP, 1, true),
            ],
        },
        Case {
            name: "an empty rule allows all, ICMP included",
            spec: json!({"podSelector": db, "ingress": [{}]}),
            flows: &[
                ("pay/api", "shop/db", TCP, 1, true),
                ("pay/api", "shop/db", ICMP, 0, true),
            ],
        },
        Case {
            name: "an empty `from` is all sources",
            spec: json!({"podSelector": db, "ingress": [{"from": [], "ports": [{"port": 1}]}]}),
            flows: &[
                ("pay/api", "shop/db", TCP, 1, true),
                ("pay/api", "shop/db", TCP, 2, false),
            ],
        },
        Case {
            name: "a podSelector alone looks into the policy's namespace",
            spec: json!({"podSelector": db, "ingress": [{"from": [{"podSelector": {}}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, true),
                ("pay/api", "shop/db", TCP, 1, false),
            ],
        },
        Case {
            name: "a namespaceSelector alone is every pod of those namespaces",
            spec: json!({"podSelector": db, "ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"team": "pay"}}}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, false),
                ("pay/api", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "both selectors in one entry must both hold",
            spec: json!({"podSelector": db, "ingress": [{"from": [{
                "namespaceSelector": {"matchLabels": {"team": "pay"}},
                "podSelector": {"matchLabels": {"app": "api"}}}]}]}),
            flows: &[
                ("pay/api", "shop/db", TCP, 1, true),
                ("pay/batch", "shop/db", TCP, 1, false),
                ("shop/web", "shop/db", TCP, 1, false),
            ],
        },
        Case {
            name: "in two entries, either is enough",
            spec: json!({"podSelector": db, "ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"team": "pay"}}},
                {"podSelector": {"matchLabels": {"app": "web"}}}]}]}),
            flows: &[
                ("pay/batch", "shop/db", TCP, 1, true),
                ("shop/web", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "matchExpressions: NotIn and DoesNotExist hold for a missing label",
            spec: json!({"podSelector": db, "ingress": [{"from": [{"namespaceSelector": {},
                "podSelector": {"matchExpressions": [
                    {"key": "stage", "operator": "NotIn", "values": ["test"]},
                    {"key": "banned", "operator": "DoesNotExist"}]}}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, true),
                ("pay/batch", "shop/db", TCP, 1, false),
            ],
        },
        Case {
            name: "matchExpressions: In and Exists want the label",
            spec: json!({"podSelector": db, "ingress": [{"from": [{"namespaceSelector": {},
                "podSelector": {"matchExpressions": [
                    {"key": "stage", "operator": "In", "values": ["test", "prod"]},
                    {"key": "app", "operator": "Exists"}]}}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, false),
                ("pay/batch", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "rules add up",
            spec: json!({"podSelector": db, "ingress": [
                {"from": [{"podSelector": {}}], "ports": [{"port": 1}]}, {"ports": [{"port": 2}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 1, true),
                ("pay/api", "shop/db", TCP, 1, false),
                ("pay/api", "shop/db", TCP, 2, true),
            ],
        },
        Case {
            name: "a port without a protocol is TCP, and never ICMP",
            spec: json!({"podSelector": db, "ingress": [{"ports": [{"port": 80}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 80, true),
                ("shop/web", "shop/db", UDP, 80, false),
                ("shop/web", "shop/db", ICMP, 0, false),
            ],
        },
        Case {
            name: "a protocol without a port is all its ports",
            spec: json!({"podSelector": db, "ingress": [{"ports": [{"protocol": "SCTP"}]}]}),
            flows: &[
                ("shop/web", "shop/db", SCTP, 0, true),
                ("shop/web", "shop/db", SCTP, 65535, true),
                ("shop/web", "shop/db", TCP, 80, false),
            ],
        },
        Case {
            name: "endPort is the last port of the range",
            spec: json!({"podSelector": db, "ingress": [{"ports": [{"port": 4000, "endPort": 4100}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 3999, false),
                ("shop/web", "shop/db", TCP, 4000, true),
                ("shop/web", "shop/db", TCP, 4100, true),
                ("shop/web", "shop/db", TCP, 4101, false),
            ],
        },
        Case {
            name: "a port name is looked up on the destination, with its protocol",
            spec: json!({"podSelector": db, "ingress": [{"ports": [{"port": "sql"}]}],
                "egress": [{"ports": [{"port": "http"}]}, {"ports": [{"port": "sql"}]}]}),
            flows: &[
                ("shop/web", "shop/db", TCP, 3306, true),
                ("shop/web", "shop/db", UDP, 3306, false),
                ("shop/web", "shop/db", TCP, 80, false),
                ("shop/db", "shop/web", TCP, 8080, true),
                ("shop/db", "shop/web", TCP, 3306, false),
            ],
        },
        Case {
            name: "a port name nobody declares matches nothing",
            spec: json!({"podSelector": db, "ingress": [{"ports": [{"port": "nosuch"}]}]}),
            flows: &[("shop/web", "shop/db", TCP, 3306, false)],
        },
        Case {
            name: "an ipBlock is its addresses less the exceptions, pods included",
            spec: json!({"podSelector": db, "ingress": [{"from": [{"ipBlock":
                {"cidr": "10.0.0.0/24", "except": ["10.0.0.128/25"]}}]}]}),
            flows: &[
                ("10.0.0.99", "shop/db", TCP, 1, true),
                ("10.0.0.128", "shop/db", TCP, 1, false),
                ("10.0.1.0", "shop/db", TCP, 1, false),
                ("shop/web", "shop/db", TCP, 1, true),
                ("pay/api", "shop/db", TCP, 1, false),
            ],
        },
        Case {
            name: "IPv4 and IPv6 blocks are apart",
            spec: json!({"podSelector": db, "ingress": [{"from": [{"ipBlock": {"cidr": "::/0"}}]}]}),
            flows: &[
                ("10.0.0.99", "shop/db", TCP, 1, false),
                ("2001:db8::1", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "one exception does not bind another rule",
            spec: json!({"podSelector": db, "ingress": [
                {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}]},
                {"from": [{"ipBlock": {"cidr": "10.9.1.0/24"}}]}]}),
            flows: &[
                ("10.9.0.1", "shop/db", TCP, 1, false),
                ("10.9.1.1", "shop/db", TCP, 1, true),
            ],
        },
        Case {
            name: "a pod always reaches itself",
            spec: json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            flows: &[
                ("shop/db", "shop/db", TCP, 1, true),
                ("shop/db", "shop/web", TCP, 1, false),
            ],
        },
        Case {
            name: "the pod's own node always reaches it, others do not",
            spec: json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            flows: &[
                ("host", "shop/db", TCP, 1, true),
                ("remote-node", "shop/db", TCP, 1, false),
            ],
        },
    ];
    for Case { name, spec, flows } in cases {
        let policy = json!({"metadata": {"name": "np", "namespace": "shop"}, "spec": spec});
        let set = set_of(&[policy], &[]);
        for (from, to, protocol, port, passes) in flows {
            assert_eq!(
                allowed(&set, from, to, *protocol, *port),
                *passes,
                "{name}: {from} -> {to} {protocol}/{port}"
            );
        }
    }
}

#[test]
fn policies_add_up_and_need_both_ends() {
    let both = set_of(
        &[
            json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 3306}]}]}}),
            json!({"metadata": {"name": "api-out", "namespace": "pay"}, "spec": {
                "podSelector": {"matchLabels": {"app": "api"}},
                "policyTypes": ["Ingress", "Egress"]}}),
        ],
        &[],
    );
    assert!(allowed(&both, "shop/web", "shop/db", TCP, 3306));
    assert!(
        !allowed(&both, "pay/api", "shop/db", TCP, 3306),
        "egress of the source denies"
    );
    assert!(!both.admits_any(&cluster("pay/api"), &cluster("shop/db")));
    assert!(both.admits_any(&cluster("shop/db"), &cluster("pay/batch")));
}

#[test]
fn a_dual_stack_pod_is_in_blocks_only_with_all_its_addresses() {
    let policy = |blocks: Value| {
        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": blocks}]});
        set_of(
            &[json!({"metadata": {"name": "np", "namespace": "shop"}, "spec": spec})],
            &[],
        )
    };
    let v4 = json!({"ipBlock": {"cidr": "10.0.0.0/8"}});
    let v6 = json!({"ipBlock": {"cidr": "fd00::/8"}});
    let mut dual = cluster("pay/api");
    dual.addresses = vec![address("10.0.0.200"), address("fd00::200")];
    let passes = |blocks: Value| {
        let local = cluster("shop/db");
        let pair = policy(blocks).compile_pair(&local, &PeerFacts::Pod(dual.clone()));
        pair.ingress.lookup(TCP, 1).is_some()
    };
    assert!(!passes(json!([v4])));
    assert!(!passes(json!([v6])));
    assert!(passes(json!([v4, v6])));
}
