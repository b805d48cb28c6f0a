//! A difference, cut down to what it takes and written out.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use signet_loader::boot_time_ns;
use signet_model::State;

use crate::compare::Difference;
use crate::kernel::Kernel;
use crate::scenario::{Scenario, Step};

/// The smallest scenario found that still differs, as text.
pub(crate) fn smallest(mut scenario: Scenario, first: &Difference, kernel: &mut Kernel) -> String {
    scenario.steps.truncate(first.step + 1);
    let mut last = first.clone();
    loop {
        let size = scenario.steps.len() + rows(&scenario.state);
        for at in (0..scenario.steps.len()).rev() {
            let mut less = scenario.clone();
            less.steps.remove(at);
            keep_if_differs(less, &mut scenario, &mut last, kernel);
        }
        for at in (0..rows(&scenario.state)).rev() {
            let mut less = scenario.clone();
            remove_row(&mut less.state, at);
            keep_if_differs(less, &mut scenario, &mut last, kernel);
        }
        if scenario.steps.len() + rows(&scenario.state) == size {
            return text(&scenario, &last);
        }
    }
}

fn keep_if_differs(
    less: Scenario,
    scenario: &mut Scenario,
    last: &mut Difference,
    kernel: &mut Kernel,
) {
    if let Some(difference) = less.run(kernel).difference {
        *last = difference;
        *scenario = less;
    }
}

fn rows(state: &State) -> usize {
    state.endpoints.len()
        + state.interfaces.len()
        + state.local_addresses.len()
        + state.pod_ranges.len()
        + state.cidr_classes.len()
        + state.send_rows.len()
        + state.recv_rows.len()
        + state.peers.len()
        + state.policy.len()
        + state.conntrack.len()
        + state.flows.len()
        + state.fragments.len()
}

/// Removes the row of number `at`, counted over all maps.
fn remove_row(state: &mut State, mut at: usize) {
    let _ = remove(&mut state.endpoints, &mut at)
        || remove(&mut state.interfaces, &mut at)
        || remove(&mut state.local_addresses, &mut at)
        || remove(&mut state.pod_ranges, &mut at)
        || remove(&mut state.cidr_classes, &mut at)
        || remove(&mut state.send_rows, &mut at)
        || remove(&mut state.recv_rows, &mut at)
        || remove(&mut state.peers, &mut at)
        || remove(&mut state.policy, &mut at)
        || remove(&mut state.conntrack, &mut at)
        || remove(&mut state.flows, &mut at)
        || remove(&mut state.fragments, &mut at);
}

fn remove<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, at: &mut usize) -> bool {
    let Some(key) = map.keys().nth(*at).cloned() else {
        *at -= map.len();
        return false;
    };
    map.remove(&key);
    true
}

fn text(scenario: &Scenario, difference: &Difference) -> String {
    let mut out = String::from("kernel and model differ.\n\n");
    let state = &scenario.state;
    let _ = writeln!(out, "config {:?}", state.config);
    list(&mut out, "endpoints", &state.endpoints);
    list(&mut out, "interfaces", &state.interfaces);
    list(&mut out, "local_addresses", &state.local_addresses);
    list(&mut out, "pod_ranges", &state.pod_ranges);
    list(&mut out, "cidr_classes", &state.cidr_classes);
    list(&mut out, "send_rows", &state.send_rows);
    list(&mut out, "recv_rows", &state.recv_rows);
    list(&mut out, "peers", &state.peers);
    list(&mut out, "policy", &state.policy);
    list(&mut out, "conntrack", &state.conntrack);
    list(&mut out, "flows", &state.flows);
    list(&mut out, "fragments", &state.fragments);
    let mut replay = state.clone();
    for step in &scenario.steps {
        match step {
            Step::Change(change) => {
                change.apply(&mut replay);
                let _ = writeln!(out, "\nchange {change:?}");
            }
            Step::Packet(input) => {
                let verdict = input.model(&mut replay, boot_time_ns());
                let _ = writeln!(out, "\npacket at {} {:?}", input.hook, input.ctx);
                let _ = writeln!(out, "  {}", hex(&input.frame));
                let _ = writeln!(
                    out,
                    "  {:?}",
                    signet_model::parse(input.ctx.protocol, &input.frame[14..])
                );
                let _ = writeln!(out, "  model says {verdict:?}");
            }
        }
    }
    let place = if difference.step < scenario.steps.len() {
        "the last packet"
    } else {
        "what is remembered at the end"
    };
    let _ = write!(out, "\n{place} differs in {}", difference.what);
    out
}

fn list<K: Debug, V: Debug>(out: &mut String, name: &str, map: &BTreeMap<K, V>) {
    for (key, value) in map {
        let _ = writeln!(out, "{name} {key:?} => {value:?}");
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
