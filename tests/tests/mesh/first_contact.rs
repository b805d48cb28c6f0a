//! The first packet of a pair waits for its authentication; it is not lost.

use std::time::{Duration, Instant};

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab},
    netns, shop,
};

/// 20 clients x 10 servers: 200 pairs that have never met.
const CLIENTS: usize = 20;
const SERVERS: usize = 10;

#[test]
fn two_hundred_new_pairs_lose_no_first_packet() -> Result<()> {
    if !bin::root_or_skip("two hundred new pairs") {
        return Ok(());
    }
    let mut objects = shop::namespace("shop", &["web", "db"]) + &shop::allow("db", "web");
    for n in 0..CLIENTS {
        objects += &shop::pod("shop", &format!("c{n}"), "web", "node1", &[("app", "web")]);
    }
    for n in 0..SERVERS {
        objects += &shop::pod("shop", &format!("s{n}"), "db", "node2", &[("app", "db")]);
    }
    let lab = Lab::up(2, &objects)?;
    for n in 0..SERVERS {
        netns::serve_echo(&lab.netns(&format!("shop/s{n}"))?, 3306)?;
    }
    let (mut times, mut lost) = (Vec::new(), 0);
    for client in 0..CLIENTS {
        let from = lab.netns(&format!("shop/c{client}"))?;
        for server in 0..SERVERS {
            let to = lab.socket(&format!("shop/s{server}"), Family::V4, 3306)?;
            let start = Instant::now();
            lost += netns::udp_echo(&from, to, b"hello", Duration::from_secs(6), 3)? - 1;
            times.push(start.elapsed());
        }
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    eprintln!(
        "first contact over {} new pairs, round trip included: p50 {:.1?}, p99 {:.1?}, max {:.1?}; first packets lost: {lost}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    assert_eq!(lost, 0, "first packets were lost");
    Ok(())
}
