//! The data path: programs where they belong, and the core's rows in the maps.

mod adopt;
mod events;
mod limit;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use signet_abi::{self as abi, DropReason, Hook};
use signet_agent_core::io::{EndpointIndex, EndpointRow, MapOp, PodRange, SendKey, SendRow};
use signet_loader::{Attachment, Globals, LoaderError, probe};

pub(crate) use events::Events;

use crate::host::{Devices, Renewed};

/// A slot of the engine.
pub(crate) struct SlotDevice {
    pub(crate) slot: u8,
    pub(crate) ifindex: u32,
    pub(crate) name: String,
}

/// What the programs count.
pub(crate) struct Counts {
    pub(crate) drops: Vec<(DropReason, u64)>,
    /// Packets and bytes.
    pub(crate) passed: Vec<(Hook, u64, u64)>,
}

/// Labels in force.
pub(crate) struct Labels {
    pub(crate) granted: usize,
    pub(crate) held: usize,
}

/// The loaded programs with their maps.
pub(crate) struct DataPlane {
    plane: signet_loader::DataPlane,
    globals: Globals,
    underlay: u32,
    kernel: String,
    /// Interface and addresses of each endpoint that is attached.
    attached: BTreeMap<u16, (u32, Vec<IpAddr>)>,
    /// Counted here, since counting a map means reading all of it.
    granted: BTreeSet<u64>,
    held: BTreeSet<SendKey>,
}

impl DataPlane {
    /// Loads the programs, or takes over those that a previous agent left, and attaches them to the
    /// node's own devices.
    ///
    /// # Errors
    /// One line that names what is missing and what to do.
    pub(crate) fn open(root: &Path, devices: &Devices) -> Result<Self, String> {
        let kernel = probe().map_err(said)?.release;
        let globals = Globals {
            hold_ifindex: devices.hold.index,
            signet0_ifindex: devices.signet0.index,
            ..Globals::default()
        };
        let mut plane = signet_loader::DataPlane::open(root, &globals).map_err(said)?;
        // The guard first: nothing leaves in the clear while the rest comes up.
        plane.attach_guard(devices.underlay.index).map_err(said)?;
        plane.attach_hold(devices.hold.index).map_err(said)?;
        plane
            .attach_tunnel(devices.signet0.index, &[])
            .map_err(said)?;
        Ok(Self {
            plane,
            globals,
            underlay: devices.underlay.index,
            kernel,
            attached: BTreeMap::new(),
            granted: BTreeSet::new(),
            held: BTreeSet::new(),
        })
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        format!("{} programs on Linux {}", Hook::ALL.len(), self.kernel)
    }

    /// The event ring; once.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(crate) fn events(&mut self) -> Result<Events, String> {
        let ring = self
            .plane
            .take_events()
            .ok_or("the event ring is being read already")?;
        Events::new(ring)
    }

    /// Follows devices that were made anew.
    ///
    /// # Errors
    /// One line that names the device; [`DataPlane::put_back`] tries again.
    pub(crate) fn follow(&mut self, renewed: &Renewed) -> Result<(), String> {
        if let Some(underlay) = renewed.underlay {
            self.underlay = underlay;
        }
        if let Some((hold, _)) = &renewed.hold {
            self.globals.hold_ifindex = *hold;
        }
        if let Some(signet0) = renewed.signet0 {
            self.globals.signet0_ifindex = signet0;
        }
        self.put_back()?;
        // Slots that this agent has not heard of are those of the one before.
        let mut globals = self.globals;
        let before = self.plane.maps.config().map_err(said)?;
        if globals.slot_ifindex == [0; abi::SLOTS] {
            globals.slot_ifindex = before.slot_ifindex;
        }
        if globals.host_endpoint == 0 {
            globals.host_endpoint = u16::try_from(before.host_endpoint).unwrap_or(0);
        }
        self.plane.configure(&globals).map_err(said)
    }

    /// Attaches programs again that somebody has detached; which they were.
    ///
    /// # Errors
    /// One line that names program and device.
    pub(crate) fn put_back(&mut self) -> Result<Vec<String>, String> {
        let there = self.plane.attachments().map_err(said)?;
        let own = [
            (Hook::UnderlayGuard, self.underlay),
            (Hook::FromHold, self.globals.hold_ifindex),
            (Hook::ToTunnel, self.globals.signet0_ifindex),
        ];
        let slots = self
            .globals
            .slot_ifindex
            .map(|slot| (Hook::FromTunnel, slot));
        let own = own
            .into_iter()
            .chain(slots)
            .map(|(hook, ifindex)| Attachment {
                hook,
                ifindex,
                endpoint: 0,
            });
        let pods = self.attached.iter().flat_map(|(endpoint, (ifindex, _))| {
            [Hook::ToWorkload, Hook::FromWorkload].map(|hook| Attachment {
                hook,
                ifindex: *ifindex,
                endpoint: *endpoint,
            })
        });
        let missing: Vec<_> = own
            .chain(pods)
            .filter(|wanted| wanted.ifindex != 0 && !there.contains(wanted))
            .collect();
        let mut names = Vec::new();
        for lost in missing {
            // A device that is gone is told by others, and takes its programs along.
            let Some(device) = device_name(lost.ifindex) else {
                continue;
            };
            self.plane.put_back(lost).map_err(said)?;
            names.push(format!("{} of {device}", lost.hook.as_str()));
        }
        Ok(names)
    }

    /// Whether admitted flows are reported by protocol and port.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn set_report(&mut self, report: bool) -> Result<(), String> {
        self.globals.report = report;
        // Slots that this agent has not heard of are those of the one before.
        let mut globals = self.globals;
        if globals.slot_ifindex == [0; abi::SLOTS] {
            globals.slot_ifindex = self.plane.maps.config().map_err(said)?.slot_ifindex;
        }
        self.plane.configure(&globals).map_err(said)
    }

    /// Attaches to the engine's slots and sends into them from now on.
    ///
    /// # Errors
    /// One line that names the device.
    pub(crate) fn set_slots(&mut self, slots: &[SlotDevice]) -> Result<(), String> {
        let indexes: Vec<_> = slots.iter().map(|slot| slot.ifindex).collect();
        self.plane
            .attach_tunnel(self.globals.signet0_ifindex, &indexes)
            .map_err(said)?;
        for slot in slots {
            let place = self
                .globals
                .slot_ifindex
                .get_mut(usize::from(slot.slot))
                .ok_or_else(|| format!("device {} is of a slot {}", slot.name, slot.slot))?;
            *place = slot.ifindex;
        }
        self.plane.configure(&self.globals).map_err(said)?;
        for old in self.plane.attachments().map_err(said)? {
            if old.hook == Hook::FromTunnel && !indexes.contains(&old.ifindex) {
                self.plane.detach(old).map_err(said)?;
            }
        }
        Ok(())
    }

    /// Does one map operation.
    ///
    /// # Errors
    /// The kernel's refusal, one line.
    pub(crate) fn apply(&mut self, op: &MapOp) -> Result<(), String> {
        let maps = &mut self.plane.maps;
        match op {
            MapOp::SetEndpoint(row) => return self.set_endpoint(row).map_err(said),
            MapOp::RemoveEndpoint {
                index,
                ifindex,
                addresses,
            } => {
                return self
                    .remove_endpoint(*index, *ifindex, addresses)
                    .map_err(said);
            }
            MapOp::SetSend(key, row) => {
                match row {
                    SendRow::Paired { .. } => self.held.insert(*key),
                    SendRow::Refused { .. } => self.held.remove(key),
                };
                maps.send_rows
                    .upsert(&rows::send_key(key), &rows::send_row(row))
            }
            MapOp::RemoveSend(key) => {
                self.held.remove(key);
                maps.send_rows.remove(&rows::send_key(key)).map(drop)
            }
            MapOp::SetRecv(label, row) => {
                self.granted.insert(label.value());
                let key = abi::RecvKey {
                    label: label.value(),
                };
                maps.recv_rows.upsert(&key, &rows::recv_row(row))
            }
            MapOp::RemoveRecv(label) => {
                self.granted.remove(&label.value());
                maps.recv_rows
                    .remove(&abi::RecvKey {
                        label: label.value(),
                    })
                    .map(drop)
            }
            MapOp::SetPeer(id, row) => maps.peers.upsert(&id.0, &rows::peer(row)),
            MapOp::RemovePeer(id) => maps.peers.remove(&id.0).map(drop),
            MapOp::SetPolicy(key, value) => maps
                .policy
                .upsert(rows::policy_key(key), &rows::policy_value(value)),
            MapOp::RemovePolicy(key) => maps.policy.remove(rows::policy_key(key)).map(drop),
            MapOp::SetCidr(net, class) => maps.cidr_classes.upsert(rows::prefix(net), &class.0),
            MapOp::RemoveCidr(net) => maps.cidr_classes.remove(rows::prefix(net)).map(drop),
            MapOp::SetPodRange(net, range) => {
                let flags = match range {
                    PodRange::Local => abi::pod_range_flags::LOCAL,
                    PodRange::Remote => abi::pod_range_flags::REMOTE,
                };
                maps.pod_ranges.upsert(rows::prefix(net), &flags)
            }
            MapOp::RemovePodRange(net) => maps.pod_ranges.remove(rows::prefix(net)).map(drop),
        }
        .map_err(said)
    }

    /// Rows first, programs last: without its rows an interface drops everything.
    fn set_endpoint(&mut self, row: &EndpointRow) -> Result<(), LoaderError> {
        let index = u32::from(row.index.0);
        let maps = &mut self.plane.maps;
        let before = maps.endpoints.get(&index)?;
        maps.endpoints.upsert(&index, &rows::endpoint(row))?;
        for address in row.addresses.iter().take(abi::MAX_ADDRESSES) {
            maps.local_addresses.upsert(&(*address).into(), &index)?;
        }
        if row.ifindex != 0 {
            maps.interfaces.upsert(&row.ifindex, &index)?;
        }
        if let Some(before) = before {
            let before = rows::endpoint_back(&before);
            let moved = before
                .addresses
                .iter()
                .filter(|old| !row.addresses.contains(old));
            self.forget_addresses(index, moved)?;
            if before.ifindex != row.ifindex {
                self.forget_interface(index, before.ifindex)?;
            }
        }
        let known = self
            .attached
            .insert(row.index.0, (row.ifindex, row.addresses.clone()));
        if row.ifindex == 0 {
            return self.set_host(row.index.0);
        }
        if known.is_some_and(|(ifindex, _)| ifindex == row.ifindex) {
            return Ok(());
        }
        if let Err(error) = self.plane.attach_endpoint(row.index.0, row.ifindex) {
            self.attached.remove(&row.index.0);
            return Err(error);
        }
        Ok(())
    }

    /// The endpoint without an interface is the node itself. Others' configuration is left as it is:
    /// slots may not be known here yet.
    fn set_host(&mut self, index: u16) -> Result<(), LoaderError> {
        self.globals.host_endpoint = index;
        let mut config = self.plane.maps.config()?;
        if config.host_endpoint != u32::from(index) {
            config.host_endpoint = u32::from(index);
            self.plane.maps.set_config(&config)?;
        }
        Ok(())
    }

    /// The programs stay while the interface does: without rows they let nothing pass, and a pod
    /// that is still running there must not become one that nobody looks at.
    fn remove_endpoint(
        &mut self,
        index: EndpointIndex,
        ifindex: u32,
        addresses: &[IpAddr],
    ) -> Result<(), LoaderError> {
        let number = u32::from(index.0);
        self.attached.remove(&index.0);
        if self.globals.host_endpoint == index.0 {
            self.set_host(0)?;
        }
        self.forget_interface(number, ifindex)?;
        self.forget_addresses(number, addresses.iter())?;
        self.plane.maps.endpoints.remove(&number)?;
        if device_name(ifindex).is_none() {
            self.plane.detach_endpoint(index.0)?;
        }
        Ok(())
    }

    /// An interface is gone: so are its links, and now their pins.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn interface_gone(&mut self, ifindex: u32) -> Result<(), String> {
        for old in self.plane.attachments().map_err(said)? {
            if old.ifindex == ifindex {
                self.plane.detach(old).map_err(said)?;
            }
        }
        Ok(())
    }

    /// Addresses may be another endpoint's by now.
    fn forget_addresses<'a>(
        &mut self,
        index: u32,
        addresses: impl Iterator<Item = &'a IpAddr>,
    ) -> Result<(), LoaderError> {
        let table = &mut self.plane.maps.local_addresses;
        for address in addresses {
            let key = (*address).into();
            if table.get(&key)? == Some(index) {
                table.remove(&key)?;
            }
        }
        Ok(())
    }

    fn forget_interface(&mut self, index: u32, ifindex: u32) -> Result<(), LoaderError> {
        let table = &mut self.plane.maps.interfaces;
        if table.get(&ifindex)? == Some(index) {
            table.remove(&ifindex)?;
        }
        Ok(())
    }

    /// An address of an endpoint, of the family of `other`.
    pub(crate) fn first_address(&self, endpoint: EndpointIndex, other: IpAddr) -> Option<IpAddr> {
        let (_, addresses) = self.attached.get(&endpoint.0)?;
        addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == other.is_ipv4())
    }

    /// # Errors
    /// The kernel's refusal, one line.
    pub(crate) fn counts(&self) -> Result<Counts, String> {
        let passed = self.plane.passed().map_err(said)?;
        Ok(Counts {
            drops: self.plane.drops().map_err(said)?,
            passed: passed
                .into_iter()
                .map(|(hook, n)| (hook, n.packets, n.bytes))
                .collect(),
        })
    }

    pub(crate) fn labels(&self) -> Labels {
        Labels {
            granted: self.granted.len(),
            held: self.held.len(),
        }
    }
}

/// Takes everything away that is pinned.
///
/// # Errors
/// One line that names what could not be removed.
pub(crate) fn clean_up(root: &Path) -> Result<Vec<String>, String> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    signet_loader::DataPlane::remove(root).map_err(said)?;
    Ok(vec![format!("programs and maps under {}", root.display())])
}

/// An unknown number comes back as an empty name instead of an error.
fn device_name(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?;
    (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
}

fn said(error: LoaderError) -> String {
    error.to_string()
}
