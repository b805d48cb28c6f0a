//! The Ethernet header of frames on the hold TAP: it says whose packet waits.

/// Bytes of the header.
pub const HOLD_HEADER_LEN: usize = 14;

/// Who sent a held packet. Frames are written back with the header unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldHeader {
    /// Index of the endpoint.
    pub endpoint: u16,
    /// Its generation when it sent.
    pub generation: u32,
    /// Its place among the packets of its pair that wait; what leaves with it lets the next in.
    pub ticket: u16,
    /// EtherType, host order: 0x0800 or 0x86dd.
    pub ethertype: u16,
}

impl HoldHeader {
    /// Reads a frame's header: destination `02:00:<endpoint>:<ticket>`, source
    /// `02:00:<generation>`.
    /// `None` if the frame is no held packet (the kernel sends its own frames on any device).
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (header, _) = frame.split_first_chunk::<HOLD_HEADER_LEN>()?;
        let [2, 0, e0, e1, n0, n1, 2, 0, g0, g1, g2, g3, t0, t1] = *header else {
            return None;
        };
        Some(Self {
            endpoint: u16::from_be_bytes([e0, e1]),
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
            ticket: u16::from_be_bytes([n0, n1]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HOLD_HEADER_LEN] {
        let [e0, e1] = self.endpoint.to_be_bytes();
        let [g0, g1, g2, g3] = self.generation.to_be_bytes();
        let [n0, n1] = self.ticket.to_be_bytes();
        let [t0, t1] = self.ethertype.to_be_bytes();
        [2, 0, e0, e1, n0, n1, 2, 0, g0, g1, g2, g3, t0, t1]
    }
}
