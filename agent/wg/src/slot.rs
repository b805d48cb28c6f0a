//! Everything the threads of one slot share.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use signet_abi::DropReason;
use signet_crypto::wg::PublicKey;

use crate::{
    counters::SlotCounters,
    drops::{Dropped, EventSink, Reporter},
    peers::{SlotKeys, Table},
};

pub(crate) struct Slot {
    pub(crate) number: u8,
    pub(crate) keys: SlotKeys,
    pub(crate) counters: SlotCounters,
    table: RwLock<Table>,
    reporter: Reporter,
}

impl Slot {
    pub(crate) fn new(number: u8, keys: SlotKeys, index_seed: u32, events: EventSink) -> Self {
        Self {
            number,
            keys,
            counters: SlotCounters::default(),
            table: RwLock::new(Table::new(index_seed)),
            reporter: Reporter::new(number, events),
        }
    }

    #[inline]
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dropped(&self, drop: &Dropped) {
        self.reporter.dropped(&self.counters, drop);
    }

    /// Packets lost together, of which the agent is told nothing.
    pub(crate) fn dropped_silently(&self, reason: DropReason, packets: u64) {
        self.counters.count_drop(reason, packets);
    }

    pub(crate) fn handshake(&self, peer: PublicKey) {
        self.counters.handshakes.add(1);
        self.reporter.handshake(peer);
    }
}
