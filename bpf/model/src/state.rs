//! The maps, as plain ordered maps with the same keys and values.

use std::collections::BTreeMap;

use signet_abi::{
    Addr, AddrPrefix, CLASS_WORLD, Config, CtEntry, CtKey, Endpoint, FlowKey, FragKey, FragPorts,
    HoldBudget, HoldOrder, Peer, PolicyKey, PolicyValue, RecvKey, RecvRow, SendKey, SendRow,
};

/// Everything a verdict depends on beside the packet. The first group is the agent's, the second
/// is written by the verdicts themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Map `config`.
    pub config: Config,
    /// Map `endpoints`, by index.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Map `interfaces`: index of the endpoint behind a device.
    pub interfaces: BTreeMap<u32, u32>,
    /// Map `local_addresses`: index of the endpoint that has an address.
    pub local_addresses: BTreeMap<Addr, u32>,
    /// Map `pod_ranges`.
    pub pod_ranges: BTreeMap<AddrPrefix, u32>,
    /// Map `cidr_classes`.
    pub cidr_classes: BTreeMap<AddrPrefix, u32>,
    /// Map `send_rows`.
    pub send_rows: BTreeMap<SendKey, SendRow>,
    /// Map `recv_rows`.
    pub recv_rows: BTreeMap<RecvKey, RecvRow>,
    /// Map `peers`.
    pub peers: BTreeMap<u32, Peer>,
    /// Map `policy`.
    pub policy: BTreeMap<PolicyKey, PolicyValue>,

    /// Map `conntrack`.
    pub conntrack: BTreeMap<CtKey, CtEntry>,
    /// Map `flows`.
    pub flows: BTreeMap<FlowKey, CtKey>,
    /// Map `fragments`.
    pub fragments: BTreeMap<FragKey, FragPorts>,
    /// Map `hold_budgets`.
    pub hold_budgets: BTreeMap<u32, HoldBudget>,
    /// Map `hold_orders`.
    pub hold_orders: BTreeMap<SendKey, HoldOrder>,
}

impl State {
    /// The endpoint of an index; 0 is nobody's.
    pub(crate) fn endpoint(&self, index: u32) -> Option<Endpoint> {
        if index == 0 {
            return None;
        }
        self.endpoints.get(&index).copied()
    }

    /// The endpoint behind a device.
    pub(crate) fn endpoint_of_interface(&self, ifindex: u32) -> Option<Endpoint> {
        self.endpoint(*self.interfaces.get(&ifindex)?)
    }

    /// True for an address that only pods have.
    pub fn is_pod(&self, addr: &Addr) -> bool {
        longest_prefix(&self.pod_ranges, addr).is_some()
    }

    /// Class of a peer that has nothing but an address to show.
    pub fn class_of(&self, addr: &Addr) -> u32 {
        longest_prefix(&self.cidr_classes, addr).unwrap_or(CLASS_WORLD)
    }

    /// Until the agent has said which mark bits are ours, nothing can be judged.
    pub(crate) fn is_configured(&self) -> bool {
        self.config.mark_mask != 0
    }

    /// Our bits of a mark.
    pub(crate) fn mark_of(&self, mark: u32) -> u32 {
        mark & self.config.mark_mask
    }

    /// The mark with our bits replaced.
    pub(crate) fn with_mark(&self, mark: u32, ours: u32) -> u32 {
        mark & !self.config.mark_mask | ours
    }

    /// Replies of a flow that was admitted at this node carry both bits.
    pub(crate) fn mark_reply(&self) -> u32 {
        self.config.mark_pending | self.config.mark_verified
    }
}

/// The value of the longest prefix that holds `addr`, by looking at every one.
fn longest_prefix(map: &BTreeMap<AddrPrefix, u32>, addr: &Addr) -> Option<u32> {
    map.iter()
        .filter(|(prefix, _)| holds(prefix, addr))
        .max_by_key(|(prefix, _)| prefix.prefix_len)
        .map(|(_, value)| *value)
}

fn holds(prefix: &AddrPrefix, addr: &Addr) -> bool {
    let (a, b) = (
        u128::from_be_bytes(prefix.addr.bytes),
        u128::from_be_bytes(addr.bytes),
    );
    let open = 128 - prefix.prefix_len.min(128);
    // A shift by all 128 bits is the prefix of everything.
    (a ^ b).checked_shr(open).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn prefix(text: &str, len: u8) -> AddrPrefix {
        AddrPrefix::new(text.parse::<IpAddr>().unwrap(), len)
    }

    #[test]
    fn the_longest_prefix_decides() {
        let mut state = State::default();
        state.cidr_classes.insert(prefix("10.0.0.0", 8), 20);
        state.cidr_classes.insert(prefix("10.9.0.0", 16), 21);
        state.cidr_classes.insert(prefix("10.9.1.1", 32), 22);
        state.cidr_classes.insert(prefix("::", 0), 23);
        for (address, class) in [
            ("10.1.2.3", 20),
            ("10.9.200.1", 21),
            ("10.9.1.1", 22),
            ("11.0.0.1", 23),
            ("2001:db8::1", 23),
        ] {
            let addr = Addr::from(address.parse::<IpAddr>().unwrap());
            assert_eq!(state.class_of(&addr), class, "{address}");
        }
    }
}
