//! Makes cluster objects out of a user's manifests: what the API server, the scheduler and the
//! IPAM would fill in (UIDs, nodes, addresses, default service accounts).

mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::manifests::Object;
use super::names;
use super::state::{Lab, ObjectRecord, Pod};

/// The cluster that a lab is to show.
#[derive(Debug)]
pub(crate) struct Materialised {
    /// By file name in the manifests directory.
    pub(crate) objects: BTreeMap<String, Rendered>,
    /// By `namespace/name`, none of them started yet.
    pub(crate) pods: BTreeMap<String, Pod>,
}

/// One object as the processes will read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Where the user wrote it; none for what the lab added.
    pub(crate) origin: Option<PathBuf>,
}

/// Fills in the user's objects. `lab` learns who was created and placed; its nodes must be known.
///
/// # Errors
/// Names the object and what is wrong with it; nothing but `lab` is changed by then.
pub(crate) fn materialise(objects: Vec<Object>, lab: &mut Lab) -> Result<Materialised> {
    let objects = with_missing(objects, lab);
    forget_absent(&objects, lab);
    let mut made = Materialised {
        objects: BTreeMap::new(),
        pods: BTreeMap::new(),
    };
    let mut taken = pod::fixed_addresses(&objects)?;
    taken.extend(
        lab.pods
            .values()
            .flat_map(|pod| pod.addresses.iter().copied()),
    );
    for mut object in objects {
        let place = format!("{}: {}", object.file.display(), object.key());
        names::check_length(&file_name(&object.key())).context(place.clone())?;
        if object.kind == "Pod" {
            let pod = pod::pod(&mut object, lab, &mut taken, &made).context(place)?;
            made.pods.insert(pod.key(), pod);
        } else {
            fill(&mut object, lab).context(place)?;
        }
        let origin = object.file.parent().is_some().then(|| object.file.clone());
        let rendered = Rendered {
            key: object.key(),
            value: object.value,
            origin,
        };
        made.objects.insert(file_name(&rendered.key), rendered);
    }
    check_namespaces(&made.pods)?;
    Ok(made)
}

/// File of an object in the manifests directory.
pub(crate) fn file_name(key: &str) -> String {
    format!("{}.yaml", key.replace('/', "."))
}

/// Adds the Node objects, and the Namespaces and default ServiceAccounts that a cluster would have.
fn with_missing(mut objects: Vec<Object>, lab: &Lab) -> Vec<Object> {
    let present: BTreeSet<String> = objects.iter().map(Object::key).collect();
    let mut wanted: BTreeMap<String, Object> = BTreeMap::new();
    let mut want = |api: &str, kind: &str, namespace: &str, name: &str| {
        let mut value = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
        if !namespace.is_empty() {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let (kind, namespace, name) = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let object = Object {
            file: PathBuf::new(),
            kind,
            namespace,
            name,
            value,
        };
        wanted.insert(object.key(), object);
    };
    for node in lab.nodes.keys() {
        want("v1", "Node", "", node);
    }
    for object in objects.iter().filter(|object| !object.namespace.is_empty()) {
        want("v1", "Namespace", "", &object.namespace);
        want("v1", "ServiceAccount", &object.namespace, "default");
    }
    objects.extend(
        wanted
            .into_values()
            .filter(|object| !present.contains(&object.key())),
    );
    objects
}

/// What is not there any more will be another object when it comes back.
fn forget_absent(objects: &[Object], lab: &mut Lab) {
    let present: BTreeSet<String> = objects.iter().map(Object::key).collect();
    for (key, record) in &mut lab.objects {
        record.present &= present.contains(key);
    }
}

/// Everything but pods: identity, and what the kind needs.
fn fill(object: &mut Object, lab: &mut Lab) -> Result<()> {
    let uid = uid(object, lab, false)?;
    let namespace = object.namespace.clone();
    let name = object.name.clone();
    let metadata = table(&mut object.value, "metadata")?;
    metadata.insert("uid".to_owned(), json!(uid));
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    match object.kind.as_str() {
        "Namespace" => {
            // The API server sets this label, and NetworkPolicies rely on it.
            table_in(metadata, "labels")?
                .insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
        "Node" => fill_node(object, lab)?,
        _ => {}
    }
    Ok(())
}

fn fill_node(object: &mut Object, lab: &mut Lab) -> Result<()> {
    let Some(node) = lab.nodes.get_mut(&object.name) else {
        bail!("the lab was started without this node; `signetctl lab down` and `up` start it anew");
    };
    if object.value.pointer("/status/addresses").is_some() {
        bail!("the lab gives nodes their addresses; leave status.addresses out");
    }
    let uid = object
        .value
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    uid.clone_into(&mut node.uid);
    let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    let mut addresses: Vec<Value> = node
        .underlay_addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    let spec = table(&mut object.value, "spec")?;
    spec.insert("podCIDR".to_owned(), json!(cidrs.first()));
    spec.insert("podCIDRs".to_owned(), json!(cidrs));
    table(&mut object.value, "status")?.insert("addresses".to_owned(), json!(addresses));
    Ok(())
}

/// Ranges a user gave to a Node object.
pub(crate) fn given_cidrs(object: &Object) -> Result<Vec<IpNet>> {
    let spec = object.value.get("spec");
    let many = spec
        .and_then(|spec| spec.get("podCIDRs"))
        .and_then(Value::as_array);
    let one = spec.and_then(|spec| spec.get("podCIDR")).cloned();
    let texts = many.cloned().unwrap_or_else(|| one.into_iter().collect());
    texts
        .iter()
        .map(|text| {
            let text = text.as_str().unwrap_or_default();
            text.parse()
                .with_context(|| format!("{}: podCIDR {text:?} is no range", object.key()))
        })
        .collect()
}

/// The object's own UID, or one that changes with each creation.
fn uid(object: &Object, lab: &mut Lab, replaced: bool) -> Result<String> {
    let key = object.key();
    let record = lab.objects.entry(key.clone()).or_insert(ObjectRecord {
        creation: 0,
        present: false,
    });
    if !record.present || replaced {
        record.creation += 1;
        record.present = true;
    }
    match object.value.pointer("/metadata/uid") {
        None => Ok(names::object_uid(&lab.name, &key, record.creation)),
        Some(Value::String(uid)) if !uid.is_empty() => Ok(uid.clone()),
        Some(other) => bail!("metadata.uid {other} is no UID"),
    }
}

fn check_namespaces(pods: &BTreeMap<String, Pod>) -> Result<()> {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for pod in pods.values() {
        if let Some(other) = seen.insert(&pod.netns, pod.key()) {
            bail!(
                "pods {other} and {} would share the namespace {}; rename one",
                pod.key(),
                pod.netns
            );
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn table<'a>(value: &'a mut Value, field: &str) -> Result<&'a mut Map<String, Value>> {
    let Value::Object(map) = value else {
        bail!("not an object")
    };
    table_in(map, field)
}

fn table_in<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> Result<&'a mut Map<String, Value>> {
    let entry = map.entry(field).or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry
        .as_object_mut()
        .with_context(|| format!("{field} is not a table"))
}

#[cfg(test)]
mod tests;
