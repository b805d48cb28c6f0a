//! The first packet of a pair waits for its authentication; it is not lost, and it stays the first.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use signet_tests::{
    bin,
    contact::{self, First, PATIENCE, PORT, Scan, Targets},
    lab::{Family, Lab},
    netns, probe, shop,
};

/// `clients` pods on node1 that may reach `servers` pods on node2, and have never met.
fn lab(clients: usize, servers: usize) -> Result<Lab> {
    let mut objects = shop::namespace("shop", &["web", "db"]) + &shop::allow("db", "web");
    for n in 0..clients {
        objects += &shop::pod("shop", &format!("c{n}"), "web", "node1", &[("app", "web")]);
    }
    for n in 0..servers {
        objects += &shop::pod("shop", &format!("s{n}"), "db", "node2", &[("app", "db")]);
    }
    let lab = Lab::up(2, &objects)?;
    for n in 0..servers {
        netns::serve_echo(&lab.netns(&format!("shop/s{n}"))?, PORT)?;
    }
    Ok(lab)
}

fn contact(
    lab: &Lab,
    client: usize,
    server: usize,
    first: First,
    family: Family,
) -> Result<Option<Duration>> {
    let (from, to) = (format!("shop/c{client}"), format!("shop/s{server}"));
    contact::first_contact(lab, &from, &to, first, family)
}

/// Times of all contacts, and how many of their first packets were lost.
#[derive(Default)]
struct Contacts {
    times: Vec<Duration>,
    lost: u32,
}

impl Contacts {
    fn add(&mut self, took: Option<Duration>) {
        self.lost += u32::from(took.is_none());
        self.times.extend(took);
    }

    fn print(&mut self, what: &str) {
        let Self { times, lost } = self;
        times.sort();
        let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize);
        eprintln!(
            "first contact, {what}: {} new pairs, round trip included: p50 {:.1?}, p99 {:.1?}, max {:.1?}; first packets lost: {lost}",
            times.len(),
            at(0.5).unwrap_or(&PATIENCE),
            at(0.99).unwrap_or(&PATIENCE),
            at(1.0).unwrap_or(&PATIENCE),
        );
    }
}

/// What a node dropped, as its status lists it.
fn drops(lab: &Lab, node: &str) -> Result<String> {
    let drops = lab.ask(node, &["status"])?["drops"].take();
    let some = drops.as_array().into_iter().flatten();
    Ok(some
        .filter(|drop| drop["packets"] != 0)
        .map(|drop| format!(" {} {}", drop["name"], drop["packets"]))
        .collect())
}

#[test]
fn five_hundred_new_pairs_lose_no_first_packet() -> Result<()> {
    if !bin::root_or_skip("five hundred new pairs") {
        return Ok(());
    }
    const CLIENTS: usize = 25;
    const SERVERS: usize = 20;
    let lab = lab(CLIENTS, SERVERS)?;
    let mut lost = 0;
    for (n, first) in First::ALL.into_iter().enumerate() {
        let mut contacts = Contacts::default();
        for client in 0..CLIENTS {
            for server in (0..SERVERS).filter(|server| (client + server) % 3 == n) {
                let family = [Family::V4, Family::V6][(client + server / 3) % 2];
                contacts.add(contact(&lab, client, server, first, family)?);
            }
        }
        contacts.print(&format!("{first:?}"));
        lost += contacts.lost;
    }
    assert_eq!(lost, 0, "first packets were lost:{}", drops(&lab, "node1")?);
    for reason in ["HOLD_OVERFLOW", "HOLD_TIMEOUT", "RATE_LIMITED"] {
        assert_eq!(lab.dropped("node1", reason)?, 0, "{reason}");
    }
    Ok(())
}

#[test]
fn a_scan_costs_nobody_else_a_first_packet() -> Result<()> {
    if !bin::root_or_skip("a scan costs nobody else") {
        return Ok(());
    }
    const CLIENTS: usize = 13;
    const SERVERS: usize = 15;
    const DESTINATIONS: u32 = 10_000;
    let lab = lab(CLIENTS, SERVERS)?;
    let contacts = |clients: std::ops::Range<usize>| -> Result<Contacts> {
        let mut contacts = Contacts::default();
        for client in clients {
            for server in 0..SERVERS {
                let first = First::ALL[(client + server) % 3];
                contacts.add(contact(&lab, client, server, first, Family::V4)?);
            }
        }
        Ok(contacts)
    };
    let mut before = contacts(1..7)?;
    before.print("nobody scans");
    assert_eq!(before.lost, 0, "first packets were lost before the scan");

    // Pod 0 knocks everywhere in the range of the other node, over and over.
    let IpAddr::V6(near) = lab.address("shop/s0", Family::V6)? else {
        unreachable!()
    };
    let scan = Scan::start(&lab, "shop/c0", Targets::Around(near, DESTINATIONS))?;
    let during = contacts(7..CLIENTS);
    // Contacts can be over before the scan has been everywhere once.
    let patience = Instant::now() + Duration::from_secs(60);
    while during.is_ok() && scan.sent() <= DESTINATIONS && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    let sent = scan.stop()?;
    let mut during = during?;
    let drops = drops(&lab, "node1")?;
    during.print(&format!("beside a scan of {sent} packets"));
    eprintln!("dropped on the scanner's node:{drops}");
    ensure!(sent > DESTINATIONS, "the scan was none: {sent} packets");
    assert_eq!(
        during.lost, 0,
        "first packets were lost because another pod scans"
    );
    assert!(
        drops.contains("RATE_LIMITED") && drops.contains("HOLD_LIMITED"),
        "the scanner was never limited:{drops}"
    );
    Ok(())
}

#[test]
fn what_waited_goes_first() -> Result<()> {
    if !bin::root_or_skip("what waited goes first") {
        return Ok(());
    }
    const CLIENTS: usize = 6;
    const SERVERS: usize = 5;
    let lab = lab(CLIENTS, SERVERS)?;
    for client in 0..CLIENTS {
        for server in 0..SERVERS {
            let family = [Family::V4, Family::V6][(client + server) % 2];
            let to = lab.socket(&format!("shop/s{server}"), family, 4000)?;
            let pair = (
                &*lab.netns(&format!("shop/c{client}"))?,
                &*lab.netns(&format!("shop/s{server}"))?,
            );
            // Slow enough that no queue fills, long enough to go on after the pair is open.
            let pause = Duration::from_micros([300, 1_000, 2_500][(client + server) % 3]);
            let seen = probe::burst(pair, to, to, 60, pause)?;
            let sorted = seen.is_sorted();
            assert!(
                sorted,
                "pod {client} to {server} ({family:?}): a later packet overtook: {seen:?}"
            );
            assert_eq!(seen.len(), 60, "pod {client} to {server}: {seen:?}");
        }
    }
    Ok(())
}
