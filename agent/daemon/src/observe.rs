//! Flow events: from the data path, the engine and the hold queue, in words, to whoever watches.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use signet_abi::{self as abi, DropReason, EventKind, Hook};
use signet_agent_core::status::{FlowEvent, ObserveFilter, Party, Reason, Verdict};
use signet_policy::{PolicySet, RuleId};
use tokio::sync::broadcast;

use crate::names::Names;

/// Events that a new watcher is shown first.
const REMEMBERED: usize = 2048;
/// Events that a slow watcher may be behind.
const QUEUE: usize = 8192;

/// What is remembered, and what comes.
pub(crate) type Subscription = (Vec<Arc<FlowEvent>>, broadcast::Receiver<Arc<FlowEvent>>);

/// Remembers and hands out events.
pub(crate) struct Observe {
    recent: VecDeque<Arc<FlowEvent>>,
    /// All its room is there from the start: pointers, not events.
    sender: broadcast::Sender<Arc<FlowEvent>>,
}

impl Observe {
    pub(crate) fn new() -> Self {
        Self {
            recent: VecDeque::new(),
            sender: broadcast::Sender::new(QUEUE),
        }
    }

    pub(crate) fn push(&mut self, event: FlowEvent) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        let event = Arc::new(event);
        self.recent.push_back(Arc::clone(&event));
        // Nobody may be watching.
        let _ = self.sender.send(event);
    }

    /// What is remembered, and what comes.
    pub(crate) fn subscribe(&self) -> Subscription {
        (
            self.recent.iter().cloned().collect(),
            self.sender.subscribe(),
        )
    }
}

/// What an event of the data path means, in words.
pub(crate) fn from_kernel(
    event: &abi::Event,
    time_ms: u64,
    node: &str,
    names: &Names,
    policies: &PolicySet,
) -> Option<FlowEvent> {
    let verdict = match event.event_kind()? {
        EventKind::Drop | EventKind::Stale => Verdict::Dropped,
        EventKind::Miss => Verdict::Held,
        EventKind::NewFlow | EventKind::TakenUp => Verdict::Forwarded,
    };
    let hook = event.event_hook()?;
    let (direction, tunnel) = match hook {
        Hook::FromWorkload => (Some("egress"), false),
        Hook::ToTunnel | Hook::FromHold => (Some("egress"), true),
        Hook::FromTunnel => (Some("ingress"), true),
        Hook::ToWorkload => (Some("ingress"), false),
        Hook::UnderlayGuard => (None, false),
    };
    let reason = match verdict {
        Verdict::Forwarded | Verdict::WouldDrop => None,
        Verdict::Held | Verdict::Dropped => event.drop_reason().map(reason),
    };
    // The class in the event is the other side's.
    let (source_class, destination_class) = match direction {
        Some("ingress") => (event.class, u32::MAX),
        _ => (u32::MAX, event.class),
    };
    let has_addresses = event.family != 0;
    let party = |addr: abi::Addr, port, class| {
        if has_addresses {
            names.party(addr.to_ip(), port, class)
        } else {
            Party::default()
        }
    };
    Some(FlowEvent {
        time_ms,
        node: node.to_owned(),
        verdict,
        reason,
        direction: direction.map(str::to_owned),
        hook: hook.as_str().to_owned(),
        ip_version: event.family,
        protocol: protocol(event.proto),
        source: party(event.src, event.sport, source_class),
        destination: party(event.dst, event.dport, destination_class),
        encrypted: tunnel,
        policy: rule_name(policies, event.rule),
        suppressed: u64::from(event.suppressed),
    })
}

/// What a drop of the engine or of the hold queue means, in words.
pub(crate) struct Drop<'a> {
    pub(crate) time_ms: u64,
    pub(crate) node: &'a str,
    pub(crate) hook: &'static str,
    pub(crate) reason: DropReason,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) suppressed: u64,
}

impl Drop<'_> {
    pub(crate) fn into_event(self, names: &Names) -> FlowEvent {
        let party = |address: Option<IpAddr>| {
            address.map_or_else(Party::default, |address| names.party(address, 0, u32::MAX))
        };
        let version = match self.destination.or(self.source) {
            Some(IpAddr::V4(_)) => 4,
            Some(IpAddr::V6(_)) => 6,
            None => 0,
        };
        FlowEvent {
            time_ms: self.time_ms,
            node: self.node.to_owned(),
            verdict: Verdict::Dropped,
            reason: Some(reason(self.reason)),
            direction: None,
            hook: self.hook.to_owned(),
            ip_version: version,
            protocol: "any".to_owned(),
            source: party(self.source),
            destination: party(self.destination),
            encrypted: true,
            policy: None,
            suppressed: self.suppressed,
        }
    }
}

/// A reason with its words.
pub(crate) fn reason(reason: DropReason) -> Reason {
    Reason {
        number: reason.number(),
        name: reason.as_str().to_owned(),
        explain: reason.explain().to_owned(),
    }
}

/// A rule's name by its number.
pub(crate) fn rule_name(policies: &PolicySet, number: u32) -> Option<String> {
    match RuleId(number) {
        RuleId::NONE => None,
        RuleId::OWN_NODE => Some("own node always allowed (NetworkPolicy)".to_owned()),
        RuleId::ITSELF => Some("itself always allowed (NetworkPolicy)".to_owned()),
        id => policies.rule(id).map(ToString::to_string),
    }
}

/// A protocol's name, or its number.
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a watcher wants an event.
pub(crate) fn wants(filter: &ObserveFilter, event: &FlowEvent) -> bool {
    filter
        .verdict
        .is_none_or(|verdict| verdict == event.verdict)
        && filter
            .from
            .as_ref()
            .is_none_or(|text| is_meant(text, &event.source))
        && filter
            .to
            .as_ref()
            .is_none_or(|text| is_meant(text, &event.destination))
}

/// Whether `text` names this end: `namespace/name`, `namespace`, an address or a SPIFFE ID.
fn is_meant(text: &str, party: &Party) -> bool {
    if let Ok(address) = text.parse::<IpAddr>() {
        return party.address == Some(address);
    }
    if text.starts_with("spiffe://") {
        return party.spiffe_id.as_deref() == Some(text);
    }
    let Some(pod) = party.pod.as_deref() else {
        return false;
    };
    pod == text
        || pod
            .split_once('/')
            .is_some_and(|(namespace, _)| namespace == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(pod: &str, address: &str) -> Party {
        Party {
            address: address.parse().ok(),
            pod: Some(pod.into()),
            spiffe_id: Some("spiffe://td/ns/shop/sa/web".into()),
            ..Party::default()
        }
    }

    #[test]
    fn an_end_is_named_in_four_ways_and_exactly() {
        let web = party("shop/web", "10.0.0.1");
        for text in ["shop/web", "shop", "10.0.0.1", "spiffe://td/ns/shop/sa/web"] {
            assert!(is_meant(text, &web), "{text}");
        }
        for text in [
            "shop/we",
            "sho",
            "web",
            "10.0.0.2",
            "spiffe://td/ns/shop/sa/we",
            "",
        ] {
            assert!(!is_meant(text, &web), "{text}");
        }
        assert!(!is_meant("shop", &Party::default()));
    }

    #[test]
    fn events_say_who_what_and_why() {
        let names = Names::default();
        let policies = PolicySet::from_objects(&[], &[]).0;
        let event = abi::Event {
            kind: EventKind::Drop as u8,
            hook: Hook::FromTunnel as u8,
            family: 4,
            proto: 6,
            reason: DropReason::UnknownLabel.number(),
            src: "10.0.0.1".parse::<IpAddr>().unwrap().into(),
            dst: "10.0.0.2".parse::<IpAddr>().unwrap().into(),
            dport: 80,
            suppressed: 3,
            ..abi::Event::default()
        };
        let flow = from_kernel(&event, 5, "a", &names, &policies).unwrap();
        assert_eq!(flow.verdict, Verdict::Dropped);
        assert_eq!(flow.reason.unwrap().name, "UNKNOWN_LABEL");
        assert_eq!(
            (flow.direction.as_deref(), flow.encrypted),
            (Some("ingress"), true)
        );
        assert_eq!(
            (
                flow.protocol.as_str(),
                flow.destination.port,
                flow.suppressed
            ),
            ("TCP", 80, 3)
        );

        let unknown = abi::Event { kind: 200, ..event };
        assert_eq!(from_kernel(&unknown, 5, "a", &names, &policies), None);
        let no_ip = abi::Event { family: 0, ..event };
        let flow = from_kernel(&no_ip, 5, "a", &names, &policies).unwrap();
        assert_eq!(flow.source, Party::default());
    }

    #[test]
    fn a_new_watcher_sees_the_latest_first_events() {
        let mut observe = Observe::new();
        let policies = PolicySet::from_objects(&[], &[]).0;
        let event = abi::Event {
            kind: 4,
            family: 4,
            ..abi::Event::default()
        };
        let flow = from_kernel(&event, 0, "a", &Names::default(), &policies).unwrap();
        for time_ms in 0..(REMEMBERED as u64 + 5) {
            observe.push(FlowEvent {
                time_ms,
                ..flow.clone()
            });
        }
        let (recent, _) = observe.subscribe();
        assert_eq!((recent.len(), recent[0].time_ms), (REMEMBERED, 5));
    }
}
