//! First packets wait here until their pair is proven.
//!
//! Order is kept per endpoint and destination. A full queue drops the newest packet, so that what
//! came first goes first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use signet_abi::DropReason;

use crate::{effects::Ctx, facts::Limits, ids::EndpointIndex, io::Output, rows::SendKey};

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
}

/// All held packets of the node.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    queues: BTreeMap<SendKey, Queue>,
    /// When the first packet of each queue came.
    fronts: BTreeSet<(Duration, SendKey)>,
    endpoint_bytes: BTreeMap<EndpointIndex, usize>,
    bytes: usize,
    packets: usize,
}

impl Hold {
    /// Takes a packet, or drops it if a budget is used up.
    pub(crate) fn push(
        &mut self,
        key: SendKey,
        packet: Vec<u8>,
        limits: &Limits,
        ctx: &mut Ctx<'_>,
    ) {
        let size = packet.len();
        let queue = self.queues.entry(key).or_default();
        let endpoint = self.endpoint_bytes.entry(key.endpoint).or_default();
        let fits = queue.packets.len() < limits.hold_pair_packets
            && queue.bytes + size <= limits.hold_pair_bytes
            && *endpoint + size <= limits.hold_endpoint_bytes
            && self.bytes + size <= limits.hold_node_bytes;
        if !fits {
            if queue.packets.is_empty() {
                self.queues.remove(&key);
            }
            dropped(key, DropReason::HoldOverflow, 1, ctx);
            return;
        }
        if queue.packets.is_empty() {
            self.fronts.insert((ctx.boot(), key));
        }
        queue.packets.push_back((ctx.boot(), packet));
        queue.bytes += size;
        *endpoint += size;
        self.bytes += size;
        self.packets += 1;
        ctx.counters.held += 1;
    }

    /// Lets everything for a destination go, in order.
    pub(crate) fn release(&mut self, key: SendKey, ctx: &mut Ctx<'_>) {
        for (_, packet) in self.take(key) {
            ctx.counters.released += 1;
            let SendKey {
                endpoint,
                generation,
                destination: _,
            } = key;
            ctx.push(Output::Inject {
                endpoint,
                generation,
                packet,
            });
        }
    }

    /// Drops everything for a destination.
    pub(crate) fn discard(&mut self, key: SendKey, reason: DropReason, ctx: &mut Ctx<'_>) {
        let count = self.take(key).len();
        if count > 0 {
            dropped(key, reason, count, ctx);
        }
    }

    /// Drops everything of an endpoint, or of all.
    pub(crate) fn discard_where(
        &mut self,
        of: impl Fn(&SendKey) -> bool,
        reason: DropReason,
        ctx: &mut Ctx<'_>,
    ) {
        let keys: Vec<SendKey> = self.queues.keys().filter(|key| of(key)).copied().collect();
        for key in keys {
            self.discard(key, reason, ctx);
        }
    }

    /// When the first packet of `key` came.
    pub(crate) fn since(&self, key: &SendKey) -> Option<Duration> {
        self.queues.get(key)?.packets.front().map(|(at, _)| *at)
    }

    pub(crate) fn timeout(&self, longest: Duration) -> Option<Duration> {
        self.fronts.first().map(|(at, _)| *at + longest)
    }

    pub(crate) fn handle_timeout(&mut self, longest: Duration, ctx: &mut Ctx<'_>) {
        let late = |(at, _): &&(Duration, SendKey)| *at + longest <= ctx.boot();
        let late = self.fronts.iter().take_while(late);
        let keys: Vec<SendKey> = late.map(|(_, key)| *key).collect();
        for key in keys {
            let mut count = 0;
            while self
                .since(&key)
                .is_some_and(|at| at + longest <= ctx.boot())
            {
                self.pop(key);
                count += 1;
            }
            if count > 0 {
                dropped(key, DropReason::HoldTimeout, count, ctx);
            }
        }
    }

    /// Packets and bytes now held.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.packets, self.bytes)
    }

    fn take(&mut self, key: SendKey) -> Vec<(Duration, Vec<u8>)> {
        std::iter::from_fn(|| self.pop(key)).collect()
    }

    fn pop(&mut self, key: SendKey) -> Option<(Duration, Vec<u8>)> {
        let queue = self.queues.get_mut(&key)?;
        let packet = queue.packets.pop_front();
        if let Some((at, _)) = &packet {
            self.fronts.remove(&(*at, key));
        }
        if let Some((at, _)) = queue.packets.front() {
            self.fronts.insert((*at, key));
        }
        let size = packet.as_ref().map_or(0, |(_, packet)| packet.len());
        queue.bytes -= size;
        if queue.packets.is_empty() {
            self.queues.remove(&key);
        }
        self.bytes -= size;
        self.packets -= usize::from(packet.is_some());
        if let Some(endpoint) = self.endpoint_bytes.get_mut(&key.endpoint) {
            *endpoint -= size;
            if *endpoint == 0 {
                self.endpoint_bytes.remove(&key.endpoint);
            }
        }
        packet
    }
}

fn dropped(key: SendKey, reason: DropReason, count: usize, ctx: &mut Ctx<'_>) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    ctx.counters.held_dropped += count;
    ctx.push(Output::DropHeld {
        endpoint: key.endpoint,
        destination: key.destination,
        reason,
        count,
    });
}
