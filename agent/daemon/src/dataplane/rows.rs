//! The core's rows as the maps hold them, and back.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use signet_abi as abi;
use signet_agent_core::io::{
    ClassId, EndpointIndex, EndpointRow, Epoch, IdentityId, Label, PeerId, PeerRow, PolicyKey,
    PolicyValue, RecvRow, RemoteId, SendKey, SendRow, Slot, Tag,
};
use signet_agent_core::rows::Direction;

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

fn duration(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// The first addresses, as many as a row holds.
fn addresses(list: &[IpAddr]) -> Vec<abi::Addr> {
    list.iter()
        .take(abi::MAX_ADDRESSES)
        .map(|address| (*address).into())
        .collect()
}

fn address_list(addrs: &[abi::Addr], count: u32) -> Vec<IpAddr> {
    addrs
        .iter()
        .take(count as usize)
        .map(|addr| addr.to_ip())
        .collect()
}

pub(super) fn prefix(prefix: &IpNet) -> abi::AddrPrefix {
    abi::AddrPrefix::new(prefix.network(), prefix.prefix_len())
}

pub(super) fn prefix_back(prefix: abi::AddrPrefix) -> Option<IpNet> {
    let (address, length) = prefix.to_ip();
    IpNet::new(address, length).ok()
}

pub(super) fn endpoint(row: &EndpointRow) -> abi::Endpoint {
    use abi::endpoint_flags::{AUTHENTICATED, EGRESS_ISOLATED, INGRESS_ISOLATED};
    let mut flags = 0;
    for (set, flag) in [
        (row.ingress_isolated, INGRESS_ISOLATED),
        (row.egress_isolated, EGRESS_ISOLATED),
        (row.authenticated_until.is_some(), AUTHENTICATED),
    ] {
        if set {
            flags |= flag;
        }
    }
    let mut value = abi::Endpoint {
        generation: row.generation,
        ifindex: row.ifindex,
        class: row.class.0,
        identity: row.identity.0,
        policy_generation: row.policy_generation,
        flags,
        not_after: row.authenticated_until.map_or(0, nanos),
        mac: row.mac,
        index: row.index.0,
        ..abi::Endpoint::default()
    };
    // Cut to what fits before.
    value.set_addrs(&addresses(&row.addresses));
    value
}

pub(super) fn endpoint_back(value: &abi::Endpoint) -> EndpointRow {
    use abi::endpoint_flags::{AUTHENTICATED, EGRESS_ISOLATED, INGRESS_ISOLATED};
    EndpointRow {
        index: EndpointIndex(value.index),
        generation: value.generation,
        ifindex: value.ifindex,
        class: ClassId(value.class),
        identity: IdentityId(value.identity),
        policy_generation: value.policy_generation,
        ingress_isolated: value.flags & INGRESS_ISOLATED != 0,
        egress_isolated: value.flags & EGRESS_ISOLATED != 0,
        authenticated_until: (value.flags & AUTHENTICATED != 0).then(|| duration(value.not_after)),
        mac: value.mac,
        addresses: address_list(&value.addrs, value.addr_count),
    }
}

pub(super) fn send_key(key: &SendKey) -> abi::SendKey {
    abi::SendKey {
        endpoint: u32::from(key.endpoint.0),
        generation: key.generation,
        dst: key.destination.into(),
    }
}

fn send_key_back(key: &abi::SendKey) -> Option<SendKey> {
    Some(SendKey {
        endpoint: EndpointIndex(u16::try_from(key.endpoint).ok()?),
        generation: key.generation,
        destination: key.dst.to_ip(),
    })
}

pub(super) fn send_row(row: &SendRow) -> abi::SendRow {
    match row {
        SendRow::Paired {
            tags,
            peer,
            class,
            remote,
            not_after,
        } => abi::SendRow {
            label: tags.map(|tag| tag.map_or(0, |tag| tag.label.value())),
            epoch: tags.map(|tag| tag.map_or(0, |tag| tag.epoch.0)),
            not_after: nanos(*not_after),
            peer: peer.0,
            class: class.0,
            remote: remote.0,
            state: abi::send_state::PAIRED,
            ..abi::SendRow::default()
        },
        SendRow::Refused { reason, not_after } => abi::SendRow {
            not_after: nanos(*not_after),
            state: abi::send_state::REFUSED,
            reason: reason.number(),
            ..abi::SendRow::default()
        },
    }
}

pub(super) fn send_back(key: &abi::SendKey, row: &abi::SendRow) -> Option<(SendKey, SendRow)> {
    let not_after = duration(row.not_after);
    let back = match row.state {
        abi::send_state::PAIRED => SendRow::Paired {
            tags: tags_back(row)?,
            peer: PeerId(row.peer),
            class: ClassId(row.class),
            remote: RemoteId(row.remote),
            not_after,
        },
        abi::send_state::REFUSED => SendRow::Refused {
            reason: abi::DropReason::try_from(row.reason).ok()?,
            not_after,
        },
        _ => return None,
    };
    Some((send_key_back(key)?, back))
}

/// At least one tag, and each in its slot.
fn tags_back(row: &abi::SendRow) -> Option<[Option<Tag>; 2]> {
    let mut tags = [None; 2];
    for (slot, tag) in (0..).zip(&mut tags) {
        let at = slot as usize;
        if row.epoch[at] != 0 {
            *tag = Some(Tag {
                label: Label::new(row.label[at])?,
                epoch: epoch_in(row.epoch[at], slot)?,
            });
        }
    }
    tags.iter().any(Option::is_some).then_some(tags)
}

pub(super) fn recv_row(row: &RecvRow) -> abi::RecvRow {
    let mut value = abi::RecvRow {
        epoch: row.epoch.0,
        not_after: nanos(row.not_after),
        peer: row.peer.0,
        class: row.class.0,
        remote: row.remote.0,
        identity: row.identity.0,
        slot: u32::from(row.epoch.slot().number()),
        ..abi::RecvRow::default()
    };
    // Cut to what fits before.
    value.set_addrs(&addresses(&row.addresses));
    value
}

pub(super) fn recv_back(key: &abi::RecvKey, row: &abi::RecvRow) -> Option<(Label, RecvRow)> {
    let back = RecvRow {
        epoch: epoch_in(row.epoch, row.slot)?,
        not_after: duration(row.not_after),
        peer: PeerId(row.peer),
        class: ClassId(row.class),
        remote: RemoteId(row.remote),
        identity: IdentityId(row.identity),
        addresses: address_list(&row.addrs, row.addr_count),
    };
    Some((Label::new(key.label)?, back))
}

/// An epoch, if the slot that is written beside it is its own.
fn epoch_in(epoch: u64, slot: u32) -> Option<Epoch> {
    let epoch = Epoch(epoch);
    (u32::from(epoch.slot().number()) == slot).then_some(epoch)
}

pub(super) fn peer(row: &PeerRow) -> abi::Peer {
    abi::Peer {
        lease_until: row.lease_until.map_or(u64::MAX, nanos),
        slot_epoch: row.slot_epoch.map(|epoch| epoch.0),
        slot_until: row.slot_until.map(|until| until.map_or(u64::MAX, nanos)),
        tx_slot: u32::from(row.tx_slot.number()),
        reserved: 0,
    }
}

pub(super) fn peer_back(value: &abi::Peer) -> PeerRow {
    PeerRow {
        lease_until: (value.lease_until != u64::MAX).then(|| duration(value.lease_until)),
        slot_epoch: value.slot_epoch.map(Epoch),
        slot_until: value
            .slot_until
            .map(|until| (until != u64::MAX).then(|| duration(until))),
        tx_slot: if value.tx_slot & 1 == 0 {
            Slot::Even
        } else {
            Slot::Odd
        },
    }
}

pub(super) fn policy_key(key: &PolicyKey) -> abi::PolicyKey {
    abi::PolicyKey::new(abi::PolicyPrefix {
        endpoint: key.endpoint.0,
        direction: match key.direction {
            Direction::Ingress => abi::Direction::Ingress,
            Direction::Egress => abi::Direction::Egress,
        },
        proto: key.protocol,
        class: key.class.0,
        port: key.port,
        port_bits: key.port_bits,
    })
}

pub(super) fn policy_value(value: &PolicyValue) -> abi::PolicyValue {
    let action = if value.allow {
        abi::Action::Allow
    } else {
        abi::Action::Deny
    };
    abi::PolicyValue::new(value.rule, action, value.authentication_required)
}

pub(super) fn policy_back(
    key: &abi::PolicyKey,
    value: &abi::PolicyValue,
) -> Option<(PolicyKey, PolicyValue)> {
    let prefix = key.prefix()?;
    let key = PolicyKey {
        endpoint: EndpointIndex(prefix.endpoint),
        direction: match prefix.direction {
            abi::Direction::Ingress => Direction::Ingress,
            abi::Direction::Egress => Direction::Egress,
        },
        protocol: prefix.proto,
        class: ClassId(prefix.class),
        port: prefix.port,
        port_bits: prefix.port_bits,
    };
    let allow = match value.action {
        abi::policy_action::ALLOW => true,
        abi::policy_action::DENY => false,
        _ => return None,
    };
    let authentication_required = value.auth == abi::policy_auth::REQUIRED;
    Some((
        key,
        PolicyValue {
            rule: value.rule,
            allow,
            authentication_required,
        },
    ))
}

#[cfg(test)]
mod tests {
    use signet_abi::DropReason;

    use super::*;

    fn list(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn endpoints_come_back() {
        for authenticated_until in [None, Some(Duration::from_secs(77))] {
            let row = EndpointRow {
                index: EndpointIndex(9),
                generation: 4,
                ifindex: 12,
                class: ClassId(17),
                identity: IdentityId(3),
                policy_generation: 8,
                ingress_isolated: true,
                egress_isolated: false,
                authenticated_until,
                mac: [2, 1, 2, 3, 4, 5],
                addresses: list(&["10.0.0.1", "fd00::1"]),
            };
            assert_eq!(endpoint_back(&endpoint(&row)), row);
        }
    }

    #[test]
    fn rows_of_both_directions_come_back() {
        let key = SendKey {
            endpoint: EndpointIndex(9),
            generation: 4,
            destination: "10.0.0.9".parse().unwrap(),
        };
        let not_after = Duration::from_nanos(123_456_789_012);
        let tag = |label, epoch| {
            Some(Tag {
                label: Label::new(label).unwrap(),
                epoch: Epoch(epoch),
            })
        };
        let paired = |tags| SendRow::Paired {
            tags,
            peer: PeerId(2),
            class: ClassId(16),
            remote: RemoteId(5),
            not_after,
        };
        let rows = [
            paired([None, tag(0xab_cdef_0123, 7)]),
            paired([tag(0xab_cdef_0123, 6), tag(1, 7)]),
            SendRow::Refused {
                reason: DropReason::UnknownDestination,
                not_after,
            },
        ];
        for row in rows {
            assert_eq!(
                send_back(&send_key(&key), &send_row(&row)),
                Some((key, row))
            );
        }
        let row = RecvRow {
            epoch: Epoch(6),
            not_after,
            peer: PeerId(2),
            class: ClassId(16),
            remote: RemoteId(5),
            identity: IdentityId(1),
            addresses: list(&["fd00::9"]),
        };
        let label = Label::new(77).unwrap();
        let key = abi::RecvKey { label: 77 };
        assert_eq!(recv_back(&key, &recv_row(&row)), Some((label, row)));
    }

    #[test]
    fn a_row_that_contradicts_itself_is_not_adopted() {
        let key = abi::SendKey::default();
        let good = abi::SendRow {
            label: [0, 1],
            epoch: [0, 7],
            state: 1,
            ..Default::default()
        };
        assert!(send_back(&key, &good).is_some());
        for bad in [
            abi::SendRow {
                epoch: [7, 0],
                label: [1, 0],
                ..good
            },
            abi::SendRow {
                epoch: [0, 0],
                ..good
            },
            abi::SendRow {
                label: [0, 0],
                ..good
            },
            abi::SendRow {
                label: [0, 1 << 40],
                ..good
            },
            abi::SendRow { state: 3, ..good },
            abi::SendRow {
                state: 2,
                reason: 0xffff,
                ..good
            },
        ] {
            assert_eq!(send_back(&key, &bad), None, "{bad:?}");
        }
        let row = abi::RecvRow {
            epoch: 7,
            slot: 0,
            ..Default::default()
        };
        assert_eq!(recv_back(&abi::RecvKey { label: 1 }, &row), None);
    }

    #[test]
    fn peers_and_policy_come_back() {
        for lease_until in [None, Some(Duration::from_secs(300))] {
            let row = PeerRow {
                lease_until,
                slot_epoch: [Epoch(6), Epoch(7)],
                slot_until: [lease_until, None],
                tx_slot: Slot::Odd,
            };
            assert_eq!(peer_back(&peer(&row)), row);
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let key = PolicyKey {
                endpoint: EndpointIndex(1),
                direction,
                protocol: 6,
                class: ClassId(16),
                port: 0x1f00,
                port_bits: 8,
            };
            for allow in [true, false] {
                let value = PolicyValue {
                    rule: 99,
                    allow,
                    authentication_required: allow,
                };
                assert_eq!(
                    policy_back(&policy_key(&key), &policy_value(&value)),
                    Some((key, value))
                );
            }
        }
    }

    #[test]
    fn prefixes_come_back_in_their_family() {
        for text in [
            "10.1.0.0/16",
            "0.0.0.0/0",
            "fd00::/64",
            "::/0",
            "10.0.0.1/32",
        ] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(prefix_back(prefix(&net)), Some(net));
        }
    }
}
