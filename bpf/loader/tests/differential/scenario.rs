//! A node and what happens on it, as plain data, so that it can be run again, cut down and
//! printed.

use std::collections::BTreeMap;

use signet_abi::{
    AddrPrefix, Config, Endpoint, Hook, Peer, PolicyKey, PolicyValue, RecvKey, RecvRow, SendKey,
    SendRow,
};
use signet_loader::boot_time_ns;
use signet_model::{Ctx, State, Verdict};

use crate::compare::{self, Difference};
use crate::kernel::Kernel;

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) state: State,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Change(Change),
    Packet(Input),
}

/// A packet at a hook. `frame` always begins with an Ethernet header (the hold header at
/// `from_hold`), also where the hook's device has none.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) hook: Hook,
    pub(crate) ctx: Ctx,
    pub(crate) frame: Vec<u8>,
}

/// What the agent does meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Config(Config),
    Endpoint(u32, Option<Endpoint>),
    Peer(u32, Option<Peer>),
    Send(SendKey, Option<SendRow>),
    Recv(RecvKey, Option<RecvRow>),
    Policy(PolicyKey, Option<PolicyValue>),
    PodRange(AddrPrefix, Option<u32>),
    Class(AddrPrefix, Option<u32>),
}

impl Change {
    pub(crate) fn apply(self, state: &mut State) {
        match self {
            Self::Config(config) => state.config = config,
            Self::Endpoint(key, value) => set(&mut state.endpoints, key, value),
            Self::Peer(key, value) => set(&mut state.peers, key, value),
            Self::Send(key, value) => set(&mut state.send_rows, key, value),
            Self::Recv(key, value) => set(&mut state.recv_rows, key, value),
            Self::Policy(key, value) => set(&mut state.policy, key, value),
            Self::PodRange(key, value) => set(&mut state.pod_ranges, key, value),
            Self::Class(key, value) => set(&mut state.cidr_classes, key, value),
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Input {
    /// The model's verdict. Hooks of devices without a link layer get the bare packet.
    pub(crate) fn model(&self, state: &mut State, now: u64) -> Verdict {
        let bytes = if self.is_bare() {
            &self.frame[14..]
        } else {
            &self.frame
        };
        Verdict::of(self.hook, state, now, &self.ctx, bytes)
    }

    pub(crate) fn is_bare(&self) -> bool {
        match self.hook {
            Hook::ToTunnel | Hook::FromTunnel => true,
            Hook::FromWorkload | Hook::ToWorkload | Hook::UnderlayGuard | Hook::FromHold => false,
        }
    }
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) difference: Option<Difference>,
    pub(crate) packets: usize,
    /// How often each hook said what.
    pub(crate) outcomes: BTreeMap<String, usize>,
}

impl Scenario {
    /// Runs both sides until they differ.
    pub(crate) fn run(&self, kernel: &mut Kernel) -> Run {
        let mut run = Run::default();
        let mut state = self.state.clone();
        kernel.install(&state);
        for (at, step) in self.steps.iter().enumerate() {
            let input = match step {
                Step::Change(change) => {
                    change.apply(&mut state);
                    kernel.change(*change);
                    continue;
                }
                Step::Packet(input) => input,
            };
            let Some(outcome) = kernel.run(input) else {
                continue;
            };
            let verdict = input.model(&mut state, boot_time_ns());
            run.packets += 1;
            *run.outcomes
                .entry(compare::name(input.hook, &state, &verdict))
                .or_default() += 1;
            if let Some(what) = compare::outcome(input, &verdict, &outcome) {
                run.difference = Some(Difference { step: at, what });
                return run;
            }
        }
        run.difference = compare::memory(&state, kernel).map(|what| Difference {
            step: self.steps.len(),
            what,
        });
        run
    }
}
