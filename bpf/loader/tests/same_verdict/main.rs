//! Two pods under the same policies get the same verdict, packet by packet and for the same reason,
//! whether they run on one node or on two.
//!
//! The same script is played twice over the model, which the differential test holds against the
//! kernel: once through both veths of one node, once through the tunnel between two. No privilege is
//! needed.
//!
//! `SIGNET_SAME_CASES` sets how many scripts, `SIGNET_SAME_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it did"
)]

#[path = "../differential/random.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use random::Random;
use signet_abi::{
    Action, Addr, AddrPrefix, Config, Direction, DropReason, Endpoint, Hook, MARK_MASK,
    MARK_PENDING, MARK_VERIFIED, Peer, PolicyKey, PolicyPrefix, PolicyValue, RecvKey, RecvRow,
    SendKey, SendRow, config_flags, endpoint_flags, pod_range_flags, send_state,
};
use signet_loader::prog_test::frame::{Frame, Transport};
use signet_model::{Ctx, State, Verdict};

const SLOT: u32 = 10;
const SIGNET0: u32 = 13;
const PEER: u32 = 5;
const EPOCH: u64 = 0x1_0000_0006;
const FAR: u64 = 1 << 60;
const SCRIPTS: usize = 3_000;

/// A pod, wherever it runs.
#[derive(Clone, Copy)]
struct Pod {
    index: u16,
    class: u32,
    identity: u32,
    /// As the other node numbers it.
    handle: u32,
    /// By which it speaks to the other pod.
    label: u64,
    addrs: [IpAddr; 2],
}

fn pods() -> [Pod; 2] {
    let pod = |n: u16| Pod {
        index: n,
        class: 20 + u32::from(n),
        identity: 1000 + u32::from(n),
        handle: 70 + u32::from(n),
        label: 0x12_3456_7890 + u64::from(n),
        addrs: [
            IpAddr::from([10, n as u8, 0, 2]),
            IpAddr::from([0xfd00, n, 0, 0, 0, 0, 0, 2]),
        ],
    };
    [pod(1), pod(2)]
}

impl Pod {
    fn ifindex(self) -> u32 {
        20 + u32::from(self.index)
    }

    fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.index as u8]
    }
}

/// The pods on one node, and each on its own.
struct Worlds {
    one: State,
    two: [State; 2],
}

impl Worlds {
    fn new(random: &mut Random) -> Self {
        let pods = pods();
        let strict = random.percent(50);
        let mut worlds = Self {
            one: node(strict),
            two: [node(strict), node(strict)],
        };
        for (at, pod) in pods.iter().enumerate() {
            let mut endpoint = Endpoint {
                generation: 3,
                ifindex: pod.ifindex(),
                class: pod.class,
                identity: pod.identity,
                policy_generation: 1,
                flags: endpoint_flags::AUTHENTICATED,
                not_after: FAR,
                mac: pod.mac(),
                index: pod.index,
                ..Endpoint::default()
            };
            assert!(endpoint.set_addrs(&pod.addrs.map(Addr::from)));
            for state in [&mut worlds.one, &mut worlds.two[at]] {
                let index = u32::from(pod.index);
                state.endpoints.insert(index, endpoint);
                state.interfaces.insert(pod.ifindex(), index);
                for addr in pod.addrs {
                    state.local_addresses.insert(addr.into(), index);
                }
            }
            pair(&mut worlds.two[at], *pod, pods[1 - at]);
        }
        worlds
    }

    /// What the agents of both worlds do on a change: rows, then the generation.
    fn change(&mut self, at: usize, change: &Change) {
        let index = u32::from(pods()[at].index);
        for state in [&mut self.one, &mut self.two[at]] {
            let endpoint = state.endpoints.get_mut(&index).unwrap();
            match *change {
                Change::Rule(key, Some(value)) => {
                    state.policy.insert(key, value);
                }
                Change::Rule(key, None) => {
                    state.policy.remove(&key);
                }
                Change::Isolation(flags) => {
                    endpoint.flags = endpoint_flags::AUTHENTICATED | flags;
                }
            }
            endpoint.policy_generation += 1;
        }
    }

    fn forget(&mut self) {
        let [left, right] = &mut self.two;
        for state in [&mut self.one, left, right] {
            state.conntrack.clear();
        }
    }

    fn on_one_node(&mut self, from: usize, frame: &Frame, now: u64) -> Result<(), DropReason> {
        let (from, to) = (pods()[from], pods()[1 - from]);
        let ctx = sent(&mut self.one, from, frame, now)?;
        let ctx = Ctx {
            ifindex: to.ifindex(),
            ..ctx
        };
        delivered(&mut self.one, &ctx, &frame.build(), now)
    }

    fn on_two_nodes(&mut self, from: usize, frame: &Frame, now: u64) -> Result<(), DropReason> {
        let (source, target) = (pods()[from], pods()[1 - from]);
        let [one, other] = &mut self.two;
        let (here, there) = if from == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let ctx = sent(here, source, frame, now)?;
        let ctx = Ctx {
            ifindex: SIGNET0,
            ..ctx
        };
        let bytes = match Verdict::of(Hook::ToTunnel, here, now, &ctx, &frame.build_ip()) {
            Verdict::Redirect { bytes, .. } => bytes,
            Verdict::Drop { reason, .. } => return Err(reason),
            other @ (Verdict::Next { .. } | Verdict::Hold { .. }) => panic!("{other:?}"),
        };
        let ctx = Ctx {
            ifindex: SLOT,
            ingress_ifindex: SLOT,
            protocol: ctx.protocol,
            ..Ctx::default()
        };
        match Verdict::of(Hook::FromTunnel, there, now, &ctx, &bytes) {
            Verdict::Next {
                mark,
                tc_index,
                bytes,
                ..
            } => {
                let ctx = Ctx {
                    ifindex: target.ifindex(),
                    mark,
                    tc_index,
                    ..ctx
                };
                let ethernet = &frame.build()[..14];
                delivered(there, &ctx, &[ethernet, &bytes].concat(), now)
            }
            Verdict::Drop { reason, .. } => Err(reason),
            other @ (Verdict::Redirect { .. } | Verdict::Hold { .. }) => panic!("{other:?}"),
        }
    }
}

fn node(strict: bool) -> State {
    let mut state = State {
        config: Config {
            slot_ifindex: [SLOT, SLOT + 1],
            signet0_ifindex: SIGNET0,
            flags: if strict { config_flags::STRICT } else { 0 },
            mark_mask: MARK_MASK,
            mark_pending: MARK_PENDING,
            mark_verified: MARK_VERIFIED,
            hash_seed: 7,
            ..Config::default()
        },
        ..State::default()
    };
    for (address, len) in [("10.0.0.0", 8), ("fd00::", 16)] {
        let prefix = AddrPrefix::new(address.parse::<IpAddr>().unwrap(), len);
        state.pod_ranges.insert(prefix, pod_range_flags::LOCAL);
    }
    let peer = Peer {
        lease_until: FAR,
        slot_epoch: [EPOCH, EPOCH - 1],
        slot_until: [u64::MAX; 2],
        ..Peer::default()
    };
    state.peers.insert(PEER, peer);
    state
}

/// Rows of an authenticated pair, as the node of `here` has them.
fn pair(state: &mut State, here: Pod, there: Pod) {
    for addr in there.addrs {
        let key = SendKey {
            endpoint: here.index.into(),
            generation: 3,
            dst: addr.into(),
        };
        let row = SendRow {
            label: [here.label, 0],
            epoch: [EPOCH, 0],
            not_after: FAR,
            peer: PEER,
            class: there.class,
            remote: there.handle,
            reserved: 0,
            state: send_state::PAIRED,
            reason: 0,
        };
        state.send_rows.insert(key, row);
    }
    let mut row = RecvRow {
        epoch: EPOCH,
        not_after: FAR,
        peer: PEER,
        class: there.class,
        remote: there.handle,
        identity: here.identity,
        slot: 0,
        ..RecvRow::default()
    };
    assert!(row.set_addrs(&there.addrs.map(Addr::from)));
    let key = RecvKey { label: there.label };
    state.recv_rows.insert(key, row);
}

/// Through the sender's veth; what the next hook is told, but for its own device.
fn sent(state: &mut State, from: Pod, frame: &Frame, now: u64) -> Result<Ctx, DropReason> {
    let bytes = frame.build();
    let ctx = Ctx {
        ifindex: from.ifindex(),
        ingress_ifindex: from.ifindex(),
        protocol: u16::from_be_bytes([bytes[12], bytes[13]]),
        ..Ctx::default()
    };
    match Verdict::of(Hook::FromWorkload, state, now, &ctx, &bytes) {
        Verdict::Next {
            mark,
            tc_index,
            hash,
            ..
        } => Ok(Ctx {
            mark,
            tc_index,
            hash,
            ..ctx
        }),
        Verdict::Drop { reason, .. } => Err(reason),
        other @ (Verdict::Redirect { .. } | Verdict::Hold { .. }) => panic!("{other:?}"),
    }
}

fn delivered(state: &mut State, ctx: &Ctx, bytes: &[u8], now: u64) -> Result<(), DropReason> {
    match Verdict::of(Hook::ToWorkload, state, now, ctx, bytes) {
        Verdict::Next { .. } => Ok(()),
        Verdict::Drop { reason, .. } => Err(reason),
        other @ (Verdict::Redirect { .. } | Verdict::Hold { .. }) => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Rule(PolicyKey, Option<PolicyValue>),
    Isolation(u32),
}

fn change(random: &mut Random, at: usize) -> Change {
    if random.percent(25) {
        let flags = [
            endpoint_flags::INGRESS_ISOLATED,
            endpoint_flags::EGRESS_ISOLATED,
        ];
        let of = |random: &mut Random, flag| if random.percent(50) { flag } else { 0 };
        return Change::Isolation(of(random, flags[0]) | of(random, flags[1]));
    }
    let (port, port_bits) =
        random.pick(&[(0, 0), (0, 0), (80, 16), (80, 12), (40000, 16), (53, 16)]);
    let key = PolicyKey::new(PolicyPrefix {
        endpoint: pods()[at].index,
        direction: random.pick(&[Direction::Ingress, Direction::Egress]),
        proto: random.pick(&[0, 0, 6, 17]),
        class: pods()[1 - at].class,
        port,
        port_bits,
    });
    let action = if random.percent(70) {
        Action::Allow
    } else {
        Action::Deny
    };
    let value = PolicyValue::new(1 + random.next() as u32 % 99, action, random.percent(40));
    Change::Rule(key, random.percent(75).then_some(value))
}

/// A packet of one of a few flows, in either direction, at any moment of a connection.
/// With `one_flow` they are all of the same, whose policy then changes under it.
fn packet(random: &mut Random, from: usize, one_flow: bool) -> Frame {
    let family = if one_flow { 0 } else { random.below(2) };
    let (src, dst) = (pods()[from].addrs[family], pods()[1 - from].addrs[family]);
    let (client, server) = (random.pick(&[40000u16, 40001]), random.pick(&[80u16, 53]));
    // Pod 0 is mostly the client, but either may be.
    let (sport, dport) = if (from == 0) == random.percent(90) {
        (client, server)
    } else {
        (server, client)
    };
    let kind = if one_flow { 6 } else { random.below(10) };
    let (sport, dport) = match (one_flow, from) {
        (false, _) => (sport, dport),
        (true, 0) => (40000, 53),
        (true, _) => (53, 40000),
    };
    let transport = match kind {
        0..=5 => Transport::Tcp {
            sport,
            dport,
            flags: random.pick(&[0x02, 0x12, 0x10, 0x18, 0x11, 0x04]),
        },
        6..=8 => Transport::Udp { sport, dport },
        _ => {
            let v4 = src.is_ipv4();
            let kind = match (v4, random.percent(50)) {
                (true, true) => 8,
                (true, false) => 0,
                (false, true) => 128,
                (false, false) => 129,
            };
            Transport::Icmp {
                kind,
                code: 0,
                word: 0x0007_0001,
            }
        }
    };
    let mut frame = Frame::new(src, dst, transport);
    frame.src_mac = pods()[from].mac();
    frame
}

#[test]
fn one_node_or_two_make_no_difference() {
    let cases = variable("SIGNET_SAME_CASES").map_or(SCRIPTS, |cases| cases as usize);
    let seed = variable("SIGNET_SAME_SEED").unwrap_or(0x5167_6e65_7400_0001);
    println!("SIGNET_SAME_SEED={seed} SIGNET_SAME_CASES={cases}");
    let mut seeds = Random::new(seed);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for case in 0..cases {
        let mut random = Random::new(seeds.next());
        let mut worlds = Worlds::new(&mut random);
        let mut script = Vec::new();
        for _ in 0..random.below(8) {
            let at = random.below(2);
            let change = change(&mut random, at);
            script.push(format!("pod {at}: {change:?}"));
            worlds.change(at, &change);
        }
        let mut now = 1_000_000_000;
        // What one node lets out and the other refuses is remembered by the first.
        let mut refused = BTreeSet::new();
        let mut opened = BTreeSet::new();
        let one_flow = random.percent(30);
        for _ in 0..20 {
            now += random.pick(&[
                1_000_000,
                1_000_000,
                1_000_000_000,
                40_000_000_000,
                200_000_000_000,
            ]);
            let at = random.below(2);
            if random.percent(if one_flow { 40 } else { 12 }) {
                let change = change(&mut random, at);
                script.push(format!("pod {at}: {change:?}"));
                worlds.change(at, &change);
                // What is remembered of before is judged anew by each node for its own pod alone;
                // here all begins anew.
                worlds.forget();
                refused.clear();
                opened.clear();
                continue;
            }
            let frame = packet(&mut random, at, one_flow);
            if refused.contains(&flow(&frame)) {
                continue;
            }
            script.push(format!(
                "{now}: {} -> {} {:?}",
                frame.src, frame.dst, frame.transport
            ));
            let near = worlds.on_one_node(at, &frame, now);
            let far = worlds.on_two_nodes(at, &frame, now);
            let same = match (near, far) {
                _ if near == far => true,
                // Whose rule it was is clear only of a packet that opens.
                (Err(_), Err(_)) => !opens(&frame),
                // A node knows its own pod's policy alone: in mid-connection, without memory of it,
                // it takes the better of both ways for the one in which it was opened. From there on
                // the two remember different things; nothing is opened by it.
                (Err(_), Ok(())) if !opens(&frame) && is_tcp(&frame) => {
                    *seen.entry("lenient".to_owned()).or_default() += 1;
                    break;
                }
                (Err(_), Ok(())) | (Ok(()), _) => false,
            };
            assert!(
                same,
                "one node {near:?}, two nodes {far:?}; script {case}:\n{}",
                script.join("\n")
            );
            if near.is_err() && far != Err(DropReason::DefaultDenyEgress) {
                refused.insert(flow(&frame));
            }
            if opens(&frame) && near.is_ok() {
                opened.insert(flow(&frame));
            } else if is_midstream(&frame) && near.is_ok() && !opened.contains(&flow(&frame)) {
                break;
            }
            let outcome = near.map_or_else(|reason| reason.to_string(), |()| "passed".to_owned());
            *seen.entry(outcome).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for outcome in [
        "passed",
        "DEFAULT_DENY_EGRESS",
        "DEFAULT_DENY_INGRESS",
        "POLICY_EGRESS_DENIED",
        "POLICY_INGRESS_DENIED",
    ] {
        assert!(
            seen.get(outcome).is_some_and(|n| *n >= 20),
            "{outcome}: {seen:?}"
        );
    }
}

/// The flow, whoever sends: protocol and ports in one order.
fn flow(frame: &Frame) -> (bool, u8, u16, u16) {
    let (proto, one, other) = match frame.transport {
        Transport::Tcp { sport, dport, .. } => (6, sport, dport),
        Transport::Udp { sport, dport } => (17, sport, dport),
        Transport::Icmp { .. } | Transport::Raw(_) => (1, 0, 0),
    };
    (frame.src.is_ipv4(), proto, one.min(other), one.max(other))
}

fn opens(frame: &Frame) -> bool {
    matches!(frame.transport, Transport::Tcp { flags: 0x02, .. })
}

fn is_tcp(frame: &Frame) -> bool {
    matches!(frame.transport, Transport::Tcp { .. })
}

fn is_midstream(frame: &Frame) -> bool {
    matches!(frame.transport, Transport::Tcp { flags, .. } if flags & 0x02 == 0)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
