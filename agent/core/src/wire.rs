//! Messages of the node channel as frames carry them.

use prost::Message as _;

/// Generated from `proto/channel.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code, documented in the .proto file"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/signet.channel.v1.rs"));
}

/// The largest payload of a frame.
pub const MAX_PAYLOAD: usize = (64 << 10) - 1;

/// The protocol's number in HELLO.
pub const PROTO: u32 = 1;

macro_rules! messages {
    ($($number:literal $name:ident,)*) => {
        /// One message.
        #[derive(Clone, PartialEq)]
        pub enum Message {
            $(
                #[doc = concat!("Frame type ", stringify!($number), ".")]
                $name(pb::$name),
            )*
        }

        impl Message {
            /// Frame type and payload.
            #[must_use]
            pub fn encode(&self) -> (u8, Vec<u8>) {
                match self {
                    $(Message::$name(message) => ($number, message.encode_to_vec()),)*
                }
            }

            /// Reads a frame.
            ///
            /// # Errors
            /// If the type is unknown or the payload is no such message; close the channel then.
            pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
                if payload.len() > MAX_PAYLOAD {
                    return Err(WireError::TooLarge(payload.len()));
                }
                match kind {
                    $($number => pb::$name::decode(payload)
                        .map(Message::$name)
                        .map_err(|_| WireError::Malformed(stringify!($name))),)*
                    _ => Err(WireError::UnknownType(kind)),
                }
            }

            /// The message's name, for logs: payloads hold labels.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Message::$name(_) => stringify!($name),)*
                }
            }
        }
    };
}

messages! {
    1 Hello,
    2 SlotOffer,
    3 SlotAccept,
    4 SlotReady,
    5 SlotRefuse,
    6 SlotRetire,
    7 ProofReq,
    8 Proof,
    9 Label,
    10 LabelExtend,
    11 LabelRevoke,
    12 LabelRevoked,
    13 Stale,
    14 Ping,
    15 Pong,
    16 Bye,
    17 LabelKeep,
    18 SlotPrepared,
    19 SlotTx,
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More than [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes; at most {MAX_PAYLOAD} are allowed")]
    TooLarge(usize),
    /// Nobody knows this type.
    #[error("frame type {0} is unknown; do both agents run the same version?")]
    UnknownType(u8),
    /// The payload does not decode.
    #[error("{0} does not decode; do both agents run the same version?")]
    Malformed(&'static str),
}

/// An address as messages carry it: 16 bytes, IPv4 mapped.
#[must_use]
pub fn address_bytes(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Reads an address; `None` unless it has 16 bytes.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let octets: [u8; 16] = bytes.try_into().ok()?;
    Some(std::net::IpAddr::V6(octets.into()).to_canonical())
}
