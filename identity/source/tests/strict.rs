//! What a directory must be like to be loaded at all, and how it is said if it isn't.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use common::{base, pod, put};
use signet_source::{DEFAULT_CHANNEL_PORT, Phase, load};

#[test]
fn a_good_directory_is_read_whole() {
    let dir = base();
    put(
        dir.path(),
        "pods.yaml",
        &(pod("web", "p1", "a", "10.1.1.5") + &pod("six", "p2", "a", "fd01:1::5")),
    );
    put(dir.path(), "ignored.txt", "not yaml: [");
    std::fs::create_dir(dir.path().join("more")).unwrap();
    put(
        &dir.path().join("more"),
        "policies.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": "shop"}, "spec": {"podSelector": {}}},
            {"apiVersion": "signet.dev/v1alpha1", "kind": "AuthenticatedPolicy", "metadata": {"name": "p"}, "spec": {"anything": 1}}
        ]}"#,
    );
    let snapshot = load(dir.path()).unwrap();
    assert_eq!(snapshot.nodes["a"].channel_port, DEFAULT_CHANNEL_PORT);
    assert_eq!(snapshot.nodes["b"].channel_port, 7555);
    assert_eq!(
        snapshot.nodes["a"].addresses,
        ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(snapshot.namespaces["shop"].labels["team"], "red");
    assert_eq!(
        snapshot.namespaces["shop"].labels["kubernetes.io/metadata.name"],
        "shop"
    );
    let web = &snapshot.pods[&("shop".into(), "web".into())];
    assert_eq!(
        (web.phase, web.node.as_deref()),
        (Phase::Running, Some("a"))
    );
    assert_eq!(
        (web.named_ports[0].name.as_str(), web.named_ports[0].port),
        ("http", 80)
    );
    assert!(web.has_identity());
    assert!(
        snapshot
            .network_policies
            .contains_key(&("shop".into(), "n".into()))
    );
    let policy = &snapshot.authenticated_policies[&("default".into(), "p".into())];
    assert_eq!(policy["metadata"]["namespace"], "default");
}

#[test]
fn a_finished_pod_gives_its_address_free() {
    let dir = base();
    let finished =
        pod("job", "p1", "a", "10.1.1.5").replace("{podIPs", "{phase: Succeeded, podIPs");
    put(
        dir.path(),
        "pods.yaml",
        &(finished + &pod("web", "p2", "a", "10.1.1.5")),
    );
    let snapshot = load(dir.path()).unwrap();
    assert!(!snapshot.pods[&("shop".into(), "job".into())].has_identity());
}

#[test]
fn every_problem_is_one_line_with_its_place_and_the_fix() {
    let web = || pod("web", "p1", "a", "10.1.1.5");
    let cases: &[(String, &str)] = &[
        ("a: [1".into(), "x.yaml: not YAML:"),
        ("a: 1\na: 2".into(), "x.yaml: not YAML:"),
        ("[1, 2]".into(), "x.yaml: object (unnamed): not an object; write apiVersion, kind and metadata"),
        ("kind: Deployment\nmetadata: {name: d}".into(), "x.yaml: Deployment d: kind \"Deployment\" is not read; move it out of this directory"),
        ("apiVersion: v2\nkind: Pod\nmetadata: {name: d}".into(), "x.yaml: Pod d: apiVersion \"v2\" is not supported; write v1"),
        ("apiVersion: v1\nkind: Pod".into(), "x.yaml: Pod (unnamed): metadata is missing; write at least metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: UP}".into(), "x.yaml: Pod UP: metadata.name \"UP\" is no name; use at most 253 of a-z, 0-9, '-' and '.'"),
        (web().replace("nodeName", "nodeNam"), "x.yaml: Pod shop/web: spec.nodeNam: unknown field; remove it or correct its spelling"),
        (web().replace("{name: http,", "{nam: http,"), "x.yaml: Pod shop/web: spec.containers.0.ports.0.nam: unknown field; remove it or correct its spelling"),
        (web().replace("app: web", "app: 1"), "x.yaml: Pod shop/web: metadata.labels.app: invalid type: integer `1`, expected a string; correct its type or spelling"),
        (web().replace(", uid: p1", ""), "x.yaml: Pod shop/web: metadata.uid is missing; give it one that no object had before, such as from uuidgen"),
        (web().replace("uid: p1", "uid: ../node"), "x.yaml: Pod shop/web: metadata.uid \"../node\" is no UID; use at most 128 letters, digits, '-', '_' and '.'"),
        (web().replace("uid: p1", "uid: sa-web"), "x.yaml: Pod shop/web: metadata.uid is also that of ServiceAccount shop/web; give it one of its own"),
        (web().replace("10.1.1.5", "10.1.1"), "x.yaml: Pod shop/web: status.podIPs: \"10.1.1\" is no IP address; write one such as 10.1.2.3"),
        (web().replace("10.1.1.5", "10.1.2.5"), "x.yaml: Pod shop/web: address 10.1.2.5 is outside the podCIDRs of Node a (10.1.1.0/24, fd01:1::/64); correct one of them"),
        (web().replace("nodeName: a", "nodeName: c"), "x.yaml: Pod shop/web: Node c does not exist; add it or correct spec.nodeName"),
        (web().replace("nodeName: a, ", ""), "x.yaml: Pod shop/web: status.podIPs is set, but spec.nodeName is not; say where it runs"),
        (web().replace("serviceAccountName: web", "serviceAccountName: db"), "x.yaml: Pod shop/web: ServiceAccount shop/db does not exist; add it or correct spec.serviceAccountName"),
        (web().replace("namespace: shop", "namespace: shp"), "x.yaml: Pod shp/web: Namespace shp does not exist; add it or correct metadata.namespace"),
        (web().replace("{podIPs", "{phase: Runing, podIPs"), "x.yaml: Pod shop/web: status.phase \"Runing\" is not known; write Pending, Running, Succeeded, Failed or Unknown"),
        (web() + &web(), "x.yaml: Pod shop/web: defined twice in this file; remove one"),
        (web() + &pod("other", "p2", "a", "::ffff:10.1.1.5"), "x.yaml: Pod shop/other: address 10.1.1.5 is already that of Pod shop/web; give each its own"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, uid: u}".into(), "x.yaml: Namespace shop: defined in base.yaml too; remove one of them"),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: c, uid: u}".into(), "x.yaml: Node c: status.addresses has no InternalIP; add the address at which other nodes reach it"),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: c, uid: u}\nspec: {podCIDR: 10.1.0.0/16}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.3}]}".into(),
            "x.yaml: Node c: podCIDR 10.1.0.0/16 overlaps with one of Node b; give each node its own",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: c, uid: u}\nspec: {podCIDR: 10.9.0.0/16}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.2}]}".into(),
            "x.yaml: Node c: address 192.0.2.2 is already that of Node b; give each its own",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: c, uid: u}\nspec: {podCIDR: 10.9.0.1/16}".into(),
            "x.yaml: Node c: status.addresses has no InternalIP",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: c, uid: u}\nspec: {podCIDR: 10.9.0.1/16}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.9}]}".into(),
            "x.yaml: Node c: spec.podCIDRs: 10.9.0.1/16 has bits beyond its prefix; write 10.9.0.0/16",
        ),
    ];
    for (text, expected) in cases {
        let dir = base();
        put(dir.path(), "x.yaml", text);
        let error = load(dir.path()).expect_err(expected);
        let said = error.problems[0].to_string();
        assert!(
            said.starts_with(expected),
            "{text}\n said: {said}\nmeant: {expected}"
        );
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn several_problems_are_all_told() {
    let dir = base();
    put(dir.path(), "x.yaml", "kind: A\n---\nkind: B\n");
    put(dir.path(), "y.yaml", "kind: C\n");
    let error = load(dir.path()).unwrap_err();
    assert_eq!(error.problems.len(), 3);
    assert!(error.to_string().ends_with("(and 2 more)"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let dir = base();
    let gone = dir.path().join("gone");
    let said = load(&gone).unwrap_err().to_string();
    assert!(
        said.contains(gone.to_str().unwrap()) && said.contains("check the path"),
        "{said}"
    );
}

#[test]
fn aliases_that_explode_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let dir = base();
    put(dir.path(), "x.yaml", &text);
    assert!(load(dir.path()).is_err());
}
