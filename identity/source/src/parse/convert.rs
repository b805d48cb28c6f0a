//! Kubernetes' types into ours: fields that must be there, addresses, ranges, phases.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Fault, check_name};
use crate::object::{DEFAULT_CHANNEL_PORT, NamedPort, Namespace, Node, Phase, Pod, ServiceAccount};

/// Annotation of a Node: TCP port of its node channel.
const CHANNEL_PORT: &str = "signet.dev/channel-port";
/// The longest UID, in bytes. Kubernetes' have 36.
const MAX_UID: usize = 128;
/// Labels of one object in all, in bytes: they travel in every directory entry of the pod.
const MAX_LABELS: usize = 32 << 10;

pub(super) fn node(object: core::Node) -> Result<Node, Fault> {
    let spec = object.spec.unwrap_or_default();
    let status = object.status.unwrap_or_default();
    let mut ranges = spec.pod_cidrs.unwrap_or_default();
    if ranges.is_empty() {
        ranges.extend(spec.pod_cidr);
    }
    let internal = status.addresses.unwrap_or_default().into_iter();
    let addresses = internal
        .filter(|address| address.type_ == "InternalIP")
        .map(|address| parse_address("status.addresses", &address.address))
        .collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(Fault::new(
            "status.addresses has no InternalIP",
            "add the address at which other nodes reach it",
        ));
    }
    Ok(Node {
        uid: uid(&object.metadata)?,
        channel_port: channel_port(&object.metadata)?,
        pod_cidrs: ranges
            .iter()
            .map(|range| parse_range(range))
            .collect::<Result<_, _>>()?,
        addresses,
        labels: labels(&object.metadata)?,
        name: object.metadata.name.unwrap_or_default(),
    })
}

pub(super) fn namespace(object: core::Namespace) -> Result<Namespace, Fault> {
    let name = object.metadata.name.clone().unwrap_or_default();
    check_name("metadata.name", &name, 63, "")?;
    let mut labels = labels(&object.metadata)?;
    labels.insert("kubernetes.io/metadata.name".into(), name.clone());
    Ok(Namespace {
        uid: uid(&object.metadata)?,
        labels,
        name,
    })
}

pub(super) fn service_account(object: core::ServiceAccount) -> Result<ServiceAccount, Fault> {
    Ok(ServiceAccount {
        uid: uid(&object.metadata)?,
        namespace: object.metadata.namespace.unwrap_or_default(),
        name: object.metadata.name.unwrap_or_default(),
    })
}

pub(super) fn pod(object: core::Pod) -> Result<Pod, Fault> {
    let spec = object.spec.unwrap_or_default();
    let status = object.status.unwrap_or_default();
    let service_account = spec
        .service_account_name
        .or(spec.service_account)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".into());
    check_name("spec.serviceAccountName", &service_account, 253, ".")?;
    let mut addresses: Vec<_> = status
        .pod_ips
        .into_iter()
        .flatten()
        .map(|ip| ip.ip)
        .collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.filter(|ip| !ip.is_empty()));
    }
    let addresses = addresses
        .iter()
        .map(|address| parse_address("status.podIPs", address))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(twice) = addresses
        .iter()
        .enumerate()
        .find(|(at, ip)| addresses[..*at].contains(ip))
    {
        let what = format!("status.podIPs has {} twice", twice.1);
        return Err(Fault::new(what, "remove one"));
    }
    if addresses.len() > 4 {
        let what = format!("status.podIPs has {} addresses", addresses.len());
        return Err(Fault::new(what, "a pod may have at most 4"));
    }
    Ok(Pod {
        uid: uid(&object.metadata)?,
        labels: labels(&object.metadata)?,
        namespace: object.metadata.namespace.unwrap_or_default(),
        name: object.metadata.name.unwrap_or_default(),
        annotations: object.metadata.annotations.unwrap_or_default(),
        node: spec.node_name.filter(|name| !name.is_empty()),
        service_account,
        addresses,
        phase: phase(status.phase.as_deref())?,
        host_network: spec.host_network.unwrap_or(false),
        named_ports: named_ports(&spec.containers)?,
    })
}

fn named_ports(containers: &[core::Container]) -> Result<Vec<NamedPort>, Fault> {
    let ports = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    let mut named = Vec::new();
    for port in ports {
        let number = u16::try_from(port.container_port)
            .ok()
            .filter(|number| *number > 0);
        let Some(number) = number else {
            let what = format!("containerPort {} is no port", port.container_port);
            return Err(Fault::new(what, "write one from 1 to 65535"));
        };
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        if !["TCP", "UDP", "SCTP"].contains(&protocol.as_str()) {
            let what = format!("protocol {protocol:?} of containerPort {number} is not known");
            return Err(Fault::new(what, "write TCP, UDP or SCTP"));
        }
        named.extend(port.name.clone().map(|name| NamedPort {
            name,
            protocol,
            port: number,
        }));
    }
    Ok(named)
}

fn phase(text: Option<&str>) -> Result<Phase, Fault> {
    Ok(match text {
        None | Some("" | "Running") => Phase::Running,
        Some("Pending") => Phase::Pending,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        Some(other) => {
            return Err(Fault::new(
                format!("status.phase {other:?} is not known"),
                "write Pending, Running, Succeeded, Failed or Unknown",
            ));
        }
    })
}

/// UIDs become segments of SPIFFE IDs and parts of certificates, so they are one plain word.
fn uid(metadata: &ObjectMeta) -> Result<String, Fault> {
    let uid = metadata.uid.clone().unwrap_or_default();
    if uid.is_empty() {
        return Err(Fault::new(
            "metadata.uid is missing",
            "give it one that no object had before, such as from uuidgen",
        ));
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if uid.len() > MAX_UID || !uid.bytes().all(fine) || uid.bytes().all(|byte| byte == b'.') {
        let fix = format!("use at most {MAX_UID} letters, digits, '-', '_' and '.'");
        return Err(Fault::new(format!("metadata.uid {uid:?} is no UID"), fix));
    }
    Ok(uid)
}

fn labels(metadata: &ObjectMeta) -> Result<BTreeMap<String, String>, Fault> {
    let labels = metadata.labels.clone().unwrap_or_default();
    let size: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MAX_LABELS {
        let what = format!("metadata.labels has {size} bytes");
        return Err(Fault::new(what, format!("use at most {MAX_LABELS}")));
    }
    Ok(labels)
}

fn channel_port(metadata: &ObjectMeta) -> Result<u16, Fault> {
    let Some(text) = metadata
        .annotations
        .iter()
        .flatten()
        .find(|(key, _)| *key == CHANNEL_PORT)
    else {
        return Ok(DEFAULT_CHANNEL_PORT);
    };
    text.1.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        let what = format!("annotation {CHANNEL_PORT} {:?} is no port", text.1);
        Fault::new(what, "write one from 1 to 65535")
    })
}

fn parse_address(field: &str, text: &str) -> Result<IpAddr, Fault> {
    let address: IpAddr = text.parse().map_err(|_| {
        Fault::new(
            format!("{field}: {text:?} is no IP address"),
            "write one such as 10.1.2.3",
        )
    })?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        let what = format!("{field}: {address} cannot be anybody's address");
        return Err(Fault::new(what, "write a unicast address"));
    }
    Ok(address)
}

fn parse_range(text: &str) -> Result<IpNet, Fault> {
    let range: IpNet = text.parse().map_err(|_| {
        Fault::new(
            format!("spec.podCIDRs: {text:?} is no range"),
            "write one such as 10.1.2.0/24",
        )
    })?;
    if range.trunc() != range {
        let what = format!("spec.podCIDRs: {text} has bits beyond its prefix");
        return Err(Fault::new(what, format!("write {}", range.trunc())));
    }
    Ok(range)
}
