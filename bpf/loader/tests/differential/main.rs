//! The programs in the kernel against the model in Rust: the same maps, the same packets, and
//! nothing may differ. Needs root.
//!
//! Each scenario is a random node (pods, rows, policies, most of them good) and a script of
//! packets that follow one another as they do in life: from the pod's veth to the tunnel, to the
//! neighbour or to the underlay, replies, errors, fragments, with the maps changed in between.
//! After each packet verdict, reason, mark, index, hash and bytes are compared, at the end what
//! the programs remember.
//!
//! `SIGNET_DIFF_PACKETS` sets how many packets, `SIGNET_DIFF_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says loudly what it skips"
)]

mod compare;
mod kernel;
mod packets;
mod random;
mod report;
mod scenario;
mod script;
mod world;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use random::Random;

/// Packets of the short form.
const PACKETS: usize = 20_000;

#[test]
fn kernel_and_model_never_differ() {
    if let Err(error) = signet_loader::probe() {
        println!("SKIPPED: {error}");
        return;
    }
    let wanted = variable("SIGNET_DIFF_PACKETS").map_or(PACKETS, |number| number as usize);
    let seed = variable("SIGNET_DIFF_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_nanos() as u64
    });
    println!("SIGNET_DIFF_SEED={seed} SIGNET_DIFF_PACKETS={wanted}");

    let mut seeds = Random::new(seed);
    let mut kernel = kernel::Kernel::load();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut packets = 0;
    while packets < wanted {
        let scenario = script::write(&mut Random::new(seeds.next()));
        let run = scenario.run(&mut kernel);
        if let Some(difference) = run.difference {
            panic!("{}", report::smallest(scenario, &difference, &mut kernel));
        }
        packets += run.packets;
        for (outcome, count) in run.outcomes {
            *seen.entry(outcome).or_default() += count;
        }
    }
    println!("{packets} packets, no difference");
    for (outcome, count) in &seen {
        println!("{count:8} {outcome}");
    }
    if packets >= PACKETS {
        expect_variety(&seen);
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// A generator that only makes drops, or only one kind of them, would prove nothing.
fn expect_variety(seen: &BTreeMap<String, usize>) {
    for outcome in [
        "from_workload next PENDING",
        "from_workload next REPLY",
        "to_tunnel redirect",
        "to_tunnel hold",
        "from_hold redirect",
        "from_tunnel next VERIFIED",
        "to_workload next PENDING",
        "to_workload next REPLY",
        "to_workload next VERIFIED",
        "to_workload next",
        "underlay_guard next PENDING",
        "underlay_guard next REPLY",
        "from_tunnel stale DST_IDENTITY_MISMATCH",
        "from_tunnel drop LABEL_EXPIRED",
        "from_tunnel drop EPOCH_MISMATCH",
        "to_workload drop DEFAULT_DENY_INGRESS",
        "to_tunnel drop POLICY_EGRESS_DENIED",
    ] {
        assert!(seen.contains_key(outcome), "no packet gave: {outcome}");
    }
}
