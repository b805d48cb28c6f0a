//! The data plane of one node.

use std::fs;
use std::path::{Path, PathBuf};

use aya::{Ebpf, EbpfLoader};
use signet_abi::{Config, DropReason, Hook, LAYOUT_VERSION, Passed, config_flags};

use crate::attach::{Attachment, Links};
use crate::bpffs;
use crate::error::LoaderError;
use crate::events::EventReader;
use crate::maps::Maps;
use crate::memory;
use crate::object;

/// Mark bits, all within `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The bits that are ours.
    pub mask: u32,
    /// Verdict outstanding.
    pub pending: u32,
    /// Came from the tunnel.
    pub verified: u32,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            mask: signet_abi::MARK_MASK,
            pending: signet_abi::MARK_PENDING,
            verified: signet_abi::MARK_VERIFIED,
        }
    }
}

/// What all programs of the node share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Globals {
    /// Interface of each slot, 0 = absent (yet). If all are, [`DataPlane::open`] keeps those that
    /// the pinned maps know.
    pub slot_ifindex: [u32; signet_abi::SLOTS],
    /// The hold TAP, 0 = absent (yet).
    pub hold_ifindex: u32,
    /// The device remote pods are routed to, 0 = absent (yet).
    pub signet0_ifindex: u32,
    /// The node's own endpoint, 0 = absent (yet); then [`DataPlane::open`] keeps what was there.
    pub host_endpoint: u16,
    /// Refuse plaintext peers no rule names.
    pub strict: bool,
    /// Hold packets of pairs that are not authenticated yet.
    pub hold: bool,
    /// Report admitted flows by protocol and port.
    pub report: bool,
    /// Mark bits.
    pub marks: Marks,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            slot_ifindex: [0; signet_abi::SLOTS],
            hold_ifindex: 0,
            signet0_ifindex: 0,
            host_endpoint: 0,
            strict: true,
            hold: true,
            report: false,
            marks: Marks::default(),
        }
    }
}

impl Globals {
    /// The config map's value; `hash_seed` must be random and stay the same while flows live.
    pub fn to_config(&self, hash_seed: u32) -> Config {
        let mut flags = 0;
        if self.strict {
            flags |= config_flags::STRICT;
        }
        if self.hold {
            flags |= config_flags::HOLD;
        }
        if self.report {
            flags |= config_flags::REPORT;
        }
        Config {
            slot_ifindex: self.slot_ifindex,
            hold_ifindex: self.hold_ifindex,
            signet0_ifindex: self.signet0_ifindex,
            flags,
            mark_mask: self.marks.mask,
            mark_pending: self.marks.pending,
            mark_verified: self.marks.verified,
            hash_seed,
            host_endpoint: u32::from(self.host_endpoint),
        }
    }
}

/// The loaded programs and their maps.
pub struct DataPlane {
    /// The maps.
    pub maps: Maps,
    events: Option<EventReader>,
    links: Links,
    ebpf: Ebpf,
}

impl DataPlane {
    /// Loads the programs, with the maps pinned under `bpf_root` if there are any, and puts the
    /// programs behind the links pinned there.
    ///
    /// # Errors
    /// No privilege, no bpffs, or a kernel that refuses the programs; see [`crate::probe`] for
    /// better words before this is tried.
    pub fn open(bpf_root: &Path, globals: &Globals) -> Result<Self, LoaderError> {
        bpffs::ensure(bpf_root)?;
        let dir = layout_dir(bpf_root);
        let maps_dir = dir.join("maps");
        bpffs::create_dir(&maps_dir)?;
        let links = Links::open(&dir.join("links"))?;

        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(&maps_dir);
        // No program is fitted to the kernel's types; they would take 10 MB meanwhile.
        loader.btf(None);
        let mut ebpf = object::load(&mut loader, object::PRODUCTION)?;
        drop(loader);
        memory::give_back();
        let maps = Maps::take(&mut ebpf)?;
        let events = Some(EventReader::take(&mut ebpf)?);
        let mut plane = Self {
            maps,
            events,
            links,
            ebpf,
        };
        // Programs of this build must find their configuration before they see a packet. Slots
        // outlive their agent: while the new one doesn't know them, the old ones go on.
        let mut globals = *globals;
        let before = plane.maps.config()?;
        if globals.slot_ifindex == [0; signet_abi::SLOTS] {
            globals.slot_ifindex = before.slot_ifindex;
        }
        if globals.host_endpoint == 0 {
            globals.host_endpoint = u16::try_from(before.host_endpoint).unwrap_or(0);
        }
        plane.configure(&globals)?;
        plane.links.update_all(&mut plane.ebpf)?;
        Ok(plane)
    }

    /// Changes what all programs share. The key of the flow hash stays.
    pub fn configure(&mut self, globals: &Globals) -> Result<(), LoaderError> {
        let now = self.maps.config()?;
        let seed = if now.hash_seed == 0 {
            random_seed()?
        } else {
            now.hash_seed
        };
        let config = globals.to_config(seed);
        if config == now {
            return Ok(());
        }
        self.maps.set_config(&config)
    }

    /// Attaches `from_workload` and `to_workload` to the host side of a pod's veth.
    ///
    /// Write the endpoint's rows first: without them everything drops as UNKNOWN_INTERFACE.
    pub fn attach_endpoint(&mut self, index: u16, ifindex: u32) -> Result<(), LoaderError> {
        // An index that moved to another interface must not leave the old one open.
        for old in self.attachments()? {
            if old.endpoint == index && old.ifindex != ifindex && index != 0 {
                self.detach(old)?;
            }
        }
        // Towards the pod first: what it asks for is not answered by accident.
        self.attach(Hook::ToWorkload, ifindex, index)?;
        self.attach(Hook::FromWorkload, ifindex, index)
    }

    /// Detaches an endpoint's programs; the kernel does it within moments. Do it when the
    /// interface is gone or going: traffic that still runs there is no longer looked at.
    pub fn detach_endpoint(&mut self, index: u16) -> Result<(), LoaderError> {
        for attachment in self.attachments()? {
            if attachment.endpoint == index && index != 0 {
                self.detach(attachment)?;
            }
        }
        Ok(())
    }

    /// Attaches `to_tunnel` to `signet0` and `from_tunnel` to the slots.
    pub fn attach_tunnel(&mut self, signet0: u32, slots: &[u32]) -> Result<(), LoaderError> {
        for slot in slots {
            self.attach(Hook::FromTunnel, *slot, 0)?;
        }
        self.attach(Hook::ToTunnel, signet0, 0)
    }

    /// Attaches `from_hold` to the hold TAP.
    pub fn attach_hold(&mut self, ifindex: u32) -> Result<(), LoaderError> {
        self.attach(Hook::FromHold, ifindex, 0)
    }

    /// Attaches `underlay_guard` to a device of the node.
    pub fn attach_guard(&mut self, ifindex: u32) -> Result<(), LoaderError> {
        self.attach(Hook::UnderlayGuard, ifindex, 0)
    }

    /// Attaches a program where [`DataPlane::attachments`] had it before somebody detached it.
    pub fn put_back(&mut self, attachment: Attachment) -> Result<(), LoaderError> {
        self.links.attach(&mut self.ebpf, attachment)
    }

    /// Detaches one program.
    pub fn detach(&mut self, attachment: Attachment) -> Result<(), LoaderError> {
        self.links.detach(attachment)
    }

    /// What is attached, also by those before us.
    pub fn attachments(&self) -> Result<Vec<Attachment>, LoaderError> {
        self.links.list()
    }

    /// The event ring; `Some` once, since only one reader may drain it.
    pub fn take_events(&mut self) -> Option<EventReader> {
        self.events.take()
    }

    /// Packets dropped since the maps were made, by reason; reasons never seen are there with 0.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, LoaderError> {
        self.maps.drops()
    }

    /// Packets and bytes that passed each program since the maps were made.
    pub fn passed(&self) -> Result<Vec<(Hook, Passed)>, LoaderError> {
        self.maps.passed()
    }

    /// Removes everything pinned under `bpf_root`: all programs detach, all maps go. For taking a
    /// node down; pods that still run are no longer protected.
    pub fn remove(bpf_root: &Path) -> Result<(), LoaderError> {
        for layout in bpffs::names(bpf_root)? {
            let dir = bpf_root.join(&layout);
            for part in ["links", "maps"] {
                for name in bpffs::names(&dir.join(part))? {
                    bpffs::remove_pin(dir.join(part).join(name))?;
                }
                remove_dir(dir.join(part))?;
            }
            remove_dir(dir)?;
        }
        Ok(())
    }

    fn attach(&mut self, hook: Hook, ifindex: u32, endpoint: u16) -> Result<(), LoaderError> {
        self.links.attach(
            &mut self.ebpf,
            Attachment {
                hook,
                ifindex,
                endpoint,
            },
        )
    }
}

fn layout_dir(bpf_root: &Path) -> PathBuf {
    bpf_root.join(format!("v{LAYOUT_VERSION}"))
}

fn remove_dir(path: PathBuf) -> Result<(), LoaderError> {
    if !path.exists() {
        return Ok(());
    }
    fs::remove_dir(&path).map_err(|source| LoaderError::Pin {
        operation: "remove directory",
        path,
        source,
    })
}

fn random_seed() -> Result<u32, LoaderError> {
    use std::io::Read;

    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| LoaderError::Pin {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
    // 0 would mean "none yet".
    Ok(u32::from_ne_bytes(bytes).max(1))
}
