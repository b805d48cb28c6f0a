//! Traffic that counts itself: numbered datagrams, each one echoed, with the time at which each was sent.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::netns;

/// How long after the last datagram echoes are still waited for.
const GRACE: Duration = Duration::from_secs(1);

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Tally>>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// When each datagram was sent.
    pub sent: Vec<Instant>,
    /// Numbers of those that did not come back.
    pub lost: Vec<usize>,
}

impl Load {
    /// Sends `text` and a number each `pause` from `netns` to an echo.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn start(netns: &str, to: SocketAddr, text: &[u8], pause: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, text) = (Arc::clone(&stop), text.to_vec());
        let thread = netns::spawn(netns, move || run(to, &text, pause, &flag))?;
        Ok(Self { stop, thread })
    }

    /// Stops sending, and counts.
    ///
    /// # Errors
    /// If a socket failed.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow!("the load panicked"))?
    }
}

fn run(to: SocketAddr, text: &[u8], pause: Duration, stop: &AtomicBool) -> Result<Tally> {
    let socket = UdpSocket::bind(netns::any(to.ip()))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(pause))?;
    let (mut sent, mut back, mut buffer) = (Vec::<Instant>::new(), Vec::new(), [0; 2048]);
    let mut next = Instant::now();
    loop {
        let stopped = stop.load(Ordering::SeqCst);
        if stopped && sent.last().is_none_or(|last| last.elapsed() > GRACE) {
            break;
        }
        if !stopped && Instant::now() >= next {
            let number = u64::try_from(sent.len())?.to_be_bytes();
            // An ICMP error of the datagram before shows up here; this one is sent all the same.
            let datagram = [text, &number].concat();
            if socket.send(&datagram).is_err() {
                let _ = socket.send(&datagram);
            }
            sent.push(Instant::now());
            back.push(false);
            next += pause;
            if next < Instant::now() {
                next = Instant::now() + pause;
            }
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let number = buffer[..length].strip_prefix(text);
        let number = number.and_then(|rest| Some(u64::from_be_bytes(rest.try_into().ok()?)));
        let number = number.and_then(|number| usize::try_from(number).ok());
        if let Some(seen) = number.and_then(|number| back.get_mut(number)) {
            *seen = true;
        }
    }
    let lost = (0..sent.len()).filter(|number| !back[*number]).collect();
    Ok(Tally { sent, lost })
}
