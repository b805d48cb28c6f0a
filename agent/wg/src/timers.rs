//! WireGuard's timers: retries, rekeying, keepalives, expiry.

use std::sync::Arc;

use boringtun::noise::TunnResult;
use nix::sys::eventfd::EventFd;
use signet_abi::DropReason;

use crate::{
    batch::DatagramSink,
    engine::{Running, wait_only},
    peers::Peer,
    receive::MAX_WRITTEN,
};

/// boringtun's clock advances only when it is asked for its timers.
const TICK_MS: u8 = 250;
/// The longest handshake message.
const INITIATION: usize = 148;

/// Drives the timers of all peers until the engine stops.
pub(crate) fn run(slots: &[Arc<Running>], stop: &EventFd) {
    let mut scratch = vec![0; MAX_WRITTEN];
    while wait_only(stop, TICK_MS) {
        for running in slots {
            for own in running.slot.keys().iter() {
                own.gate.reset_count();
            }
            let table = running.slot.table();
            for peer in table.peers() {
                tick(running, peer, &mut scratch);
            }
        }
    }
}

/// Starts a handshake at once, unless one is under way.
pub(crate) fn initiate(peer: &Peer, underlay: &impl DatagramSink) {
    let mut room = [0; INITIATION];
    let mut session = peer.session();
    if let TunnResult::WriteToNetwork(message) =
        session.tunn.format_handshake_initiation(&mut room, false)
    {
        underlay.send_one(session.underlay, message);
    }
}

fn tick(running: &Running, peer: &Peer, scratch: &mut [u8]) {
    let mut session = peer.session();
    match session.tunn.update_timers(scratch) {
        TunnResult::WriteToNetwork(message) => {
            running.underlay.send_one(session.underlay, message);
        }
        // No answer for 90 s, or no new session for 540 s: what waited is gone. The next
        // packet starts over.
        TunnResult::Err(_) => {
            let lost = session.take_queued() as u64;
            running.slot.dropped_silently(DropReason::WgNoSession, lost);
        }
        TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
    }
}
