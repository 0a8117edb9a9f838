//! The census: how much is in a stripe and in each of its slots, kept as entries come and go, and what has happened there.

use super::{entry::Entry, heap::Handle, record::Kind, stripe::Stripe};
use crate::slot::Slot;

/// Events since the start, plain numbers of one stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Values that ended.
    pub expired: u64,
    /// Values dropped for memory.
    pub evicted: u64,
    /// Stamps forgotten before the frontier had passed them.
    pub forgotten_early: u64,
    /// Records that were concurrent with what was held of their key.
    pub conflicts: u64,
    /// Local writes, deletes among them.
    pub writes: u64,
}

impl Counters {
    /// Adds another stripe's.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.forgotten_early += other.forgotten_early;
        self.conflicts += other.conflicts;
        self.writes += other.writes;
    }
}

/// How much is in a stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Values, those among them that have ended but were not swept yet.
    pub values: usize,
    /// Values that expire.
    pub volatile: usize,
    /// Tombstones and markers.
    pub tombstones: usize,
}

impl Census {
    /// Adds another stripe's.
    pub fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.volatile += other.volatile;
        self.tombstones += other.tombstones;
    }
}

impl Stripe {
    /// How much is in it.
    pub const fn census(&self) -> Census {
        self.census
    }

    /// What happened in it.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Sets all counters to zero; CONFIG RESETSTAT.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// How many values a slot holds.
    pub fn count_values(&self, slot: Slot) -> usize {
        self.table(slot).values as usize
    }

    /// Adds an entry to the census.
    pub(super) fn count(&mut self, slot: Slot, handle: Handle) {
        let held = Entry::at(&self.heap, handle);
        if held.kind() == Kind::Value {
            self.tables[self.slots.index(slot)].values += 1;
            self.census.values += 1;
            self.census.volatile += usize::from(held.expiry().is_some());
        } else {
            self.census.tombstones += 1;
            self.graveyard.entry_bytes += self.heap.block_size(handle);
        }
    }

    /// Takes an entry out of the census.
    pub(super) fn uncount(&mut self, slot: Slot, handle: Handle) {
        let held = Entry::at(&self.heap, handle);
        if held.kind() == Kind::Value {
            self.tables[self.slots.index(slot)].values -= 1;
            self.census.values -= 1;
            self.census.volatile -= usize::from(held.expiry().is_some());
        } else {
            self.census.tombstones -= 1;
            self.graveyard.entry_bytes -= self.heap.block_size(handle);
        }
    }
}
