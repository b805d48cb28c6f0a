//! One packet in, one verdict out, said in a line.

use std::collections::BTreeSet;

use signet_abi::{DropReason, EventKind, Hook};
use signet_loader::prog_test::frame::Frame;
use signet_loader::prog_test::{Outcome, Packet, Verdict};

use crate::world::World;

pub(crate) enum Expect {
    /// Passed on with this mark and index.
    Next(u32, u16),
    Drop(DropReason),
    /// Dropped, and the sender is to hear of it.
    Stale(DropReason),
    Redirect(u32),
}

pub(crate) struct Fixture {
    pub(crate) what: &'static str,
    pub(crate) hook: Hook,
    pub(crate) setup: fn(&mut World),
    pub(crate) packet: Packet,
    pub(crate) expect: Expect,
    /// The frame afterwards, if it is to be another.
    pub(crate) out: Option<Vec<u8>>,
}

impl Fixture {
    pub(crate) fn new(what: &'static str, hook: Hook, packet: Packet, expect: Expect) -> Self {
        Self {
            what,
            hook,
            setup: |_| {},
            packet,
            expect,
            out: None,
        }
    }

    pub(crate) fn given(mut self, setup: fn(&mut World)) -> Self {
        self.setup = setup;
        self
    }

    pub(crate) fn gives(mut self, frame: &Frame) -> Self {
        self.out = Some(frame.build());
        self
    }

    pub(crate) fn gives_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.out = Some(bytes);
        self
    }
}

/// Runs the fixtures; every failure is told, not only the first.
pub(crate) fn run(world: &mut World, fixtures: Vec<Fixture>) -> BTreeSet<DropReason> {
    let mut reached = BTreeSet::new();
    let mut failed = Vec::new();
    for fixture in fixtures {
        world.reset();
        (fixture.setup)(world);
        let outcome = match world.prog.run(fixture.hook, &fixture.packet) {
            Ok(outcome) => outcome,
            Err(error) => {
                failed.push(format!("{}: {}: {error}", fixture.hook, fixture.what));
                continue;
            }
        };
        reached.extend(outcome.reason);
        if let Err(why) = check(&fixture, &outcome) {
            failed.push(format!("{}: {}: {why}", fixture.hook, fixture.what));
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed\n{}",
        failed.len(),
        failed.join("\n")
    );
    reached
}

fn check(fixture: &Fixture, outcome: &Outcome) -> Result<(), String> {
    let got = format!(
        "got {:?} {:?} mark {:#x} index {}",
        outcome.verdict, outcome.reason, outcome.mark, outcome.tc_index
    );
    let fine = match fixture.expect {
        Expect::Next(mark, index) => {
            outcome.verdict == Verdict::Next
                && outcome.mark == mark
                && outcome.tc_index == index
                && outcome.reason.is_none()
        }
        Expect::Drop(reason) => dropped(outcome, reason, EventKind::Drop),
        Expect::Stale(reason) => dropped(outcome, reason, EventKind::Stale),
        Expect::Redirect(ifindex) => {
            outcome.verdict == Verdict::Redirect(ifindex) && outcome.reason.is_none()
        }
    };
    if !fine {
        return Err(got);
    }
    let passed = outcome.verdict != Verdict::Drop;
    let wanted = fixture.out.as_ref().unwrap_or(&fixture.packet.data);
    if passed && outcome.data != *wanted {
        return Err(format!(
            "packet out\n  {:02x?}\nwanted\n  {wanted:02x?}",
            outcome.data
        ));
    }
    Ok(())
}

/// A drop is counted once and reported once, under the same reason.
fn dropped(outcome: &Outcome, reason: DropReason, kind: EventKind) -> bool {
    let reported = outcome
        .events
        .iter()
        .any(|event| event.event_kind() == Some(kind) && event.drop_reason() == Some(reason));
    outcome.verdict == Verdict::Drop && outcome.reason == Some(reason) && reported
}
