//! Cutting and collecting by themselves, for tests and fuzzers of other crates.

use std::net::IpAddr;

use crate::{
    gro::{Coalescer, FrameSink},
    packet::{Layout, addresses},
    segment,
    vnet::{VNET_LEN, VnetHeader},
};

/// What packets are kept in order within: addresses, protocol and ports, as far as there are any.
pub type FlowKey = (Option<(IpAddr, IpAddr)>, Option<(u8, Vec<u8>)>);

/// The flow of a packet.
pub fn flow_of(packet: &[u8]) -> FlowKey {
    let l4 = Layout::of(packet);
    (
        addresses(packet),
        l4.map(|l4| (l4.protocol, packet[l4.l4..l4.l4 + 4].to_vec())),
    )
}

/// The packets that a frame of the TUN stands for; refused, how many came out before.
///
/// # Errors
/// If the frame is refused.
pub fn cut(frame: &[u8]) -> Result<Vec<Vec<u8>>, usize> {
    let (header, packet) = frame.split_first_chunk::<VNET_LEN>().ok_or(0usize)?;
    let header = VnetHeader::decode(header).ok_or(0usize)?;
    let mut packets = Vec::new();
    let emit = |segment: &[u8]| packets.push(segment.to_vec());
    match segment::split(&header, &mut packet.to_vec(), emit) {
        Ok(()) => Ok(packets),
        Err(segment::Malformed) => Err(packets.len()),
    }
}

/// The frames that packets become when they are decrypted one behind another, as the receiver
/// does it, with junk where the AEAD tag was and failed packets in between.
///
/// # Panics
/// If a packet is longer than 65,535 bytes.
#[expect(clippy::panic, reason = "a test's own mistake")]
pub fn collect(packets: &[Vec<u8>], flush_each: usize) -> Vec<Vec<u8>> {
    const TAG: usize = 16;
    let mut coalescer = Coalescer::new();
    let mut frames = Frames::default();
    for (number, packet) in packets.iter().enumerate() {
        let length = packet.len();
        let Some(room) = coalescer.room(length + TAG) else {
            panic!("no packet has {length} bytes");
        };
        room.fill(0xaa);
        room[..length].copy_from_slice(packet);
        coalescer.commit(length, &mut frames);
        if let Some(room) = coalescer.room(length + TAG) {
            room.fill(0xbb);
        }
        coalescer.abort();
        if (number + 1) % flush_each.max(1) == 0 {
            coalescer.flush(&mut frames);
        }
    }
    coalescer.flush(&mut frames);
    frames.0
}

#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl FrameSink for Frames {
    fn write(&mut self, frame: &[u8]) {
        self.0.push(frame.to_vec());
    }
}
