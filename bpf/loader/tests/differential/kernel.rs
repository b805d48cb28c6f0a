//! The kernel's side.

use signet_abi::Plain;
use signet_loader::prog_test::{Outcome, Packet, ProgTest};
use signet_loader::{Maps, PrefixKey, Table, Trie};
use signet_model::State;

use crate::scenario::{Change, Input};

pub(crate) struct Kernel {
    prog: ProgTest,
    /// What the maps were filled with, so that they can be emptied without being listed.
    installed: State,
}

impl Kernel {
    pub(crate) fn load() -> Self {
        Self {
            prog: ProgTest::load().unwrap(),
            installed: State::default(),
        }
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.prog.maps
    }

    /// Gives the maps this content and no other.
    pub(crate) fn install(&mut self, state: &State) {
        let old = std::mem::replace(&mut self.installed, state.clone());
        self.prog.forget_flows().unwrap();
        let maps = &mut self.prog.maps;
        maps.set_config(&state.config).unwrap();
        fill(&mut maps.endpoints, &old.endpoints, &state.endpoints);
        fill(&mut maps.interfaces, &old.interfaces, &state.interfaces);
        fill(
            &mut maps.local_addresses,
            &old.local_addresses,
            &state.local_addresses,
        );
        fill_trie(&mut maps.pod_ranges, &old.pod_ranges, &state.pod_ranges);
        fill_trie(
            &mut maps.cidr_classes,
            &old.cidr_classes,
            &state.cidr_classes,
        );
        fill(&mut maps.send_rows, &old.send_rows, &state.send_rows);
        fill(&mut maps.recv_rows, &old.recv_rows, &state.recv_rows);
        fill(&mut maps.peers, &old.peers, &state.peers);
        fill_trie(&mut maps.policy, &old.policy, &state.policy);
        for (key, value) in &state.conntrack {
            maps.conntrack.upsert(key, value).unwrap();
        }
        for (key, value) in &state.flows {
            maps.flows.upsert(key, value).unwrap();
        }
        for (key, value) in &state.fragments {
            maps.fragments.upsert(key, value).unwrap();
        }
        for (key, value) in &state.hold_budgets {
            maps.hold_budgets.upsert(key, value).unwrap();
        }
        for (key, value) in &state.hold_orders {
            maps.hold_orders.upsert(key, value).unwrap();
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.installed);
        let maps = &mut self.prog.maps;
        match change {
            Change::Config(config) => maps.set_config(&config).unwrap(),
            Change::Endpoint(key, value) => set(&mut maps.endpoints, &key, value),
            Change::Peer(key, value) => set(&mut maps.peers, &key, value),
            Change::Send(key, value) => set(&mut maps.send_rows, &key, value),
            Change::Recv(key, value) => set(&mut maps.recv_rows, &key, value),
            Change::Policy(key, value) => set_trie(&mut maps.policy, key, value),
            Change::PodRange(key, value) => set_trie(&mut maps.pod_ranges, key, value),
            Change::Class(key, value) => set_trie(&mut maps.cidr_classes, key, value),
        }
    }

    /// Runs the program. `None` if the kernel does not run programs on such a packet.
    pub(crate) fn run(&mut self, input: &Input) -> Option<Outcome> {
        // Newer kernels refuse to run a program on less than the header the EtherType promises.
        let least = match input.ctx.protocol {
            signet_model::ETHERTYPE_IPV4 => 14 + 20,
            signet_model::ETHERTYPE_IPV6 => 14 + 40,
            _ => 15,
        };
        if input.frame.len() < least {
            return None;
        }
        let packet = Packet {
            mark: input.ctx.mark,
            tc_index: input.ctx.tc_index as u16,
            ingress_ifindex: input.ctx.ingress_ifindex,
            hash: input.ctx.hash,
            ..Packet::new(input.ctx.ifindex, input.frame.clone())
        };
        Some(self.prog.run(input.hook, &packet).unwrap())
    }
}

type Map<K, V> = std::collections::BTreeMap<K, V>;

fn fill<K: Plain + Ord, V: Plain>(table: &mut Table<K, V>, old: &Map<K, V>, new: &Map<K, V>) {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        table.remove(key).unwrap();
    }
    for (key, value) in new {
        table.upsert(key, value).unwrap();
    }
}

fn fill_trie<K: PrefixKey + Ord, V: Plain>(
    trie: &mut Trie<K, V>,
    old: &Map<K, V>,
    new: &Map<K, V>,
) {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        trie.remove(*key).unwrap();
    }
    for (key, value) in new {
        trie.upsert(*key, value).unwrap();
    }
}

fn set<K: Plain, V: Plain>(table: &mut Table<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => table.upsert(key, &value).unwrap(),
        None => {
            table.remove(key).unwrap();
        }
    }
}

fn set_trie<K: PrefixKey, V: Plain>(trie: &mut Trie<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => trie.upsert(key, &value).unwrap(),
        None => {
            trie.remove(key).unwrap();
        }
    }
}
