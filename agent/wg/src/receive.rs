//! From the underlay to the TUN: datagrams are opened into the coalescer, handshakes answered.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use boringtun::noise::{
    Packet, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
};
use signet_abi::DropReason;
use signet_crypto::wg::PublicKey;

use crate::{
    batch::DatagramSink,
    drops::Dropped,
    gro::{Coalescer, FrameSink},
    peers::{Peer, Session, SlotKeys, Table},
    slot::Slot,
};

/// Header of a data message: type, receiver index, counter.
const DATA_HEADER: usize = 16;
const TYPE_DATA: u32 = 4;
/// The largest message `Tunn` may write: a packet that waited for the session.
pub(crate) const MAX_WRITTEN: usize = 65_535 + 32;
const COOKIE_REPLY: usize = 64;

/// Opens datagrams and collects the packets.
pub(crate) struct Receiver {
    coalescer: Coalescer,
    scratch: Box<[u8]>,
}

/// What a data message held.
enum Opened {
    Packet(usize, IpAddr),
    Keepalive,
    Failed(WireGuardError),
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            coalescer: Coalescer::new(),
            scratch: vec![0; MAX_WRITTEN].into_boxed_slice(),
        }
    }

    /// Takes datagrams of one sender, each `segment` bytes long but perhaps the last. Call
    /// [`Receiver::flush`] when none follow at once.
    pub(crate) fn datagrams(
        &mut self,
        slot: &Slot,
        from: SocketAddr,
        bytes: &[u8],
        segment: usize,
        tun: &mut impl FrameSink,
        underlay: &impl DatagramSink,
    ) {
        let table = slot.table();
        let mut datagrams = bytes.chunks(segment).peekable();
        while let Some(first) = datagrams.next() {
            let Some(receiver) = data_receiver(first) else {
                self.handshake(slot, &table, from, first, underlay);
                continue;
            };
            let Some(peer) = table.by_receiver(receiver) else {
                drop_datagram(slot, DropReason::WgUnknownPeer, None, from);
                continue;
            };
            // One lock for all consecutive datagrams of the same session.
            let mut run = Run {
                slot,
                table: &table,
                peer,
                receiver,
                from,
                source: None,
                packets: 0,
                bytes: 0,
            };
            let mut session = peer.session();
            self.data(&mut run, &mut session, first, tun, underlay);
            while let Some(next) = datagrams.next_if(|next| data_receiver(next) == Some(receiver)) {
                self.data(&mut run, &mut session, next, tun, underlay);
            }
            drop(session);
            peer.traffic.add_rx(run.packets, run.bytes);
            slot.counters.traffic.add_rx(run.packets, run.bytes);
        }
    }

    /// Writes out what is collected.
    pub(crate) fn flush(&mut self, tun: &mut impl FrameSink) {
        self.coalescer.flush(tun);
    }

    #[inline]
    fn data(
        &mut self,
        run: &mut Run<'_>,
        session: &mut Session,
        datagram: &[u8],
        tun: &mut impl FrameSink,
        underlay: &impl DatagramSink,
    ) {
        let Some(room) = self.coalescer.room(datagram.len() - DATA_HEADER) else {
            return run.dropped(DropReason::WgMalformed, None);
        };
        let opened = match session
            .tunn
            .decapsulate(Some(run.from.ip()), datagram, room)
        {
            TunnResult::WriteToTunnelV4(packet, source) => {
                Opened::Packet(packet.len(), IpAddr::V4(source))
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                Opened::Packet(packet.len(), IpAddr::V6(source))
            }
            TunnResult::Done | TunnResult::WriteToNetwork(_) => Opened::Keepalive,
            TunnResult::Err(error) => Opened::Failed(error),
        };
        if let Opened::Failed(error) = opened {
            self.coalescer.abort();
            return run.dropped(reason(&error), None);
        }
        if session.confirm(run.receiver) {
            self.established(run.slot, run.peer, session, underlay);
        }
        let Opened::Packet(length, source) = opened else {
            return self.coalescer.abort();
        };
        if run.source != Some(source) && !run.table.is_owner(run.peer, source) {
            let inner = crate::packet::addresses(self.coalescer.packet(length));
            self.coalescer.abort();
            return run.dropped(DropReason::WgSourceNotAllowed, inner);
        }
        run.source = Some(source);
        run.packets += 1;
        run.bytes += length as u64;
        self.coalescer.commit(length, tun);
    }

    #[cold]
    fn handshake(
        &mut self,
        slot: &Slot,
        table: &Table,
        from: SocketAddr,
        datagram: &[u8],
        underlay: &impl DatagramSink,
    ) {
        let mut cookie = [0; COOKIE_REPLY];
        let (message, own) = match admitted(slot, from, datagram, &mut cookie) {
            Admitted::Message(message, own) => (message, own),
            Admitted::Cookie(length) => {
                underlay.send_one(from, &cookie[..length]);
                return;
            }
            Admitted::Refused(reason) => return drop_datagram(slot, reason, None, from),
        };
        let (peer, receiver) = match &message {
            Packet::HandshakeInit(initiation) => {
                match parse_handshake_anon(&own.private, &own.public, initiation) {
                    Ok(half) => (table.by_key(&PublicKey(half.peer_static_public)), None),
                    Err(error) => return drop_datagram(slot, reason(&error), None, from),
                }
            }
            Packet::HandshakeResponse(response) => {
                let receiver = response.receiver_idx;
                (table.by_receiver(receiver), Some(receiver))
            }
            Packet::PacketCookieReply(reply) => (table.by_receiver(reply.receiver_idx), None),
            Packet::PacketData(_) => (None, None),
        };
        let Some(peer) = peer else {
            return drop_datagram(slot, DropReason::WgUnknownPeer, None, from);
        };
        let mut session = peer.session();
        match session
            .tunn
            .decapsulate(Some(from.ip()), datagram, &mut self.scratch)
        {
            // To the address the agent gave, not to the sender's: peers do not roam.
            TunnResult::WriteToNetwork(answer) => {
                underlay.send_one(session.underlay, answer);
                if let Some(receiver) = receiver
                    && session.confirm(receiver)
                {
                    self.established(slot, peer, &mut session, underlay);
                }
            }
            TunnResult::Err(error) => {
                drop_datagram(slot, reason(&error), Some(peer.key), from);
            }
            TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
    }

    /// A session works both ways: tell the agent, and send what waited for it.
    #[cold]
    fn established(
        &mut self,
        slot: &Slot,
        peer: &Peer,
        session: &mut Session,
        underlay: &impl DatagramSink,
    ) {
        slot.handshake(peer.key);
        let mut waited = session.take_queued();
        while waited > 0 {
            let TunnResult::WriteToNetwork(message) =
                session.tunn.decapsulate(None, &[], &mut self.scratch)
            else {
                break;
            };
            let sent = underlay.send_one(session.underlay, message);
            slot.counters.underlay_refused.add(u64::from(!sent));
            let bytes = (message.len() as u64).saturating_sub(32);
            peer.traffic.add_tx(1, bytes);
            slot.counters.traffic.add_tx(1, bytes);
            waited -= 1;
        }
    }
}

/// What the gates say to a handshake message.
enum Admitted<'a> {
    /// It was made for this key.
    Message(Packet<'a>, Arc<SlotKeys>),
    /// So many are coming that its sender first has to show that it can be reached.
    Cookie(usize),
    Refused(DropReason),
}

/// Finds the own key that a handshake message was made for: its mac1 covers the key. There are two,
/// and more only while a switch of epochs is under way.
fn admitted<'a>(
    slot: &Slot,
    from: SocketAddr,
    datagram: &'a [u8],
    cookie: &mut [u8],
) -> Admitted<'a> {
    let mut refused = DropReason::WgInvalid;
    for own in slot.keys().iter() {
        match own.gate.verify_packet(Some(from.ip()), datagram, cookie) {
            Ok(message) => return Admitted::Message(message, Arc::clone(own)),
            Err(TunnResult::WriteToNetwork(cookie)) => return Admitted::Cookie(cookie.len()),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => {}
            Err(TunnResult::Err(error)) => refused = reason(&error),
            Err(
                TunnResult::Done
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..),
            ) => {}
        }
    }
    Admitted::Refused(refused)
}

/// Consecutive datagrams of one session.
struct Run<'a> {
    slot: &'a Slot,
    table: &'a Table,
    peer: &'a Peer,
    receiver: u32,
    from: SocketAddr,
    /// The inner source that was last found to be the peer's.
    source: Option<IpAddr>,
    packets: u64,
    bytes: u64,
}

impl Run<'_> {
    #[cold]
    fn dropped(&self, reason: DropReason, inner: Option<(IpAddr, IpAddr)>) {
        self.slot.dropped(&Dropped {
            reason,
            peer: Some(self.peer.key),
            underlay: Some(self.from),
            inner,
        });
    }
}

/// The receiver index of a data message that is long enough to be one.
#[inline]
fn data_receiver(datagram: &[u8]) -> Option<u32> {
    let (kind, rest) = datagram.split_first_chunk::<4>()?;
    let receiver = rest.first_chunk::<4>()?;
    (u32::from_le_bytes(*kind) == TYPE_DATA && datagram.len() >= DATA_HEADER + 16)
        .then(|| u32::from_le_bytes(*receiver))
}

#[cold]
fn drop_datagram(slot: &Slot, reason: DropReason, peer: Option<PublicKey>, from: SocketAddr) {
    slot.dropped(&Dropped {
        reason,
        peer,
        underlay: Some(from),
        inner: None,
    });
}

/// The drop reason for what boringtun found.
fn reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp => DropReason::WgReplay,
        WireGuardError::InvalidMac
        | WireGuardError::InvalidAeadTag
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongKey
        | WireGuardError::UnexpectedPacket
        | WireGuardError::UnderLoad => DropReason::WgInvalid,
        WireGuardError::NoCurrentSession
        | WireGuardError::WrongIndex
        | WireGuardError::ConnectionExpired => DropReason::WgNoSession,
        WireGuardError::DestinationBufferTooSmall
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType
        | WireGuardError::InvalidPacket
        | WireGuardError::LockFailed => DropReason::WgMalformed,
    }
}
