//! `lab capture`: one pcap file per underlay interface.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::interrupt;
use super::names;
use super::netns;
use super::pcap::{self, Stamp};
use super::state::Lab;
use super::up;
use crate::human;
use crate::output::{self, Format};

/// Options of `lab capture`.
#[derive(Args, Debug)]
pub(crate) struct Capture {
    /// Name of the lab
    #[arg(long, default_value = "demo", value_parser = names::lab_name)]
    name: String,
    /// Where to put the files, one per interface
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Seconds to capture; until Ctrl-C if left out
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
}

/// What was captured on one interface.
#[derive(Debug, Serialize)]
pub(crate) struct Captured {
    pub(crate) place: String,
    pub(crate) interface: String,
    pub(crate) file: PathBuf,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Frames that the kernel could not keep for us: anything but 0 means that the file has gaps.
    pub(crate) missed: u64,
}

/// Captures for a time or until Ctrl-C.
pub(crate) fn run(options: &Capture, format: Format) -> Result<u8> {
    up::require_root()?;
    let lab = Lab::load(&options.name)?;
    interrupt::watch()?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("create {}", options.out.display()))?;
    let session = Session::start(&options.out, underlays(&lab))?;
    let end = options
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    match end {
        None => eprintln!("capturing; Ctrl-C ends it"),
        Some(_) => eprintln!("capturing"),
    }
    while !interrupt::happened() && end.is_none_or(|end| Instant::now() < end) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let captured = session.stop()?;
    match format {
        Format::Json | Format::Yaml => output::data(format, &captured)?,
        Format::Table | Format::Wide => {
            let rows = captured.iter().map(|one| {
                vec![
                    one.place.clone(),
                    one.interface.clone(),
                    one.frames.to_string(),
                    human::bytes(one.bytes),
                    one.missed.to_string(),
                    one.file.display().to_string(),
                ]
            });
            let head = ["PLACE", "INTERFACE", "FRAMES", "BYTES", "MISSED", "FILE"];
            output::print_text(&output::table(&head, rows.collect()))?;
        }
    }
    Ok(u8::from(captured.iter().any(|one| one.missed > 0)))
}

/// An interface to capture on.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    pub(crate) place: String,
    pub(crate) netns: String,
    pub(crate) interface: String,
}

/// Every underlay interface of a lab.
pub(crate) fn underlays(lab: &Lab) -> Vec<Tap> {
    let identity = &lab.identity;
    let mut taps = vec![Tap {
        place: names::IDENTITY.to_owned(),
        netns: identity.netns.clone(),
        interface: identity.underlay_interface.clone(),
    }];
    taps.extend(lab.nodes.values().map(|node| Tap {
        place: node.name.clone(),
        netns: node.netns.clone(),
        interface: node.underlay_interface.clone(),
    }));
    taps
}

/// Captures under way.
pub(crate) struct Session {
    stop: Arc<AtomicBool>,
    threads: BTreeMap<String, JoinHandle<Result<Captured>>>,
}

impl Session {
    /// Begins to capture; returns once every socket listens.
    pub(crate) fn start(directory: &Path, taps: Vec<Tap>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = BTreeMap::new();
        for tap in taps {
            let socket = netns::within(&tap.netns, || open(&tap.interface))
                .with_context(|| format!("capture on {} of {}", tap.interface, tap.place))?;
            let file = directory.join(format!("{}.pcap", tap.place.replace('/', ".")));
            let out = File::create(&file).with_context(|| format!("create {}", file.display()))?;
            let stop = stop.clone();
            let name = tap.place.clone();
            threads.insert(
                name,
                std::thread::spawn(move || record(&socket, tap, file, out, &stop)),
            );
        }
        Ok(Self { stop, threads })
    }

    /// Ends the captures, in the order of their places.
    pub(crate) fn stop(self) -> Result<Vec<Captured>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut captured = Vec::new();
        for (place, thread) in self.threads {
            let one = thread
                .join()
                .map_err(|_| anyhow!("the capture of {place} failed"))?;
            captured.push(one.with_context(|| format!("capture of {place}"))?);
        }
        Ok(captured)
    }
}

fn record(
    socket: &OwnedFd,
    tap: Tap,
    file: PathBuf,
    out: File,
    stop: &AtomicBool,
) -> Result<Captured> {
    let mut writer =
        pcap::Writer::new(BufWriter::with_capacity(1 << 20, out)).context("write the header")?;
    let mut buffer = vec![0; pcap::SNAPLEN as usize];
    let (mut frames, mut bytes) = (0, 0);
    loop {
        // Asked before the socket is drained: what was there when somebody said stop is in the file.
        let last = stop.load(Ordering::Relaxed);
        while let Some(length) = receive(socket, &mut buffer)? {
            writer
                .frame(stamp(), &buffer[..length])
                .context("write a frame")?;
            frames += 1;
            bytes += length as u64;
        }
        if last {
            break;
        }
        let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut wait, PollTimeout::from(20u8));
    }
    writer.finish().context("write the last frames")?;
    let missed = missed(socket)?;
    Ok(Captured {
        place: tap.place,
        interface: tap.interface,
        file,
        frames,
        bytes,
        missed,
    })
}

fn stamp() -> Stamp {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Stamp {
        seconds: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
        nanos: now.subsec_nanos(),
    }
}

/// A packet socket on one interface, for all protocols and both directions.
#[expect(unsafe_code, reason = "packet sockets have no safe wrapper")]
fn open(interface: &str) -> Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)
        .with_context(|| format!("interface {interface}"))?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // Protocol 0 at first: nothing is queued before the socket is bound to its one interface.
    // SAFETY: a plain socket(2) call; the result is checked before use.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    nix::errno::Errno::result(raw).context("open a packet socket")?;
    // SAFETY: `raw` is a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let size: libc::c_int = 512 << 20;
    // SAFETY: the pointer and length describe `size`, which lives across the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(set).context("enlarge the receive buffer")?;
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the pointer and length describe `address`, which lives across the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(bound).context("bind the packet socket")?;
    Ok(socket)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>> {
    match nix::sys::socket::recv(
        socket.as_raw_fd(),
        buffer,
        nix::sys::socket::MsgFlags::empty(),
    ) {
        Ok(length) => Ok(Some(length)),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(None),
        Err(error) => Err(error).context("read a frame"),
    }
}

/// Frames dropped for lack of room since the socket was opened.
#[expect(unsafe_code, reason = "packet sockets have no safe wrapper")]
fn missed(socket: &OwnedFd) -> Result<u64> {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: the pointers describe `stats` and `length`, which live across the call.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(asked).context("ask for lost frames")?;
    Ok(stats.tp_drops.into())
}
