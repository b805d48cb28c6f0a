//! Ties a pod's packet on the underlay, after service translation and masquerading, to the flow
//! its own veth saw: the packet's hash goes through the stack untouched. It is keyed, so that no
//! pod can make two flows meet on purpose; a meeting by chance only mixes two flows of one pod.

use signet_abi::{CtKey, FlowKey};

use crate::state::State;

/// Remembers the flow and returns the hash its packet must carry.
pub(crate) fn remember(state: &mut State, key: &CtKey) -> u32 {
    let hash = hash(key, state.config.hash_seed);
    let flow = FlowKey {
        endpoint: u32::from(key.endpoint),
        hash,
    };
    state.flows.insert(flow, *key);
    hash
}

/// The flow of a packet that came this far.
pub(crate) fn recall(state: &State, endpoint: u32, hash: u32) -> Option<CtKey> {
    state.flows.get(&FlowKey { endpoint, hash }).copied()
}

/// Any keyed hash would do; it is written down because both sides must have the same. 0 is never
/// returned: the kernel takes it for "not computed".
fn hash(key: &CtKey, seed: u32) -> u32 {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(key.local.bytes);
    bytes.extend(key.remote.bytes);
    bytes.extend(key.local_port.to_ne_bytes());
    bytes.extend(key.remote_port.to_ne_bytes());
    bytes.extend([key.proto, key.point]);
    bytes.extend(key.endpoint.to_ne_bytes());

    let mut hash = seed;
    for word in bytes.chunks_exact(4) {
        hash ^= u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        hash = hash.wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
        hash = hash.rotate_left(13);
    }
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash.max(1)
}
