//! The table of one slot: four bytes per entry, and what the slot as a whole remembers.
//!
//! A node keeps one small table per slot rather than one large one, so a table that grows moves some hundred entries
//! at most and nobody waits for it. Tables hold heap handles; keys are compared in the heap.
//!
//! A walk over a table is by bucket number, so that it can stop and go on. A number stays good as long as the table
//! keeps its layout. Growing changes that, and so does the in-place clean-up of a table full of deletions; both
//! happen only when an insertion finds no room left, and then `layout` counts up, and a walk that was under way begins
//! the slot again. Since what is walked are states, seeing one twice is harmless.

use clock::{Stamp, Time};
use hashbrown::HashTable;

use super::{
    KeyHash,
    entry::Entry,
    heap::{Handle, Heap},
};

/// No entry of the slot expires.
pub(super) const NEVER: u64 = u64::MAX;

/// A place in a table: a layout of it, and a bucket in that layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) layout: u8,
    pub(super) index: u32,
}

#[derive(Debug)]
pub(super) struct SlotTable {
    table: HashTable<Handle>,
    layout: u8,
    /// The greatest stamp that was ever forgotten here.
    pub(super) floor: Stamp,
    /// The greatest time of any stamp that was ever applied here.
    pub(super) newest: Time,
    /// No entry expires before this, in milliseconds since the Unix epoch.
    pub(super) due_ms: u64,
}

impl SlotTable {
    pub(super) const fn new() -> Self {
        Self { table: HashTable::new(), layout: 0, floor: Stamp::ZERO, newest: Time::ZERO, due_ms: NEVER }
    }

    /// The entry of `key`.
    pub(super) fn find(&self, heap: &Heap, hash: KeyHash, key: &[u8]) -> Option<Handle> {
        self.table.find(hash.spread(), |handle| Entry::at(heap, *handle).key() == key).copied()
    }

    /// The entries whose keys may have this hash: those that do, and a few that do not.
    pub(super) fn with_hash(&self, hash: KeyHash) -> impl Iterator<Item = Handle> {
        self.table.iter_hash(hash.spread()).copied()
    }

    /// Adds an entry whose key is not in the table.
    pub(super) fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        if self.table.len() == self.table.capacity() {
            self.layout = self.layout.wrapping_add(1);
        }
        self.table.insert_unique(hash.spread(), handle, |handle| rehash(*handle).spread());
    }

    /// Puts `new` where `old` stands.
    pub(super) fn exchange(&mut self, hash: KeyHash, old: Handle, new: Handle) {
        if let Some(handle) = self.table.find_mut(hash.spread(), |handle| *handle == old) {
            *handle = new;
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, hash: KeyHash, handle: Handle) {
        if let Ok(entry) = self.table.find_entry(hash.spread(), |held| *held == handle) {
            entry.remove();
        }
    }

    /// Takes all entries out and gives the table's memory back.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Handle> + use<> {
        self.layout = self.layout.wrapping_add(1);
        std::mem::take(&mut self.table).into_iter()
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.table.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }

    /// Visits the entries from bucket `from` on until `visit` returns `false`. Returns where to go on, or `None` when
    /// the table is done. Begins again if the layout is no longer that of `from`.
    pub(super) fn walk(&self, from: Bucket, mut visit: impl FnMut(Handle) -> bool) -> Option<Bucket> {
        let start = if from.layout == self.layout { from.index as usize } else { 0 };
        for index in start..self.table.num_buckets() {
            let Some(handle) = self.table.get_bucket(index) else { continue };
            if !visit(*handle) {
                return Some(Bucket { layout: self.layout, index: index as u32 + 1 });
            }
        }
        None
    }

    /// The bucket that a random number names, in today's layout.
    pub(super) fn bucket(&self, random: u64) -> Bucket {
        Bucket { layout: self.layout, index: (random % self.table.num_buckets().max(1) as u64) as u32 }
    }

    /// The first bucket, in today's layout.
    pub(super) const fn first_bucket(&self) -> Bucket {
        Bucket { layout: self.layout, index: 0 }
    }
}
