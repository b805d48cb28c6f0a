//! What happens on the node: flows whose packets go from hook to hook as the stack would take
//! them. The model is asked on the way what mark and index the next hook will see.

use std::net::IpAddr;

use signet_abi::{
    Action, Addr, CtEntry, CtKey, Direction, Hook, PolicyKey, PolicyPrefix, PolicyValue, RecvRow,
    ct_flags,
};
use signet_loader::boot_time_ns;
use signet_loader::prog_test::frame::Frame;
use signet_model::{Ctx, State, Verdict};

use crate::packets::{self, Carries, Way};
use crate::random::Random;
use crate::scenario::{Change, Input, Scenario, Step};
use crate::world::{self, Cast, HOLD, Local, Remote, SIGNET0, SLOT, UNDERLAY};

#[derive(Clone, Copy)]
enum Between {
    /// Two pods of this node.
    Neighbours(Local, Local),
    /// A pod and a pod of another node.
    Nodes(Local, Remote),
    /// A pod and the world: the address it sees, and the one it is translated to.
    World(Local, IpAddr, IpAddr),
    /// The node itself and a pod of another node.
    HostAndRemote(Local, Remote),
    /// A pod of this node and the node itself.
    HostAndLocal(Local, Local),
}

#[derive(Clone, Copy)]
struct Flow {
    between: Between,
    family: usize,
    carries: Carries,
    /// The pod here opened it.
    from_here: bool,
}

struct Writer<'a> {
    random: &'a mut Random,
    cast: Cast,
    /// As it will be after the steps so far.
    state: State,
    steps: Vec<Step>,
    held: Vec<Vec<u8>>,
}

/// A random scenario.
pub(crate) fn write(random: &mut Random) -> Scenario {
    let (cast, mut state) = world::make(random);
    let flows: Vec<Flow> = (0..2 + random.below(4))
        .map(|_| flow(random, &cast))
        .collect();
    for flow in &flows {
        if random.percent(50) {
            favour(random, flow, &mut state);
        }
        if random.percent(20) {
            remember(random, &cast, flow, &mut state);
        }
    }
    let mut writer = Writer {
        random,
        cast,
        state: state.clone(),
        steps: Vec::new(),
        held: Vec::new(),
    };
    for _ in 0..20 + writer.random.below(20) {
        match writer.random.below(20) {
            0 | 1 => writer.change(),
            2 => writer.odd(),
            3 => writer.wild(),
            4 => writer.release(),
            5 | 6 => {
                let flow = writer.random.pick(&flows);
                writer.interrupt(flow);
            }
            _ => {
                let flow = writer.random.pick(&flows);
                let way = writer.random.pick(&[Way::Opener, Way::Opener, Way::Answer]);
                writer.follow(flow, way);
            }
        }
    }
    Scenario {
        state,
        steps: writer.steps,
    }
}

fn flow(random: &mut Random, cast: &Cast) -> Flow {
    let family = random.below(2);
    let here = random.pick(&cast.locals);
    let between = match random.below(13) {
        10 | 11 => Between::HostAndRemote(cast.host, random.pick(&cast.remotes)),
        12 => Between::HostAndLocal(here, cast.host),
        0..=2 => Between::Neighbours(here, random.pick(&cast.locals)),
        3..=6 => Between::Nodes(here, random.pick(&cast.remotes)),
        _ => {
            let seen = random.pick(&cast.world[family]);
            let real = if random.percent(70) {
                seen
            } else {
                random.pick(&cast.world[family])
            };
            Between::World(here, seen, real)
        }
    };
    Flow {
        between,
        family,
        carries: Carries::any(random),
        from_here: random.percent(60),
    }
}

/// A rule for the flow's opener, since most random rules are about nobody.
fn favour(random: &mut Random, flow: &Flow, state: &mut State) {
    let class_here = |local: Local| {
        let endpoint = state.endpoints.get(&local.index.into());
        endpoint.map_or(0, |endpoint| endpoint.class)
    };
    let (here, class) = match flow.between {
        Between::Neighbours(a, b) | Between::HostAndLocal(a, b) => (a, class_here(b)),
        Between::Nodes(here, there) | Between::HostAndRemote(here, there) => (here, there.class),
        Between::World(here, _, real) => (here, state.class_of(&real.into())),
    };
    let direction = if flow.from_here {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let key = PolicyKey::new(PolicyPrefix {
        endpoint: here.index,
        direction,
        class,
        ..PolicyPrefix::default()
    });
    let required = random.percent(20);
    state
        .policy
        .insert(key, PolicyValue::new(1, Action::Allow, required));
}

/// A conntrack entry from before, of any kind.
fn remember(random: &mut Random, cast: &Cast, flow: &Flow, state: &mut State) {
    let (here, there, point) = match flow.between {
        Between::Neighbours(a, b) | Between::HostAndLocal(a, b) => (a, b.addrs[flow.family], 1),
        Between::Nodes(a, b) | Between::HostAndRemote(a, b) => (a, b.addrs[flow.family], 0),
        Between::World(a, seen, _) => (a, seen, 1),
    };
    let (proto, sport, dport) = match flow.carries {
        Carries::Tcp(sport, dport) => (6, sport, dport),
        Carries::Udp(sport, dport) => (17, sport, dport),
        Carries::Sctp(sport, dport) => (132, sport, dport),
        Carries::Echo(id) => (if flow.family == 0 { 1 } else { 58 }, id, id),
        Carries::Other(proto) => (proto, 0, 0),
    };
    let (local_port, remote_port) = if flow.from_here {
        (sport, dport)
    } else {
        (dport, sport)
    };
    let key = CtKey {
        local: here.addrs[flow.family].into(),
        remote: there.into(),
        local_port: local_port.to_be(),
        remote_port: remote_port.to_be(),
        proto,
        point,
        endpoint: here.index,
    };
    let other = random.pick(&cast.locals).index;
    let generation = state
        .endpoints
        .get(&here.index.into())
        .map_or(1, |endpoint| endpoint.generation);
    let class = world::any(random, &state.cidr_classes).map_or(0, |(_, class)| class);
    let entry = CtEntry {
        expires: random.pick(&[1, u64::MAX / 2, u64::MAX / 2, u64::MAX / 2]),
        generation: random.pick(&[generation, generation, generation, 9]),
        policy_generation: random.pick(&[1, 1, 1, 2]),
        remote: random.pick(&[1, 2, 3, 0, class, class, class, 501, 502]),
        other_policy: 1,
        other: random.pick(&[0, 0, other]),
        flags: random.pick(&[0, ct_flags::LOCAL_INITIATED, ct_flags::REQUIRED]),
        rule: 77,
    };
    state.conntrack.insert(key, entry);
}

impl Writer<'_> {
    fn change(&mut self) {
        let Some(change) = world::change(self.random, &self.cast, &self.state) else {
            return;
        };
        change.apply(&mut self.state);
        self.steps.push(Step::Change(change));
    }

    /// Notes the packet and tells what the model makes of it.
    fn packet(&mut self, hook: Hook, mut ctx: Ctx, frame: Vec<u8>) -> Verdict {
        if self.random.percent(4) {
            self.confuse(&mut ctx);
        }
        ctx.protocol = u16::from_be_bytes([frame[12], frame[13]]);
        let input = Input { hook, ctx, frame };
        let verdict = input.model(&mut self.state, boot_time_ns());
        self.steps.push(Step::Packet(input));
        verdict
    }

    /// A word of the surroundings that is wrong.
    fn confuse(&mut self, ctx: &mut Ctx) {
        let config = self.state.config;
        match self.random.below(5) {
            0 => {
                let ours = self.random.pick(&[
                    0,
                    config.mark_pending,
                    config.mark_verified,
                    config.mark_pending | config.mark_verified,
                ]);
                ctx.mark = ctx.mark & !config.mark_mask | ours | self.random.pick(&[0, 0x8000]);
            }
            1 => ctx.tc_index = self.random.pick(&[0, 1, 2, 3, 9, 4000]),
            2 => ctx.ingress_ifindex = self.random.pick(&[0, 101, 102, SLOT[0], SLOT[1], UNDERLAY]),
            3 => {
                ctx.ifindex = self
                    .random
                    .pick(&[0, 101, 102, SLOT[0], SLOT[1], SIGNET0, HOLD])
            }
            _ => ctx.hash = self.random.next() as u32,
        }
    }

    /// A flow in full swing, and something about it changes.
    fn interrupt(&mut self, flow: Flow) {
        self.follow(flow, Way::Opener);
        self.follow(flow, Way::Answer);
        let here = match flow.between {
            Between::Neighbours(a, b) | Between::HostAndLocal(a, b) => self.random.pick(&[a, b]),
            Between::Nodes(here, _)
            | Between::World(here, ..)
            | Between::HostAndRemote(here, _) => here,
        };
        let index = u32::from(here.index);
        if let Some(endpoint) = self.state.endpoints.get(&index).copied() {
            let change = world::change_endpoint(self.random, endpoint);
            let change = Change::Endpoint(index, Some(change));
            change.apply(&mut self.state);
            self.steps.push(Step::Change(change));
        }
        for _ in 0..2 {
            self.follow(flow, Way::Answer);
            self.follow(flow, Way::Opener);
        }
    }

    fn follow(&mut self, flow: Flow, way: Way) {
        let out = (way == Way::Opener) == flow.from_here;
        match flow.between {
            Between::Neighbours(a, b) if out => self.send_to_neighbour(flow, way, a, b),
            Between::Neighbours(a, b) => self.send_to_neighbour(flow, way, b, a),
            Between::Nodes(here, there) if out => self.send_to_node(flow, way, here, there),
            Between::Nodes(here, there) => self.receive_from_node(flow, way, here, there),
            Between::World(here, seen, real) if out => {
                self.send_to_world(flow, way, here, seen, real)
            }
            Between::World(here, seen, _) => self.receive_from_world(flow, way, here, seen),
            Between::HostAndRemote(host, there) if out => self.host_to_node(flow, way, host, there),
            Between::HostAndRemote(host, there) => self.receive_from_node(flow, way, host, there),
            Between::HostAndLocal(here, host) if out => {
                self.sent(flow, way, here, host.addrs[flow.family]);
            }
            Between::HostAndLocal(here, host) => self.host_to_pod(flow, way, here, host),
        }
    }

    /// A pod sends; returns the frame it built, to be translated, and what came of it.
    fn sent(&mut self, flow: Flow, way: Way, from: Local, to: IpAddr) -> (Frame, Verdict) {
        let mut src = from.addrs[flow.family];
        if self.random.percent(2) {
            src = self.cast.anybody(self.random, flow.family);
        }
        let mut frame = packets::of_flow(self.random, flow.carries, way, src, to);
        frame.src_mac = from.mac;
        if self.random.percent(1) {
            frame.src_mac[5] ^= 1;
        }
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        let ctx = Ctx {
            ifindex: from.ifindex,
            ingress_ifindex: from.ifindex,
            mark: self.random.pick(&[0, 0, 0, 0x4000]),
            ..Ctx::default()
        };
        let verdict = self.packet(Hook::FromWorkload, ctx, bytes);
        (frame, verdict)
    }

    fn send_to_neighbour(&mut self, flow: Flow, way: Way, from: Local, to: Local) {
        let (mut frame, verdict) = self.sent(flow, way, from, to.addrs[flow.family]);
        let Some(ctx) = goes_on(&verdict, to.ifindex, from.ifindex) else {
            return;
        };
        if self.random.percent(4) {
            // A masquerade that should not be.
            frame.src = self.cast.node[flow.family];
        }
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        self.packet(Hook::ToWorkload, ctx, bytes);
    }

    fn send_to_node(&mut self, flow: Flow, way: Way, here: Local, there: Remote) {
        let (mut frame, verdict) = self.sent(flow, way, here, there.addrs[flow.family]);
        let Some(ctx) = goes_on(&verdict, SIGNET0, here.ifindex) else {
            return;
        };
        if self.random.percent(3) {
            frame.src = self.cast.node[flow.family];
        }
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        if let Verdict::Hold { frame, .. } = self.packet(Hook::ToTunnel, ctx, bytes) {
            self.held.push(frame);
        }
    }

    /// The node sends, or forwards under its own address.
    fn host_to_node(&mut self, flow: Flow, way: Way, host: Local, there: Remote) {
        let (mut src, dst) = (host.addrs[flow.family], there.addrs[flow.family]);
        if self.random.percent(4) {
            src = self.cast.anybody(self.random, flow.family);
        }
        let frame = packets::of_flow(self.random, flow.carries, way, src, dst);
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        let ctx = Ctx {
            ifindex: SIGNET0,
            ingress_ifindex: self.random.pick(&[0, 0, 0, UNDERLAY, UNDERLAY, 101]),
            mark: self.random.pick(&[0, 0, 0x4000]),
            ..Ctx::default()
        };
        if let Verdict::Hold { frame, .. } = self.packet(Hook::ToTunnel, ctx, bytes) {
            self.held.push(frame);
        }
    }

    fn host_to_pod(&mut self, flow: Flow, way: Way, here: Local, host: Local) {
        let (mut src, dst) = (host.addrs[flow.family], here.addrs[flow.family]);
        if self.random.percent(4) {
            src = self.cast.anybody(self.random, flow.family);
        }
        let frame = packets::of_flow(self.random, flow.carries, way, src, dst);
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        let ctx = Ctx {
            ifindex: here.ifindex,
            mark: self.random.pick(&[0, 0, 0x4000]),
            ..Ctx::default()
        };
        self.packet(Hook::ToWorkload, ctx, bytes);
    }

    /// The agent lets a held packet go, or a made-up one.
    fn release(&mut self) {
        let mut frame = if self.held.is_empty() {
            let here = self.random.pick(&self.cast.locals);
            let there = self.random.pick(&self.cast.remotes);
            let family = self.random.below(2);
            let carries = Carries::any(self.random);
            let (src, dst) = (here.addrs[family], there.addrs[family]);
            let frame = packets::of_flow(self.random, carries, Way::Opener, src, dst);
            let mut bytes = frame.build();
            let header = signet_abi::HoldHeader {
                endpoint: here.index,
                generation: 1 + self.random.below(3) as u32,
                ticket: self.random.below(3) as u16,
                ethertype: u16::from_be_bytes([bytes[12], bytes[13]]),
            };
            bytes[..14].copy_from_slice(&header.to_bytes());
            bytes
        } else {
            let at = self.random.below(self.held.len());
            self.held.swap_remove(at)
        };
        packets::mangle(self.random, &mut frame);
        let ctx = Ctx {
            ifindex: HOLD,
            ingress_ifindex: HOLD,
            ..Ctx::default()
        };
        self.packet(Hook::FromHold, ctx, frame);
    }

    fn receive_from_node(&mut self, flow: Flow, way: Way, here: Local, there: Remote) {
        let (src, dst) = (there.addrs[flow.family], here.addrs[flow.family]);
        let mut frame = packets::of_flow(self.random, flow.carries, way, src, dst);
        let Some((label, row)) = self.row(here, there) else {
            return;
        };
        let mut epoch = row.epoch as u8;
        if self.random.percent(2) {
            epoch = epoch.wrapping_add(1);
        }
        if self.random.percent(3) {
            frame.src = self.cast.anybody(self.random, flow.family);
        }
        if self.random.percent(3) {
            frame.dst = self.cast.anybody(self.random, flow.family);
        }
        if self.random.percent(97) {
            packets::tag(&mut frame, epoch, label);
        }
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        let slot = SLOT[row.slot as usize & 1];
        let ctx = Ctx {
            ifindex: slot,
            ingress_ifindex: slot,
            ..Ctx::default()
        };
        let verdict = self.packet(Hook::FromTunnel, ctx, bytes);
        let Some(ctx) = goes_on(&verdict, here.ifindex, slot) else {
            return;
        };
        let Verdict::Next { bytes: ip, .. } = verdict else {
            return;
        };
        let mut bytes = frame.build()[..14].to_vec();
        bytes.extend(ip);
        self.packet(Hook::ToWorkload, ctx, bytes);
    }

    /// The label by which `there` speaks to `here`; now and then another.
    fn row(&mut self, here: Local, there: Remote) -> Option<(u64, RecvRow)> {
        let identity = self.state.endpoints.get(&here.index.into())?.identity;
        let addrs = there.addrs.map(Addr::from);
        let fitting = self
            .state
            .recv_rows
            .iter()
            .find(|(_, row)| row.identity == identity && addrs.contains(&row.addrs[0]))
            .map(|(key, row)| (key.label, *row));
        if self.random.percent(95) && fitting.is_some() {
            return fitting;
        }
        let (key, row) = world::any(self.random, &self.state.recv_rows)?;
        let label = if self.random.percent(20) {
            key.label ^ 1
        } else {
            key.label
        };
        Some((label, row))
    }

    fn send_to_world(&mut self, flow: Flow, way: Way, here: Local, seen: IpAddr, real: IpAddr) {
        let (mut frame, verdict) = self.sent(flow, way, here, seen);
        let Some(ctx) = goes_on(&verdict, UNDERLAY, here.ifindex) else {
            return;
        };
        frame.dst = real;
        if self.random.percent(60) {
            frame.src = self.cast.node[flow.family];
        }
        if self.random.percent(3) {
            frame.src = self.cast.anybody(self.random, flow.family);
        }
        if self.random.percent(3) {
            frame.dst = self.cast.anybody(self.random, flow.family);
        }
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        self.packet(Hook::UnderlayGuard, ctx, bytes);
    }

    fn receive_from_world(&mut self, flow: Flow, way: Way, here: Local, seen: IpAddr) {
        let dst = here.addrs[flow.family];
        let frame = packets::of_flow(self.random, flow.carries, way, seen, dst);
        let mut bytes = frame.build();
        packets::mangle(self.random, &mut bytes);
        let ctx = Ctx {
            ifindex: here.ifindex,
            ingress_ifindex: UNDERLAY,
            ..Ctx::default()
        };
        self.packet(Hook::ToWorkload, ctx, bytes);
    }

    /// ARP, discovery, leases, packets inside packets.
    fn odd(&mut self) {
        let here = self.random.pick(&self.cast.locals);
        let family = self.random.below(2);
        let someone = self.cast.anybody(self.random, family);
        let ctx = Ctx {
            ifindex: here.ifindex,
            ingress_ifindex: here.ifindex,
            ..Ctx::default()
        };
        let (hook, ctx, mut bytes) = match self.random.below(5) {
            0 => {
                let four = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.octets(),
                    IpAddr::V6(_) => [0; 4],
                };
                let sender = four(self.random.pick(&[here.addrs[0], here.addrs[0], someone]));
                let arp = packets::arp(self.random, here.mac, sender, four(someone));
                (Hook::FromWorkload, ctx, arp)
            }
            1 => {
                let link_local = self.cast.odd[1][0];
                let own = here.addrs[1];
                let src = self
                    .random
                    .pick(&[own, own, link_local, self.cast.odd[1][2]]);
                let other = self.cast.anybody(self.random, 1);
                let target = self.random.pick(&[own, link_local, other]);
                let mut frame = packets::discovery(self.random, here.mac, src, other, target);
                frame.src_mac = here.mac;
                let hook = self.random.pick(&[
                    Hook::FromWorkload,
                    Hook::FromWorkload,
                    Hook::ToWorkload,
                    Hook::UnderlayGuard,
                ]);
                (hook, ctx, frame.build())
            }
            2 => {
                let broadcast = self.cast.odd[0][3];
                let src = self
                    .random
                    .pick(&[here.addrs[0], self.cast.odd[0][5], someone]);
                let dst = self
                    .random
                    .pick(&[broadcast, self.cast.world[0][0], someone]);
                let lease = Carries::Udp(68, self.random.pick(&[67, 67, 68]));
                let mut frame = packets::of_flow(self.random, lease, Way::Opener, src, dst);
                frame.src_mac = here.mac;
                (Hook::FromWorkload, ctx, frame.build())
            }
            _ => {
                let inner_family = self.random.below(2);
                let inner = Frame::new(
                    self.cast.anybody(self.random, inner_family),
                    self.cast.anybody(self.random, inner_family),
                    signet_loader::prog_test::frame::Transport::Udp { sport: 1, dport: 2 },
                );
                let to = self.random.pick(&self.cast.world[family]);
                let from = self
                    .random
                    .pick(&[self.cast.node[family], here.addrs[family]]);
                let mut frame = packets::inside(self.random, (from, to), &inner);
                if self.random.percent(10) {
                    packets::tag(&mut frame, 1, 2);
                }
                let pending = self.state.config.mark_pending;
                let ctx = Ctx {
                    ifindex: UNDERLAY,
                    ingress_ifindex: self.random.pick(&[0, here.ifindex]),
                    mark: self.random.pick(&[0, pending]),
                    tc_index: here.index.into(),
                    ..Ctx::default()
                };
                (Hook::UnderlayGuard, ctx, frame.build())
            }
        };
        packets::mangle(self.random, &mut bytes);
        self.packet(hook, ctx, bytes);
    }

    /// Anything anywhere.
    fn wild(&mut self) {
        let hook = self.random.pick(Hook::ALL);
        let family = self.random.below(2);
        let src = self.cast.anybody(self.random, family);
        let dst_family = if self.random.percent(96) {
            family
        } else {
            1 - family
        };
        let dst = self.cast.anybody(self.random, dst_family);
        let carries = Carries::any(self.random);
        let mut frame = packets::of_flow(self.random, carries, Way::Opener, src, dst);
        if let Some((_, endpoint)) = world::any(self.random, &self.state.endpoints) {
            frame.src_mac = endpoint.mac;
        }
        let mut bytes = frame.build();
        if self.random.percent(3) {
            let length = 15 + self.random.below(100);
            let noise = self.random.bytes(length);
            bytes.truncate(14);
            bytes.extend(noise);
        }
        packets::mangle(self.random, &mut bytes);
        let mut ctx = Ctx {
            hash: self.random.next() as u32,
            ..Ctx::default()
        };
        for _ in 0..6 {
            self.confuse(&mut ctx);
        }
        self.packet(hook, ctx, bytes);
    }
}

/// What the next hook is told of a packet that goes on.
fn goes_on(verdict: &Verdict, ifindex: u32, ingress_ifindex: u32) -> Option<Ctx> {
    match verdict {
        Verdict::Next {
            mark,
            tc_index,
            hash,
            ..
        } => Some(Ctx {
            ifindex,
            ingress_ifindex,
            mark: *mark,
            tc_index: *tc_index,
            hash: *hash,
            ..Ctx::default()
        }),
        Verdict::Redirect { .. } | Verdict::Hold { .. } | Verdict::Drop { .. } => None,
    }
}
