//! Pinned links: one per program and interface.

use std::fs;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use signet_abi::Hook;

use crate::bpffs;
use crate::error::{LoaderError, chain};
use crate::object::classifier;

/// A program at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The program.
    pub hook: Hook,
    /// The interface's number.
    pub ifindex: u32,
    /// The endpoint it serves, 0 for the node's own devices.
    pub endpoint: u16,
}

impl Attachment {
    /// The pin's name says all there is to know after a restart.
    fn name(self) -> String {
        format!("{}-{}-{}", self.hook, self.ifindex, self.endpoint)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (hook, ifindex, endpoint) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            hook: *Hook::ALL.iter().find(|known| known.as_str() == hook)?,
            ifindex: ifindex.parse().ok()?,
            endpoint: endpoint.parse().ok()?,
        })
    }

    fn direction(self) -> TcAttachType {
        match self.hook {
            Hook::FromWorkload | Hook::FromTunnel | Hook::FromHold => TcAttachType::Ingress,
            Hook::ToTunnel | Hook::ToWorkload | Hook::UnderlayGuard => TcAttachType::Egress,
        }
    }

    /// First to see what comes in, last to see what goes out.
    fn order(self) -> LinkOrder {
        match self.hook {
            Hook::FromWorkload | Hook::FromTunnel | Hook::FromHold => LinkOrder::first(),
            Hook::ToTunnel | Hook::ToWorkload | Hook::UnderlayGuard => LinkOrder::last(),
        }
    }
}

/// The directory of link pins.
#[derive(Debug)]
pub(crate) struct Links {
    dir: PathBuf,
}

impl Links {
    pub(crate) fn open(dir: &Path) -> Result<Self, LoaderError> {
        bpffs::create_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<Attachment>, LoaderError> {
        let names = bpffs::names(&self.dir)?;
        Ok(names
            .iter()
            .filter_map(|name| Attachment::parse(name))
            .collect())
    }

    /// Puts the newly loaded programs behind all links that are there. Links whose interface is
    /// gone are removed.
    pub(crate) fn update_all(&self, ebpf: &mut Ebpf) -> Result<(), LoaderError> {
        for attachment in self.list()? {
            if !self.update(ebpf, attachment)? {
                self.detach(attachment)?;
            }
        }
        Ok(())
    }

    pub(crate) fn attach(
        &self,
        ebpf: &mut Ebpf,
        attachment: Attachment,
    ) -> Result<(), LoaderError> {
        let path = self.path(attachment);
        self.take_over(attachment)?;
        if path.exists() {
            if self.update(ebpf, attachment)? {
                return Ok(());
            }
            self.detach(attachment)?;
        }
        let name = interface_name(attachment.ifindex)?;
        let failed = |error: &dyn std::error::Error| LoaderError::Attach {
            program: attachment.hook.as_str(),
            interface: name.clone(),
            detail: chain(error),
        };
        let program = classifier(ebpf, attachment.hook)?;
        let id = program
            .attach_with_options(
                &name,
                attachment.direction(),
                TcAttachOptions::TcxOrder(attachment.order()),
            )
            .map_err(|error| failed(&error))?;
        let link = program.take_link(id).map_err(|error| failed(&error))?;
        let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
        link.pin(&path).map_err(|error| failed(&error))?;
        Ok(())
    }

    /// The program that runs at the interface for an endpoint before this one becomes this one's,
    /// without a moment in which nothing runs there.
    fn take_over(&self, attachment: Attachment) -> Result<(), LoaderError> {
        let same_place = |old: &Attachment| {
            old.hook == attachment.hook && old.ifindex == attachment.ifindex && *old != attachment
        };
        for old in self.list()?.into_iter().filter(same_place) {
            let (from, path) = (self.path(old), self.path(attachment));
            fs::rename(from, &path).map_err(|source| LoaderError::Pin {
                operation: "rename a pin to",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Removes the pin and with it the link: the program no longer runs there.
    pub(crate) fn detach(&self, attachment: Attachment) -> Result<(), LoaderError> {
        bpffs::remove_pin(self.path(attachment))
    }

    fn path(&self, attachment: Attachment) -> PathBuf {
        self.dir.join(attachment.name())
    }

    /// False if the link's interface is gone.
    fn update(&self, ebpf: &mut Ebpf, attachment: Attachment) -> Result<bool, LoaderError> {
        let program = classifier(ebpf, attachment.hook)?;
        let Ok(pinned) = PinnedLink::from_pin(self.path(attachment)) else {
            return Ok(false);
        };
        let Ok(link) = SchedClassifierLink::try_from(FdLink::from(pinned)) else {
            return Ok(false);
        };
        let replaced = program.attach_to_link(link);
        let Ok(id) = replaced else {
            // ENOLINK: the device was deleted under the link. Anything else on a live device is
            // found by attaching anew.
            return Ok(false);
        };
        release(program, id, attachment)?;
        Ok(true)
    }
}

/// Takes the link out of aya's care, which would detach it with the program; the pin holds it.
fn release(
    program: &mut SchedClassifier,
    id: aya::programs::tc::SchedClassifierLinkId,
    attachment: Attachment,
) -> Result<(), LoaderError> {
    let link = program.take_link(id).map_err(|error| LoaderError::Attach {
        program: attachment.hook.as_str(),
        interface: attachment.ifindex.to_string(),
        detail: chain(&error),
    })?;
    drop(link);
    Ok(())
}

fn interface_name(ifindex: u32) -> Result<String, LoaderError> {
    // An unknown number may come back as an empty name instead of an error.
    match nix::net::if_::if_indextoname(ifindex) {
        Ok(name) if !name.is_empty() => Ok(name.to_string_lossy().into_owned()),
        Ok(_) | Err(_) => Err(LoaderError::NoInterface { ifindex }),
    }
}
