//! Reading the event ring.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use signet_abi::Event;

use crate::error::LoaderError;
use crate::maps::map;
use crate::plain::read;
use crate::table::map_error;

/// The events of the programs. The descriptor polls readable while there are some; only one
/// reader may drain the ring.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, LoaderError> {
        let ring = RingBuf::try_from(map(ebpf, "events")?)
            .map_err(|error| map_error("events", "open", &error))?;
        Ok(Self { ring })
    }

    /// The next event; `None` when the ring is empty. Never blocks.
    pub fn next_event(&mut self) -> Option<Event> {
        // A record of a size we don't know is skipped, not guessed at.
        loop {
            let item = self.ring.next()?;
            if let Some(event) = read(&item) {
                return Some(event);
            }
        }
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
