//! Pods: where they run, which addresses they have, what they are to run.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Materialised, table, text, uid};
use crate::lab::manifests::Object;
use crate::lab::names;
use crate::lab::plan;
use crate::lab::state::{Container, Lab, Pod, PodPhase};

/// Fills in a pod, and describes what the lab has to make for it.
pub(super) fn pod(
    object: &mut Object,
    lab: &mut Lab,
    taken: &mut BTreeSet<IpAddr>,
    made: &Materialised,
) -> Result<Pod> {
    if object.value.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        bail!("hostNetwork pods have no namespace of their own, so the lab cannot show them");
    }
    let key = format!("{}/{}", object.namespace, object.name);
    let before = lab.pods.get(&key).cloned();
    let service_account = text(&object.value, "/spec/serviceAccountName")
        .unwrap_or("default")
        .to_owned();
    let node = place(object, lab, before.as_ref())?;
    // Both are immutable in Kubernetes: with another one it is another pod.
    let replaced = before
        .as_ref()
        .is_some_and(|pod| pod.node != node || pod.service_account != service_account);
    let uid = uid(object, lab, replaced)?;
    let kept = before.filter(|pod| pod.uid == uid);
    let addresses = addresses(object, lab, &node, kept.as_ref(), taken)?;
    let netns = pod_netns(object, lab, &node, kept.as_ref(), made);
    names::check_length(&netns)?;
    let containers = containers(&object.value)?;

    let metadata = table(&mut object.value, "metadata")?;
    metadata.insert("uid".to_owned(), json!(uid));
    metadata.insert("namespace".to_owned(), json!(object.namespace));
    let spec = table(&mut object.value, "spec")?;
    spec.insert("nodeName".to_owned(), json!(node));
    spec.insert("serviceAccountName".to_owned(), json!(service_account));
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let status = table(&mut object.value, "status")?;
    status.insert("podIP".to_owned(), json!(addresses.first()));
    status.insert("podIPs".to_owned(), json!(ips));
    status.entry("phase").or_insert_with(|| json!("Running"));

    Ok(Pod {
        uid,
        netns,
        interface: "eth0".to_owned(),
        host_interface: names::host_interface(&lab.name, &object.namespace, &object.name),
        dir: lab
            .state_dir
            .join("pods")
            .join(format!("{}.{}", object.namespace, object.name)),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        node,
        service_account,
        phase: PodPhase::Starting,
        addresses,
        containers,
        processes: Vec::new(),
    })
}

/// The pod's own wish, else where it was, else the next node in turn.
fn place(object: &Object, lab: &mut Lab, before: Option<&Pod>) -> Result<String> {
    if let Some(wish) = text(&object.value, "/spec/nodeName") {
        if !lab.nodes.contains_key(wish) {
            let nodes: Vec<&str> = lab.nodes.keys().map(String::as_str).collect();
            bail!(
                "spec.nodeName {wish:?} is no node of the lab; it has {}",
                nodes.join(", ")
            );
        }
        return Ok(wish.to_owned());
    }
    if let Some(pod) = before {
        return Ok(pod.node.clone());
    }
    let turn = lab.placed % lab.nodes.len().max(1);
    lab.placed += 1;
    lab.nodes
        .keys()
        .nth(turn)
        .cloned()
        .context("the lab has no nodes")
}

fn addresses(
    object: &Object,
    lab: &mut Lab,
    node: &str,
    kept: Option<&Pod>,
    taken: &mut BTreeSet<IpAddr>,
) -> Result<Vec<IpAddr>> {
    let wish = wanted_addresses(object)?;
    if !wish.is_empty() {
        refuse_gateways(lab, &wish)?;
        return Ok(wish);
    }
    if let Some(pod) = kept {
        return Ok(pod.addresses.clone());
    }
    let Some(node) = lab.nodes.get_mut(node) else {
        bail!("no node {node:?}")
    };
    let host = plan::next_host(&node.pod_cidrs, node.last_host, taken)?;
    node.last_host = host;
    let addresses: Vec<IpAddr> = node
        .pod_cidrs
        .iter()
        .map(|cidr| plan::nth(cidr, host))
        .collect();
    taken.extend(addresses.iter().copied());
    Ok(addresses)
}

/// The first address of a range is the node's own, on every pod's interface.
fn refuse_gateways(lab: &Lab, wish: &[IpAddr]) -> Result<()> {
    for node in lab.nodes.values() {
        let mut gateways = node.pod_cidrs.iter().map(plan::gateway);
        if let Some(gateway) = gateways.find(|gateway| wish.contains(gateway)) {
            bail!(
                "status.podIPs {gateway} is the gateway of {}'s pods; choose another address",
                node.name
            );
        }
    }
    Ok(())
}

/// Addresses that pods ask for by name: nobody else may be given them.
pub(super) fn fixed_addresses(objects: &[Object]) -> Result<BTreeSet<IpAddr>> {
    let mut fixed = BTreeSet::new();
    for object in objects.iter().filter(|object| object.kind == "Pod") {
        fixed.extend(wanted_addresses(object)?);
    }
    Ok(fixed)
}

fn wanted_addresses(object: &Object) -> Result<Vec<IpAddr>> {
    let Some(ips) = object
        .value
        .pointer("/status/podIPs")
        .and_then(Value::as_array)
    else {
        return Ok(Vec::new());
    };
    ips.iter()
        .map(|entry| {
            let ip = text(entry, "/ip").unwrap_or_default();
            ip.parse().with_context(|| {
                format!(
                    "{}: {}: status.podIPs {ip:?} is no address",
                    object.file.display(),
                    object.key()
                )
            })
        })
        .collect()
}

fn containers(value: &Value) -> Result<Vec<Container>> {
    let Some(list) = value.pointer("/spec/containers").and_then(Value::as_array) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (index, container) in list.iter().enumerate() {
        let name = text(container, "/name").map_or_else(|| format!("{index}"), str::to_owned);
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(is_name) {
            bail!("container name {name:?} is no name; use 1 to 63 of a-z, 0-9 and '-'");
        }
        let mut command = texts(container, "command");
        if command.is_empty() {
            continue; // Nothing to run: the pod is a namespace to `lab exec` into.
        }
        command.extend(texts(container, "args"));
        let env = container
            .get("env")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let env = env
            .iter()
            .filter_map(|entry| {
                Some((
                    text(entry, "/name")?.to_owned(),
                    text(entry, "/value")?.to_owned(),
                ))
            })
            .collect();
        found.push(Container { name, command, env });
    }
    Ok(found)
}

/// `sg-<lab>-<node>-<pod>`; with the pod's namespace behind it if another pod has that name already.
fn pod_netns(
    object: &Object,
    lab: &Lab,
    node: &str,
    kept: Option<&Pod>,
    made: &Materialised,
) -> String {
    if let Some(pod) = kept {
        return pod.netns.clone();
    }
    let short = names::pod_netns(&lab.name, node, &object.name);
    let mut others = lab.pods.values().chain(made.pods.values());
    let clash = others.any(|pod| pod.netns == short && pod.namespace != object.namespace);
    if clash {
        format!("{short}.{}", object.namespace)
    } else {
        short
    }
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value
        .get(field)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    list.iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
