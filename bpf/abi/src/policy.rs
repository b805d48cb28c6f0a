//! The compiled policy: a longest-prefix map in which only the port can be shortened.

use crate::limits::CLASS_WORLD;

/// Which way a packet goes, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Towards the endpoint.
    Ingress = 0,
    /// From the endpoint.
    Egress = 1,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// The packet passes.
    Allow = 1,
    /// The packet drops.
    Deny = 2,
}

/// Values of [`PolicyValue::action`].
pub mod policy_action {
    /// The packet passes.
    pub const ALLOW: u8 = 1;
    /// The packet drops.
    pub const DENY: u8 = 2;
}

/// Values of [`PolicyValue::auth`].
pub mod policy_auth {
    /// Any channel will do.
    pub const OPTIONAL: u8 = 0;
    /// Both identities must be proven.
    pub const REQUIRED: u8 = 1;
}

wire! {
    /// Key of map `policy`. Looked up with the packet's protocol first, then with protocol 0;
    /// the first hit decides. Without any hit an isolated endpoint denies, and so does every
    /// plaintext peer (classes found by address) in strict mode.
    pub struct PolicyKey as "policy_key" {
        /// Significant bits after this field: [`PolicyKey::ANY_PORT_BITS`] plus the port's.
        pub prefix_len: u32,
        /// Index of the endpoint.
        pub endpoint: u16,
        /// [`Direction`].
        pub direction: u8,
        /// IP protocol, 0 = all.
        pub proto: u8,
        /// Class of the other side.
        pub class: u32,
        /// Destination port of the flow's first packet, network order; 0 for protocols
        /// without.
        pub port: u16,
        /// Zero.
        pub reserved: u16,
    }
}

/// What a policy row covers, in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyPrefix {
    /// Index of the endpoint.
    pub endpoint: u16,
    /// Way of the flow's first packet.
    pub direction: Direction,
    /// IP protocol, 0 = all.
    pub proto: u8,
    /// Class of the other side.
    pub class: u32,
    /// First port of the block, host order.
    pub port: u16,
    /// Significant bits of `port`: 16 = this port only, 0 = every port.
    pub port_bits: u8,
}

impl PolicyKey {
    /// Prefix length that leaves every bit of the port open.
    pub const ANY_PORT_BITS: u32 = 64;

    /// The key of a row.
    pub fn new(prefix: PolicyPrefix) -> Self {
        let port_bits = u32::from(prefix.port_bits.min(16));
        // Bits past the prefix are cleared so that equal rows have equal keys.
        let open = 16 - port_bits;
        let port = (u32::from(prefix.port) >> open) << open;
        Self {
            prefix_len: Self::ANY_PORT_BITS + port_bits,
            endpoint: prefix.endpoint,
            direction: prefix.direction as u8,
            proto: prefix.proto,
            class: prefix.class,
            port: (port as u16).to_be(),
            reserved: 0,
        }
    }

    /// The row's numbers; `None` if the key was not made by [`PolicyKey::new`].
    pub fn prefix(&self) -> Option<PolicyPrefix> {
        let direction = match self.direction {
            0 => Direction::Ingress,
            1 => Direction::Egress,
            _ => return None,
        };
        let port_bits = self.prefix_len.checked_sub(Self::ANY_PORT_BITS)?;
        if port_bits > 16 {
            return None;
        }
        Some(PolicyPrefix {
            endpoint: self.endpoint,
            direction,
            proto: self.proto,
            class: self.class,
            port: u16::from_be(self.port),
            port_bits: port_bits as u8,
        })
    }
}

impl Default for PolicyPrefix {
    fn default() -> Self {
        Self {
            endpoint: 0,
            direction: Direction::Ingress,
            proto: 0,
            class: CLASS_WORLD,
            port: 0,
            port_bits: 0,
        }
    }
}

wire! {
    /// Map `policy`: the verdict of one row.
    pub struct PolicyValue as "policy_value" {
        /// The agent's number of the rule, for events.
        pub rule: u32,
        /// [`policy_action`].
        pub action: u8,
        /// [`policy_auth`].
        pub auth: u8,
        /// Zero.
        pub reserved: u16,
    }
}

impl PolicyValue {
    /// A row's verdict.
    pub fn new(rule: u32, action: Action, required: bool) -> Self {
        Self {
            rule,
            action: action as u8,
            auth: u8::from(required),
            reserved: 0,
        }
    }
}
