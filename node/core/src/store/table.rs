//! The table of one slot: four bytes per entry, and what the slot as a whole remembers.
//!
//! A node keeps one small table per slot rather than one large one, so a table that grows moves some hundred entries
//! at most and nobody waits for it. Tables hold heap handles; keys are compared in the heap.
//!
//! A walk over a table is by bucket number, so that it can stop and go on. A number stays good as long as the table
//! keeps its layout. Growing and shrinking change that, and so does the in-place clean-up of a table full of
//! deletions; each time `layout` counts up, and a walk that was under way begins the slot again. Since what is walked
//! are states, seeing one twice is harmless. Missing one would not be: so the count has 32 bits, and does not come
//! round while a walk pauses.

use clock::{Stamp, Time};
use hashbrown::HashTable;

use super::{
    KeyHash,
    entry::Entry,
    heap::{Handle, Heap},
};

/// A table is too large if less than one in so many buckets is in use.
const SPARSE: usize = 16;

/// No entry of the slot expires.
pub(super) const NEVER: u64 = u64::MAX;

/// A place in a table: a layout of it, and a bucket in that layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) layout: u32,
    pub(super) index: u32,
}

#[derive(Debug)]
pub(super) struct SlotTable {
    table: HashTable<Handle>,
    layout: u32,
    /// The greatest stamp that was ever forgotten here.
    pub(super) floor: Stamp,
    /// The greatest time of any stamp that was ever applied here.
    pub(super) newest: Time,
    /// No entry expires before this, in milliseconds since the Unix epoch.
    pub(super) due_ms: u64,
    /// Something was dropped here for memory that others may still hold, since who follows this node in everything was last told to get the slot
    /// whole.
    pub(super) is_thinned: bool,
}

impl SlotTable {
    pub(super) const fn new() -> Self {
        Self {
            table: HashTable::new(),
            layout: 0,
            floor: Stamp::ZERO,
            newest: Time::ZERO,
            due_ms: NEVER,
            is_thinned: false,
        }
    }

    /// The entry of `key`.
    #[inline]
    pub(super) fn find(&self, heap: &Heap, hash: KeyHash, key: &[u8]) -> Option<Handle> {
        self.table.find(hash.spread(), |handle| Entry::fetch(heap, *handle).key() == key).copied()
    }

    /// The entries whose keys may have this hash: those that do, and a few that do not.
    pub(super) fn with_hash(&self, hash: KeyHash) -> impl Iterator<Item = Handle> {
        self.table.iter_hash(hash.spread()).copied()
    }

    /// Adds an entry whose key is not in the table.
    pub(super) fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        let was_full = self.table.len() == self.table.capacity();
        self.table.insert_unique(hash.spread(), handle, |handle| rehash(*handle).spread());
        // A full table that took the entry into the place of a deleted one is as full as before; else it made room.
        if was_full && self.table.len() < self.table.capacity() {
            self.layout = self.layout.wrapping_add(1);
        }
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

    /// Gives most of the memory back of a table that has become far too large for what is left in it. Returns
    /// whether it did. Room for as many again stays, so that the next time is far off.
    pub(super) fn shrink(&mut self, rehash: impl Fn(Handle) -> KeyHash) -> bool {
        let left = self.table.len();
        let sparse = left < self.table.num_buckets() / SPARSE || left == 0 && self.bytes() > 0;
        if sparse {
            self.table.shrink_to(2 * left, |handle| rehash(*handle).spread());
            self.layout = self.layout.wrapping_add(1);
        }
        sparse
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

    /// A position of which perhaps only eight bits of the layout were kept.
    pub(super) const fn recall(&self, from: Bucket) -> Bucket {
        if (from.layout ^ self.layout) & 0xff == 0 {
            Bucket { layout: self.layout, ..from }
        } else {
            self.first_bucket()
        }
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use clock::Stamp;

    use super::{Bucket, SlotTable};
    use crate::store::{
        KeyHash,
        entry::{self, Entry},
        heap::{Handle, Heap},
        record::{Record, State},
    };

    /// A table over a heap, with hashes that are the keys themselves.
    struct Fixture {
        table: SlotTable,
        heap: Heap,
    }

    impl Fixture {
        fn new() -> Self {
            Self { table: SlotTable::new(), heap: Heap::new() }
        }

        fn insert(&mut self, number: u32) -> Handle {
            let record = Record { key: &number.to_le_bytes(), stamp: Stamp::ZERO, state: State::Tombstone };
            let handle = entry::store(&mut self.heap, &record, 0).unwrap();
            let heap = &self.heap;
            self.table.insert(hash(number), handle, |handle| hash(number_of(heap, handle)));
            handle
        }

        fn remove(&mut self, number: u32) {
            let handle = self.table.find(&self.heap, hash(number), &number.to_le_bytes()).unwrap();
            self.table.remove(hash(number), handle);
            self.heap.release(handle);
        }

        /// Where each entry stands.
        fn places(&self) -> HashMap<u32, u32> {
            let (mut places, mut from) = (HashMap::new(), Bucket { index: 0, layout: self.table.layout });
            loop {
                let mut number = None;
                let next = self.table.walk(from, |handle| {
                    number = Some(number_of(&self.heap, handle));
                    false
                });
                let (Some(number), Some(next)) = (number, next) else { return places };
                places.insert(number, next.index);
                from = next;
            }
        }
    }

    fn number_of(heap: &Heap, handle: Handle) -> u32 {
        u32::from_le_bytes(Entry::at(heap, handle).key().try_into().unwrap())
    }

    fn hash(number: u32) -> KeyHash {
        KeyHash::of(&foldhash::fast::FixedState::with_seed(3), &number.to_le_bytes())
    }

    #[test]
    fn the_layout_counts_up_whenever_an_entry_moves_and_seldom_else() {
        for population in [3, 7, 14, 100, 448, 1_000] {
            let mut fixture = Fixture::new();
            (0..population).for_each(|number| _ = fixture.insert(number));
            let (mut places, mut layout, mut changes) = (fixture.places(), fixture.table.layout, 0);
            for number in population..population + 2_000 {
                fixture.remove(number - population);
                fixture.insert(number);
                let now = fixture.places();
                if fixture.table.layout == layout {
                    assert!(places.iter().all(|(key, place)| now.get(key).is_none_or(|now| now == place)));
                } else {
                    changes += 1;
                }
                (places, layout) = (now, fixture.table.layout);
            }
            assert!(changes <= 2_000 / (population / 2), "{changes} changes at {population} entries");
        }
    }

    #[test]
    fn a_walk_that_pauses_over_many_layouts_begins_again() {
        let mut fixture = Fixture::new();
        (0..3).for_each(|number| _ = fixture.insert(number));
        let paused = fixture.table.walk(fixture.table.first_bucket(), |_| false).unwrap();
        (0..255).for_each(|_| drop(fixture.table.take_all()));
        (0..3).for_each(|number| _ = fixture.insert(number));
        assert_eq!(fixture.table.layout, paused.layout + 256);
        let mut visited = 0;
        fixture.table.walk(paused, |_| {
            visited += 1;
            true
        });
        assert_eq!(visited, 3);
        let short = Bucket { layout: paused.layout & 0xff, ..paused };
        assert_eq!(fixture.table.recall(short), Bucket { layout: fixture.table.layout, ..paused });
    }
}
