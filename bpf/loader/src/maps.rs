//! Every map the two sides share.

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData};
use signet_abi::{
    Addr, AddrPrefix, Config, CtEntry, CtKey, Endpoint, EventLimit, EventLimitKey, FlowKey,
    FragKey, FragPorts, HoldBudget, HoldOrder, Peer, Plain, PolicyKey, PolicyValue, RecvKey,
    RecvRow, SendKey, SendRow,
};

use crate::counters::Counters;
use crate::error::{LoaderError, chain};
use crate::plain::Raw;
use crate::table::{PrefixKey, Table, Trie, map_error};

/// The maps. See `signet-abi` for what keys and values mean, and the crate's head for the order
/// of writes.
pub struct Maps {
    config: Array<MapData, Raw<Config>>,
    /// Endpoint index -> endpoint.
    pub endpoints: Table<u32, Endpoint>,
    /// Interface number of a host veth -> endpoint index.
    pub interfaces: Table<u32, u32>,
    /// Address of a local pod -> endpoint index.
    pub local_addresses: Table<Addr, u32>,
    /// Prefixes pods live in -> [`signet_abi::pod_range_flags`].
    pub pod_ranges: Trie<AddrPrefix, u32>,
    /// Prefixes named by policy -> class.
    pub cidr_classes: Trie<AddrPrefix, u32>,
    /// (endpoint, destination) -> label and slot, or refusal.
    pub send_rows: Table<SendKey, SendRow>,
    /// Label -> who speaks, to whom.
    pub recv_rows: Table<RecvKey, RecvRow>,
    /// Number of a remote node -> lease and epochs.
    pub peers: Table<u32, Peer>,
    /// The compiled policy.
    pub policy: Trie<PolicyKey, PolicyValue>,
    /// Admitted flows.
    pub conntrack: Table<CtKey, CtEntry>,
    /// Flow hash -> the flow at the pod's veth.
    pub flows: Table<FlowKey, CtKey>,
    /// Ports of fragmented datagrams.
    pub fragments: Table<FragKey, FragPorts>,
    /// Endpoint index -> what it may still send to the hold device.
    pub hold_budgets: Table<u32, HoldBudget>,
    /// (endpoint, destination) -> packets that wait.
    pub hold_orders: Table<SendKey, HoldOrder>,
    /// When each pair last made an event.
    pub event_limits: Table<EventLimitKey, EventLimit>,
    pub(crate) counters: Counters,
}

impl Maps {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, LoaderError> {
        Ok(Self {
            config: Array::try_from(map(ebpf, "config")?)
                .map_err(|error| map_error("config", "open", &error))?,
            endpoints: table(ebpf, "endpoints")?,
            interfaces: table(ebpf, "interfaces")?,
            local_addresses: table(ebpf, "local_addresses")?,
            pod_ranges: trie(ebpf, "pod_ranges")?,
            cidr_classes: trie(ebpf, "cidr_classes")?,
            send_rows: table(ebpf, "send_rows")?,
            recv_rows: table(ebpf, "recv_rows")?,
            peers: table(ebpf, "peers")?,
            policy: trie(ebpf, "policy")?,
            conntrack: table(ebpf, "conntrack")?,
            flows: table(ebpf, "flows")?,
            fragments: table(ebpf, "fragments")?,
            hold_budgets: table(ebpf, "hold_budgets")?,
            hold_orders: table(ebpf, "hold_orders")?,
            event_limits: table(ebpf, "event_limits")?,
            counters: Counters::take(ebpf)?,
        })
    }

    /// What the programs are configured with.
    pub fn config(&self) -> Result<Config, LoaderError> {
        match self.config.get(&0, 0) {
            Ok(config) => Ok(config.0),
            Err(error) => Err(map_error("config", "read", &error)),
        }
    }

    /// Configures the programs, all fields at once.
    pub fn set_config(&mut self, config: &Config) -> Result<(), LoaderError> {
        self.config
            .set(0, Raw(*config), 0)
            .map_err(|error| map_error("config", "write", &error))
    }
}

pub(crate) fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoaderError> {
    ebpf.take_map(name).ok_or_else(|| LoaderError::Load {
        detail: format!("the object has no map {name}"),
    })
}

fn table<K: Plain, V: Plain>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Table<K, V>, LoaderError> {
    let inner =
        HashMap::try_from(map(ebpf, name)?).map_err(|error| map_error(name, "open", &error))?;
    Ok(Table::new(name, inner))
}

fn trie<K: PrefixKey, V: Plain>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Trie<K, V>, LoaderError> {
    let inner = LpmTrie::try_from(map(ebpf, name)?).map_err(|error| LoaderError::Map {
        map: name,
        operation: "open",
        detail: chain(&error),
    })?;
    Ok(Trie::new(name, inner))
}
