//! Traffic that counts itself: numbered datagrams, each one echoed, with the time at which each was sent;
//! and a TCP connection that must not break.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

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

/// One TCP connection to an echo, for as long as it lasts.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Stream {
    /// Writes `text` and a number each `pause` from `netns`, and reads it back.
    ///
    /// # Errors
    /// If there is no connection.
    pub fn start(netns: &str, to: SocketAddr, text: &[u8], pause: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, text) = (Arc::clone(&stop), text.to_vec());
        let stream = netns::within(netns, move || {
            Ok(TcpStream::connect_timeout(&to, Duration::from_secs(10))?)
        })?;
        // The socket stays in its namespace, whatever thread it is used by.
        let thread = std::thread::spawn(move || talk(stream, &text, pause, &flag));
        Ok(Self { stop, thread })
    }

    /// Stops, once everything has come back, and returns how many records that were.
    ///
    /// # Errors
    /// If the connection broke, or something else came back.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow!("the stream panicked"))?
    }
}

fn talk(mut stream: TcpStream, text: &[u8], pause: Duration, stop: &AtomicBool) -> Result<u64> {
    let mut reader = stream.try_clone()?;
    reader.set_read_timeout(Some(Duration::from_secs(90)))?;
    stream.set_nodelay(true)?;
    let record = |number: u64| [text, &number.to_be_bytes()].concat();
    std::thread::scope(|scope| {
        let (told, all) = std::sync::mpsc::channel();
        let back = scope.spawn(move || -> Result<u64> {
            let mut last = None;
            let mut number = 0;
            while last != Some(number) {
                let wanted = record(number);
                let mut buffer = vec![0; wanted.len()];
                reader
                    .read_exact(&mut buffer)
                    .with_context(|| format!("record {number}"))?;
                ensure!(buffer == wanted, "record {number} came back changed");
                number += 1;
                last = last.or_else(|| all.try_recv().ok());
            }
            Ok(number)
        });
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) || number == 0 {
            stream
                .write_all(&record(number))
                .with_context(|| format!("record {number}"))?;
            number += 1;
            std::thread::sleep(pause);
        }
        // One more, so that the reader looks whether it was the last.
        told.send(number + 1)?;
        stream.write_all(&record(number))?;
        back.join().map_err(|_| anyhow!("the reader panicked"))?
    })
}

/// Datagrams and a stream side by side, 200 of each a second.
#[derive(Debug)]
pub struct Both {
    name: String,
    load: Load,
    stream: Stream,
}

impl Both {
    /// Starts them, once the connection is open.
    ///
    /// # Errors
    /// If there is no connection.
    pub fn start(name: &str, netns: &str, to: SocketAddr) -> Result<Self> {
        let pause = Duration::from_millis(5);
        let stream =
            Stream::start(netns, to, b"line ", pause).with_context(|| format!("{name} to {to}"))?;
        let load = Load::start(netns, to, b"datagram ", pause)?;
        let name = name.to_owned();
        Ok(Self { name, load, stream })
    }

    /// Stops them. Nothing may be lost, and they must have run.
    ///
    /// # Errors
    /// What was lost.
    pub fn lost_nothing(self) -> Result<()> {
        let name = self.name;
        let tally = self.load.stop()?;
        let records = self.stream.stop().with_context(|| name.clone())?;
        let (sent, lost) = (tally.sent.len(), tally.lost.len());
        eprintln!("{name}: {lost} of {sent} datagrams lost, {records} records by TCP");
        ensure!(sent > 100 && records > 100, "{name} hardly ran");
        ensure!(lost == 0, "{name} lost {lost} of {sent}: {:?}", tally.lost);
        Ok(())
    }
}
