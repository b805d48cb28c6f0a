//! Pods that speak from their first instant, with addresses that change hands within a second: nothing of them is
//! seen in the clear, and nobody hears who may not be heard.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use signet_tests::{bin, lab::Lab, netns, shop};

use super::{ears::Ears, runtime::Guest};

/// Pods that start at the same time, each on an address of its own that the next one gets.
const LANES: u32 = 4;

#[test]
fn no_packet_of_a_starting_pod_is_seen_before_it_is_enforced() -> Result<()> {
    let count = std::env::var("SIGNET_POD_STARTS").map_or(Ok(100), |count| count.parse())?;
    start_pods(count)
}

fn start_pods(count: u32) -> Result<()> {
    if !bin::root_or_skip("pods that speak from their first instant") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let ears = Ears::new(&lab)?;
    let underlay = lab.node("node1")?["underlay_interface"].take();
    let underlay = underlay.as_str().context("underlay_interface")?;
    let next = AtomicU32::new(0);
    let frames = netns::capture(&lab.netns("node1")?, underlay, || {
        thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| {
                    let (lab, ears, next) = (&lab, &ears, &next);
                    scope.spawn(move || -> Result<()> {
                        loop {
                            let number = next.fetch_add(1, Ordering::SeqCst);
                            if number >= count {
                                return Ok(());
                            }
                            one_life(lab, ears, number, 30 + lane)
                                .with_context(|| format!("pod {number}"))?;
                        }
                    })
                })
                .collect();
            for lane in lanes {
                lane.join().map_err(|_| anyhow!("a lane panicked"))??;
            }
            Ok(())
        })
    })?;
    ensure!(
        frames.len() > 100,
        "the capture saw {} frames",
        frames.len()
    );
    let clear = frames.iter().filter(|frame| {
        frame
            .windows(CANARY.len())
            .any(|bytes| bytes == CANARY.as_bytes())
    });
    assert_eq!(clear.count(), 0, "of {} frames", frames.len());
    eprintln!(
        "{count} pods, {} frames on the underlay, none of them clear",
        frames.len()
    );
    Ok(())
}

const CANARY: &str = "from my first instant";

/// Every other pod is one that the database does not hear.
fn one_life(lab: &Lab, ears: &Ears, number: u32, host: u32) -> Result<()> {
    let account = if number.is_multiple_of(2) {
        "web"
    } else {
        "idle"
    };
    let main: Value = json!({"type": "ptp", "ipMasq": true, "mtu": 1500});
    let guest = Guest::of_account(lab, account, &format!("s{number}"), host, &main)?;
    let text = format!("{CANARY}: {number}");
    // It speaks from before it has a network until it is enforced.
    let started = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        let speaking = scope.spawn(|| -> Result<()> {
            while !started.load(Ordering::SeqCst) {
                ears.hear(&guest.netns(), &text, Duration::from_millis(100))?;
            }
            Ok(())
        });
        let made = guest.add_all();
        started.store(true, Ordering::SeqCst);
        speaking
            .join()
            .map_err(|_| anyhow!("the speaker panicked"))??;
        made
    })?;
    // Until it was enforced it was heard by nobody, so what was heard is what it may say.
    ears.hear(&guest.netns(), &text, Duration::from_millis(300))?;
    let who = ears.who_heard(&text);
    ensure!(
        !who.contains("world"),
        "{account} was heard outside: {who:?}"
    );
    ensure!(
        who.contains("remote") == (account == "web"),
        "{account} was heard by {who:?}"
    );
    guest.vanish(&made)
}
