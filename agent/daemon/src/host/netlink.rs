//! The few rtnetlink requests that the host set-up needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder,
    packet_route::{
        AddressFamily,
        address::AddressAttribute,
        link::LinkAttribute,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use tokio_stream::StreamExt as _;

use super::plan::{Route, Rule, Via};

/// Marks routes as ours in `ip route` (`proto 74`).
const PROTOCOL: u8 = 74;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A connection to the kernel, in the network namespace it was made in.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

/// What is asked about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<[u8; 6]>,
}

impl Netlink {
    /// Connects; the connection is served by a task of the current runtime.
    pub(crate) fn connect() -> Result<Self, String> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| format!("netlink socket cannot be opened: {error}"))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The device of that name.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, String> {
        let mut links = self.handle.link().get().match_name(name).execute();
        match links.next().await {
            Some(Ok(message)) => {
                let mut link = Link {
                    index: message.header.index,
                    name: name.to_owned(),
                    mtu: 0,
                    mac: None,
                };
                for attribute in message.attributes {
                    if let LinkAttribute::Mtu(mtu) = attribute {
                        link.mtu = mtu;
                    } else if let LinkAttribute::Address(mac) = attribute {
                        link.mac = mac.try_into().ok();
                    }
                }
                Ok(Some(link))
            }
            Some(Err(error)) if is_missing(&error) => Ok(None),
            Some(Err(error)) => Err(format!("device {name} cannot be looked up: {error}")),
            None => Ok(None),
        }
    }

    /// Sets the MTU and brings the device up.
    pub(crate) async fn set_up(&self, link: &Link, mtu: Option<u32>) -> Result<(), String> {
        let mut builder = LinkUnspec::new_with_index(link.index).up();
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        self.handle
            .link()
            .set(builder.build())
            .execute()
            .await
            .map_err(|error| format!("device {} cannot be brought up: {error}", link.name))
    }

    /// Brings the engine's devices up. One that is gone is the engine's to tell.
    pub(crate) async fn set_slots_up(&self, slots: &[u32]) -> Result<(), String> {
        for slot in slots {
            let builder = LinkUnspec::new_with_index(*slot).up();
            match self.handle.link().set(builder.build()).execute().await {
                Ok(()) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    return Err(format!("slot device {slot} cannot be brought up: {error}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn delete_link(&self, link: &Link) -> Result<(), String> {
        self.handle
            .link()
            .del(link.index)
            .execute()
            .await
            .map_err(|error| format!("device {} cannot be removed: {error}", link.name))
    }

    /// Addresses of a device, link-local ones left out.
    pub(crate) async fn addresses(&self, link: &Link) -> Result<Vec<IpAddr>, String> {
        let mut found = Vec::new();
        let mut messages = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute();
        while let Some(message) = messages.next().await {
            let message =
                message.map_err(|error| format!("addresses of {} unknown: {error}", link.name))?;
            for attribute in message.attributes {
                if let AddressAttribute::Address(address) = attribute
                    && !is_link_local(address)
                {
                    found.push(address);
                }
            }
        }
        Ok(found)
    }

    /// Adds a host prefix without duplicate detection: the address is the node's own already.
    pub(crate) async fn add_address(&self, link: &Link, address: IpAddr) -> Result<(), String> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self
            .handle
            .address()
            .add(link.index, address, bits)
            .replace();
        request
            .message_mut()
            .header
            .flags
            .insert(rtnetlink::packet_route::address::AddressHeaderFlags::Nodad);
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(error) if is_existing(&error) => Ok(()),
            Err(error) => Err(format!(
                "address {address} cannot be put on {}: {error}",
                link.name
            )),
        }
    }

    pub(crate) async fn delete_address(&self, link: &Link, address: IpAddr) -> Result<(), String> {
        let mut messages = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .set_address_filter(address)
            .execute();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| format!("address {address} unknown: {error}"))?;
            self.handle
                .address()
                .del(message)
                .execute()
                .await
                .map_err(|error| {
                    format!(
                        "address {address} cannot be removed from {}: {error}",
                        link.name
                    )
                })?;
        }
        Ok(())
    }

    /// Every route of `table`.
    pub(crate) async fn routes(&self, table: u32) -> Result<Vec<RouteMessage>, String> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let mut messages = self.handle.route().get(filter).execute();
            while let Some(message) = messages.next().await {
                let message =
                    message.map_err(|error| format!("routes of table {table} unknown: {error}"))?;
                if table_of_route(&message) == table {
                    found.push(message);
                }
            }
        }
        Ok(found)
    }

    pub(crate) async fn replace_route(&self, route: &Route, signet0: u32) -> Result<(), String> {
        let message = route_message(route, signet0)?;
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .map_err(|error| {
                format!(
                    "route {} of table {} cannot be set: {error}",
                    route.prefix, route.table
                )
            })
    }

    pub(crate) async fn delete_route(&self, message: RouteMessage) -> Result<(), String> {
        match self.handle.route().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(format!("stale route cannot be removed: {error}")),
        }
    }

    /// Rules with one of our priorities that lead to one of our tables, both families.
    pub(crate) async fn rules(&self) -> Result<Vec<(RuleMessage, Rule, bool)>, String> {
        let mut found = Vec::new();
        for version in [rtnetlink::IpVersion::V4, rtnetlink::IpVersion::V6] {
            let v4 = version == rtnetlink::IpVersion::V4;
            let mut messages = self.handle.rule().get(version).execute();
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| format!("routing rules unknown: {error}"))?;
                let rule = read_rule(&message);
                if super::plan::TABLES.contains(&rule.table) {
                    found.push((message, rule, v4));
                }
            }
        }
        Ok(found)
    }

    pub(crate) async fn add_rule(&self, rule: Rule, v4: bool) -> Result<(), String> {
        let mut request = self
            .handle
            .rule()
            .add()
            .table_id(rule.table)
            .priority(rule.priority)
            .action(RuleAction::ToTable);
        if let Some((mark, mask)) = rule.mark {
            request
                .message_mut()
                .attributes
                .push(RuleAttribute::FwMark(mark));
            request
                .message_mut()
                .attributes
                .push(RuleAttribute::FwMask(mask));
        }
        let result = if v4 {
            request.v4().execute().await
        } else {
            request.v6().execute().await
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if is_existing(&error) => Ok(()),
            Err(error) => Err(format!(
                "routing rule {} cannot be added: {error}",
                rule.priority
            )),
        }
    }

    pub(crate) async fn delete_rule(&self, message: RuleMessage) -> Result<(), String> {
        self.handle
            .rule()
            .del(message)
            .execute()
            .await
            .map_err(|error| format!("stale routing rule cannot be removed: {error}"))
    }
}

/// Whether an existing route is what is planned.
pub(crate) fn is_same(message: &RouteMessage, route: &Route, signet0: u32) -> bool {
    let Some(prefix) = prefix_of(message) else {
        return false;
    };
    if prefix != route.prefix || table_of_route(message) != route.table {
        return false;
    }
    let throw = message.header.kind == RouteType::Throw;
    match &route.via {
        Via::Throw => throw,
        Via::Signet0 { source } => {
            !throw && devices_of(message) == [signet0] && source_of(message) == *source
        }
        Via::Slots(slots) => !throw && devices_of(message) == *slots,
    }
}

/// The destination of a route.
pub(crate) fn prefix_of(message: &RouteMessage) -> Option<IpNet> {
    let bits = message.header.destination_prefix_length;
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(address) = attribute {
            ip(address)
        } else {
            None
        }
    });
    let v4 = message.header.address_family == AddressFamily::Inet;
    let address = address.unwrap_or(if v4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    });
    IpNet::new(address, bits).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        Some(IpAddr::V4(*v4))
    } else if let RouteAddress::Inet6(v6) = address {
        Some(IpAddr::V6(*v6))
    } else {
        None
    }
}

fn devices_of(message: &RouteMessage) -> Vec<u32> {
    let mut devices = Vec::new();
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            devices.push(*index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            devices.extend(hops.iter().map(|hop| hop.interface_index));
        }
    }
    devices
}

fn source_of(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::PrefSource(address) = attribute {
            ip(address)
        } else {
            None
        }
    })
}

fn table_of_route(message: &RouteMessage) -> u32 {
    let table = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Table(table) = attribute {
            Some(*table)
        } else {
            None
        }
    });
    table.unwrap_or(u32::from(message.header.table))
}

fn read_rule(message: &RuleMessage) -> Rule {
    let mut rule = Rule {
        priority: 0,
        mark: None,
        table: u32::from(message.header.table),
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        if let RuleAttribute::Priority(priority) = attribute {
            rule.priority = *priority;
        } else if let RuleAttribute::Table(table) = attribute {
            rule.table = *table;
        } else if let RuleAttribute::FwMark(value) = attribute {
            mark = Some(*value);
        } else if let RuleAttribute::FwMask(value) = attribute {
            mask = *value;
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule
}

fn route_message(route: &Route, signet0: u32) -> Result<RouteMessage, String> {
    let invalid = |error| format!("route {} cannot be built: {error}", route.prefix);
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.prefix.addr(), route.prefix.prefix_len())
        .map_err(|error| invalid(error.to_string()))?
        .table_id(route.table)
        .protocol(RouteProtocol::Other(PROTOCOL));
    match &route.via {
        Via::Throw => builder = builder.kind(RouteType::Throw),
        Via::Signet0 { source } => {
            builder = builder.output_interface(signet0).scope(RouteScope::Link);
            if let Some(source) = source {
                builder = builder
                    .pref_source(*source)
                    .map_err(|error| invalid(error.to_string()))?;
            }
        }
        Via::Slots(slots) => {
            builder = builder.scope(RouteScope::Link);
            if let [only] = slots.as_slice() {
                builder = builder.output_interface(*only);
            } else {
                let hop = |slot: &u32| {
                    if route.prefix.addr().is_ipv4() {
                        RouteNextHopBuilder::new_ipv4().interface(*slot).build()
                    } else {
                        RouteNextHopBuilder::new_ipv6().interface(*slot).build()
                    }
                };
                builder = builder.multipath(slots.iter().map(hop).collect());
            }
        }
    }
    Ok(builder.build())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn is_missing(error: &rtnetlink::Error) -> bool {
    [libc::ENODEV, libc::ENOENT, libc::ESRCH]
        .into_iter()
        .any(|code| has_code(error, code))
}

fn is_existing(error: &rtnetlink::Error) -> bool {
    has_code(error, libc::EEXIST)
}

fn has_code(error: &rtnetlink::Error, code: i32) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -code,
        rtnetlink::Error::UnexpectedMessage(_)
        | rtnetlink::Error::RequestFailed
        | rtnetlink::Error::NamespaceError(_)
        | rtnetlink::Error::InvalidHardwareAddress(_)
        | rtnetlink::Error::InvalidIp(_)
        | rtnetlink::Error::InvalidAddress(_, _)
        | rtnetlink::Error::InvalidNla(_) => false,
    }
}
