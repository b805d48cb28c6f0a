//! A random node: mostly in order, with something broken here and there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use signet_abi::*;
use signet_loader::boot_time_ns;
use signet_model::State;

use crate::random::Random;
use crate::scenario::Change;

pub(crate) const SLOT: [u32; 2] = [10, 11];
pub(crate) const HOLD: u32 = 12;
pub(crate) const SIGNET0: u32 = 13;
pub(crate) const UNDERLAY: u32 = 14;

/// Index of the node's own endpoint.
const HOST: u16 = 7;

const HOUR: u64 = 3_600_000_000_000;
/// Long past on any clock.
const PAST: u64 = 1;

/// A pod of this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) index: u16,
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    /// IPv4, then IPv6.
    pub(crate) addrs: [IpAddr; 2],
}

/// A pod of another node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) addrs: [IpAddr; 2],
    pub(crate) class: u32,
    handle: u32,
    peer: u32,
}

/// Who there is.
pub(crate) struct Cast {
    pub(crate) locals: Vec<Local>,
    pub(crate) remotes: Vec<Remote>,
    /// Addresses of the world, by family.
    pub(crate) world: [Vec<IpAddr>; 2],
    /// Addresses with a meaning of their own, by family.
    pub(crate) odd: [Vec<IpAddr>; 2],
    /// The node's own, by family.
    pub(crate) node: [IpAddr; 2],
    /// The node itself, which has no interface.
    pub(crate) host: Local,
}

pub(crate) fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, d).into()
}

pub(crate) fn v6(a: u16, b: u16, c: u16, d: u16) -> IpAddr {
    Ipv6Addr::new(a, b, 0, 0, 0, 0, c, d).into()
}

impl Cast {
    fn new(random: &mut Random) -> Self {
        // Events are limited per pair of addresses, so each node has its own.
        let net = 1 + random.below(200) as u8;
        let locals = (1..=2 + random.below(3) as u8).map(|i| Local {
            index: if i == 4 { 4000 } else { u16::from(i) },
            ifindex: 100 + u32::from(i),
            mac: [2, 0, 0, 0, net, i],
            addrs: [v4(10, net, 0, i), v6(0xfd00, net.into(), 0, i.into())],
        });
        let locals = locals.collect();
        let remotes = (1..=2 + random.below(2) as u8).map(|i| Remote {
            addrs: [v4(10, net, 1, i), v6(0xfd00, net.into(), 1, i.into())],
            class: random.pick(&[30, 31, 17]),
            handle: 500 + u32::from(i),
            peer: 1 + random.below(2) as u32,
        });
        let remotes = remotes.collect();
        Self {
            locals,
            remotes,
            world: [
                vec![
                    v4(192, 0, 2, 7),
                    v4(192, 0, 2, 200),
                    v4(8, 8, 8, net),
                    v4(10, 96, 0, 1),
                ],
                vec![
                    v6(0x2001, 0xdb8, 0, net.into()),
                    v6(0x2001, 0xdb9, 0, 1),
                    v6(0x2600, 0, 0, 9),
                ],
            ],
            odd: [
                vec![
                    v4(169, 254, 20, 10),
                    v4(169, 254, 1, 1),
                    v4(224, 0, 0, 5),
                    v4(255, 255, 255, 255),
                    v4(240, 0, 0, 1),
                    v4(0, 0, 0, 0),
                ],
                vec![
                    v6(0xfe80, 0, 0, 1),
                    v6(0xff02, 0, 0, 1),
                    v6(0, 0, 0, 0),
                    v6(0, 0, 0, 1),
                    v6(0xfebf, 1, 0, 1),
                ],
            ],
            node: [v4(172, 18, 0, 2), v6(0xfc00, 0, 0, 2)],
            host: Local {
                index: HOST,
                ifindex: 0,
                mac: [0; 6],
                addrs: [v4(172, 18, 0, 2), v6(0xfc00, 0, 0, 2)],
            },
        }
    }

    /// Any address of the family, most of them somebody's.
    pub(crate) fn anybody(&self, random: &mut Random, family: usize) -> IpAddr {
        match random.below(10) {
            0..=3 => random.pick(&self.locals).addrs[family],
            4..=5 => random.pick(&self.remotes).addrs[family],
            6..=7 => random.pick(&self.world[family]),
            8 => self.node[family],
            _ => random.pick(&self.odd[family]),
        }
    }
}

/// Mostly good, else long over.
fn until(random: &mut Random) -> u64 {
    if random.percent(92) {
        boot_time_ns() + HOUR
    } else {
        PAST
    }
}

pub(crate) fn make(random: &mut Random) -> (Cast, State) {
    let cast = Cast::new(random);
    let mut state = State {
        config: config(random),
        ..State::default()
    };
    for local in &cast.locals {
        endpoint(random, local, &mut state);
    }
    endpoint(random, &cast.host, &mut state);
    peers(random, &mut state);
    rows(random, &cast, &mut state);
    ranges(random, &cast, &mut state);
    for _ in 0..random.below(40) {
        let (key, value) = rule(random, &state);
        state.policy.insert(key, value);
    }
    (cast, state)
}

fn config(random: &mut Random) -> Config {
    let (mask, pending, verified) = if random.percent(85) {
        (MARK_MASK, MARK_PENDING, MARK_VERIFIED)
    } else {
        (0x0060_0000, 0x0040_0000, 0x0020_0000)
    };
    let mut flags = 0;
    if random.percent(50) {
        flags |= config_flags::STRICT;
    }
    if random.percent(80) {
        flags |= config_flags::HOLD;
    }
    let mut config = Config {
        slot_ifindex: SLOT,
        hold_ifindex: HOLD,
        signet0_ifindex: SIGNET0,
        flags,
        mark_mask: mask,
        mark_pending: pending,
        mark_verified: verified,
        hash_seed: random.next() as u32,
        host_endpoint: if random.percent(95) { HOST.into() } else { 0 },
    };
    match random.below(60) {
        0 => config.mark_mask = 0,
        1 => config.hold_ifindex = 0,
        2 => config.slot_ifindex[1] = 0,
        3 => config.slot_ifindex = [0, 0],
        _ => {}
    }
    config
}

fn endpoint(random: &mut Random, local: &Local, state: &mut State) {
    let mut endpoint = Endpoint {
        generation: 1 + random.below(3) as u32,
        ifindex: local.ifindex,
        class: random.pick(&[16, 17, 18, 30]),
        identity: random.pick(&[200, 200, 201]),
        policy_generation: 1,
        flags: endpoint_flags(random),
        not_after: until(random),
        mac: local.mac,
        index: local.index,
        ..Endpoint::default()
    };
    let addrs = local.addrs.map(Addr::from);
    assert!(endpoint.set_addrs(if random.percent(95) {
        &addrs
    } else {
        &addrs[..1]
    }));
    let index = u32::from(local.index);
    if random.percent(98) {
        state.endpoints.insert(index, endpoint);
    }
    if local.ifindex != 0 && random.percent(98) {
        state.interfaces.insert(local.ifindex, index);
    }
    for addr in addrs {
        if random.percent(96) {
            let owner = if random.percent(97) {
                index
            } else {
                random.pick(&[0, 1, 2, 9])
            };
            state.local_addresses.insert(addr, owner);
        }
    }
}

fn endpoint_flags(random: &mut Random) -> u32 {
    let mut flags = 0;
    for (flag, chance) in [
        (endpoint_flags::INGRESS_ISOLATED, 40),
        (endpoint_flags::EGRESS_ISOLATED, 30),
        (endpoint_flags::AUTHENTICATED, 80),
    ] {
        if random.percent(chance) {
            flags |= flag;
        }
    }
    flags
}

fn peers(random: &mut Random, state: &mut State) {
    for number in 1..=2 {
        let epoch = 0x1_0000_0000 + random.next() % 600;
        let peer = Peer {
            lease_until: until(random),
            slot_epoch: [epoch & !1, epoch | 1],
            slot_until: [slot_until(random), slot_until(random)],
            tx_slot: random.below(2) as u32,
            reserved: 0,
        };
        if random.percent(97) {
            state.peers.insert(number, peer);
        }
    }
}

/// Keys are seldom too old.
fn slot_until(random: &mut Random) -> u64 {
    if random.percent(97) {
        u64::MAX
    } else {
        until(random)
    }
}

fn rows(random: &mut Random, cast: &Cast, state: &mut State) {
    for remote in &cast.remotes {
        for local in cast.locals.iter().chain([&cast.host]) {
            let Some(endpoint) = state.endpoints.get(&local.index.into()).copied() else {
                continue;
            };
            for addr in remote.addrs {
                if random.percent(80) {
                    let key = SendKey {
                        endpoint: local.index.into(),
                        generation: endpoint.generation,
                        dst: addr.into(),
                    };
                    let row = send_row(random, remote, state);
                    state.send_rows.insert(key, row);
                }
            }
        }
        for identity in [200, 201] {
            if random.percent(90) {
                let key = RecvKey {
                    label: random.next() & ((1 << LABEL_BITS) - 1),
                };
                let row = recv_row(random, remote, identity, state);
                state.recv_rows.insert(key, row);
            }
        }
    }
}

/// The epoch of a slot as the peer has it, most of the time.
fn epoch(random: &mut Random, peer: u32, slot: usize, state: &State) -> u64 {
    let epoch = state
        .peers
        .get(&peer)
        .map_or(0, |peer| peer.slot_epoch[slot]);
    match random.below(40) {
        0 => epoch.wrapping_add(2),
        // The same byte on the wire.
        1 => epoch.wrapping_add(256),
        _ => epoch,
    }
}

fn send_row(random: &mut Random, remote: &Remote, state: &State) -> SendRow {
    // A label for one slot, for both in a switch of epochs, seldom for none.
    let mut epochs = [0; SLOTS];
    for (slot, of) in epochs.iter_mut().enumerate() {
        if random.percent(70) {
            *of = epoch(random, remote.peer, slot, state);
        }
    }
    SendRow {
        label: [0; SLOTS].map(|_: u64| random.next() >> random.pick(&[0, 24, 40])),
        epoch: epochs,
        not_after: until(random),
        peer: remote.peer,
        class: remote.class,
        remote: remote.handle,
        reserved: 0,
        state: match random.below(30) {
            0 => 0,
            1 | 2 => send_state::REFUSED,
            _ => send_state::PAIRED,
        },
        reason: random.pick(&[
            0,
            DropReason::PolicyEgressDenied.number(),
            DropReason::PeerUnreachable.number(),
        ]),
    }
}

fn recv_row(random: &mut Random, remote: &Remote, identity: u32, state: &State) -> RecvRow {
    let slot = random.below(2);
    let mut row = RecvRow {
        epoch: epoch(random, remote.peer, slot, state),
        not_after: until(random),
        peer: remote.peer,
        class: remote.class,
        remote: remote.handle,
        identity,
        slot: slot as u32,
        ..RecvRow::default()
    };
    let addrs = remote.addrs.map(Addr::from);
    assert!(row.set_addrs(if random.percent(95) {
        &addrs
    } else {
        &addrs[1..]
    }));
    row
}

fn ranges(random: &mut Random, cast: &Cast, state: &mut State) {
    let local = cast.locals[0].addrs;
    let remote = cast.remotes[0].addrs;
    for (address, lens, flags) in [
        (local[0], [24, 26, 32], pod_range_flags::LOCAL),
        (local[1], [112, 112, 128], pod_range_flags::LOCAL),
        (remote[0], [24, 24, 31], pod_range_flags::REMOTE),
        (remote[1], [112, 112, 127], pod_range_flags::REMOTE),
    ] {
        if random.percent(95) {
            let len = if random.percent(90) {
                lens[0]
            } else {
                random.pick(&lens)
            };
            let prefix = canonical(AddrPrefix::new(address, len));
            state.pod_ranges.insert(prefix, flags);
        }
    }
    for (address, len, class) in [
        (v4(192, 0, 2, 0), 24, 40),
        (v4(192, 0, 2, 128), 25, 41),
        (v4(0, 0, 0, 0), 0, 42),
        (v4(8, 8, 8, 0), 22, CLASS_KUBE_API_SERVER),
        (v6(0x2001, 0xdb8, 0, 0), 32, 43),
        (v6(0x2000, 0, 0, 0), 3, CLASS_UNMANAGED),
        (v6(0, 0, 0, 0), 0, 44),
    ] {
        if random.percent(50) {
            let prefix = canonical(AddrPrefix::new(address, len));
            state.cidr_classes.insert(prefix, class);
        }
    }
}

/// The kernel takes prefixes that differ only past their length for the same.
fn canonical(prefix: AddrPrefix) -> AddrPrefix {
    let open = 128 - prefix.prefix_len;
    let bits = u128::from_be_bytes(prefix.addr.bytes);
    let bits = bits
        .checked_shr(open)
        .unwrap_or(0)
        .checked_shl(open)
        .unwrap_or(0);
    AddrPrefix {
        addr: Addr {
            bytes: bits.to_be_bytes(),
        },
        ..prefix
    }
}

const CLASSES: &[u32] = &[0, 1, 3, 4, 16, 17, 18, 30, 31, 40, 41, 42, 43, 44];

fn rule(random: &mut Random, state: &State) -> (PolicyKey, PolicyValue) {
    let indices: Vec<u32> = state.endpoints.keys().copied().collect();
    let endpoint = if indices.is_empty() {
        1
    } else {
        random.pick(&indices)
    };
    let (port, port_bits) = random.pick(&[
        (0, 0),
        (0, 0),
        (0, 16),
        (80, 16),
        (64, 10),
        (80, 12),
        (443, 16),
        (8080, 16),
        (53, 16),
        (40000, 16),
        (32768, 1),
    ]);
    let key = PolicyKey::new(PolicyPrefix {
        endpoint: endpoint as u16,
        direction: random.pick(&[Direction::Ingress, Direction::Egress]),
        proto: random.pick(&[0, 0, 0, 6, 6, 17, 1, 58, 132]),
        class: class(random, state),
        port,
        port_bits,
    });
    let action = if random.percent(75) {
        Action::Allow
    } else {
        Action::Deny
    };
    let number = 1 + random.next() as u32 % 1000;
    (key, PolicyValue::new(number, action, random.percent(35)))
}

/// A class somebody has, more often than not.
fn class(random: &mut Random, state: &State) -> u32 {
    let pod = any(random, &state.endpoints).map(|(_, endpoint)| endpoint.class);
    let remote = any(random, &state.recv_rows).map(|(_, row)| row.class);
    let address = any(random, &state.cidr_classes).map(|(_, class)| class);
    let known = random.pick(&[pod, remote, remote, address]);
    known.unwrap_or_else(|| random.pick(CLASSES))
}

/// Something the agent writes while packets flow.
pub(crate) fn change(random: &mut Random, cast: &Cast, state: &State) -> Option<Change> {
    Some(match random.below(12) {
        0..=3 => {
            let (index, endpoint) = any(random, &state.endpoints)?;
            let endpoint = change_endpoint(random, endpoint);
            let gone = random.percent(4);
            Change::Endpoint(index, (!gone).then_some(endpoint))
        }
        4 | 5 => {
            let (key, value) = rule(random, state);
            Change::Policy(key, Some(value))
        }
        6 => {
            let (key, _) = any(random, &state.policy)?;
            Change::Policy(key, None)
        }
        7 => {
            let mut config = state.config;
            config.flags ^= random.pick(&[config_flags::STRICT, config_flags::HOLD]);
            Change::Config(config)
        }
        8 => {
            let (number, mut peer) = any(random, &state.peers)?;
            peer.lease_until = until(random);
            let slot = random.below(2);
            if random.percent(30) {
                peer.slot_epoch[slot] += 2;
            }
            if random.percent(40) {
                peer.tx_slot ^= 1;
            }
            peer.slot_until[slot] = slot_until(random);
            Change::Peer(number, Some(peer))
        }
        9 => {
            let (key, _) = any(random, &state.send_rows)?;
            let remote = cast
                .remotes
                .iter()
                .find(|remote| remote.addrs.map(Addr::from).contains(&key.dst))?;
            let row = send_row(random, remote, state);
            Change::Send(key, random.percent(90).then_some(row))
        }
        10 => {
            let (key, mut row) = any(random, &state.recv_rows)?;
            match random.below(4) {
                0 => row.not_after = until(random),
                1 => row.remote += 100,
                2 => row.identity ^= 1,
                _ => return Some(Change::Recv(key, None)),
            }
            Change::Recv(key, Some(row))
        }
        _ if random.percent(50) => {
            let (prefix, _) = any(random, &state.pod_ranges)?;
            Change::PodRange(prefix, None)
        }
        _ => {
            let (prefix, _) = any(random, &state.cidr_classes)?;
            Change::Class(prefix, Some(random.pick(CLASSES)))
        }
    })
}

/// The endpoint with something about it changed.
pub(crate) fn change_endpoint(random: &mut Random, mut endpoint: Endpoint) -> Endpoint {
    match random.below(8) {
        0..=2 => endpoint.policy_generation += 1,
        3 => endpoint.generation += 1,
        4 => endpoint.flags = endpoint_flags(random),
        5 => endpoint.not_after = PAST,
        6 => endpoint.not_after = until(random),
        _ => endpoint.identity ^= 1,
    }
    endpoint
}

pub(crate) fn any<K: Copy, V: Copy>(
    random: &mut Random,
    map: &std::collections::BTreeMap<K, V>,
) -> Option<(K, V)> {
    if map.is_empty() {
        return None;
    }
    let (key, value) = map.iter().nth(random.below(map.len()))?;
    Some((*key, *value))
}
