//! Everything the threads of one slot share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use signet_abi::DropReason;
use signet_crypto::wg::PublicKey;

use crate::{
    counters::SlotCounters,
    drops::{Dropped, EventSink, Reporter},
    peers::{SlotKeys, Table},
};

/// Newest static keys that a peer may have been told of without being set yet.
const KEYS_OFFERED: usize = 2;

pub(crate) struct Slot {
    pub(crate) number: u8,
    /// Own static keys, the newest first: that one, the one before it, which may have been offered
    /// to a peer already, and those that peers still use.
    keys: RwLock<Vec<Arc<SlotKeys>>>,
    pub(crate) counters: SlotCounters,
    table: RwLock<Table>,
    reporter: Reporter,
}

impl Slot {
    pub(crate) fn new(number: u8, keys: SlotKeys, index_seed: u32, events: EventSink) -> Self {
        Self {
            number,
            keys: RwLock::new(vec![Arc::new(keys)]),
            counters: SlotCounters::default(),
            table: RwLock::new(Table::new(index_seed)),
            reporter: Reporter::new(number, events),
        }
    }

    /// Own static keys, the newest first; never empty.
    pub(crate) fn keys(&self) -> RwLockReadGuard<'_, Vec<Arc<SlotKeys>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The own key with this public half, if it is still there.
    pub(crate) fn own(&self, key: &PublicKey) -> Option<Arc<SlotKeys>> {
        let keys = self.keys();
        keys.iter().find(|own| own.public_key() == *key).cloned()
    }

    /// Makes these the keys that new peers are given.
    pub(crate) fn renew(&self, keys: SlotKeys) {
        let mut all = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(0, Arc::new(keys));
        drop(all);
        self.forget_unused();
    }

    /// Private halves that nothing can use any more are wiped.
    pub(crate) fn forget_unused(&self) {
        let mut all = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut at = 0;
        all.retain(|own| {
            at += 1;
            at <= KEYS_OFFERED || Arc::strong_count(own) > 1
        });
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
