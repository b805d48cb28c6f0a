//! Ports of fragmented datagrams: the first fragment tells, the later ones ask.

use signet_abi::{DropReason, FRAGMENT_NS, FragKey, FragPorts};

use crate::parse::{Fragment, Packet};
use crate::state::State;

/// Learns the ports of a first fragment, fills in those of a later one. Only to be called once
/// the source is checked, or one pod could plant ports for another's fragments.
pub(crate) fn ports(state: &mut State, now: u64, packet: &mut Packet) -> Result<(), DropReason> {
    match packet.fragment {
        Fragment::Whole => {}
        Fragment::First { id } => {
            let ports = FragPorts {
                sport: packet.sport.to_be(),
                dport: packet.dport.to_be(),
                reserved: 0,
                expires: now + FRAGMENT_NS,
            };
            state.fragments.insert(key(packet, id), ports);
        }
        Fragment::Later { id } => {
            let known = state
                .fragments
                .get(&key(packet, id))
                .filter(|ports| ports.expires > now)
                .ok_or(DropReason::FragmentWithoutPorts)?;
            packet.sport = u16::from_be(known.sport);
            packet.dport = u16::from_be(known.dport);
        }
    }
    Ok(())
}

fn key(packet: &Packet, id: u32) -> FragKey {
    FragKey {
        src: packet.src,
        dst: packet.dst,
        id,
        proto: packet.proto,
        reserved: [0; 3],
    }
}
