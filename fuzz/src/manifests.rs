//! Manifests: YAML or JSON of an operator.

use signet_source::parse::parse;

/// The text of one file.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = parse("x.yaml", text);
    assert_eq!(read, parse("x.yaml", text), "read twice, once each way");
    match read {
        Ok(objects) => {
            // Every object costs some text: no alias or anchor makes many of few.
            assert!(objects.len() <= text.len());
            for (key, _) in objects {
                let fine = |name: &str, extra: &[u8]| {
                    name.bytes().all(|b| {
                        b.is_ascii_lowercase()
                            || b.is_ascii_digit()
                            || b == b'-'
                            || extra.contains(&b)
                    })
                };
                // These become segments of SPIFFE IDs.
                assert!(
                    !key.name.is_empty() && key.name.len() <= 253 && fine(&key.name, b"."),
                    "{key:?}"
                );
                assert!(
                    key.namespace.len() <= 63 && fine(&key.namespace, b""),
                    "{key:?}"
                );
                assert_eq!(
                    key.namespace.is_empty(),
                    !key.kind.is_namespaced(),
                    "{key:?}"
                );
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.len() <= text.len());
            for problem in problems {
                let line = problem.to_string();
                assert!(line.starts_with("x.yaml: ") && !line.contains(['\n', '\r']));
            }
        }
    }
}

/// One object of each kind, several documents, a list, and what is refused.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let node = "apiVersion: v1
kind: Node
metadata: {name: a, uid: n1}
spec: {podCIDRs: [10.1.0.0/16, 'fd01:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";
    let namespace = "apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: s1, labels: {team: red}}
";
    let account = "apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop, uid: a1}
";
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: p1, labels: {app: web}}
spec:
  nodeName: a
  serviceAccountName: web
  containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}]}]
status: {phase: Running, podIPs: [{ip: 10.1.1.5}]}
";
    let network_policy = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: n, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}
";
    let policy = "apiVersion: signet.dev/v1alpha1
kind: AuthenticatedPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, ingress: []}
";
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
 {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pay", "uid": "s2"}},
 {"apiVersion": "v1", "kind": "List", "items": []}]}"#;
    let alias = "apiVersion: v1
kind: Namespace
metadata: &m {name: shop, uid: s1, labels: {a: &x b, c: *x}}
";
    let all = [node, namespace, account, pod, network_policy, policy].join("---\n");
    [
        ("node", node),
        ("namespace", namespace),
        ("service-account", account),
        ("pod", pod),
        ("network-policy", network_policy),
        ("authenticated-policy", policy),
        ("list", list),
        ("alias", alias),
        ("all", &all),
        ("twice", "a: 1\na: 2"),
        ("open", "a: [1"),
        (
            "unknown",
            "apiVersion: v1\nkind: Deployment\nmetadata: {name: d}",
        ),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .to_vec()
}
