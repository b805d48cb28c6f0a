//! What is refused, and in which words.

use serde_json::{Value, json};

use crate::{PolicySet, TakenOver};

fn authenticated(spec: &Value) -> Value {
    json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
        "metadata": {"name": "backend", "namespace": "shop"}, "spec": spec})
}

fn from(peer: &Value) -> Value {
    let spec = json!({"endpointSelector": {},
        "ingress": [{}, {"from": [{"entities": ["Host"]}, peer]}]});
    authenticated(&spec)
}

fn with_port(port: &Value) -> Value {
    authenticated(&json!({"endpointSelector": {}, "egress": [{"ports": [port]}]}))
}

fn problem(network: &[Value], raw: &[Value]) -> String {
    let network: Vec<_> = network
        .iter()
        .map(|value| serde_json::from_value(value.clone()).unwrap())
        .collect();
    let (set, problems) = PolicySet::from_objects(&network, raw);
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}")
    };
    // Refused whole: nothing of it is in the set. (A double leaves the first.)
    assert_eq!(set.policies().count(), network.len() + raw.len() - 1);
    problem.to_string()
}

#[test]
fn authenticated_policies() {
    let at = "AuthenticatedPolicy shop/backend: ";
    let peer = "spec.ingress[1].from[1]";
    let table = [
        (from(&json!({"cidrs": [{"cidr": "10.0.0/8"}]})),
            format!("{peer}.cidrs[0].cidr: `10.0.0/8` is not a CIDR; write an address and a prefix \
                length, such as `10.0.0.0/8` or `fd00::/8`")),
        (from(&json!({"cidrs": [{"cidr": "10.0.0.1"}]})),
            format!("{peer}.cidrs[0].cidr: `10.0.0.1` is an address without a prefix length; write \
                `10.0.0.1/32` for this one address")),
        (from(&json!({"cidrs": [{"cidr": "10.1.0.0/8"}]})),
            format!("{peer}.cidrs[0].cidr: `10.1.0.0/8` has bits set behind its prefix length; \
                write `10.0.0.0/8` for the block or `10.1.0.0/32` for the one address")),
        (from(&json!({"cidrs": [{"cidr": "::ffff:10.0.0.0/104"}]})),
            format!("{peer}.cidrs[0].cidr: `::ffff:10.0.0.0/104` is an IPv4 block written as IPv6; \
                write `10.0.0.0/8`")),
        (from(&json!({"cidrs": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}]})),
            format!("{peer}.cidrs[0].except[0]: `10.0.0.0/8` is not a smaller block inside \
                `10.0.0.0/8`; name a part of `cidr`, or remove the exception")),
        (from(&json!({"cidrs": []})),
            format!("{peer}.cidrs: empty list; list at least one, or remove the field")),
        (from(&json!({})),
            format!("{peer}: names no peer; set podSelector, namespaceSelector, serviceAccounts, \
                spiffeIDs, cidrs or entities")),
        (from(&json!({"podSelector": {}, "cidrs": [{"cidr": "::/0"}]})),
            format!("{peer}: has both `podSelector` and `cidrs`; write them as two entries of the \
                list; a peer then matches either")),
        (from(&json!({"serviceAccounts": [{"namespace": "pay", "name": "*"}]})),
            format!("{peer}.serviceAccounts[0].name: `*` is not a name; write one exact name; \
                patterns are not supported")),
        (from(&json!({"serviceAccounts": [{"namespace": "pay"}]})),
            format!("{peer}.serviceAccounts[0].name: missing; add it")),
        (from(&json!({"spiffeIDs": ["spiffe://Lab/ns/a/sa/b"]})),
            format!("{peer}.spiffeIDs[0]: `spiffe://Lab/ns/a/sa/b` is not a workload's SPIFFE ID; \
                write `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`")),
        (from(&json!({"spiffeIDs": ["spiffe://lab"]})),
            format!("{peer}.spiffeIDs[0]: `spiffe://lab` is not a workload's SPIFFE ID; \
                write `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`")),
        (from(&json!({"entities": ["Hosts"]})),
            format!("{peer}.entities[0]: unknown variant `Hosts`; use `Host`, `RemoteNode`, \
                `KubeAPIServer`, `World`, `Unmanaged` or `Cluster`")),
        (from(&json!({"serviceAccount": "x"})),
            format!("{peer}.serviceAccount: unknown field; use `podSelector`, `namespaceSelector`, \
                `serviceAccounts`, `spiffeIDs`, `cidrs` or `entities`")),
        (from(&json!({"podSelector": {"matchLabel": {"app": "x"}}})),
            format!("{peer}.podSelector.matchLabel: unknown field; remove it or correct its \
                spelling")),
        (from(&json!({"podSelector": {"matchLabels": {"app": "-x"}}})),
            format!("{peer}.podSelector.matchLabels[app]: `-x` is not a label value; use at most \
                63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends")),
        (from(&json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            format!("{peer}.podSelector.matchExpressions[0].values: operator In has no values; \
                list at least one value")),
        (from(&json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}})),
            format!("{peer}.podSelector.matchExpressions[0].operator: unknown operator `in`; use \
                In, NotIn, Exists or DoesNotExist")),
        (with_port(&json!({"port": 70000})),
            "spec.egress[0].ports[0].port: invalid value: integer `70000`; use a port number from \
                1 to 65535 or a port name".to_owned()),
        (with_port(&json!({"port": 0})),
            "spec.egress[0].ports[0].port: 0 is not a port; use a number from 1 to 65535".to_owned()),
        (with_port(&json!({"port": "80"})),
            "spec.egress[0].ports[0].port: `80` is neither a port number nor a port name; use a \
                number from 1 to 65535 without quotes, or the name of a container port".to_owned()),
        (with_port(&json!({"port": 90, "endPort": 80})),
            "spec.egress[0].ports[0].endPort: 80 is below `port` 90; write the larger number in \
                `endPort`".to_owned()),
        (with_port(&json!({"endPort": 80})),
            "spec.egress[0].ports[0].endPort: given without `port`; add `port`, the first port"
                .to_owned()),
        (with_port(&json!({"port": "http", "endPort": 80})),
            "spec.egress[0].ports[0].endPort: a range cannot start at the port name `http`; write \
                `port` as a number, or remove `endPort`".to_owned()),
        (with_port(&json!({"protocol": "tcp"})),
            "spec.egress[0].ports[0].protocol: unknown variant `tcp`; use `TCP`, `UDP` or `SCTP`"
                .to_owned()),
        (authenticated(&json!({"endpointSelector": {}})),
            "spec: neither `ingress` nor `egress` is given, so the policy says nothing; add rules, \
                or `ingress: []` to let nobody in".to_owned()),
        (authenticated(&json!({"ingress": []})), "spec.endpointSelector: missing; add it".to_owned()),
        (authenticated(&json!({"endpointSelector": {}, "ingress": [], "enforcement": "Off"})),
            "spec.enforcement: unknown variant `Off`; use `Enforce` or `DryRun`".to_owned()),
        (authenticated(&json!({"endpointSelector": {}, "ingress": {}})),
            "spec.ingress: invalid type: map; use a list".to_owned()),
        (authenticated(&json!({"endpointSelector": {}, "ingress": [{"to": []}]})),
            "spec.ingress[0].to: unknown field; use `from`, `ports`, `authentication` or `action`"
                .to_owned()),
    ];
    for (raw, expected) in table {
        assert_eq!(problem(&[], &[raw]), format!("{at}{expected}"));
    }
}

#[test]
fn objects_that_are_something_else() {
    let mut raw = authenticated(&json!({"endpointSelector": {}, "ingress": []}));
    raw["apiVersion"] = json!("signet.dev/v1");
    assert_eq!(
        problem(&[], &[raw.clone()]),
        "AuthenticatedPolicy shop/backend: apiVersion: `signet.dev/v1` is not supported; write \
        `signet.dev/v1alpha1`"
    );
    raw["apiVersion"] = json!("signet.dev/v1alpha1");
    raw["metadata"] = json!({"name": "backend"});
    assert_eq!(
        problem(&[], &[raw.clone()]),
        "AuthenticatedPolicy backend: metadata.namespace: missing; add it"
    );
    raw["metadata"] = json!({"name": "backend", "namespace": "shop", "label": {}});
    assert_eq!(
        problem(&[], &[raw]),
        "AuthenticatedPolicy shop/backend: metadata.label: unknown field; remove it or correct its \
        spelling"
    );
    for junk in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"kind": "AuthenticatedPolicy"}),
    ] {
        let text = problem(&[], &[junk]);
        assert!(
            text.starts_with("AuthenticatedPolicy (unnamed): apiVersion: missing"),
            "{text}"
        );
    }
}

#[test]
fn a_name_taken_twice() {
    let raw = authenticated(&json!({"endpointSelector": {}, "ingress": []}));
    assert_eq!(
        problem(&[], &[raw.clone(), raw]),
        "AuthenticatedPolicy shop/backend: metadata.name: another policy of this kind has the same \
        name; rename one of them; the first one stays in force"
    );
}

#[test]
fn network_policies() {
    let rule = |rule: Value| json!({"podSelector": {}, "ingress": [rule]});
    let table = [
        (
            json!({"podSelector": {}, "policyTypes": ["ingress"]}),
            "spec.policyTypes[0]: unknown policy type `ingress`; use Ingress or Egress",
        ),
        (
            rule(json!({"from": [{}]})),
            "spec.ingress[0].from[0]: names no peer; set podSelector, namespaceSelector or ipBlock",
        ),
        (
            rule(json!({"from": [{"podSelector": {}, "ipBlock": {"cidr": "::/0"}}]})),
            "spec.ingress[0].from[0].ipBlock: stands beside a selector; write them as two entries \
                of the list",
        ),
        (
            rule(json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]})),
            "spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.0/33` is not a CIDR; write an address \
                and a prefix length, such as `10.0.0.0/8` or `fd00::/8`",
        ),
        (
            rule(json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/8"]}}]})),
            "spec.ingress[0].from[0].ipBlock.except[0]: `fd00::/8` is not a smaller block inside \
                `10.0.0.0/8`; name a part of `cidr`, or remove the exception",
        ),
        (
            rule(json!({"ports": [{"port": 65536}]})),
            "spec.ingress[0].ports[0].port: 65536 is not a port; use a number from 1 to 65535",
        ),
        (
            rule(json!({"ports": [{"port": -1}]})),
            "spec.ingress[0].ports[0].port: -1 is not a port; use a number from 1 to 65535",
        ),
        (
            rule(json!({"ports": [{"protocol": "ICMP"}]})),
            "spec.ingress[0].ports[0].protocol: unknown protocol `ICMP`; use TCP, UDP or SCTP",
        ),
        (
            rule(json!({"ports": [{"port": "http", "endPort": 9}]})),
            "spec.ingress[0].ports[0].endPort: a range cannot start at the port name `http`; write \
                `port` as a number, or remove `endPort`",
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists",
            "values": ["x"]}]}}),
            "spec.podSelector.matchExpressions[0].values: operator Exists takes no values; remove \
                `values`, or use In or NotIn",
        ),
    ];
    for (spec, expected) in table {
        let object = json!({"metadata": {"name": "np", "namespace": "shop"}, "spec": spec});
        assert_eq!(
            problem(&[object], &[]),
            format!("NetworkPolicy shop/np: {expected}")
        );
    }
}

#[test]
fn one_by_one_or_all_at_once_is_the_same() {
    let names = ["b", "a", "c", "a"];
    let objects = names.map(|name| {
        json!({"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"endpointSelector": {}, "ingress": [{"from": [{"entities": ["Host"]}]}]}})
    });
    let one_by_one = objects
        .each_ref()
        .map(|object| TakenOver::authenticated_policy(object).unwrap());
    let (set, problems) = PolicySet::from_taken_over(&one_by_one);
    assert_eq!(problems.len(), 1, "the second of a name: {problems:?}");
    let at_once = PolicySet::from_objects(&[], &objects);
    assert_eq!((set, problems), at_once);
}
