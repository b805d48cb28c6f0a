//! Eyes on every underlay interface for as long as a test runs: they keep nothing but what should not
//! be there.
#![allow(
    unsafe_code,
    reason = "raw packet sockets have no safe wrapper; the block says why it is sound"
)]

use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::AsRawFd as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use crate::{lab::Lab, netns, packet::octets};

/// Frames kept of each kind, for the person who looks for the leak.
const KEPT: usize = 4;

/// Watchers of all underlay interfaces of a lab.
#[derive(Debug)]
pub struct Eyes {
    stop: Arc<AtomicBool>,
    secret: Arc<RwLock<Secret>>,
    threads: Vec<(String, JoinHandle<Result<Seen>>)>,
}

/// What must not be on a wire.
#[derive(Debug, Default)]
struct Secret {
    canary: Vec<u8>,
    addresses: BTreeSet<Vec<u8>>,
    /// First bytes of the addresses: nearly every other place of a frame is passed over by them.
    firsts: BTreeSet<u8>,
}

/// What was on the wires.
#[derive(Debug, Default)]
pub struct Seen {
    /// Frames looked at.
    pub frames: u64,
    /// WireGuard's data messages among them.
    pub sealed: u64,
    /// Frames with the canary.
    pub payload: u64,
    /// Frames with the addresses of two pods, one behind the other.
    pub pairs: u64,
    /// Some of those two kinds, with the node's name.
    pub kept: Vec<(String, Vec<u8>)>,
}

impl Eyes {
    /// Watches every node's underlay interface of a lab for `canary` and for pairs of pod addresses.
    ///
    /// # Errors
    /// If an interface cannot be watched.
    pub fn open(lab: &Lab, canary: &[u8]) -> Result<Self> {
        let secret = Secret {
            canary: canary.to_vec(),
            ..Secret::default()
        };
        let (stop, secret) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(RwLock::new(secret)),
        );
        let mut threads = Vec::new();
        let found = lab.describe()?;
        for (name, node) in found["nodes"].as_object().context("nodes")? {
            let text = |field: &str| node[field].as_str().map(str::to_owned).context("a text");
            let (netns, interface) = (text("netns")?, text("underlay_interface")?);
            let (stop, secret) = (Arc::clone(&stop), Arc::clone(&secret));
            let (ready, is_ready) = mpsc::channel();
            let thread = netns::spawn(&netns, move || watch(&interface, &stop, &secret, &ready))?;
            is_ready.recv().context("a watcher did not start")?;
            threads.push((name.clone(), thread));
        }
        let eyes = Self {
            stop,
            secret,
            threads,
        };
        eyes.learn(lab)?;
        Ok(eyes)
    }

    /// Takes in the addresses of pods that have come; those of pods that are gone stay secret.
    ///
    /// # Errors
    /// If the lab cannot be described.
    pub fn learn(&self, lab: &Lab) -> Result<()> {
        let found = lab.describe()?;
        let pods = found["pods"].as_object().context("pods")?.values();
        let addresses = pods.flat_map(|pod| pod["addresses"].as_array().into_iter().flatten());
        let mut secret = self.secret.write().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            let address: IpAddr = address.as_str().context("an address")?.parse()?;
            let bytes = octets(address);
            secret.firsts.extend(bytes.first());
            secret.addresses.insert(bytes);
        }
        Ok(())
    }

    /// Closes the eyes and tells what they saw.
    ///
    /// # Errors
    /// If a watcher failed.
    pub fn close(self) -> Result<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for (node, thread) in self.threads {
            let seen = thread.join().map_err(|_| anyhow!("a watcher panicked"))??;
            all.frames += seen.frames;
            all.sealed += seen.sealed;
            all.payload += seen.payload;
            all.pairs += seen.pairs;
            let kept = seen.kept.into_iter();
            all.kept
                .extend(kept.map(|(_, frame)| (node.clone(), frame)));
        }
        Ok(all)
    }
}

fn watch(
    interface: &str,
    stop: &AtomicBool,
    secret: &RwLock<Secret>,
    ready: &mpsc::Sender<()>,
) -> Result<Seen> {
    let index = nix::net::if_::if_nametoindex(interface).context("interface")?;
    let socket = netns::packet_socket(i32::try_from(index)?)?;
    ready.send(())?;
    let (mut seen, mut buffer) = (Seen::default(), vec![0u8; 70_000]);
    loop {
        // SAFETY: the buffer is writable for its whole length.
        let n = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        if let Ok(n @ 1..) = usize::try_from(n) {
            let secret = secret.read().unwrap_or_else(PoisonError::into_inner);
            seen.take(&buffer[..n], &secret);
        } else if stop.load(Ordering::SeqCst) {
            return Ok(seen);
        } else {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Seen {
    fn take(&mut self, frame: &[u8], secret: &Secret) {
        self.frames += 1;
        // Over IPv4 without options, and over IPv6.
        let data = |at: usize| frame.get(at..at + 4) == Some(&[4, 0, 0, 0]);
        self.sealed += u64::from(data(42) || data(62));
        let payload = contains(frame, &secret.canary);
        let pair = has_pair(frame, secret, 4) || has_pair(frame, secret, 16);
        self.payload += u64::from(payload);
        self.pairs += u64::from(pair);
        if (payload || pair) && self.kept.len() < KEPT {
            self.kept.push((String::new(), frame.to_vec()));
        }
    }
}

fn has_pair(frame: &[u8], secret: &Secret, length: usize) -> bool {
    frame.windows(2 * length).any(|both| {
        let (one, other) = both.split_at(length);
        secret.firsts.contains(&one[0])
            && secret.firsts.contains(&other[0])
            && secret.addresses.contains(one)
            && secret.addresses.contains(other)
    })
}

fn contains(frame: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else {
        return false;
    };
    let mut rest = frame;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_found_wherever_it_is_and_nothing_else() {
        let (a, b) = ([10, 1, 0, 2], [10, 2, 0, 3]);
        let secret = Secret {
            canary: b"canary".to_vec(),
            addresses: [a.to_vec(), b.to_vec()].into(),
            firsts: [10].into(),
        };
        let look = |parts: &[&[u8]]| {
            let mut seen = Seen::default();
            seen.take(&parts.concat(), &secret);
            (seen.payload, seen.pairs, seen.kept.len())
        };
        assert_eq!(look(&[b"ccanarcanary"]), (1, 0, 1));
        assert_eq!(look(&[b"canar"]), (0, 0, 0));
        assert_eq!(look(&[b"x", &a, &b, b"y"]), (0, 1, 1));
        assert_eq!(look(&[&b, &a]), (0, 1, 1));
        assert_eq!(look(&[&a, b"between", &b]), (0, 0, 0));
        assert_eq!(look(&[&a, &[10, 9, 9, 9]]), (0, 0, 0));
    }
}
