//! `docs/policy.md` and the CRD's schema against the types.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use crate::crd::{
    API_VERSION, AuthenticatedPolicy, CidrPeer, EgressRule, IngressRule, KIND, PolicyPeer,
    PolicyPort, PortRef, ServiceAccountRef, Spec,
};
use crate::{Action, Authentication, Enforcement, Entity, PolicySet, Protocol};

use self::erased::Json;

const DOCS: &str = include_str!("../../../../docs/policy.md");
const CRD: &str = include_str!("../../../../deploy/crds/authenticatedpolicies.signet.dev.yaml");

/// Every field set. Literals without `..`, so a new field does not compile until it is here, and
/// then not pass until it is documented.
fn full() -> AuthenticatedPolicy {
    let peer = PolicyPeer {
        pod_selector: Some(LabelSelector::default()),
        namespace_selector: Some(LabelSelector::default()),
        service_accounts: Some(vec![ServiceAccountRef {
            namespace: Some("shop".to_owned()),
            name: "frontend".to_owned(),
        }]),
        spiffe_ids: Some(vec!["spiffe://lab.signet/ns/a/sa/b".to_owned()]),
        cidrs: Some(vec![CidrPeer {
            cidr: "10.0.0.0/8".to_owned(),
            except: vec!["10.9.0.0/16".to_owned()],
        }]),
        entities: Some(vec![Entity::World]),
    };
    let port = PolicyPort {
        protocol: Protocol::Tcp,
        port: Some(PortRef::Number(1)),
        end_port: Some(2),
    };
    AuthenticatedPolicy {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: ObjectMeta::default(),
        spec: Spec {
            endpoint_selector: LabelSelector::default(),
            enforcement: Enforcement::Enforce,
            ingress: Some(vec![IngressRule {
                from: vec![peer.clone()],
                ports: vec![port.clone()],
                authentication: Authentication::Required,
                action: Action::Allow,
            }]),
            egress: Some(vec![EgressRule {
                to: vec![peer],
                ports: vec![port],
                authentication: Authentication::Required,
                action: Action::Allow,
            }]),
        },
    }
}

/// Paths of all fields of a value, `[]` for list entries.
fn value_paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                into.insert(path.clone());
                value_paths(value, &path, into);
            }
        }
        Value::Array(entries) => {
            entries
                .iter()
                .for_each(|entry| value_paths(entry, &format!("{at}[]"), into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Paths of all fields of a schema. Label selectors are Kubernetes', not ours.
fn schema_paths(schema: &Value, at: &str, into: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        into.insert(path.clone());
        if !name.ends_with("Selector") {
            schema_paths(schema, &path, into);
        }
    }
    if schema["items"].is_object() {
        schema_paths(&schema["items"], &format!("{at}[]"), into);
    }
}

fn type_paths() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    value_paths(&serde_json::to_value(full()).unwrap(), "", &mut paths);
    paths
}

fn schema() -> Value {
    let crd: Value = serde_yaml_ng::from_str(CRD).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn the_crd_has_every_field() {
    let mut paths = BTreeSet::new();
    schema_paths(&schema(), "", &mut paths);
    assert_eq!(paths, type_paths());
}

#[test]
fn the_crd_lists_every_choice_and_default() {
    let schema = schema();
    let spec = &schema["properties"]["spec"]["properties"];
    let json = |values: &[&dyn erased::Json]| -> Vec<Value> {
        values.iter().map(|value| value.json()).collect()
    };
    let enforcement = json(&[&Enforcement::Enforce, &Enforcement::DryRun]);
    assert_eq!(spec["enforcement"]["enum"], Value::from(enforcement));
    assert_eq!(
        spec["enforcement"]["default"],
        Enforcement::default().json()
    );
    let entities = json(&[
        &Entity::Host,
        &Entity::RemoteNode,
        &Entity::KubeAPIServer,
        &Entity::World,
        &Entity::Unmanaged,
        &Entity::Cluster,
    ]);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rule = &spec[direction]["items"]["properties"];
        let peer = &rule[peers]["items"]["properties"];
        assert_eq!(
            peer["entities"]["items"]["enum"],
            Value::from(entities.clone())
        );
        let protocol = &rule["ports"]["items"]["properties"]["protocol"];
        let protocols = json(&[&Protocol::Tcp, &Protocol::Udp, &Protocol::Sctp]);
        assert_eq!(protocol["enum"], Value::from(protocols));
        assert_eq!(protocol["default"], Protocol::Tcp.json());
        assert_eq!(
            rule["authentication"]["default"],
            Authentication::default().json()
        );
        assert_eq!(rule["action"]["default"], Action::default().json());
    }
}

#[test]
fn the_docs_have_every_field() {
    let documented: BTreeSet<String> = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(field, _)| field.to_owned())
        // What `policy lint` finds is in another table.
        .filter(|field| !field.starts_with(char::is_uppercase))
        .collect();
    // Egress refers to ingress for peers and ports.
    let referred = |path: &String| {
        path.starts_with("spec.egress[].to[]") || path.starts_with("spec.egress[].ports[]")
    };
    let expected: BTreeSet<String> = type_paths()
        .into_iter()
        .filter(|path| !referred(path))
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_docs_examples_are_policies() {
    let blocks = DOCS
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0);
    let objects: Vec<Value> = blocks
        .map(|block| serde_yaml_ng::from_str(block).unwrap())
        .collect();
    assert!(objects.len() >= 4);
    let (set, problems) = PolicySet::from_objects(&[], &objects);
    assert_eq!(problems, []);
    assert_eq!(set.policies().count(), objects.len());
}

#[test]
fn the_docs_error_is_the_real_one() {
    let peers = serde_json::json!([
        {"podSelector": {}}, {"cidrs": [{"cidr": "10.1.0.0/8"}]}]);
    let object = serde_json::json!({"apiVersion": API_VERSION, "kind": KIND,
        "metadata": {"name": "backend", "namespace": "shop"},
        "spec": {"endpointSelector": {}, "ingress": [{"from": peers}]}});
    let (_, problems) = PolicySet::from_objects(&[], &[object]);
    assert!(DOCS.contains(&problems[0].to_string()), "{}", problems[0]);
}

/// `serde_json::to_value` for a list of different types.
mod erased {
    use serde_json::Value;

    pub(super) trait Json {
        fn json(&self) -> Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Value {
            serde_json::to_value(self).unwrap()
        }
    }
}
