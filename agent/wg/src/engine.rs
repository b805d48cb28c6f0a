//! The running engine: two plain threads per slot, one for all timers, and the commands.
//!
//! No runtime, no channel and no allocation per packet: each thread reads a batch, does all
//! that is to be done with it, and writes it out.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use signet_crypto::{
    random::{Random, SystemRandom},
    wg::{PrivateKey, PrivateKeyError, PublicKey},
};

use crate::{
    control::{Command, Event, PeerInfo, PeerStats, SlotInfo, VERSION},
    counters::SlotCounters,
    drops::EventSink,
    gro::FRAME_CAPACITY,
    peers::{PeerSettings, SlotKeys},
    receive::Receiver,
    slot::Slot,
    timers,
    transmit::Transmitter,
    tun::{Tun, TunSink},
    udp::{ReceiveBuffers, Underlay},
};

/// Full receive calls after which collected packets are written out even if more wait.
const RECEIVES_PER_FLUSH: usize = 4;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread, no eventfd.
    #[error("the engine cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// See [`PrivateKeyError`].
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

/// What one slot is made of.
pub struct SlotDevices {
    /// Inner side.
    pub tun: Tun,
    /// Outer side.
    pub underlay: Underlay,
}

/// The engine. Dropping it stops all threads and forgets all keys.
pub struct Engine {
    slots: Vec<Arc<Running>>,
    stop: Arc<EventFd>,
    threads: Vec<JoinHandle<()>>,
}

/// One slot with its devices.
pub(crate) struct Running {
    pub(crate) slot: Slot,
    pub(crate) underlay: Underlay,
    tun: Tun,
    info: SlotInfo,
}

impl Engine {
    /// Makes a static key for each slot and starts moving packets. Slots are numbered in order.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn start(
        devices: Vec<SlotDevices>,
        random: &mut dyn Random,
        events: &EventSink,
    ) -> Result<Self, StartError> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(io::Error::from)?);
        let mut slots = Vec::new();
        for (number, devices) in (0u8..).zip(devices) {
            let keys = SlotKeys::new(&PrivateKey::generate(random))?;
            let mut seed = [0; 4];
            random.fill(&mut seed);
            let info = SlotInfo {
                slot: number,
                public_key: keys.public_key(),
                port: devices.underlay.port()?,
                ifname: devices.tun.name().into(),
                ifindex: devices.tun.ifindex(),
            };
            slots.push(Arc::new(Running {
                slot: Slot::new(number, keys, u32::from_ne_bytes(seed), Arc::clone(events)),
                underlay: devices.underlay,
                tun: devices.tun,
                info,
            }));
        }
        let mut engine = Self {
            slots,
            stop,
            threads: Vec::new(),
        };
        engine.spawn_threads()?;
        Ok(engine)
    }

    /// Does what the agent asks; the answer to send back.
    pub fn handle(&self, command: Command) -> Event {
        match command {
            Command::Hello { version } if version != VERSION => Event::Failed {
                seq: 0,
                error: format!(
                    "the agent speaks version {version} of the control protocol, the engine \
                     {VERSION}; run the same release of both"
                ),
            },
            Command::Hello { .. } => Event::Welcome {
                version: VERSION,
                slots: self.slots.iter().map(|running| running.info()).collect(),
                peers: self.peers(),
            },
            Command::SetPeer {
                seq,
                slot,
                own,
                peer,
                psk,
                underlay,
                allowed_ips,
                epoch,
                initiate,
            } => self.on_slot(seq, slot, |running| {
                if running.slot.own(&peer).is_some() {
                    return Err(format!("peer {peer} is this engine itself"));
                }
                let Some(own) = running.slot.own(&own) else {
                    return Err(format!(
                        "slot {slot} has no key {own} any more; offer another"
                    ));
                };
                let settings = PeerSettings {
                    own,
                    key: peer,
                    psk,
                    underlay,
                    epoch,
                    allowed_ips,
                };
                let set = running.slot.table_mut().set(settings);
                if initiate {
                    timers::initiate(&set, &running.underlay);
                }
                Ok(())
            }),
            Command::SetAllowedIps {
                seq,
                slot,
                peer,
                allowed_ips,
            } => self.on_slot(seq, slot, |running| {
                if running.slot.table_mut().set_allowed(&peer, &allowed_ips) {
                    Ok(())
                } else {
                    Err(format!(
                        "peer {peer} is not in slot {slot}; send SetPeer first"
                    ))
                }
            }),
            Command::RemovePeer { seq, slot, peer } => self.on_slot(seq, slot, |running| {
                running.slot.table_mut().remove(&peer);
                running.slot.forget_unused();
                Ok(())
            }),
            Command::Renew { seq, slot } => match self.renew(slot) {
                Ok(public_key) => Event::Renewed {
                    seq,
                    slot,
                    public_key,
                },
                Err(error) => Event::Failed { seq, error },
            },
            Command::Status { seq } => Event::Status {
                seq,
                peers: self.stats(),
            },
        }
    }

    /// Number, counters and number of peers of each slot.
    pub fn slots(&self) -> impl Iterator<Item = (u8, &SlotCounters, usize)> {
        self.slots.iter().map(|running| {
            let slot = &running.slot;
            (slot.number, &slot.counters, slot.table().len())
        })
    }

    /// Whether all threads still run. A thread ends early only if its device is gone.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    fn renew(&self, slot: u8) -> Result<PublicKey, String> {
        let Some(running) = self.slots.get(usize::from(slot)) else {
            return Err(self.no_slot(slot));
        };
        let keys = SlotKeys::new(&PrivateKey::generate(&mut SystemRandom))
            .map_err(|error| error.to_string())?;
        let public_key = keys.public_key();
        running.slot.renew(keys);
        Ok(public_key)
    }

    fn no_slot(&self, slot: u8) -> String {
        let slots = self.slots.len();
        format!("slot {slot} does not exist; the engine has {slots}")
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let infos = |running: &Arc<Running>| running.slot.table().infos(running.slot.number);
        self.slots.iter().flat_map(infos).collect()
    }

    fn stats(&self) -> Vec<PeerStats> {
        let stats = |running: &Arc<Running>| running.slot.table().stats(running.slot.number);
        self.slots.iter().flat_map(stats).collect()
    }

    fn on_slot(
        &self,
        seq: u64,
        slot: u8,
        change: impl FnOnce(&Running) -> Result<(), String>,
    ) -> Event {
        let result = match self.slots.get(usize::from(slot)) {
            Some(running) => change(running),
            None => Err(self.no_slot(slot)),
        };
        match result {
            Ok(()) => Event::Done { seq },
            Err(error) => Event::Failed { seq, error },
        }
    }

    fn spawn_threads(&mut self) -> io::Result<()> {
        for running in &self.slots {
            let number = running.slot.number;
            let (tx, stop) = (Arc::clone(running), Arc::clone(&self.stop));
            let thread = thread::Builder::new().name(format!("tun{number}"));
            self.threads.push(thread.spawn(move || tx.transmit(&stop))?);
            let (rx, stop) = (Arc::clone(running), Arc::clone(&self.stop));
            let thread = thread::Builder::new().name(format!("udp{number}"));
            self.threads.push(thread.spawn(move || rx.receive(&stop))?);
        }
        let (slots, stop) = (self.slots.clone(), Arc::clone(&self.stop));
        let thread = thread::Builder::new().name("timers".into());
        self.threads
            .push(thread.spawn(move || timers::run(&slots, &stop))?);
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // An eventfd takes 2^64 - 2 writes before one fails.
        let _ = self.stop.write(1);
        for thread in self.threads.drain(..) {
            // A panic in it was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Running {
    /// As it is now: the key is the newest.
    fn info(&self) -> SlotInfo {
        let mut info = self.info.clone();
        if let Some(newest) = self.slot.keys().first() {
            info.public_key = newest.public_key();
        }
        info
    }

    fn transmit(&self, stop: &EventFd) {
        let mut transmitter = Transmitter::new();
        let mut frame = vec![0; FRAME_CAPACITY];
        loop {
            match self.tun.read(&mut frame) {
                Ok(Some(length)) => {
                    transmitter.frame(&self.slot, &mut frame[..length], &self.underlay);
                }
                Ok(None) => {
                    transmitter.flush(&self.slot, &self.underlay);
                    if !wait(self.tun.as_fd(), stop, PollTimeout::NONE) {
                        return;
                    }
                }
                // The device was deleted, and the privilege to make another is given up.
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return,
                // EIO while the device is down: it may come up again.
                Err(_) => {
                    if !pause(stop) {
                        return;
                    }
                }
            }
        }
    }

    fn receive(&self, stop: &EventFd) {
        let mut receiver = Receiver::new();
        let mut buffers = ReceiveBuffers::new();
        let mut tun = TunSink {
            tun: &self.tun,
            refused: 0,
        };
        let mut since_flush = 0;
        loop {
            let filled = self.underlay.receive(&mut buffers);
            // Errors on a UDP socket are about earlier datagrams: nothing was received.
            let count = filled.as_ref().copied().unwrap_or(0);
            for at in 0..count {
                let Some((from, bytes, segment)) = buffers.filled(at) else {
                    continue;
                };
                let slot = &self.slot;
                receiver.datagrams(slot, from, bytes, segment, &mut tun, &self.underlay);
            }
            since_flush += 1;
            if count == 0 || since_flush == RECEIVES_PER_FLUSH {
                receiver.flush(&mut tun);
                self.slot
                    .counters
                    .tun_refused
                    .add(std::mem::take(&mut tun.refused));
                since_flush = 0;
            }
            let goes_on = match filled {
                Ok(0) => wait(self.underlay.as_fd(), stop, PollTimeout::NONE),
                Ok(_) => true,
                Err(_) => pause(stop),
            };
            if !goes_on {
                return;
            }
        }
    }
}

/// Waits until there is something to read or the time is over; false if the engine stops.
pub(crate) fn wait(fd: BorrowedFd<'_>, stop: &EventFd, timeout: PollTimeout) -> bool {
    let mut fds = [
        PollFd::new(fd, PollFlags::POLLIN),
        PollFd::new(stop.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => fds[1].revents().is_none_or(|events| events.is_empty()),
        Err(_) => false,
    }
}

/// Waits a moment after an error, so that a lasting one does not spin; false if the engine
/// stops.
fn pause(stop: &EventFd) -> bool {
    wait_only(stop, 20)
}

/// Waits for the given milliseconds; false if the engine stops.
pub(crate) fn wait_only(stop: &EventFd, milliseconds: u8) -> bool {
    let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => fds[0].revents().is_none_or(|events| events.is_empty()),
        Err(_) => false,
    }
}
