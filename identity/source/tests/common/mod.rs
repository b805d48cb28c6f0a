//! A small cluster on disk.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

use std::{fs, path::Path};

use tempfile::TempDir;

pub(crate) const BASE: &str = "
apiVersion: v1
kind: Node
metadata: {name: a, uid: node-a}
spec: {podCIDRs: [10.1.1.0/24, 'fd01:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: Hostname, address: a}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, uid: node-b, annotations: {signet.dev/channel-port: '7555'}}
spec: {podCIDRs: [10.1.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: ns-shop, labels: {team: red}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop, uid: sa-web}
";

/// A manifests directory with [`BASE`] in `base.yaml`.
pub(crate) fn base() -> TempDir {
    let dir = TempDir::new().unwrap();
    put(dir.path(), "base.yaml", BASE);
    dir
}

/// Writes beside and renames over, as everybody should.
pub(crate) fn put(dir: &Path, name: &str, text: &str) {
    let beside = dir.join(format!(".{name}.new"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, dir.join(name)).unwrap();
}

pub(crate) fn pod(name: &str, uid: &str, node: &str, address: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: {uid}, labels: {{app: {name}}}}}
spec: {{nodeName: {node}, serviceAccountName: web, containers: [{{name: c, ports: [{{name: http, containerPort: 80}}]}}]}}
status: {{podIPs: [{{ip: '{address}'}}]}}
"
    )
}
