//! Directory entries from the wire to the core's words; whatever does not fit is refused by name.

use std::{net::IpAddr, time::Duration};

use signet_agent_core::io::{Entry, NodeFacts, NodeUid, PodUid, Schedule};
use signet_crypto::{spiffe_id::SpiffeId, tls::TrustStore};
use signet_identity_api::{parse_address, v1};
use signet_policy::{NamedPort, PodFacts, Protocol};

/// `None` for epochs shorter than a second: nobody could keep up with them.
pub(super) fn schedule(wire: &v1::Epochs) -> Option<Schedule> {
    let length = Duration::from_millis(wire.length_ms);
    (length >= Duration::from_secs(1)).then(|| Schedule {
        start: wire.start_s,
        length,
        jitter: Duration::from_millis(wire.jitter_ms).min(length / 2),
    })
}

/// # Errors
/// One line that names the entry and the field.
pub(super) fn entry(wire: v1::Entry, trust: &TrustStore) -> Result<Entry, String> {
    let name = format!("{}/{} ({})", wire.namespace, wire.name, wire.pod_uid);
    let bad = |what: String| format!("directory entry of {name} is not usable: {what}");
    if wire.pod_uid.is_empty() || wire.node_uid.is_empty() {
        return Err(bad("it names no pod or no node".into()));
    }
    let domain = trust.load().trust_domain().clone();
    let id = |text: &str| {
        let id = SpiffeId::new(text).map_err(|error| bad(error.to_string()))?;
        if id.trust_domain() == &domain {
            Ok(id)
        } else {
            Err(bad(format!("{id} is not of {domain}")))
        }
    };
    let addresses = |list: &[Vec<u8>]| {
        let parsed: Option<Vec<IpAddr>> = list.iter().map(|bytes| parse_address(bytes)).collect();
        parsed.ok_or_else(|| bad("an address has neither 4 nor 16 bytes".into()))
    };
    let spiffe_id = id(&wire.spiffe_id)?;
    let node = NodeFacts {
        uid: NodeUid::new(wire.node_uid),
        name: wire.node_name,
        spiffe_id: id(&wire.node_spiffe_id)?,
        underlay: addresses(&wire.node_underlay_addresses)?,
        channel_port: u16::try_from(wire.channel_port)
            .map_err(|_| bad(format!("channel port {} is none", wire.channel_port)))?,
        pod_cidrs: Vec::new(),
    };
    let named_ports = wire.named_ports.map(|told| {
        let named = told.ports.into_iter().map(|port| {
            Ok(NamedPort {
                protocol: Protocol::from_name(&port.protocol)
                    .ok_or_else(|| bad(format!("{} is no protocol of ports", port.protocol)))?,
                port: u16::try_from(port.port)
                    .map_err(|_| bad(format!("{} is no port", port.port)))?,
                name: port.name,
            })
        });
        named.collect::<Result<Vec<_>, String>>()
    });
    let named_ports = named_ports.transpose()?;
    let pod = PodFacts {
        uid: wire.pod_uid.clone(),
        namespace: wire.namespace,
        name: wire.name,
        service_account: wire.service_account,
        spiffe_id: spiffe_id.to_string(),
        labels: wire.labels.into_iter().collect(),
        namespace_labels: wire.namespace_labels.into_iter().collect(),
        addresses: addresses(&wire.addresses)?,
        named_ports,
        // Whoever is in the directory runs on a node with an agent.
        enrolled: true,
    };
    Ok(Entry {
        generation: wire.generation,
        uid: PodUid::new(wire.pod_uid),
        pod,
        spiffe_id,
        namespace_uid: wire.namespace_uid,
        service_account_uid: wire.service_account_uid,
        node,
    })
}
