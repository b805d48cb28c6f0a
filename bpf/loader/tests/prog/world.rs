//! The node every fixture starts from: pods A and B here, R on another node.

use std::net::IpAddr;

use signet_abi::*;
use signet_loader::prog_test::{Packet, ProgTest};
use signet_loader::{Globals, boot_time_ns};

pub(crate) const SLOT: [u32; 2] = [10, 11];
pub(crate) const HOLD: u32 = 12;
pub(crate) const SIGNET0: u32 = 13;
pub(crate) const UNDERLAY: u32 = 14;
pub(crate) const A: u16 = 1;
pub(crate) const B: u16 = 2;
/// The node itself.
pub(crate) const HOST: u16 = 3;
pub(crate) const A_IF: u32 = 21;
pub(crate) const B_IF: u32 = 22;
pub(crate) const A_GENERATION: u32 = 0x01020304;
pub(crate) const A_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub(crate) const B_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
pub(crate) const CLASS_A: u32 = 20;
pub(crate) const CLASS_B: u32 = 21;
pub(crate) const CLASS_R: u32 = 30;
pub(crate) const IDENTITY_A: u32 = 1000;
pub(crate) const PEER: u32 = 5;
pub(crate) const REMOTE_R: u32 = 77;
pub(crate) const EPOCH: u64 = 0x1_0000_0006;
pub(crate) const LABEL: u64 = 0x12_3456_789a;

pub(crate) const PENDING: u32 = MARK_PENDING;
pub(crate) const VERIFIED: u32 = MARK_VERIFIED;
pub(crate) const REPLY: u32 = MARK_REPLY;
pub(crate) const HOUR: u64 = 3_600_000_000_000;

pub(crate) struct World {
    pub(crate) prog: ProgTest,
    pub(crate) globals: Globals,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> Addr {
    ip(text).into()
}

pub(crate) fn wire_epoch() -> u8 {
    EPOCH as u8
}

impl World {
    pub(crate) fn new() -> Self {
        let globals = Globals {
            slot_ifindex: SLOT,
            hold_ifindex: HOLD,
            signet0_ifindex: SIGNET0,
            host_endpoint: HOST,
            ..Globals::default()
        };
        let mut world = Self {
            prog: ProgTest::load().unwrap(),
            globals,
        };
        world.reset();
        world
    }

    /// Back to the starting point, flows forgotten.
    pub(crate) fn reset(&mut self) {
        let maps = &mut self.prog.maps;
        maps.set_config(&self.globals.to_config(7)).unwrap();
        maps.endpoints.clear().unwrap();
        maps.interfaces.clear().unwrap();
        maps.local_addresses.clear().unwrap();
        maps.send_rows.clear().unwrap();
        maps.recv_rows.clear().unwrap();
        maps.peers.clear().unwrap();
        maps.policy.clear().unwrap();
        maps.cidr_classes.clear().unwrap();
        for (range, len, flags) in [
            ("10.1.0.0", 16, pod_range_flags::LOCAL),
            ("fd00:1::", 32, pod_range_flags::LOCAL),
            ("10.2.0.0", 16, pod_range_flags::REMOTE),
            ("fd00:2::", 32, pod_range_flags::REMOTE),
        ] {
            maps.pod_ranges
                .upsert(AddrPrefix::new(ip(range), len), &flags)
                .unwrap();
        }
        self.prog.forget_flows().unwrap();

        let mut a = Endpoint {
            generation: A_GENERATION,
            ifindex: A_IF,
            class: CLASS_A,
            identity: IDENTITY_A,
            policy_generation: 1,
            mac: A_MAC,
            index: A,
            ..Endpoint::default()
        };
        assert!(a.set_addrs(&[addr("10.1.0.2"), addr("fd00:1::2")]));
        let mut b = Endpoint {
            generation: 9,
            ifindex: B_IF,
            class: CLASS_B,
            identity: 1001,
            mac: B_MAC,
            index: B,
            ..a
        };
        assert!(b.set_addrs(&[addr("10.1.0.3"), addr("fd00:1::3")]));
        let mut host = Endpoint {
            generation: 5,
            ifindex: 0,
            class: CLASS_HOST,
            identity: 1002,
            mac: [0; 6],
            index: HOST,
            ..a
        };
        assert!(host.set_addrs(&[addr("172.18.0.2"), addr("fc00::2")]));
        self.endpoint(a);
        self.endpoint(b);
        self.endpoint(host);
        self.peer(|_| {});
        for dst in ["10.2.0.2", "fd00:2::2"] {
            self.send_row(dst, |_| {});
        }
        self.recv_row(|_| {});
    }

    pub(crate) fn endpoint(&mut self, endpoint: Endpoint) {
        let maps = &mut self.prog.maps;
        let index = u32::from(endpoint.index);
        maps.endpoints.upsert(&index, &endpoint).unwrap();
        if endpoint.ifindex != 0 {
            maps.interfaces.upsert(&endpoint.ifindex, &index).unwrap();
        }
        for addr in endpoint.addrs.iter().take(endpoint.addr_count as usize) {
            maps.local_addresses.upsert(addr, &index).unwrap();
        }
    }

    pub(crate) fn edit(&mut self, index: u16, change: impl FnOnce(&mut Endpoint)) {
        let mut endpoint = self
            .prog
            .maps
            .endpoints
            .get(&index.into())
            .unwrap()
            .unwrap();
        change(&mut endpoint);
        self.prog
            .maps
            .endpoints
            .upsert(&index.into(), &endpoint)
            .unwrap();
    }

    pub(crate) fn peer(&mut self, change: impl FnOnce(&mut Peer)) {
        let mut peer = Peer {
            lease_until: boot_time_ns() + HOUR,
            slot_epoch: [EPOCH, EPOCH - 1],
            slot_until: [u64::MAX; 2],
            ..Peer::default()
        };
        change(&mut peer);
        self.prog.maps.peers.upsert(&PEER, &peer).unwrap();
    }

    /// The row of A towards `dst`.
    pub(crate) fn send_row(&mut self, dst: &str, change: impl FnOnce(&mut SendRow)) {
        self.send_row_of(A, A_GENERATION, dst, change);
    }

    pub(crate) fn send_row_of(
        &mut self,
        endpoint: u16,
        generation: u32,
        dst: &str,
        change: impl FnOnce(&mut SendRow),
    ) {
        let key = SendKey {
            endpoint: endpoint.into(),
            generation,
            dst: addr(dst),
        };
        let mut row = SendRow {
            label: [LABEL, 0],
            epoch: [EPOCH, 0],
            not_after: boot_time_ns() + HOUR,
            peer: PEER,
            class: CLASS_R,
            remote: REMOTE_R,
            reserved: 0,
            state: send_state::PAIRED,
            reason: 0,
        };
        change(&mut row);
        self.prog.maps.send_rows.upsert(&key, &row).unwrap();
    }

    /// The row of R towards A.
    pub(crate) fn recv_row(&mut self, change: impl FnOnce(&mut RecvRow)) {
        let mut row = RecvRow {
            epoch: EPOCH,
            not_after: boot_time_ns() + HOUR,
            peer: PEER,
            class: CLASS_R,
            remote: REMOTE_R,
            identity: IDENTITY_A,
            slot: 0,
            ..RecvRow::default()
        };
        assert!(row.set_addrs(&[addr("10.2.0.2"), addr("fd00:2::2")]));
        change(&mut row);
        self.prog
            .maps
            .recv_rows
            .upsert(&RecvKey { label: LABEL }, &row)
            .unwrap();
    }

    /// A rule for one port, or for all with port 0.
    pub(crate) fn rule(
        &mut self,
        endpoint: u16,
        direction: Direction,
        class: u32,
        proto: u8,
        port: u16,
        value: PolicyValue,
    ) {
        let port_bits = if port == 0 { 0 } else { 16 };
        let key = PolicyKey::new(PolicyPrefix {
            endpoint,
            direction,
            proto,
            class,
            port,
            port_bits,
        });
        self.prog.maps.policy.upsert(key, &value).unwrap();
    }

    pub(crate) fn isolate(&mut self, index: u16) {
        self.edit(index, |endpoint| {
            endpoint.flags |= endpoint_flags::INGRESS_ISOLATED | endpoint_flags::EGRESS_ISOLATED;
        });
    }

    /// Raises the policy generation, as the agent does after every change.
    pub(crate) fn policy_changed(&mut self, index: u16) {
        self.edit(index, |endpoint| endpoint.policy_generation += 1);
    }

    pub(crate) fn cidr(&mut self, prefix: &str, len: u8, class: u32) {
        let key = AddrPrefix::new(ip(prefix), len);
        self.prog.maps.cidr_classes.upsert(key, &class).unwrap();
    }
}

pub(crate) fn allow(rule: u32) -> PolicyValue {
    PolicyValue::new(rule, Action::Allow, false)
}

pub(crate) fn require(rule: u32) -> PolicyValue {
    PolicyValue::new(rule, Action::Allow, true)
}

pub(crate) fn deny(rule: u32) -> PolicyValue {
    PolicyValue::new(rule, Action::Deny, false)
}

/// The packet with a mark, an index and the interface it came in by.
pub(crate) fn marked(mut packet: Packet, mark: u32, tc_index: u16, ingress_ifindex: u32) -> Packet {
    packet.mark = mark;
    packet.tc_index = tc_index;
    packet.ingress_ifindex = ingress_ifindex;
    packet
}
