//! The user-space WireGuard engine and the messages that drive it.
//!
//! A packet's way out: [`tun`] reads a super-packet, `segment` cuts it in place, `peers` seals
//! each part into `batch`, [`udp`] sends many in one call. A packet's way in: [`udp`] receives
//! many in one call, `receive` opens them behind each other in `gro`, which gives the [`tun`]
//! super-packets again. [`engine`] runs both on plain threads and does what the agent asks in
//! the words of [`control`].

pub mod control;
pub mod counters;
pub mod engine;
pub mod tun;
pub mod udp;

mod allowed_ips;
mod batch;
mod checksum;
mod drops;
mod gro;
mod packet;
mod peers;
mod receive;
mod segment;
mod slot;
#[cfg(feature = "test-util")]
pub mod test_util;
mod timers;
mod transmit;
mod vnet;

pub use drops::EventSink;
pub use engine::{Engine, SlotDevices, StartError};

#[cfg(test)]
mod test_packets;
#[cfg(test)]
mod tests;
