//! What can happen, drawn so that everything does before anything does again.

use std::{fmt, time::Duration};

use signet_fuzz::mutate::Dice;

pub(crate) const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    /// Where; without meaning for those that have no place.
    pub(crate) node: &'static str,
    /// How long something stays down or cut.
    pub(crate) pause: Duration,
    /// For kinds that come in several forms.
    pub(crate) form: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    AgentKilled,
    AgentRestarted,
    /// And pods try to meet for the first time meanwhile.
    AllAgentsKilled,
    ServiceKilled,
    EngineKilled,
    Cut,
    /// Cut off, and its agent dies meanwhile.
    CutAndKilled,
    /// The identity service and an agent, one after the other, and back in the same order.
    ServiceAndAgentKilled,
    PodComesAndGoes,
    AddressReused,
    DeviceDeleted,
    ConntrackFlushed,
    RulesRemoved,
    PolicyChanged,
}

const KINDS: [Kind; 14] = [
    Kind::AgentKilled,
    Kind::AgentRestarted,
    Kind::AllAgentsKilled,
    Kind::ServiceKilled,
    Kind::EngineKilled,
    Kind::Cut,
    Kind::CutAndKilled,
    Kind::ServiceAndAgentKilled,
    Kind::PodComesAndGoes,
    Kind::AddressReused,
    Kind::DeviceDeleted,
    Kind::ConntrackFlushed,
    Kind::RulesRemoved,
    Kind::PolicyChanged,
];

/// What of the node is deleted.
pub(crate) const DEVICES: [&str; 4] = ["signet0", "sghold", "sgslot0", "sgslot1"];

/// What somebody else's tools do to a node.
pub(crate) const REMOVALS: [&str; 4] = [
    "ip rule del pref 100; ip rule del pref 101",
    "ip route flush table 7447; ip route flush table 7449",
    "nft delete table inet signet; nft delete table inet signet_pods",
    "ip link set signet0 down",
];

/// Who may lose packets from an event's begin until everybody is seen to talk again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nobody.
    None,
    /// Pairs that cross the wire at this node.
    Crossing(&'static str),
}

impl Deed {
    pub(crate) fn may_lose(&self) -> Loss {
        match self.kind {
            Kind::EngineKilled
            | Kind::Cut
            | Kind::CutAndKilled
            | Kind::DeviceDeleted
            // A reply under way has nobody to undo its translation, and the kernel makes what it
            // forgot anew from whichever packet comes first. None of it shows as a drop of ours.
            | Kind::ConntrackFlushed
            | Kind::RulesRemoved => Loss::Crossing(self.node),
            Kind::AgentKilled
            | Kind::AgentRestarted
            | Kind::AllAgentsKilled
            | Kind::ServiceKilled
            | Kind::ServiceAndAgentKilled
            | Kind::PodComesAndGoes
            | Kind::AddressReused
            | Kind::PolicyChanged => Loss::None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, pause) = (self.node, self.pause.as_secs_f64());
        match self.kind {
            Kind::AgentKilled => write!(f, "agent of {node} killed, back after {pause:.1} s"),
            Kind::AgentRestarted => write!(f, "agent of {node} restarted"),
            Kind::AllAgentsKilled => write!(f, "all agents killed, back after {pause:.1} s"),
            Kind::ServiceKilled => write!(f, "identity service killed, back after {pause:.1} s"),
            Kind::EngineKilled => write!(f, "engine of {node} killed"),
            Kind::Cut => write!(f, "{node} cut off for {pause:.1} s"),
            Kind::CutAndKilled => write!(
                f,
                "{node} cut off for {pause:.1} s, its agent killed meanwhile"
            ),
            Kind::ServiceAndAgentKilled => write!(
                f,
                "identity service and agent of {node} killed, back after {pause:.1} s"
            ),
            Kind::PodComesAndGoes => write!(f, "a pod comes and goes on node2"),
            Kind::AddressReused => write!(f, "an address of node2 goes to another identity"),
            Kind::DeviceDeleted => write!(f, "{} of {node} deleted", DEVICES[self.form]),
            Kind::ConntrackFlushed => write!(f, "conntrack of {node} flushed"),
            Kind::RulesRemoved => write!(f, "on {node}: {}", REMOVALS[self.form]),
            Kind::PolicyChanged => write!(f, "a policy comes or goes"),
        }
    }
}

/// Kinds not drawn yet, and how often each was.
pub(crate) struct Deck {
    left: Vec<Kind>,
    drawn: Vec<(Kind, usize)>,
}

impl Deck {
    pub(crate) fn new() -> Self {
        Self {
            left: Vec::new(),
            drawn: KINDS.map(|kind| (kind, 0)).into(),
        }
    }

    pub(crate) fn draw(&mut self, dice: &mut Dice) -> Deed {
        if self.left.is_empty() {
            self.left = KINDS.into();
        }
        let kind = self.left.swap_remove(dice.below(self.left.len()));
        let node = NODES[dice.below(NODES.len())];
        let pause = Duration::from_millis(500 + dice.below(4500) as u64);
        let mut form = dice.below(4);
        for (of, times) in &mut self.drawn {
            if *of == kind {
                // Each form in turn, from one that the seed chose.
                form = (form + *times) % 4;
                *times += 1;
            }
        }
        Deed {
            kind,
            node,
            pause,
            form,
        }
    }
}
