//! The first packet between two pods that never met, and how long its answer takes.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::{
    lab::{Family, Lab},
    netns, probe,
};

/// As long as anything may wait, and twice that.
pub const PATIENCE: Duration = Duration::from_secs(6);
/// Where pods answer ([`netns::serve_echo`]).
pub const PORT: u16 = 3306;

/// What is sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A datagram.
    Udp,
    /// A SYN. One that is lost comes again, so it counts as lost if it had to.
    Tcp,
    /// An echo request.
    Icmp,
}

impl First {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Icmp];
}

/// Sends the first packet from pod `from` to pod `to` and waits for its answer.
///
/// Returns how long that took, from the system call that sent it, unless the packet or its answer was lost.
///
/// # Errors
/// If one of the pods is not there.
pub fn first_contact(
    lab: &Lab,
    from: &str,
    to: &str,
    first: First,
    family: Family,
) -> Result<Option<Duration>> {
    let netns = lab.netns(from)?;
    let address = lab.socket(to, family, PORT)?;
    let took = netns::within(&netns, move || {
        let start = Instant::now();
        let arrived = match first {
            First::Udp => udp(address),
            First::Tcp => probe::tcp_retransmits(address, PATIENCE).is_ok_and(|again| again == 0),
            First::Icmp => probe::icmp_echo(address.ip(), PATIENCE).is_ok(),
        };
        let took = start.elapsed();
        Ok(arrived.then_some(took).ok_or(took))
    })?;
    if let Err(took) = took {
        eprintln!("lost: the first {first:?} over {family:?} of {from} to {to}, after {took:.1?}");
    }
    Ok(took.ok())
}

fn udp(to: SocketAddr) -> bool {
    let echo = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind(netns::any(to.ip()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"hello")?;
        let mut back = [0; 64];
        let n = socket.recv(&mut back)?;
        Ok(back[..n] == *b"hello")
    };
    echo().unwrap_or(false)
}

/// A pod that knocks at thousands of addresses, over and over, until it is stopped.
#[derive(Debug)]
pub struct Scan {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: thread::JoinHandle<Result<()>>,
}

/// What a scanner knocks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// So many addresses, one after the other, around one of which it is known that packets to it go to another node.
    Around(Ipv6Addr, u32),
    /// One address.
    One(Ipv6Addr),
}

impl Scan {
    /// Starts to knock from the pod `from`: bursts of 100 datagrams, a millisecond apart.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn start(lab: &Lab, from: &str, targets: Targets) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU32::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = netns::spawn(&lab.netns(from)?, move || {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
            while !stopped.load(Ordering::Relaxed) {
                let n = counted.fetch_add(1, Ordering::Relaxed);
                let to = match targets {
                    Targets::Around(near, count) => {
                        let range = u128::from(near) & !0xffff;
                        Ipv6Addr::from(range + 0x1000 + u128::from(n % count))
                    }
                    Targets::One(address) => address,
                };
                // A full queue on the way is nothing that stops a scanner.
                let _ = socket.send_to(b"anybody?", SocketAddr::new(IpAddr::V6(to), 9));
                if n % 100 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(())
        })?;
        Ok(Self { stop, sent, thread })
    }

    /// How many datagrams it has sent so far.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops it; returns how many datagrams it sent.
    ///
    /// # Errors
    /// If it could not even open a socket.
    pub fn stop(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the scanner panicked"))??;
        Ok(self.sent.load(Ordering::Relaxed))
    }
}
