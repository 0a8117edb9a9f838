//! The table of one slot: four bytes per entry, and what the slot as a whole remembers.
//!
//! A node keeps one small table per slot rather than one large one, so a table that grows moves some hundred entries
//! at most and nobody waits for it; one that becomes large all the same is split into segments (see `segments`). Tables hold heap handles; keys are compared in the heap.
//!
//! A walk over a table is by segment and bucket, so that it can stop and go on. The number of a bucket stays good as long as its
//! segment keeps its layout. Growing and shrinking, splitting and joining change that, and so does the in-place clean-up of a table full of
//! deletions; each time `layout` counts up, and a walk that was under way in the segment begins it again. Since what is walked
//! are states, seeing one twice is harmless. Missing one would not be: so the count has 32 bits, and does not come
//! round while a walk pauses; and segments are walked in the order of hashes, in which one that is split or joined keeps its place.

use clock::{Stamp, Time};

use super::{
    KeyHash,
    entry::Entry,
    heap::{Handle, Heap},
    segments::{PREFIX_BITS, Segment, Segments},
};

/// No entry of the slot expires.
pub(super) const NEVER: u64 = u64::MAX;

/// Bits of a place that number the buckets of a segment; with those of a prefix, 31, which is what SCAN has room for.
const NUMBER_BITS: u32 = 31 - PREFIX_BITS;

/// A place in a table: a segment and a layout of it, and a bucket in that layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) layout: u32,
    /// The prefix of the segment, and the number of the bucket.
    pub(super) index: u32,
}

impl Bucket {
    const fn of(segment: &Segment, number: usize) -> Self {
        // The number after the last one of the largest table that there can be names the next segment.
        Self { layout: segment.layout(), index: ((segment.prefix() as u32) << NUMBER_BITS) + number as u32 }
    }

    const fn prefix(self) -> u16 {
        (self.index >> NUMBER_BITS) as u16
    }

    const fn number(self) -> usize {
        (self.index & ((1 << NUMBER_BITS) - 1)) as usize
    }
}

#[derive(Debug)]
pub(super) struct SlotTable {
    entries: Segments,
    /// How many of the entries are values.
    pub(super) values: u32,
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
            entries: Segments::new(),
            values: 0,
            floor: Stamp::ZERO,
            newest: Time::ZERO,
            due_ms: NEVER,
            is_thinned: false,
        }
    }

    /// The entry of `key`.
    #[inline]
    pub(super) fn find(&self, heap: &Heap, hash: KeyHash, key: &[u8]) -> Option<Handle> {
        self.entries.find(hash, |handle| Entry::fetch(heap, handle).key() == key)
    }

    /// The entries whose keys may have this hash: those that do, and a few that do not.
    pub(super) fn with_hash(&self, hash: KeyHash) -> impl Iterator<Item = Handle> {
        self.entries.with_hash(hash)
    }

    /// Adds an entry whose key is not in the table.
    pub(super) fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        self.entries.insert(hash, handle, rehash);
    }

    /// Puts `new` where `old` stands.
    pub(super) fn exchange(&mut self, hash: KeyHash, old: Handle, new: Handle) {
        self.entries.exchange(hash, old, new);
    }

    /// Takes an entry out, and gives memory back if far too much is left for what remains. Returns whether it did.
    pub(super) fn remove(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) -> bool {
        self.entries.remove(hash, handle, rehash)
    }

    /// Takes all entries out and gives the table's memory back.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Handle> + use<> {
        self.entries.take_all()
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.entries.handles()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// Visits the entries from bucket `from` on until `visit` returns `false`. Returns where to go on, or `None` when
    /// the table is done. Begins the segment again if its layout is no longer that of `from`.
    pub(super) fn walk(&self, from: Bucket, mut visit: impl FnMut(Handle) -> bool) -> Option<Bucket> {
        let mut segment = self.entries.at(from.prefix());
        let is_as_it_was = (segment.prefix(), segment.layout()) == (from.prefix(), from.layout);
        let mut start = if is_as_it_was { from.number() } else { 0 };
        loop {
            for number in start..segment.buckets() {
                let Some(handle) = segment.bucket(number) else { continue };
                if !visit(handle) {
                    return Some(Bucket::of(segment, number + 1));
                }
            }
            segment = self.entries.after(segment)?;
            start = 0;
        }
    }

    /// A position of which perhaps only eight bits of the layout were kept.
    pub(super) fn recall(&self, from: Bucket) -> Bucket {
        let segment = self.entries.at(from.prefix());
        if segment.prefix() == from.prefix() && (from.layout ^ segment.layout()) & 0xff == 0 {
            Bucket { layout: segment.layout(), ..from }
        } else {
            Bucket::of(segment, 0)
        }
    }

    /// The bucket that a random number names, in today's layout.
    pub(super) fn bucket(&self, random: u64) -> Bucket {
        let segment = self.entries.at(random as u16);
        let number = (random >> PREFIX_BITS) % segment.buckets().max(1) as u64;
        Bucket::of(segment, number as usize)
    }

    /// The first bucket, in today's layout.
    pub(super) fn first_bucket(&self) -> Bucket {
        Bucket::of(self.entries.at(0), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        collections::{BTreeSet, HashMap},
    };

    use clock::Stamp;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

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

        /// Returns how many entries were moved for it.
        fn insert(&mut self, number: u32) -> usize {
            let record = Record { key: &number.to_le_bytes(), stamp: Stamp::ZERO, state: State::Tombstone };
            let handle = entry::store(&mut self.heap, &record, 0).unwrap();
            let (heap, moved) = (&self.heap, Cell::new(0));
            self.table.insert(hash(number), handle, |handle| {
                moved.set(moved.get() + 1);
                hash(number_of(heap, handle))
            });
            moved.get()
        }

        fn find(&self, number: u32) -> Option<Handle> {
            self.table.find(&self.heap, hash(number), &number.to_le_bytes())
        }

        /// Returns how many entries were moved for it.
        fn remove(&mut self, number: u32) -> usize {
            let handle = self.find(number).unwrap();
            let (heap, moved) = (&self.heap, Cell::new(0));
            self.table.remove(hash(number), handle, |handle| {
                moved.set(moved.get() + 1);
                hash(number_of(heap, handle))
            });
            self.heap.release(handle);
            moved.get()
        }

        fn layout(&self) -> u32 {
            self.table.first_bucket().layout
        }

        /// Where each entry stands.
        fn places(&self) -> HashMap<u32, Bucket> {
            let (mut places, mut from) = (HashMap::new(), self.table.first_bucket());
            loop {
                let mut number = None;
                let next = self.table.walk(from, |handle| {
                    number = Some(number_of(&self.heap, handle));
                    false
                });
                let (Some(number), Some(next)) = (number, next) else { return places };
                places.insert(number, next);
                from = next;
            }
        }
    }

    impl Bucket {
        fn segment(self) -> (u16, u32) {
            (self.prefix(), self.layout)
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
            let (mut places, mut layout, mut changes) = (fixture.places(), fixture.layout(), 0);
            for number in population..population + 2_000 {
                fixture.remove(number - population);
                fixture.insert(number);
                let now = fixture.places();
                if fixture.layout() == layout {
                    assert!(places.iter().all(|(key, place)| now.get(key).is_none_or(|now| now == place)));
                } else {
                    changes += 1;
                }
                (places, layout) = (now, fixture.layout());
            }
            assert!(changes <= 2_000 / (population / 2), "{changes} changes at {population} entries");
        }
    }

    #[test]
    fn what_was_split_or_joined_has_a_layout_that_none_with_the_same_prefix_had_before() {
        let mut fixture = Fixture::new();
        let (mut places, mut known, mut changes) = (HashMap::new(), BTreeSet::new(), 0);
        let (mut first, mut last) = (0, 0);
        for size in [30_000, 500, 20_000, 4_000, 30_000, 0] {
            while last - first != size {
                // Each is new: what comes back may stand elsewhere.
                let moved = if last - first < size {
                    last += 1;
                    fixture.insert(last - 1)
                } else {
                    first += 1;
                    fixture.remove(first - 1)
                };
                if moved == 0 {
                    continue;
                }
                changes += 1;
                let now = fixture.places();
                let stayed = |key, now: &Bucket| {
                    places.get(key).is_none_or(|was: &Bucket| was.segment() != now.segment() || was == now)
                };
                assert!(now.iter().all(|(key, now)| stayed(key, now)), "an entry has moved within a layout");
                let segments = |places: &HashMap<u32, Bucket>| {
                    places.values().map(|place| place.segment()).collect::<BTreeSet<_>>()
                };
                let new = &segments(&now) - &segments(&places);
                assert!(new.is_disjoint(&known), "{new:?} was there before");
                known.extend(new);
                places = now;
            }
        }
        assert!(changes > 50, "{changes}");
    }

    #[test]
    fn no_segment_is_doubled_however_many_deleted_places_there_are() {
        for population in (1_800..2_050).step_by(50).chain([3_000, 3_500]) {
            let mut fixture = Fixture::new();
            (0..population).for_each(|number| _ = fixture.insert(number));
            for number in population..population + 100_000 {
                fixture.remove(number - population);
                fixture.insert(number);
                fixture.table.entries.check();
            }
        }
    }

    #[test]
    fn a_walk_that_pauses_over_many_layouts_begins_again() {
        let mut fixture = Fixture::new();
        (0..3).for_each(|number| _ = fixture.insert(number));
        let paused = fixture.table.walk(fixture.table.first_bucket(), |_| false).unwrap();
        (0..255).for_each(|_| drop(fixture.table.take_all()));
        (0..3).for_each(|number| _ = fixture.insert(number));
        assert_eq!(fixture.layout(), paused.layout + 256);
        let mut visited = 0;
        fixture.table.walk(paused, |_| {
            visited += 1;
            true
        });
        assert_eq!(visited, 3);
        let short = Bucket { layout: paused.layout & 0xff, ..paused };
        assert_eq!(fixture.table.recall(short), Bucket { layout: fixture.layout(), ..paused });
    }

    /// Entries of which some segments are full.
    const MANY: u32 = 60_000;
    /// More than a segment has; what it takes to tell two halves apart, and to put both into a new table, included.
    const MOVED_MAX: usize = 4_096;

    #[test]
    fn nobody_waits_for_more_than_a_segment_whatever_is_in_the_slot() {
        let mut fixture = Fixture::new();
        let moved = (0..MANY).map(|number| fixture.insert(number)).max();
        assert!(moved.is_some_and(|moved| (1..MOVED_MAX).contains(&moved)), "{moved:?} for one write");
        assert_eq!((fixture.table.len(), fixture.table.handles().count()), (MANY as usize, MANY as usize));
        assert!(fixture.table.bytes() < 12 * MANY as usize, "{} bytes", fixture.table.bytes());

        let moved = (0..MANY - 1).map(|number| fixture.remove(number)).max();
        assert!(moved.is_some_and(|moved| (1..MOVED_MAX).contains(&moved)), "{moved:?} for one delete");
        assert_eq!((fixture.table.len(), fixture.table.handles().count()), (1, 1));
        assert!(fixture.table.bytes() < 100, "{} bytes for one entry", fixture.table.bytes());
        assert!(fixture.find(MANY - 1).is_some());
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20))]

        #[test]
        fn a_walk_visits_what_is_there_throughout_however_the_table_grows_and_shrinks_meanwhile(
            sizes in proptest::collection::vec((0..MANY).prop_map(|size| size * size / MANY), 1..12),
            pauses in proptest::collection::vec(1..20_000_usize, 12),
            is_on_the_wire: bool,
        ) {
            let mut fixture = Fixture::new();
            let mut size = sizes[0];
            (0..size).for_each(|number| _ = fixture.insert(number));
            // What is there throughout: a number stands for one more, and the table takes and gives the last ones.
            let stay = sizes.iter().copied().min().unwrap_or_default();
            let (mut visited, mut from) = (BTreeSet::new(), Some(fixture.table.first_bucket()));
            for (wanted, pause) in sizes.iter().zip(&pauses) {
                (size..*wanted).for_each(|number| _ = fixture.insert(number));
                (*wanted..size).for_each(|number| _ = fixture.remove(number));
                size = *wanted;
                prop_assert_eq!(fixture.table.len(), size as usize);
                fixture.table.entries.check();
                let Some(paused) = from else { break };
                let short = Bucket { layout: paused.layout & 0xff, ..paused };
                let paused = if is_on_the_wire { fixture.table.recall(short) } else { paused };
                let mut rest = *pause;
                from = fixture.table.walk(paused, |handle| {
                    visited.insert(number_of(&fixture.heap, handle));
                    rest -= 1;
                    rest > 0
                });
            }
            while let Some(paused) = from {
                from = fixture.table.walk(paused, |handle| {
                    visited.insert(number_of(&fixture.heap, handle));
                    true
                });
            }
            prop_assert!((0..stay).all(|number| visited.contains(&number)));
            prop_assert!((0..size).all(|number| fixture.find(number).is_some()));
            prop_assert_eq!(fixture.table.handles().count(), size as usize);
            prop_assert_eq!(fixture.table.take_all().count(), size as usize);
            prop_assert_eq!(fixture.table.bytes(), 0);
        }
    }
}
