//! Names and numbers, each with a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a `metadata.uid` as it is.
            #[must_use]
            pub fn new(uid: impl Into<String>) -> Self {
                Self(uid.into())
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid! {
    /// `metadata.uid` of a Pod.
    PodUid
}
uid! {
    /// `metadata.uid` of a Node.
    NodeUid
}

/// What [`PodUid::of_node`] begins with.
const NODE: &str = "node:";

impl PodUid {
    /// What a node itself goes by where pods are named: in pairs, rows and messages. No pod may
    /// have such a UID, which the API server would not give it either.
    #[must_use]
    pub fn of_node(node: &NodeUid) -> Self {
        Self(format!("{NODE}{node}"))
    }

    /// The node, if this is no pod but a node itself.
    #[must_use]
    pub fn node(&self) -> Option<NodeUid> {
        self.0.strip_prefix(NODE).map(NodeUid::new)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One TCP connection of a node channel. The daemon numbers them, never the same number twice
    /// in one run.
    ConnId(u64)
}
number! {
    /// Index of a local endpoint in the data path, 1 to 65,535, reused late.
    EndpointIndex(u16)
}
number! {
    /// Number of a remote node in the data path; never reused while maps live.
    PeerId(u32)
}
number! {
    /// The agent's handle of a remote pod, as rows and events carry it.
    RemoteId(u32)
}
number! {
    /// Number of an identity (SPIFFE ID) of local endpoints, on this node only.
    IdentityId(u32)
}
number! {
    /// Policy class of a pod or address, as `signet-abi` numbers them: below 16 the fixed ones,
    /// from 16 on given by the agent.
    ClassId(u32)
}
number! {
    /// Key epoch between two nodes; grows by one or two with each node channel. 0 is none.
    Epoch(u64)
}

impl Epoch {
    /// The slot of the engine that holds the keys of this epoch.
    #[must_use]
    pub fn slot(self) -> Slot {
        if self.0 & 1 == 0 {
            Slot::Even
        } else {
            Slot::Odd
        }
    }
}

/// One of the two places for keys in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Number 0.
    Even,
    /// Number 1.
    Odd,
}

impl Slot {
    /// Both, in order.
    pub const ALL: [Slot; 2] = [Slot::Even, Slot::Odd];

    /// The number on the control socket and in maps.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Slot::Even => 0,
            Slot::Odd => 1,
        }
    }

    /// Reads the number; `None` unless it is 0 or 1.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Slot::Even),
            1 => Some(Slot::Odd),
            _ => None,
        }
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.number())
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Slot::Even => Slot::Odd,
            Slot::Odd => Slot::Even,
        }
    }
}

/// Permission to speak as one pod to another: 40 random bits. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u64);

impl Label {
    /// The largest value.
    pub const MAX: u64 = (1 << 40) - 1;

    /// Takes a value of at most 40 bits that is not 0.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        (value != 0 && value <= Self::MAX).then_some(Self(value))
    }

    /// The bits, for the data path and the wire.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Label(..)")
    }
}
