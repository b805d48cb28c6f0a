//! The objects most scenarios use: a small shop, and a stranger.

/// A pod that only sleeps; tests open sockets in its namespace themselves.
#[must_use]
pub fn pod(
    namespace: &str,
    name: &str,
    account: &str,
    node: &str,
    labels: &[(&str, &str)],
) -> String {
    pod_with(namespace, name, account, node, labels, &[])
}

/// As [`pod`], with addresses of its own choice.
#[must_use]
pub fn pod_with(
    namespace: &str,
    name: &str,
    account: &str,
    node: &str,
    labels: &[(&str, &str)],
    addresses: &[&str],
) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}: \"{value}\""))
        .collect();
    let status = if addresses.is_empty() {
        String::new()
    } else {
        let ips: Vec<_> = addresses
            .iter()
            .map(|ip| format!("{{ip: \"{ip}\"}}"))
            .collect();
        format!("status: {{podIPs: [{}]}}\n", ips.join(", "))
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{}}}}}\n\
         spec:\n  nodeName: {node}\n  serviceAccountName: {account}\n  containers: [{{name: main, command: [sleep, infinity]}}]\n{status}",
        labels.join(", ")
    )
}

/// A namespace with its service accounts.
#[must_use]
pub fn namespace(name: &str, accounts: &[&str]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    for account in accounts {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: {name}}}\n"
        ));
    }
    text
}

/// Lets service account `from` of namespace `shop` reach pods labelled `app: db`, on any port.
#[must_use]
pub fn allow(name: &str, from: &str) -> String {
    format!(
        "---\napiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: db}}}}\n  ingress:\n  - from:\n    - serviceAccounts: [{{namespace: shop, name: {from}}}]\n    authentication: Required\n"
    )
}

/// Isolates every pod of a namespace in both directions.
#[must_use]
pub fn isolate(namespace: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: isolate, namespace: {namespace}}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}\n"
    )
}

/// `shop/web` on node1 may reach `shop/db` on node2; `other/stray` on node1 and `shop/idle` on node2 may not.
#[must_use]
pub fn base() -> String {
    [
        namespace("shop", &["web", "db", "idle"]),
        namespace("other", &["stray"]),
        pod("shop", "web", "web", "node1", &[("app", "web")]),
        pod("shop", "db", "db", "node2", &[("app", "db")]),
        pod("shop", "idle", "idle", "node2", &[("app", "idle")]),
        pod("other", "stray", "stray", "node1", &[("app", "stray")]),
        allow("db", "web"),
    ]
    .concat()
}
