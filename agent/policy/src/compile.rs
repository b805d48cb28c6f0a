//! Policies to verdict tables, for one pair at a time: a node compiles the pairs it has, never the
//! cross product.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::facts::{PeerFacts, PodFacts, Protocol};
use crate::model::{Action, Authentication, Direction, PolicyKind, RuleId, Verdict};
use crate::ports::{Claim, PortMap};
use crate::resolve::{self, UnknownPorts};
use crate::set::{PolicySet, Scope};

/// The verdicts between a local pod and one peer. Peers with equal tables can share a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PairPolicy {
    /// Flows from the peer to the local pod.
    pub ingress: PortMap,
    /// Flows from the local pod to the peer.
    pub egress: PortMap,
}

impl PairPolicy {
    /// The table of one direction.
    pub fn of(&self, direction: Direction) -> &PortMap {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl PolicySet {
    /// What the rules say between a local pod and a peer. What they do not speak of is up to
    /// [`PolicySet::isolation`] and the mode.
    pub fn compile_pair(&self, local: &PodFacts, peer: &PeerFacts) -> PairPolicy {
        let compile = |direction| {
            self.compile_in(
                local,
                peer,
                direction,
                Scope::Enforced,
                UnknownPorts::Closed,
            )
        };
        PairPolicy {
            ingress: compile(Direction::Ingress),
            egress: compile(Direction::Egress),
        }
    }

    /// Whether the rules let `a` talk to `b` or `b` to `a`, on any port, once both have proven who
    /// they are. Asked before they have: a node proves nothing to a peer that no rule admits.
    ///
    /// A port name of a pod whose container ports are not known counts as admitting here, since
    /// the pod's own node does know them.
    pub fn admits_any(&self, a: &PodFacts, b: &PodFacts) -> bool {
        self.admits(a, b) || self.admits(b, a)
    }

    /// The same for a pod and a node, which proves its own identity and has no rules of its own.
    pub fn admits_node(&self, pod: &PodFacts, node: &PeerFacts) -> bool {
        let passes = |direction: Direction| {
            let map = self.compile_in(pod, node, direction, Scope::Enforced, UnknownPorts::Open);
            let side = Side {
                map,
                enforced: pod.enrolled,
                isolated: self.isolation(pod).of(direction),
            };
            let protocols = Protocol::ALL.into_iter().map(Protocol::number);
            protocols.chain([0]).any(|protocol| {
                side.cuts()
                    .iter()
                    .any(|port| side.passes(protocol, *port, true))
            })
        };
        passes(Direction::Ingress) || passes(Direction::Egress)
    }

    fn admits(&self, from: &PodFacts, to: &PodFacts) -> bool {
        let authenticated = from.enrolled && to.enrolled;
        let side = |local: &PodFacts, peer: &PodFacts, direction| {
            let peer = PeerFacts::Pod(peer.clone());
            let map = self.compile_in(local, &peer, direction, Scope::Enforced, UnknownPorts::Open);
            // A pod outside the mesh has no verdict point of its own.
            Side {
                map,
                enforced: local.enrolled,
                isolated: self.isolation(local).of(direction),
            }
        };
        let source = side(from, to, Direction::Egress);
        let destination = side(to, from, Direction::Ingress);
        let passes = |protocol: u8, port: u16| {
            source.passes(protocol, port, authenticated)
                && destination.passes(protocol, port, authenticated)
        };
        let mut cuts = source.cuts();
        cuts.extend(destination.cuts());
        // Protocol 0 stands for all that no rule names.
        passes(0, 0)
            || Protocol::ALL
                .into_iter()
                .any(|protocol| cuts.iter().any(|port| passes(protocol.number(), *port)))
    }

    pub(crate) fn compile_in(
        &self,
        local: &PodFacts,
        peer: &PeerFacts,
        direction: Direction,
        scope: Scope<'_>,
        unknown: UnknownPorts,
    ) -> PortMap {
        let destination = match direction {
            Direction::Ingress => Some(local),
            Direction::Egress => peer.pod(),
        };
        let mut claims = Vec::new();
        for policy in self.effective(local, scope) {
            let rules = policy
                .rules
                .iter()
                .filter(|rule| rule.direction == direction);
            for rule in rules.filter(|rule| resolve::selects(rule, peer)) {
                resolve::claims(rule, destination, unknown, &mut claims);
            }
        }
        claims.extend(self.standing_permission(local, peer, direction, scope));
        PortMap::flatten(&claims)
    }

    /// What NetworkPolicy allows without saying so: a pod reaches itself, and its own node reaches
    /// it. The second ends where an AuthenticatedPolicy isolates: there, nodes need a rule.
    fn standing_permission(
        &self,
        local: &PodFacts,
        peer: &PeerFacts,
        direction: Direction,
        scope: Scope<'_>,
    ) -> Option<Claim> {
        let by = |kind| self.isolation_by(local, scope, kind).of(direction);
        let rule = match peer {
            PeerFacts::Pod(pod) if pod.uid == local.uid => self
                .isolation_in(local, scope)
                .of(direction)
                .then_some(RuleId::ITSELF)?,
            PeerFacts::Host(_)
                if by(PolicyKind::NetworkPolicy) && !by(PolicyKind::AuthenticatedPolicy) =>
            {
                RuleId::OWN_NODE
            }
            PeerFacts::Pod(_)
            | PeerFacts::Address(_)
            | PeerFacts::Host(_)
            | PeerFacts::RemoteNode(_)
            | PeerFacts::KubeApiServer(_)
            | PeerFacts::ApiServerNode(_)
            | PeerFacts::Unmanaged(_) => return None,
        };
        let verdict = Verdict {
            action: Action::Allow,
            authentication: Authentication::Optional,
            rule,
        };
        // Behind every written rule that allows the same.
        Some(Claim {
            protocol: 0,
            first: 0,
            last: u16::MAX,
            verdict,
            order: (1, u32::MAX),
        })
    }
}

struct Side {
    map: PortMap,
    enforced: bool,
    isolated: bool,
}

impl Side {
    fn passes(&self, protocol: u8, port: u16, authenticated: bool) -> bool {
        if !self.enforced {
            return true;
        }
        match self.map.lookup(protocol, port) {
            None => !self.isolated,
            Some(Verdict {
                action: Action::Deny,
                ..
            }) => false,
            Some(Verdict { authentication, .. }) => {
                authenticated || authentication == Authentication::Optional
            }
        }
    }

    /// Ports at which the answer may change.
    fn cuts(&self) -> BTreeSet<u16> {
        let mut cuts = BTreeSet::from([0]);
        for (_, ranges) in self.map.ranges() {
            for range in ranges {
                cuts.insert(range.first);
                cuts.extend(range.last.checked_add(1));
            }
        }
        cuts
    }
}
