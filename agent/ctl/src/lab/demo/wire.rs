//! Everything that the underlay carried, searched for what must never be on it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Report;
use super::speed;
use super::stage::Stage;
use crate::human;
use crate::lab::ask::{self, How};
use crate::lab::capture::{self, Captured, Session, Tap};
use crate::lab::interrupt;
use crate::lab::netns;
use crate::lab::pcap;

const FROM: &str = "shop/frontend-1";
const TO: &str = "shop/database";

/// Captures under way.
pub(super) struct Evidence {
    wires: Session,
    /// The database's own interface, where the text is readable: shows that the search finds it.
    control: Session,
    directory: PathBuf,
}

/// Begins to capture on every underlay interface, before the first packet of any pod.
pub(super) fn begin(stage: &Stage) -> Result<Evidence> {
    let directory = stage.lab.state_dir.join("capture");
    let (wires, control) = (directory.join("underlay"), directory.join("control"));
    for path in [&wires, &control] {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    }
    let pod = stage.lab.pod(TO)?;
    let node = stage
        .lab
        .nodes
        .get(&pod.node)
        .context("the database's node")?;
    let tap = Tap {
        place: pod.key(),
        netns: node.netns.clone(),
        interface: pod.host_interface.clone(),
    };
    Ok(Evidence {
        wires: Session::start(&wires, capture::underlays(&stage.lab))?,
        control: Session::start(&control, vec![tap])?,
        directory,
    })
}

/// Sends the canary every way there is, ends the captures and searches them.
pub(super) fn end(stage: &Stage, evidence: Evidence, report: &mut Report) -> Result<()> {
    stage.heading("Every underlay interface was captured meanwhile; now a known text and bulk data go through the mesh too");
    sing(stage)?;
    for ipv4 in [true, false] {
        speed::measure(stage, ipv4, &["-n", "16M"])?;
    }
    interrupt::pause(Duration::from_millis(200))?;
    let wires = evidence.wires.stop()?;
    let control = evidence.control.stop()?;
    let needles = Needles::new(stage);
    let (mut frames, mut bytes, mut missed, mut hits) = (0, 0, 0, 0);
    for one in &wires {
        let found = search(&one.file, &needles)?;
        println!(
            "  {} {:<9} {} frames, {}: {found} with readable text or pod addresses",
            stage.mark(found == 0 && one.missed == 0),
            one.place,
            one.frames,
            human::bytes(one.bytes)
        );
        frames += one.frames;
        bytes += one.bytes;
        missed += one.missed;
        hits += found;
    }
    let seen = control
        .iter()
        .map(|one: &Captured| search(&one.file, &needles))
        .sum::<Result<u64>>()?;
    println!(
        "  {} the same search on the database's own interface finds {seen}",
        stage.mark(seen > 0)
    );
    report.zero(
        "underlay frames with readable payload or pod addresses",
        hits,
        &format!("of {frames} ({})", human::bytes(bytes)),
    );
    report.zero("  frames that the capture missed", missed, "");
    report.at_least_one(
        "  the same search inside a pod's interface, as a control",
        seen,
    );
    let _ = fs::remove_dir_all(&evidence.directory);
    Ok(())
}

/// The canary over TCP, UDP and in a fragmented datagram, in both families.
fn sing(stage: &Stage) -> Result<()> {
    let song = stage.canary.repeat(20);
    let long = stage.canary.repeat(150);
    for ipv4 in [true, false] {
        let to = stage.address(TO, ipv4)?;
        let (table, echo) = (SocketAddr::new(to, 3306), SocketAddr::new(to, 4000));
        netns::within(&stage.lab.pod(FROM)?.netns, || {
            let patience = Duration::from_secs(5);
            ask::ask(How::Tcp, table, &format!("PUT song {song}"), patience)?;
            ask::ask(How::Tcp, table, "GET song", patience)?;
            ask::ask(How::Udp, echo, &song, patience)?;
            // Either end learns the path's MTU from a datagram that did not fit: IPv6 has no other way.
            let hears = || ask::ask(How::Udp, echo, &long, Duration::from_secs(1));
            hears()
                .or_else(|_| hears())
                .or_else(|_| hears())
                .context("a fragmented datagram")?;
            Ok(())
        })?;
    }
    Ok(())
}

/// What must not be found: the canary, pairs of IPv4 pod addresses as in a header, any IPv6 pod address.
struct Needles {
    all: Vec<Vec<u8>>,
    /// By the first two bytes of any of them.
    begins: Vec<bool>,
}

impl Needles {
    fn new(stage: &Stage) -> Self {
        let mut all = vec![stage.canary.clone().into_bytes()];
        let addresses: BTreeSet<IpAddr> = stage
            .lab
            .pods
            .values()
            .flat_map(|pod| pod.addresses.iter().copied())
            .collect();
        let v4: Vec<[u8; 4]> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(v4) => Some(v4.octets()),
                IpAddr::V6(v6) => {
                    all.push(v6.octets().to_vec());
                    None
                }
            })
            .collect();
        for from in &v4 {
            for to in v4.iter().filter(|to| *to != from) {
                all.push([*from, *to].concat());
            }
        }
        Self::of(all)
    }

    fn of(all: Vec<Vec<u8>>) -> Self {
        let mut begins = vec![false; 1 << 16];
        for needle in &all {
            begins[prefix(needle)] = true;
        }
        Self { all, begins }
    }

    fn within(&self, hay: &[u8]) -> bool {
        hay.windows(2).enumerate().any(|(at, two)| {
            self.begins[prefix(two)] && self.all.iter().any(|needle| hay[at..].starts_with(needle))
        })
    }
}

fn prefix(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Number of frames in which something is found.
fn search(file: &Path, needles: &Needles) -> Result<u64> {
    let read = || -> std::io::Result<u64> {
        let mut reader = pcap::Reader::new(BufReader::with_capacity(1 << 20, File::open(file)?))?;
        let (mut frame, mut hits) = (Vec::new(), 0);
        while reader.next(&mut frame)? {
            hits += u64::from(needles.within(&frame));
        }
        Ok(hits)
    };
    read().with_context(|| format!("search {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_found_wherever_they_are() {
        let needles = Needles::of(vec![b"canary".to_vec(), vec![10, 61, 1, 2, 10, 61, 2, 3]]);
        for hay in [
            &b"canary"[..],
            b"xxcanary",
            b"cacanaryx",
            &[0, 10, 61, 1, 2, 10, 61, 2, 3, 0],
        ] {
            assert!(needles.within(hay), "{hay:?}");
        }
        for hay in [&b""[..], b"c", b"canar", &[10, 61, 1, 2, 10, 61, 2]] {
            assert!(!needles.within(hay), "{hay:?}");
        }
    }
}
