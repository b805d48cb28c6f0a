//! The hold TAP: packets that wait come out of it, and go back into it when their pair is open.
//!
//! A frame is `virtio_net_hdr | Ethernet | IP packet`. The first two parts are kept beside the
//! packet, unchanged, so that a super-packet is written back as the kernel made it. So is the
//! ticket, by which the data path knows when the last that waited is back.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use signet_abi::{HOLD_HEADER_LEN, HoldHeader};
use tokio::{io::unix::AsyncFd, task::JoinHandle};

use crate::{executor::Inbox, watched};

/// `struct virtio_net_hdr`.
const VNET_LEN: usize = 10;
/// Its ticket, in front of a packet that waits.
const TICKET_LEN: usize = 2;
/// Bytes in front of the IP packet.
const FRONT: usize = VNET_LEN + HOLD_HEADER_LEN;
/// The largest frame: a super-packet with everything in front.
const MAX_FRAME: usize = FRONT + 65_536;

/// A packet that waits, as the core keeps it: ticket, virtio header, then the IP packet.
///
/// The core neither reads nor changes it; what is in front is what makes it whole again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) header: HoldHeader,
    pub(crate) destination: std::net::IpAddr,
    /// `ticket | virtio_net_hdr | IP packet`.
    pub(crate) bytes: Vec<u8>,
}

/// Takes a frame apart; `None` if it is none of ours (the kernel speaks on every device).
pub(crate) fn parse(frame: &[u8]) -> Option<Held> {
    let (vnet, rest) = frame.split_first_chunk::<VNET_LEN>()?;
    let header = HoldHeader::parse(rest)?;
    let packet = rest.get(HOLD_HEADER_LEN..)?;
    let destination = destination(packet)?;
    let mut bytes = Vec::with_capacity(TICKET_LEN + VNET_LEN + packet.len());
    bytes.extend_from_slice(&header.ticket.to_be_bytes());
    bytes.extend_from_slice(vnet);
    bytes.extend_from_slice(packet);
    Some(Held {
        header,
        destination,
        bytes,
    })
}

/// The frame to write back.
pub(crate) fn frame(endpoint: u16, generation: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    let (ticket, rest) = bytes.split_first_chunk::<TICKET_LEN>()?;
    let (vnet, packet) = rest.split_first_chunk::<VNET_LEN>()?;
    let ethertype = match packet.first()? >> 4 {
        4 => 0x0800,
        6 => 0x86dd,
        _ => return None,
    };
    let mut frame = Vec::with_capacity(bytes.len() + HOLD_HEADER_LEN);
    frame.extend_from_slice(vnet);
    frame.extend_from_slice(
        &HoldHeader {
            endpoint,
            generation,
            ticket: u16::from_be_bytes(*ticket),
            ethertype,
        }
        .to_bytes(),
    );
    frame.extend_from_slice(packet);
    Some(frame)
}

fn destination(packet: &[u8]) -> Option<std::net::IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(16..20)?)
            .ok()
            .map(Into::into),
        6 => <[u8; 16]>::try_from(packet.get(24..40)?)
            .ok()
            .map(Into::into),
        _ => None,
    }
}

/// Both ends of the device. Packets go to the core until this is dropped.
pub(crate) struct HoldDevice {
    file: Arc<AsyncFd<File>>,
    reader: JoinHandle<()>,
}

impl HoldDevice {
    /// # Errors
    /// If the runtime cannot watch the device.
    pub(crate) fn new(file: File, inbox: Inbox) -> Result<Self, String> {
        let file = watched::file(file)
            .map_err(|error| format!("hold device cannot be watched: {error}"))?;
        let file = Arc::new(file);
        let reader = tokio::spawn(read_all(Arc::clone(&file), inbox));
        Ok(Self { file, reader })
    }

    /// Writes a packet back.
    ///
    /// # Errors
    /// If the kernel refuses it; the packet is lost then.
    pub(crate) fn write(&self, frame: &[u8]) -> io::Result<()> {
        let mut file: &File = self.file.get_ref();
        file.write(frame).map(drop)
    }
}

impl Drop for HoldDevice {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_all(file: Arc<AsyncFd<File>>, inbox: Inbox) {
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        let Ok(mut ready) = file.readable().await else {
            return;
        };
        let read = ready.try_io(|file| {
            let mut file: &File = file.get_ref();
            file.read(&mut buffer)
        });
        match read {
            Ok(Ok(count)) => {
                if let Some(held) = parse(&buffer[..count]) {
                    inbox.held(held);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "hold device cannot be read");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(version: u8) -> Vec<u8> {
        let mut frame: Vec<u8> = (1..=10).collect();
        let ethertype = if version == 4 { 0x0800 } else { 0x86dd };
        frame.extend(
            HoldHeader {
                endpoint: 0x1234,
                generation: 0x89ab_cdef,
                ticket: 0x4567,
                ethertype,
            }
            .to_bytes(),
        );
        let mut packet = vec![0; 60];
        packet[0] = version << 4;
        packet[16..20].copy_from_slice(&[10, 2, 0, 9]);
        packet[39] = 7;
        frame.extend(packet);
        frame
    }

    #[test]
    fn a_frame_goes_back_as_it_came() {
        for version in [4, 6] {
            let sent = sample(version);
            let held = parse(&sent).unwrap();
            assert_eq!(
                (held.header.endpoint, held.header.generation),
                (0x1234, 0x89ab_cdef)
            );
            assert_eq!(held.destination.is_ipv4(), version == 4);
            assert_eq!(frame(0x1234, 0x89ab_cdef, &held.bytes).unwrap(), sent);
        }
        assert_eq!(
            parse(&sample(4)).unwrap().destination,
            std::net::IpAddr::from([10, 2, 0, 9])
        );
    }

    #[test]
    fn what_is_not_ours_or_cut_is_left_alone() {
        let whole = sample(6);
        for cut in 0..FRONT + 40 {
            assert_eq!(parse(&whole[..cut]), None, "{cut}");
        }
        let mut foreign = whole.clone();
        foreign[VNET_LEN] = 0x33;
        assert_eq!(parse(&foreign), None);
        let mut not_ip = whole;
        not_ip[FRONT] = 0x50;
        assert_eq!(parse(&not_ip), None);
        assert_eq!(frame(1, 1, &[0; TICKET_LEN + VNET_LEN]), None);
        assert_eq!(frame(1, 1, &[]), None);
    }
}
