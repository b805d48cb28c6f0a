//! The programs, packet by packet, in the kernel. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says loudly what it skips"
)]

mod fixture;
mod flows;
mod from_hold;
mod from_tunnel;
mod from_workload;
mod hold;
mod to_tunnel;
mod to_workload;
mod underlay_guard;
mod world;

use std::collections::BTreeSet;

use fixture::Fixture;
use signet_abi::DropReason;
use world::World;

/// The world, or `None` with a loud word where the kernel may not be asked.
pub(crate) fn world() -> Option<World> {
    match signet_loader::probe() {
        Ok(_) => Some(World::new()),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn all() -> Vec<(&'static str, Vec<Fixture>)> {
    vec![
        ("from_workload", from_workload::fixtures()),
        ("to_tunnel", to_tunnel::fixtures()),
        ("to_tunnel, held", to_tunnel::order_fixtures()),
        ("from_hold", from_hold::fixtures()),
        ("from_tunnel", from_tunnel::fixtures()),
        ("to_workload", to_workload::fixtures()),
        ("underlay_guard", underlay_guard::fixtures()),
    ]
}

#[test]
fn every_fixture_holds_and_every_kernel_reason_is_reached() {
    let Some(mut world) = world() else { return };
    let mut reached = BTreeSet::new();
    for (name, fixtures) in all() {
        println!("{name}: {} packets", fixtures.len());
        reached.extend(fixture::run(&mut world, fixtures));
    }
    let kernel: BTreeSet<_> = DropReason::ALL
        .iter()
        .copied()
        .filter(|reason| reason.is_kernel())
        .collect();
    let missed: Vec<_> = kernel.difference(&reached).collect();
    assert!(missed.is_empty(), "no packet reaches {missed:?}");
    assert!(reached.is_subset(&kernel), "{reached:?}");
}
