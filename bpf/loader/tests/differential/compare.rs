//! What may not differ.

use std::collections::BTreeMap;
use std::fmt::Debug;

use signet_abi::{
    CtEntry, DropReason, EventKind, FragPorts, HOLD_HEADER_LEN, HoldOrder, Hook, Plain,
};
use signet_loader::Table;
use signet_loader::prog_test::{Outcome, Verdict as Said};
use signet_model::{State, Verdict};

use crate::kernel::Kernel;
use crate::scenario::Input;

/// Where the two sides parted.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Index of the step; one past the last for what is remembered at the end.
    pub(crate) step: usize,
    pub(crate) what: String,
}

/// How the kernel's outcome differs from the model's verdict.
pub(crate) fn outcome(input: &Input, verdict: &Verdict, outcome: &Outcome) -> Option<String> {
    // Devices without a link layer have one in test runs.
    let link = if input.is_bare() { 14 } else { 0 };
    match verdict {
        Verdict::Next {
            mark,
            tc_index,
            hash,
            bytes,
        } => unequal("verdict", &Said::Next, &outcome.verdict)
            .or_else(|| unequal("reason", &None, &outcome.reason))
            .or_else(|| unequal("mark", mark, &outcome.mark))
            .or_else(|| unequal("tc_index", tc_index, &u32::from(outcome.tc_index)))
            .or_else(|| unequal("hash", hash, &outcome.hash))
            .or_else(|| unequal_bytes(bytes, outcome.data.get(link..))),
        Verdict::Redirect { ifindex, bytes } => {
            unequal("verdict", &Said::Redirect(*ifindex), &outcome.verdict)
                .or_else(|| unequal("reason", &None, &outcome.reason))
                .or_else(|| unequal_bytes(bytes, outcome.data.get(14..)))
        }
        Verdict::Hold { ifindex, frame } => {
            let (header, ip) = frame.split_at(HOLD_HEADER_LEN);
            unequal("verdict", &Said::Redirect(*ifindex), &outcome.verdict)
                .or_else(|| unequal("reason", &None, &outcome.reason))
                .or_else(|| unequal_bytes(header, outcome.data.get(..HOLD_HEADER_LEN)))
                .or_else(|| unequal_bytes(ip, outcome.data.get(HOLD_HEADER_LEN + link..)))
        }
        Verdict::Drop {
            reason,
            stale,
            rule,
        } => unequal("verdict", &Said::Drop, &outcome.verdict)
            .or_else(|| unequal("reason", &Some(*reason), &outcome.reason))
            .or_else(|| drop_event(*reason, *stale, *rule, outcome)),
    }
}

/// Events are limited per second, so there may be none; what there is must say the same.
fn drop_event(reason: DropReason, stale: bool, rule: u32, outcome: &Outcome) -> Option<String> {
    let event = outcome
        .events
        .iter()
        .find(|event| event.drop_reason().is_some())?;
    let kind = if stale {
        EventKind::Stale
    } else {
        EventKind::Drop
    };
    unequal("event's kind", &Some(kind), &event.event_kind())
        .or_else(|| unequal("event's reason", &Some(reason), &event.drop_reason()))
        .or_else(|| by_policy(reason).then(|| unequal("event's rule", &rule, &event.rule))?)
}

fn by_policy(reason: DropReason) -> bool {
    [
        DropReason::PolicyEgressDenied,
        DropReason::PolicyIngressDenied,
        DropReason::DefaultDenyEgress,
        DropReason::DefaultDenyIngress,
    ]
    .contains(&reason)
}

/// How what the kernel remembers differs from what the model does. The clocks are not the same,
/// so expiries are left out.
pub(crate) fn memory(state: &State, kernel: &Kernel) -> Option<String> {
    let maps = kernel.maps();
    let entry = |entry: &CtEntry| CtEntry {
        expires: 0,
        ..*entry
    };
    let ports = |ports: &FragPorts| FragPorts {
        expires: 0,
        ..*ports
    };
    let order = |order: &HoldOrder| HoldOrder { until: 0, ..*order };
    unequal_maps("conntrack", &state.conntrack, &maps.conntrack, entry)
        .or_else(|| unequal_maps("flows", &state.flows, &maps.flows, |flow| *flow))
        .or_else(|| unequal_maps("fragments", &state.fragments, &maps.fragments, ports))
        .or_else(|| unequal_maps("hold_orders", &state.hold_orders, &maps.hold_orders, order))
}

fn unequal_maps<K, V>(
    name: &str,
    model: &BTreeMap<K, V>,
    table: &Table<K, V>,
    timeless: impl Fn(&V) -> V,
) -> Option<String>
where
    K: Plain + Ord + Debug,
    V: Plain + PartialEq + Debug,
{
    let kernel: BTreeMap<K, V> = table.iter().map(|entry| entry.unwrap()).collect();
    let keys = model.keys().chain(kernel.keys());
    for key in keys {
        let (want, got) = (
            model.get(key).map(&timeless),
            kernel.get(key).map(&timeless),
        );
        if want != got {
            return Some(format!(
                "{name} of {key:?}:\n  model  {want:?}\n  kernel {got:?}"
            ));
        }
    }
    None
}

fn unequal<T: PartialEq + Debug>(what: &str, model: &T, kernel: &T) -> Option<String> {
    (model != kernel).then(|| format!("{what}:\n  model  {model:?}\n  kernel {kernel:?}"))
}

fn unequal_bytes(model: &[u8], kernel: Option<&[u8]>) -> Option<String> {
    let kernel = kernel.unwrap_or_default();
    (model != kernel).then(|| {
        format!(
            "bytes:\n  model  {}\n  kernel {}",
            crate::report::hex(model),
            crate::report::hex(kernel)
        )
    })
}

/// The verdict in a few words, for counting.
pub(crate) fn name(hook: Hook, state: &State, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Next { mark, .. } => {
            let config = &state.config;
            let ours = mark & config.mark_mask;
            let mark = if ours == 0 {
                ""
            } else if ours == config.mark_pending {
                " PENDING"
            } else if ours == config.mark_verified {
                " VERIFIED"
            } else {
                " REPLY"
            };
            format!("{hook} next{mark}")
        }
        Verdict::Redirect { .. } => format!("{hook} redirect"),
        Verdict::Hold { .. } => format!("{hook} hold"),
        Verdict::Drop { reason, stale, .. } => {
            let word = if *stale { "stale" } else { "drop" };
            format!("{hook} {word} {reason}")
        }
    }
}
