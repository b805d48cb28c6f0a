//! The verdicts about a flow: what was admitted goes on; else policy is asked; else policy is asked
//! as the flow's opener would have been judged. The last is for TCP segments in mid-connection,
//! because an entry may be lost (eviction) while the connection lives; and for every protocol if
//! the entry is still there and says who opened, but policy has changed since (or the agent was
//! restarted, which it cannot tell apart). Without an entry other protocols do not say who opened:
//! for them it is a new flow.

use signet_abi::{CtEntry, CtKey, Direction, DropReason, Endpoint, ct_flags, endpoint_flags};

use crate::conntrack::{self, Point};
use crate::parse::Packet;
use crate::policy::{self, Admitted, Question, Shown};
use crate::state::State;
use crate::verdict::Refusal;

/// The remote pod a label or a send row stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    /// Its policy class.
    pub(crate) class: u32,
    /// The agent's handle of it; another handle is another pod.
    pub(crate) handle: u32,
}

/// A packet of `endpoint` to or from a pod of another node. Both identities are proven, so a
/// rule that requires that is met.
pub(crate) fn labelled(
    state: &mut State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
    remote: Remote,
    way: Direction,
) -> Result<(), Refusal> {
    let key = conntrack::key(packet, endpoint.index, Point::Tunnel, way);
    // Another handle is another pod; what was admitted for the former says nothing of it.
    let known = conntrack::find(state, now, packet, &key, endpoint, way)
        .filter(|entry| entry.remote == remote.handle);
    if let Some(entry) = known
        && entry.policy_generation == endpoint.policy_generation
    {
        conntrack::touch(state, now, key, entry);
        return Ok(());
    }
    let ask = |direction, port| {
        policy::ask(
            state,
            endpoint,
            Question {
                direction,
                class: remote.class,
                proto: packet.proto,
                port,
                shown: Shown::Pod,
            },
        )
    };
    // An answer is judged as its opener would be, first of all: else it would be taken for a flow of
    // its own where its own direction is open too, and be none any more once that is closed.
    let answered = answers(packet, known, way)
        .then(|| ask(opposite(way), packet.sport))
        .and_then(Result::ok);
    let (admitted, turned) = match answered {
        Some(admitted) => (admitted, true),
        None => or_as_opener(packet.is_midstream(), ask(way, packet.dport), || {
            ask(opposite(way), packet.sport)
        })?,
    };
    let entry = CtEntry {
        remote: remote.handle,
        flags: opened((way == Direction::Egress) != turned),
        rule: admitted.rule,
        ..CtEntry::default()
    };
    conntrack::store(state, now, packet, key, endpoint, entry);
    Ok(())
}

/// A packet between two pods of this node, judged where it arrives.
pub(crate) fn same_node(
    state: &mut State,
    now: u64,
    packet: &Packet,
    from: &Endpoint,
    to: &Endpoint,
) -> Result<(), Refusal> {
    // A pod may reach itself, by its service too.
    if from.index == to.index {
        return Ok(());
    }
    let key = conntrack::key(packet, to.index, Point::Veth, Direction::Ingress);
    let known = conntrack::find(state, now, packet, &key, to, Direction::Ingress);
    if let Some(entry) = known
        && is_current_pair(&entry, to, from)
    {
        if entry.flags & ct_flags::REQUIRED != 0 && !both_authenticated(now, from, to) {
            return Err(DropReason::AuthenticationRequired.into());
        }
        conntrack::touch(state, now, key, entry);
        return Ok(());
    }
    let forward = pair(state, now, packet, from, to, packet.dport);
    let same_pod =
        known.filter(|entry| entry.other == from.index && entry.remote == from.generation);
    let turn = packet.is_midstream() || answers(packet, same_pod, Direction::Ingress);
    let (admitted, turned) = or_as_opener(turn, forward, || {
        pair(state, now, packet, to, from, packet.sport)
    })?;
    let required = if admitted.required {
        ct_flags::REQUIRED
    } else {
        0
    };
    let entry = CtEntry {
        remote: from.generation,
        other_policy: from.policy_generation,
        other: from.index,
        flags: opened(turned) | required,
        rule: admitted.rule,
        ..CtEntry::default()
    };
    conntrack::store(state, now, packet, key, to, entry);
    Ok(())
}

/// A packet to `endpoint` from a mere address.
pub(crate) fn plaintext_in(
    state: &mut State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    let class = state.class_of(&packet.src);
    let mut reply_class = class;
    let key = conntrack::key(packet, endpoint.index, Point::Veth, Direction::Ingress);
    // An entry that names another pod is not about this sender, which showed no index.
    let known = conntrack::find(state, now, packet, &key, endpoint, Direction::Ingress)
        .filter(|entry| entry.other == 0);
    if let Some(entry) = known {
        let opened_here = entry.flags & ct_flags::LOCAL_INITIATED != 0;
        // The pod may have called a service: what answers has the service's address, and the
        // class it was admitted under is that of the translated one.
        if opened_here {
            reply_class = entry.remote;
        }
        if entry.policy_generation == endpoint.policy_generation
            && (opened_here || entry.remote == class)
        {
            conntrack::touch(state, now, key, entry);
            return Ok(());
        }
    }
    let ask = |direction, class, port| {
        policy::ask(
            state,
            endpoint,
            Question {
                direction,
                class,
                proto: packet.proto,
                port,
                shown: Shown::Address,
            },
        )
    };
    let forward = ask(Direction::Ingress, class, packet.dport);
    let turn = packet.is_midstream() || answers(packet, known, Direction::Ingress);
    let (admitted, turned) = or_as_opener(turn, forward, || {
        ask(Direction::Egress, reply_class, packet.sport)
    })?;
    let entry = CtEntry {
        remote: if turned { reply_class } else { class },
        flags: opened(turned),
        rule: admitted.rule,
        ..CtEntry::default()
    };
    conntrack::store(state, now, packet, key, endpoint, entry);
    Ok(())
}

/// A packet of `endpoint` to a mere address, as it leaves the node: translated, so policy sees
/// the real destination. `seen` is the flow as the pod's own veth saw it; that is remembered, for
/// it is there that the replies arrive.
pub(crate) fn plaintext_out(
    state: &mut State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
    seen: Option<CtKey>,
) -> Result<(), Refusal> {
    let class = state.class_of(&packet.dst);
    let ask = |direction, port| {
        policy::ask(
            state,
            endpoint,
            Question {
                direction,
                class,
                proto: packet.proto,
                port,
                shown: Shown::Address,
            },
        )
    };
    let forward = ask(Direction::Egress, packet.dport);
    let turn = packet.is_midstream();
    let (admitted, turned) = or_as_opener(turn, forward, || ask(Direction::Ingress, packet.sport))?;
    // Without the flow the packet may go, but nothing is remembered: its replies are strangers.
    let Some(key) = seen.filter(|key| key.proto == packet.proto) else {
        return Ok(());
    };
    let known =
        conntrack::find(state, now, packet, &key, endpoint, Direction::Egress).filter(|entry| {
            entry.policy_generation == endpoint.policy_generation
                && entry.other == 0
                && entry.remote == class
        });
    if let Some(entry) = known {
        conntrack::touch(state, now, key, entry);
        return Ok(());
    }
    let entry = CtEntry {
        remote: class,
        flags: opened(!turned),
        rule: admitted.rule,
        ..CtEntry::default()
    };
    conntrack::store(state, now, packet, key, endpoint, entry);
    Ok(())
}

/// Whether this packet of `endpoint` answers a flow that was admitted at its veth, so that the
/// client's veth need not judge it. What was opened from here is judged where it arrives.
pub(crate) fn is_reply(
    state: &mut State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
    key: CtKey,
) -> bool {
    let found = conntrack::find(state, now, packet, &key, endpoint, Direction::Egress)
        .filter(|entry| entry.flags & ct_flags::LOCAL_INITIATED == 0);
    let Some(mut entry) = found else {
        return false;
    };
    let still = if entry.other == 0 {
        stands_from_address(state, packet, endpoint, &entry)
    } else {
        stands_from_pod(state, now, packet, endpoint, &mut entry)
    };
    if still {
        entry.policy_generation = endpoint.policy_generation;
        conntrack::touch(state, now, key, entry);
    }
    still
}

/// A flow from an address is good until the policy changes; then it is judged again as its opener
/// would be.
fn stands_from_address(
    state: &State,
    packet: &Packet,
    endpoint: &Endpoint,
    entry: &CtEntry,
) -> bool {
    let question = Question {
        direction: Direction::Ingress,
        class: entry.remote,
        proto: packet.proto,
        port: packet.sport,
        shown: Shown::Address,
    };
    entry.policy_generation == endpoint.policy_generation
        || (may_turn(packet, entry) && policy::ask(state, endpoint, question).is_ok())
}

/// A flow from a pod of this node is good while that pod lives, both are authenticated if that
/// was required, and neither policy changes; then it is judged again.
fn stands_from_pod(
    state: &State,
    now: u64,
    packet: &Packet,
    endpoint: &Endpoint,
    entry: &mut CtEntry,
) -> bool {
    let Some(opener) = state
        .endpoint(u32::from(entry.other))
        .filter(|opener| opener.generation == entry.remote)
    else {
        return false;
    };
    if entry.flags & ct_flags::REQUIRED != 0 && !both_authenticated(now, &opener, endpoint) {
        return false;
    }
    if is_current_pair(entry, endpoint, &opener) {
        return true;
    }
    if !may_turn(packet, entry) {
        return false;
    }
    let Ok(admitted) = pair(state, now, packet, &opener, endpoint, packet.sport) else {
        return false;
    };
    if admitted.required {
        entry.flags |= ct_flags::REQUIRED;
    }
    entry.other_policy = opener.policy_generation;
    true
}

/// Both policies of a pair on this node: `opener` sent the first packet, to `port` of `server`.
/// Same rules as across nodes, but there is no label: who is required to be authenticated must
/// have an SVID that passed the full check and has not run out.
fn pair(
    state: &State,
    now: u64,
    packet: &Packet,
    opener: &Endpoint,
    server: &Endpoint,
    port: u16,
) -> Result<Admitted, Refusal> {
    let ask = |endpoint: &Endpoint, direction, class| {
        policy::ask(
            state,
            endpoint,
            Question {
                direction,
                class,
                proto: packet.proto,
                port,
                shown: Shown::Pod,
            },
        )
    };
    let egress = ask(opener, Direction::Egress, server.class)?;
    let ingress = ask(server, Direction::Ingress, opener.class)?;
    let required = egress.required || ingress.required;
    if required && !both_authenticated(now, opener, server) {
        return Err(Refusal::by_rule(
            DropReason::AuthenticationRequired,
            ingress.rule,
        ));
    }
    Ok(Admitted {
        rule: ingress.rule,
        required,
    })
}

fn both_authenticated(now: u64, one: &Endpoint, other: &Endpoint) -> bool {
    [one, other].into_iter().all(|endpoint| {
        endpoint.flags & endpoint_flags::AUTHENTICATED != 0 && endpoint.not_after > now
    })
}

/// The entry was made under both pods' present incarnation and policy.
fn is_current_pair(entry: &CtEntry, endpoint: &Endpoint, other: &Endpoint) -> bool {
    entry.other == other.index
        && entry.remote == other.generation
        && entry.policy_generation == endpoint.policy_generation
        && entry.other_policy == other.policy_generation
}

/// Goes against the way its flow was opened. An error does not answer, it tells; and what it quotes
/// is not what policy would be asked about.
fn answers(packet: &Packet, entry: Option<CtEntry>, way: Direction) -> bool {
    entry.is_some_and(|entry| {
        let opened_here = entry.flags & ct_flags::LOCAL_INITIATED != 0;
        packet.quote.is_none() && !packet.is_opening() && opened_here == (way == Direction::Ingress)
    })
}

/// Whether a packet on its way out may be judged as the opener of this entry's flow would be.
fn may_turn(packet: &Packet, entry: &CtEntry) -> bool {
    packet.is_midstream() || answers(packet, Some(*entry), Direction::Egress)
}

/// `forward`, or if it may be turned what the flow's opener would have got; then the second value
/// is true. If both refuse, the packet's own direction says why.
fn or_as_opener(
    turn: bool,
    forward: Result<Admitted, Refusal>,
    reversed: impl FnOnce() -> Result<Admitted, Refusal>,
) -> Result<(Admitted, bool), Refusal> {
    match forward {
        Ok(admitted) => Ok((admitted, false)),
        Err(refusal) if turn => reversed().map(|admitted| (admitted, true)).or(Err(refusal)),
        Err(refusal) => Err(refusal),
    }
}

/// Flags of an entry by who opened the flow.
fn opened(by_the_endpoint: bool) -> u16 {
    if by_the_endpoint {
        ct_flags::LOCAL_INITIATED
    } else {
        0
    }
}

fn opposite(way: Direction) -> Direction {
    match way {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}
