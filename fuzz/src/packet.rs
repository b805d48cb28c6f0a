//! Packets at the hooks of the data path, by the model that the eBPF programs are held against.
//!
//! Two nodes: what may leave one enters the other and comes out as the very bytes that went in.
//! Whatever else arrives is believed only under the one label that was granted.

use std::net::IpAddr;

use signet_abi::{
    Addr, Config, Endpoint, HOLD_HEADER_LEN, Hook, MARK_MASK, MARK_PENDING, MARK_VERIFIED, Peer,
    RecvKey, RecvRow, SendKey, SendRow, config_flags, endpoint_flags, send_state,
};
use signet_model::{
    Ctx, ETHERTYPE_IPV4, ETHERTYPE_IPV6, State, Verdict, from_tunnel, parse, to_tunnel,
};

use crate::reader::{Reader, part};

const LABEL: u64 = 0x12_3456_789a;
const EPOCH: u64 = 0x105;
const SLOTS: [u32; 2] = [10, 11];
const SIGNET0: u32 = 12;
const VETH: u32 = 20;
const NOW: u64 = 1_000_000_000;

/// Up to eight packets, one after another through the same maps; each is a byte of instructions
/// and the bytes, behind their length.
pub fn run(data: &[u8]) {
    let (mut sender, mut receiver) = (sender(), receiver());
    let mut reader = Reader(data);
    for _ in 0..8 {
        if reader.is_empty() {
            return;
        }
        let how = reader.byte();
        let bytes = reader.part();
        reads_what_the_header_says(bytes);
        match how & 3 {
            0 | 1 => there_and_out_again(&mut sender, &mut receiver, bytes),
            2 => {
                arrives(&mut receiver, bytes);
            }
            _ => at_any_hook(&mut sender, how >> 2, bytes),
        }
    }
}

fn ethertype(bytes: &[u8]) -> u16 {
    match bytes.first().map(|first| first >> 4) {
        Some(6) => ETHERTYPE_IPV6,
        _ => ETHERTYPE_IPV4,
    }
}

/// Bytes behind a packet's own end change nothing about it.
fn reads_what_the_header_says(bytes: &[u8]) {
    for protocol in [ETHERTYPE_IPV4, ETHERTYPE_IPV6] {
        let Ok(packet) = parse(protocol, bytes).packet else {
            continue;
        };
        assert!(packet.length <= bytes.len() && packet.transport <= packet.length);
        let cut = parse(protocol, &bytes[..packet.length]).packet;
        assert_eq!(cut.as_ref(), Ok(&packet), "read from behind its end");
    }
}

fn there_and_out_again(sender: &mut State, receiver: &mut State, bytes: &[u8]) {
    let ctx = Ctx {
        ifindex: SIGNET0,
        ingress_ifindex: VETH,
        mark: MARK_PENDING,
        tc_index: 1,
        protocol: ethertype(bytes),
        ..Ctx::default()
    };
    let verdict = judged(sender, |state| to_tunnel(state, NOW, &ctx, bytes));
    match verdict {
        Verdict::Redirect {
            ifindex,
            bytes: tagged,
        } => {
            assert_eq!(ifindex, SLOTS[(EPOCH & 1) as usize]);
            let packet = parse(ctx.protocol, &tagged).packet;
            let packet = packet.expect("what leaves can be read");
            let tag = packet.tag.expect("what leaves has a tag");
            assert_eq!((u64::from(tag.epoch), tag.label), (EPOCH & 0xff, LABEL));
            match arrives(receiver, &tagged) {
                Verdict::Next { bytes: out, .. } => {
                    assert_eq!(one_zero(&out), one_zero(bytes), "not what went in");
                }
                other
                @ (Verdict::Redirect { .. } | Verdict::Hold { .. } | Verdict::Drop { .. }) => {
                    panic!("it may be sent, but not received: {other:?}")
                }
            }
        }
        Verdict::Hold { frame, .. } => {
            assert_eq!(&frame[HOLD_HEADER_LEN..], bytes, "held as it came");
        }
        Verdict::Drop { .. } => {}
        Verdict::Next { .. } => panic!("let past the tunnel"),
    }
}

/// In one's complement there are two zeros. No header sums up to the one that 0xffff stands for, so
/// nobody sends it as a checksum, and an update may write the other.
fn one_zero(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if ethertype(&packet) == ETHERTYPE_IPV4 && packet.get(10..12) == Some(&[0xff, 0xff]) {
        packet[10..12].fill(0);
    }
    packet
}

/// A packet out of the slot of the epoch.
fn arrives(state: &mut State, bytes: &[u8]) -> Verdict {
    let ctx = Ctx {
        ifindex: SLOTS[(EPOCH & 1) as usize],
        ingress_ifindex: SLOTS[(EPOCH & 1) as usize],
        protocol: ethertype(bytes),
        ..Ctx::default()
    };
    let verdict = judged(state, |state| from_tunnel(state, NOW, &ctx, bytes));
    if let Verdict::Next {
        mark,
        tc_index,
        bytes: out,
        ..
    } = &verdict
    {
        let before = parse(ctx.protocol, bytes).packet.expect("it was judged");
        let after = parse(ctx.protocol, out).packet.expect("and goes on");
        let tag = before.tag.expect("nobody speaks without a label");
        assert_eq!((u64::from(tag.epoch), tag.label), (EPOCH & 0xff, LABEL));
        assert!(after.tag.is_none(), "the tag stays on this side");
        assert!(remote().contains(&before.src) && local().contains(&before.dst));
        assert_eq!((after.src, after.dst), (before.src, before.dst));
        assert_eq!((after.sport, after.dport), (before.sport, before.dport));
        assert_eq!((*mark, *tc_index), (MARK_VERIFIED, 2));
    }
    verdict
}

fn at_any_hook(state: &mut State, how: u8, bytes: &[u8]) {
    let hooks = [
        Hook::FromWorkload,
        Hook::ToTunnel,
        Hook::FromTunnel,
        Hook::ToWorkload,
        Hook::UnderlayGuard,
        Hook::FromHold,
    ];
    let hook = hooks[usize::from(how & 7) % hooks.len()];
    let ctx = Ctx {
        ifindex: [VETH, SIGNET0, SLOTS[1], 13][usize::from(how >> 3 & 3)],
        ingress_ifindex: [0, VETH][usize::from(how >> 5) & 1],
        mark: [0, MARK_PENDING, MARK_VERIFIED, MARK_MASK][usize::from(how >> 2 & 3)],
        tc_index: u32::from(how >> 4 & 1),
        protocol: match bytes.get(12..14) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            Some(_) | None => ETHERTYPE_IPV4,
        },
        ..Ctx::default()
    };
    judged(state, |state| Verdict::of(hook, state, NOW, &ctx, bytes));
}

/// Runs a hook: no packet changes what the agent wrote, and a dropped one leaves no trace.
fn judged(state: &mut State, hook: impl FnOnce(&mut State) -> Verdict) -> Verdict {
    let before = state.clone();
    let verdict = hook(state);
    let same = state.config == before.config
        && state.endpoints == before.endpoints
        && state.interfaces == before.interfaces
        && state.local_addresses == before.local_addresses
        && state.send_rows == before.send_rows
        && state.recv_rows == before.recv_rows
        && state.peers == before.peers
        && state.policy == before.policy;
    assert!(same, "a packet wrote to the agent's maps");
    if matches!(verdict, Verdict::Drop { .. }) {
        assert_eq!(state.conntrack, before.conntrack, "{verdict:?}");
    }
    verdict
}

fn addresses(texts: [&str; 2]) -> [Addr; 2] {
    texts.map(|text| Addr::from(text.parse::<IpAddr>().unwrap()))
}

/// The pod that sends.
fn remote() -> [Addr; 2] {
    addresses(["10.0.0.1", "fd00::1"])
}

/// The pod that receives.
fn local() -> [Addr; 2] {
    addresses(["10.1.0.2", "fd00::2"])
}

fn node(index: u16, own: [Addr; 2]) -> State {
    let mut state = State {
        config: Config {
            slot_ifindex: SLOTS,
            hold_ifindex: 13,
            signet0_ifindex: SIGNET0,
            flags: config_flags::STRICT | config_flags::HOLD,
            mark_mask: MARK_MASK,
            mark_pending: MARK_PENDING,
            mark_verified: MARK_VERIFIED,
            ..Config::default()
        },
        ..State::default()
    };
    let mut endpoint = Endpoint {
        generation: 3,
        ifindex: VETH,
        class: 15 + u32::from(index),
        identity: 9,
        policy_generation: 1,
        flags: endpoint_flags::AUTHENTICATED,
        not_after: 2 * NOW,
        mac: [2, 0, 0, 0, 0, 1],
        index,
        ..Endpoint::default()
    };
    assert!(endpoint.set_addrs(&own));
    state.endpoints.insert(u32::from(index), endpoint);
    state.interfaces.insert(VETH, u32::from(index));
    for addr in own {
        state.local_addresses.insert(addr, u32::from(index));
    }
    let mut peer = Peer {
        lease_until: 2 * NOW,
        ..Peer::default()
    };
    peer.slot_epoch[(EPOCH & 1) as usize] = EPOCH;
    peer.slot_until = [2 * NOW; 2];
    state.peers.insert(7, peer);
    state
}

fn sender() -> State {
    let mut state = node(1, remote());
    for dst in local() {
        let key = SendKey {
            endpoint: 1,
            generation: 3,
            dst,
        };
        let slot = (EPOCH & 1) as usize;
        let (mut label, mut epoch) = ([0; 2], [0; 2]);
        (label[slot], epoch[slot]) = (LABEL, EPOCH);
        let row = SendRow {
            label,
            epoch,
            not_after: 2 * NOW,
            peer: 7,
            class: 17,
            remote: 5,
            reserved: 0,
            state: send_state::PAIRED,
            reason: 0,
        };
        state.send_rows.insert(key, row);
    }
    state
}

fn receiver() -> State {
    let mut state = node(2, local());
    let mut row = RecvRow {
        epoch: EPOCH,
        not_after: 2 * NOW,
        peer: 7,
        class: 16,
        remote: 4,
        identity: 9,
        slot: (EPOCH & 1) as u32,
        ..RecvRow::default()
    };
    assert!(row.set_addrs(&remote()));
    state.recv_rows.insert(RecvKey { label: LABEL }, row);
    state
}

/// TCP, UDP, ICMP, fragments, options and the tag, in both families, one and several.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let tcp = [
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ];
    let udp = [0x30, 0x39, 0, 53, 0, 9, 0, 0, b'x'];
    let echo = [8, 0, 0, 0, 0, 7, 0, 1];
    let send = |bytes: &[u8]| [vec![0], part(bytes)].concat();
    let receive = |bytes: &[u8]| [vec![2], part(bytes)].concat();
    let tag = [0x9e, 8, 5, 0x12, 0x34, 0x56, 0x78, 0x9a];
    let tag6 = [
        60, 1, 0x5e, 6, 5, 0x12, 0x34, 0x56, 0x78, 0x9a, 1, 4, 0, 0, 0, 0,
    ];
    let nested = |proto: u8| {
        let mut tag = tag6;
        tag[0] = proto;
        tag
    };
    let quote = [&[3, 3, 0, 0, 0, 0, 0, 0], v4(17, &[], 0, &udp).as_slice()].concat();
    let fragments = [
        send(&v4(17, &[], 0x2000, &udp)),
        send(&v4(17, &[], 1, b"the rest")),
    ];
    let extended = [[6, 0, 1, 4, 0, 0, 0, 0].as_slice(), &tcp].concat();
    let atomic = [[17, 0, 0, 0, 0, 0, 0, 9].as_slice(), &udp].concat();
    let mut ethernet = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    ethernet.extend(v4(6, &[], 0, &tcp));
    vec![
        ("tcp4", send(&v4(6, &[], 0, &tcp))),
        ("udp4", send(&v4(17, &[], 0, &udp))),
        ("icmp4", send(&v4(1, &[], 0, &echo))),
        ("icmp4-error", send(&v4(1, &[], 0, &quote))),
        ("options4", send(&v4(6, &[0x94, 4, 0, 0], 0, &tcp))),
        ("fragments4", fragments.concat()),
        ("tagged4", receive(&v4(6, &tag, 0, &tcp))),
        ("tcp6", send(&v6(6, &tcp))),
        ("udp6", send(&v6(17, &udp))),
        ("options6", send(&v6(60, &extended))),
        ("fragment6", send(&v6(44, &atomic))),
        (
            "tagged6",
            receive(&v6(60, &[nested(6).as_slice(), &tcp].concat())),
        ),
        (
            "tagged-twice6",
            receive(&v6(60, &[tag6.as_slice(), &nested(6), &tcp].concat())),
        ),
        ("workload", [vec![3], part(&ethernet)].concat()),
        (
            "flow",
            [
                send(&v4(6, &[], 0, &tcp)),
                receive(&v4(6, &tag, 0, &tcp)),
                send(&v6(6, &tcp)),
            ]
            .concat(),
        ),
    ]
}

/// From the sending pod to the receiving one.
fn v4(proto: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 9]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, proto, 0, 0]);
    for address in [remote()[0], local()[0]] {
        packet.extend(&address.bytes[12..]);
    }
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for address in [remote()[1], local()[1]] {
        packet.extend(&address.bytes);
    }
    packet.extend(payload);
    packet
}
