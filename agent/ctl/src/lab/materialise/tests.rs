use std::path::Path;

use std::net::IpAddr;

use super::*;
use crate::lab::blueprint::{self, Wish};
use crate::lab::manifests;
use crate::lab::state::{Backend, Family};

fn lab(nodes: u8) -> Lab {
    let wish = Wish {
        name: "test",
        nodes,
        backend: Backend::Userspace,
        underlay: Family::Ipv4,
        source: None,
    };
    blueprint::draw(&wish, &[]).unwrap()
}

fn objects(text: &str) -> Vec<Object> {
    manifests::parse(Path::new("dir/x.yaml"), text).unwrap()
}

fn pods(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("kind: Pod\nmetadata: {{name: {name}, namespace: shop}}\n---\n"))
        .collect()
}

/// Materialises, and takes the pods as running, as `apply` does.
fn apply(lab: &mut Lab, text: &str) -> Materialised {
    let made = materialise(objects(text), lab).unwrap();
    lab.pods = made.pods.clone();
    made
}

#[test]
fn what_a_cluster_would_add_is_added() {
    let mut lab = lab(2);
    let made = apply(&mut lab, &pods(&["web"]));
    let files: Vec<&str> = made.objects.keys().map(String::as_str).collect();
    assert_eq!(
        files,
        [
            "Namespace.shop.yaml",
            "Node.node1.yaml",
            "Node.node2.yaml",
            "Pod.shop.web.yaml",
            "ServiceAccount.shop.default.yaml"
        ]
    );
    let node = &made.objects["Node.node1.yaml"].value;
    assert_eq!(
        node["spec"]["podCIDRs"],
        json!(["10.61.1.0/24", "fd61:0:0:1::/64"])
    );
    assert_eq!(node["status"]["addresses"][0]["address"], "198.18.0.11");
    let namespace = &made.objects["Namespace.shop.yaml"].value;
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "shop"
    );
    let pod = &made.objects["Pod.shop.web.yaml"].value;
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(
        pod["status"]["podIPs"],
        json!([{"ip": "10.61.1.2"}, {"ip": "fd61:0:0:1::2"}])
    );
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(made.pods["shop/web"].netns, "sg-test-node1-web");
}

#[test]
fn pods_go_round_the_nodes_and_stay_where_they_are() {
    let mut lab = lab(3);
    let made = apply(&mut lab, &pods(&["a", "b", "c", "d"]));
    let places: Vec<&str> = made.pods.values().map(|pod| pod.node.as_str()).collect();
    assert_eq!(places, ["node1", "node2", "node3", "node1"]);
    let again = apply(&mut lab, &pods(&["d", "c", "b", "a"]));
    assert_eq!(made.objects, again.objects);
}

#[test]
fn a_recreated_pod_is_another_one() {
    let mut lab = lab(1);
    let first = apply(&mut lab, &pods(&["a"]));
    let same = apply(&mut lab, &pods(&["a"]));
    assert_eq!(first.pods["shop/a"].uid, same.pods["shop/a"].uid);
    apply(&mut lab, "");
    let second = apply(&mut lab, &pods(&["a"]));
    assert_ne!(first.pods["shop/a"].uid, second.pods["shop/a"].uid);
    assert_ne!(
        first.pods["shop/a"].addresses,
        second.pods["shop/a"].addresses
    );
}

#[test]
fn another_service_account_or_node_makes_another_pod_but_labels_do_not() {
    let mut lab = lab(2);
    let with = |labels: &str, spec: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: a, namespace: shop, labels: {{{labels}}}}}\nspec: {{{spec}}}\n"
        )
    };
    let uid = |made: &Materialised| made.pods["shop/a"].uid.clone();
    let first = uid(&apply(&mut lab, &with("x: y", "nodeName: node1")));
    assert_eq!(
        first,
        uid(&apply(&mut lab, &with("x: z", "nodeName: node1")))
    );
    let moved = uid(&apply(&mut lab, &with("x: z", "nodeName: node2")));
    assert_ne!(first, moved);
    assert_ne!(
        moved,
        uid(&apply(
            &mut lab,
            &with("x: z", "nodeName: node2, serviceAccountName: b")
        ))
    );
}

#[test]
fn a_wished_address_is_given_to_nobody_else() {
    let mut lab = lab(1);
    let text = pods(&["a"])
        + "kind: Pod\nmetadata: {name: b, namespace: shop}\nstatus: {podIPs: [{ip: 10.61.1.2}]}\n";
    let made = apply(&mut lab, &text);
    assert_eq!(made.pods["shop/a"].addresses[0].to_string(), "10.61.1.3");
    assert_eq!(
        made.pods["shop/b"].addresses,
        ["10.61.1.2".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn pods_of_one_name_get_namespaces_of_their_own() {
    let mut lab = lab(1);
    let text = "kind: Pod\nmetadata: {name: a, namespace: shop}\n---\nkind: Pod\nmetadata: {name: a, namespace: bank}\n";
    let made = apply(&mut lab, text);
    assert_eq!(made.pods["shop/a"].netns, "sg-test-node1-a");
    assert_eq!(made.pods["bank/a"].netns, "sg-test-node1-a.bank");
    assert_eq!(
        apply(&mut lab, text).pods["bank/a"].netns,
        "sg-test-node1-a.bank"
    );
}

#[test]
fn bad_objects_are_named() {
    for (text, words) in [
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {nodeName: n9}\n",
            "n9",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true}\n",
            "hostNetwork",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.0.0.256}]}\n",
            "10.0.0.256",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.61.1.1}]}\n",
            "gateway of node1",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: ../b, command: [x]}]}\n",
            "../b",
        ),
        (
            &format!("kind: Pod\nmetadata: {{name: {}}}\n", "p".repeat(253)),
            "shorter",
        ),
        ("kind: Pod\nmetadata: {name: a, uid: 7}\n", "UID"),
        ("kind: Node\nmetadata: {name: n7}\n", "without this node"),
        (
            "kind: Node\nmetadata: {name: node1}\nstatus: {addresses: []}\n",
            "status.addresses",
        ),
    ] {
        let error = format!("{:#}", materialise(objects(text), &mut lab(1)).unwrap_err());
        assert!(
            error.contains("dir/x.yaml") && error.contains(words),
            "{error}"
        );
    }
}
