//! The core's words in the protocol's.

use signet_crypto::bundle::TrustBundle;
use signet_identity_api::{
    address_bytes,
    v1::{self, WatchEvent, watch_event},
};
use signet_identity_core::{
    authority::{Authorities, Issued},
    directory::{Entry, Event},
    unix_ms,
};

pub(crate) fn event(event: Event) -> WatchEvent {
    watch_event(match event {
        Event::Entry(entry) => watch_event::Event::Entry(self::entry(&entry)),
        Event::Gone { pod, generation } => watch_event::Event::Gone(v1::Gone {
            pod_uid: pod.to_string(),
            generation,
        }),
        Event::NodeGone(node) => watch_event::Event::NodeGone(v1::NodeGone {
            node_uid: node.to_string(),
        }),
        Event::PeerStream { node, up } => watch_event::Event::PeerStream(v1::PeerStream {
            node_uid: node.to_string(),
            up,
        }),
    })
}

pub(crate) fn watch_event(event: watch_event::Event) -> WatchEvent {
    WatchEvent { event: Some(event) }
}

pub(crate) fn entry(entry: &Entry) -> v1::Entry {
    let Entry {
        generation,
        pod,
        node,
    } = entry;
    let bytes = |addresses: &[std::net::IpAddr]| {
        addresses
            .iter()
            .map(|address| address_bytes(*address))
            .collect()
    };
    v1::Entry {
        pod_uid: pod.uid.to_string(),
        generation: *generation,
        namespace: pod.namespace.clone(),
        namespace_uid: pod.namespace_uid.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        service_account_uid: pod.service_account_uid.clone(),
        spiffe_id: pod.spiffe_id.to_string(),
        addresses: bytes(&pod.addresses),
        labels: pod.labels.clone(),
        namespace_labels: pod.namespace_labels.clone(),
        node_uid: node.uid.to_string(),
        node_name: node.name.clone(),
        node_spiffe_id: node.spiffe_id.to_string(),
        node_underlay_addresses: bytes(&node.underlay),
        channel_port: node.channel_port.into(),
        named_ports: Some(v1::NamedPorts {
            ports: pod
                .named_ports
                .iter()
                .map(|port| v1::NamedPort {
                    name: port.name.clone(),
                    protocol: port.protocol.clone(),
                    port: port.port.into(),
                })
                .collect(),
        }),
    }
}

pub(crate) fn bundle(bundle: &TrustBundle) -> v1::TrustBundle {
    v1::TrustBundle {
        pem: bundle.to_pem(),
        sequence: bundle.sequence(),
    }
}

pub(crate) fn chain(issued: &Issued) -> Vec<Vec<u8>> {
    issued
        .chain
        .iter()
        .map(|certificate| certificate.to_vec())
        .collect()
}

pub(crate) fn authorities(authorities: &Authorities) -> Vec<v1::AuthorityInfo> {
    let records = authorities.records();
    let info = records.iter().map(|record| v1::AuthorityInfo {
        role: record.role.name().to_owned(),
        state: record.state.name().to_owned(),
        sha256: record.fingerprint(),
        not_after_ms: unix_ms(record.not_after),
    });
    info.collect()
}
