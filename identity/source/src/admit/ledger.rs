//! Who has which UID, address and range so far.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::Accepted;
use crate::object::{Kind, Node, Object, ObjectKey, Pod};

/// Indexes over the objects taken so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    uids: BTreeMap<String, ObjectKey>,
    addresses: BTreeMap<IpAddr, ObjectKey>,
    /// First address -> last address and owner; disjoint.
    ranges: BTreeMap<u128, (u128, String)>,
}

impl Ledger {
    /// Whether `object` agrees with everything taken so far.
    ///
    /// # Errors
    /// What it contradicts; what to do.
    pub(super) fn check(&self, accepted: &Accepted, object: &Object) -> Result<(), String> {
        if let Some(owner) = object.uid().and_then(|uid| self.uids.get(uid)) {
            return Err(format!(
                "metadata.uid is also that of {owner}; give it one of its own"
            ));
        }
        match object {
            Object::Node(node) => self.check_node(node),
            Object::ServiceAccount(account) => namespace_exists(accepted, &account.namespace),
            Object::Pod(pod) => self.check_pod(accepted, pod),
            // A policy for a namespace that is not there selects nothing, and may well come first.
            Object::Namespace(_) | Object::NetworkPolicy(_) | Object::AuthenticatedPolicy(_) => {
                Ok(())
            }
        }
    }

    /// Takes note of an object that was checked.
    pub(super) fn enter(&mut self, key: &ObjectKey, object: &Object) {
        if let Some(uid) = object.uid() {
            self.uids.insert(uid.to_owned(), key.clone());
        }
        match object {
            Object::Node(node) => {
                self.addresses
                    .extend(node.addresses.iter().map(|ip| (*ip, key.clone())));
                let ranges = node.pod_cidrs.iter().map(bounds);
                self.ranges
                    .extend(ranges.map(|(first, last)| (first, (last, node.name.clone()))));
            }
            Object::Pod(pod) if holds_addresses(pod) => {
                self.addresses
                    .extend(pod.addresses.iter().map(|ip| (*ip, key.clone())));
            }
            Object::Pod(_)
            | Object::Namespace(_)
            | Object::ServiceAccount(_)
            | Object::NetworkPolicy(_)
            | Object::AuthenticatedPolicy(_) => {}
        }
    }

    fn check_node(&self, node: &Node) -> Result<(), String> {
        self.check_addresses(&node.addresses)?;
        for (at, range) in node.pod_cidrs.iter().enumerate() {
            let (first, last) = bounds(range);
            let below = self.ranges.range(..=last).next_back();
            if let Some((_, (_, owner))) = below.filter(|(_, (other_last, _))| *other_last >= first)
            {
                return Err(format!(
                    "podCIDR {range} overlaps with one of Node {owner}; give each node its own"
                ));
            }
            if node.pod_cidrs[..at]
                .iter()
                .any(|other| bounds(other).1 >= first && bounds(other).0 <= last)
            {
                return Err(format!(
                    "podCIDR {range} overlaps with another of this node; remove one"
                ));
            }
        }
        Ok(())
    }

    fn check_pod(&self, accepted: &Accepted, pod: &Pod) -> Result<(), String> {
        namespace_exists(accepted, &pod.namespace)?;
        let account = key(Kind::ServiceAccount, &pod.namespace, &pod.service_account);
        if !accepted.0.contains_key(&account) {
            return Err(format!(
                "{account} does not exist; add it or correct spec.serviceAccountName"
            ));
        }
        let node = match &pod.node {
            Some(name) => match accepted.0.get(&key(Kind::Node, "", name)) {
                Some((_, Object::Node(node))) => Some(node),
                Some(_) | None => {
                    return Err(format!(
                        "Node {name} does not exist; add it or correct spec.nodeName"
                    ));
                }
            },
            None => None,
        };
        if !holds_addresses(pod) || pod.addresses.is_empty() {
            return Ok(());
        }
        let Some(node) = node else {
            return Err("status.podIPs is set, but spec.nodeName is not; say where it runs".into());
        };
        for address in &pod.addresses {
            if !node.pod_cidrs.iter().any(|range| range.contains(address)) {
                let ranges: Vec<_> = node.pod_cidrs.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "address {address} is outside the podCIDRs of Node {} ({}); correct one of them",
                    node.name,
                    if ranges.is_empty() {
                        "none".into()
                    } else {
                        ranges.join(", ")
                    }
                ));
            }
        }
        self.check_addresses(&pod.addresses)
    }

    fn check_addresses(&self, addresses: &[IpAddr]) -> Result<(), String> {
        let taken = addresses
            .iter()
            .find_map(|ip| self.addresses.get(ip).map(|owner| (ip, owner)));
        match taken {
            Some((ip, owner)) => Err(format!(
                "address {ip} is already that of {owner}; give each its own"
            )),
            None => Ok(()),
        }
    }
}

/// A finished pod's address may be another's already; a host-network pod has its node's.
pub(super) fn holds_addresses(pod: &Pod) -> bool {
    pod.is_live() && !pod.host_network
}

fn namespace_exists(accepted: &Accepted, name: &str) -> Result<(), String> {
    if accepted.0.contains_key(&key(Kind::Namespace, "", name)) {
        return Ok(());
    }
    Err(format!(
        "Namespace {name} does not exist; add it or correct metadata.namespace"
    ))
}

fn key(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// First and last address, IPv4 as its mapped IPv6 form.
fn bounds(range: &IpNet) -> (u128, u128) {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    (number(range.network()), number(range.broadcast()))
}
