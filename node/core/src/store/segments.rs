//! The entries of one slot, by the hashes of their keys: extendible hashing (Fagin, Nievergelt, Pippenger and Strong, 1979).
//!
//! A hash table that is full moves all that is in it into one of twice the size, and whoever wants anything of its stripe waits. That is soon
//! done in most slots, which have some hundred entries. But nobody keeps a user from putting a million keys under one hash tag, of which the last
//! doubling would take a tenth of a second. So a table that has [`BUCKETS_MAX`] is not doubled: it becomes two *segments*, told apart by the first
//! bit of a hash, each of which is split by the next bit when it is full in its turn. No write moves more than the entries of one segment, whatever
//! there are in the slot. A segment that has become nearly empty is joined with its other half again, likewise.
//!
//! A segment holds the hashes that begin with its *prefix*. The [`Directory`] has a place for each beginning of the length that the
//! longest prefix has, and says which segment that is. As long as there is one segment there is no directory, and nothing to look up.
//!
//! Each segment counts its *layouts*: those times when entries may have moved in it. A segment that was split, or joined, has another layout than any that began
//! with the same hash before, so that a walk that had stopped there can tell; see `table`.

use std::{mem, slice};

use hashbrown::HashTable;

use super::{KeyHash, heap::Handle};

/// Buckets of a table that is not doubled any more, but split: 3,584 entries, which are moved in half a millisecond. Most slots stay below that
/// in a node of fifty million keys, and are found without a directory.
const BUCKETS_MAX: usize = 4_096;

/// A table is too large if less than one in so many buckets is in use.
const SPARSE: usize = 16;

/// Bits of a hash that tell segments apart, the first ones. When they are used up tables are doubled again: with some hundred million entries.
pub(super) const PREFIX_BITS: u32 = u16::BITS;

/// All entries of a slot.
#[derive(Debug)]
pub(super) enum Segments {
    /// In one table.
    One(Segment),
    /// In several.
    Many(Box<Directory>),
}

/// Which segment has what.
#[derive(Debug)]
pub(super) struct Directory {
    /// So many bits are the index of a place.
    depth: u32,
    /// In the order of hashes, indices of segments.
    places: Vec<u16>,
    /// In no order.
    segments: Vec<Segment>,
    entries: usize,
    bytes: usize,
}

/// Entries whose hashes begin alike.
#[derive(Debug)]
pub(super) struct Segment {
    table: HashTable<Handle>,
    layout: u32,
    /// How their hashes begin; the bits beyond `depth` are zero.
    prefix: u16,
    /// So many bits of the prefix count.
    depth: u8,
}

impl Segments {
    pub(super) const fn new() -> Self {
        Self::One(Segment::new(0))
    }

    /// The segment of hashes with this beginning.
    #[inline]
    pub(super) fn at(&self, prefix: u16) -> &Segment {
        match self {
            Self::One(segment) => segment,
            Self::Many(directory) => &directory.segments[directory.index(prefix)],
        }
    }

    /// The segment after that one, in the order of hashes.
    pub(super) fn after(&self, segment: &Segment) -> Option<&Segment> {
        Some(self.at(segment.prefix.checked_add(segment.last_bit()?)?))
    }

    /// The entries whose keys may have this hash: those that do, and a few that do not.
    #[inline]
    pub(super) fn with_hash(&self, hash: KeyHash) -> impl Iterator<Item = Handle> {
        self.at(hash.prefix()).table.iter_hash(hash.spread()).copied()
    }

    /// The entry with this hash that is `wanted`.
    #[inline]
    pub(super) fn find(&self, hash: KeyHash, wanted: impl Fn(Handle) -> bool) -> Option<Handle> {
        self.at(hash.prefix()).table.find(hash.spread(), |handle| wanted(*handle)).copied()
    }

    /// Adds an entry.
    #[inline]
    pub(super) fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        match self {
            Self::One(segment) if !segment.is_to_split() => segment.insert(hash, handle, rehash),
            _ => self.insert_among_many(hash, handle, rehash),
        }
    }

    fn insert_among_many(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        if let Self::One(segment) = self {
            *self = Self::Many(Box::new(Directory::of(mem::replace(segment, Segment::new(0)))));
        }
        if let Self::Many(directory) = self {
            directory.insert(hash, handle, rehash);
        }
    }

    /// Puts `new` where `old` stands.
    pub(super) fn exchange(&mut self, hash: KeyHash, old: Handle, new: Handle) {
        let table = match self {
            Self::One(segment) => &mut segment.table,
            Self::Many(directory) => &mut directory.segment_mut(hash.prefix()).table,
        };
        if let Some(handle) = table.find_mut(hash.spread(), |handle| *handle == old) {
            *handle = new;
        }
    }

    /// Takes an entry out, and gives memory back if far too much is left for what remains. Returns whether it did.
    pub(super) fn remove(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) -> bool {
        let has_shrunk = match self {
            Self::One(segment) => {
                segment.remove(hash, handle);
                segment.shrink(rehash)
            }
            Self::Many(directory) => directory.remove(hash, handle, rehash),
        };
        if let Self::Many(directory) = self
            && directory.segments.len() == 1
            && let Some(segment) = directory.segments.pop()
        {
            *self = Self::One(segment);
        }
        has_shrunk
    }

    /// Takes all entries out and gives the memory back.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Handle> + use<> {
        let layout = self.all().iter().map(|segment| segment.layout).max().unwrap_or_default();
        let (one, many) = match mem::replace(self, Self::One(Segment::new(layout.wrapping_add(1)))) {
            Self::One(segment) => (Some(segment), Vec::new()),
            Self::Many(directory) => (None, directory.segments),
        };
        one.into_iter().chain(many).flat_map(|segment| segment.table)
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.all().iter().flat_map(|segment| segment.table.iter()).copied()
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(segment) => segment.table.len(),
            Self::Many(directory) => directory.entries,
        }
    }

    /// What is allocated, but for the few bytes of a directory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(segment) => segment.bytes(),
            Self::Many(directory) => directory.bytes,
        }
    }

    /// In no order.
    fn all(&self) -> &[Segment] {
        match self {
            Self::One(segment) => slice::from_ref(segment),
            Self::Many(directory) => &directory.segments,
        }
    }
}

#[cfg(test)]
impl Segments {
    /// # Panics
    /// If the books are wrong.
    pub(super) fn check(&self) {
        assert!(self.all().iter().all(|segment| segment.buckets() <= BUCKETS_MAX));
        let Self::Many(directory) = self else { return };
        let segments = &directory.segments;
        assert!(segments.len() > 1);
        assert_eq!(directory.entries, segments.iter().map(|segment| segment.table.len()).sum::<usize>());
        assert_eq!(directory.bytes, segments.iter().map(Segment::bytes).sum::<usize>());
        let mut places = vec![None; 1 << directory.depth];
        for (index, Segment { prefix, depth, .. }) in segments.iter().enumerate() {
            let first = usize::from(*prefix) >> (PREFIX_BITS - directory.depth);
            let those = &mut places[first..first + (1 << (directory.depth - u32::from(*depth)))];
            assert!(those.iter().all(Option::is_none), "two segments have the same hashes");
            those.fill(Some(index as u16));
        }
        assert_eq!(places, directory.places.iter().copied().map(Some).collect::<Vec<_>>());
    }
}

impl Directory {
    fn of(segment: Segment) -> Self {
        let (entries, bytes) = (segment.table.len(), segment.bytes());
        Self { depth: 0, places: vec![0], segments: vec![segment], entries, bytes }
    }

    #[inline]
    fn index(&self, prefix: u16) -> usize {
        usize::from(self.places[usize::from(prefix) >> (PREFIX_BITS - self.depth)])
    }

    fn segment_mut(&mut self, prefix: u16) -> &mut Segment {
        let index = self.index(prefix);
        &mut self.segments[index]
    }

    /// The places of a segment.
    fn places_of(&mut self, index: usize) -> &mut [u16] {
        let Segment { prefix, depth, .. } = &self.segments[index];
        let first = usize::from(*prefix) >> (PREFIX_BITS - self.depth);
        &mut self.places[first..first + (1 << (self.depth - u32::from(*depth)))]
    }

    fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        // Nearly all may be of one half, which is full at once.
        while self.segment_mut(hash.prefix()).is_to_split() {
            self.split(self.index(hash.prefix()), &rehash);
        }
        let segment = self.segment_mut(hash.prefix());
        let before = segment.bytes();
        segment.insert(hash, handle, rehash);
        let after = segment.bytes();
        self.entries += 1;
        self.bytes = self.bytes + after - before;
    }

    fn split(&mut self, index: usize, rehash: impl Fn(Handle) -> KeyHash) {
        if u32::from(self.segments[index].depth) == self.depth {
            self.places = self.places.iter().flat_map(|place| [*place, *place]).collect();
            self.depth += 1;
        }
        let segment = &mut self.segments[index];
        let before = segment.bytes();
        let other = segment.split(rehash);
        self.bytes = self.bytes + segment.bytes() + other.bytes() - before;
        self.segments.push(other);
        let last = self.segments.len() - 1;
        self.places_of(last).fill(last as u16);
    }

    fn remove(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) -> bool {
        let index = self.index(hash.prefix());
        let segment = &mut self.segments[index];
        let before = segment.table.len();
        segment.remove(hash, handle);
        self.entries -= before - segment.table.len();
        if !segment.is_sparse() {
            return false;
        }
        if let Some(other) = self.other_half(index) {
            self.join(index, other, rehash);
            return true;
        }
        let segment = &mut self.segments[index];
        let before = segment.bytes();
        let has_shrunk = segment.shrink(rehash);
        self.bytes -= before - segment.bytes();
        has_shrunk
    }

    /// The segment that this one was split from, or that was split from it, if both fit one table easily.
    fn other_half(&self, index: usize) -> Option<usize> {
        let segment = &self.segments[index];
        let other = self.index(segment.prefix ^ segment.last_bit()?);
        let half = &self.segments[other];
        let fits = segment.table.len() + half.table.len() <= BUCKETS_MAX / 4;
        (half.depth == segment.depth && fits).then_some(other)
    }

    /// Brings two halves into one segment.
    fn join(&mut self, index: usize, other: usize, rehash: impl Fn(Handle) -> KeyHash) {
        let before = self.segments[index].bytes() + self.segments[other].bytes();
        self.places_of(other).fill(index as u16);
        let half = mem::replace(&mut self.segments[other], Segment::new(0));
        self.segments[index].join(half, rehash);
        self.bytes = self.bytes + self.segments[index].bytes() - before;
        // The last one takes the place of the one that is gone.
        self.segments.swap_remove(other);
        if other < self.segments.len() {
            self.places_of(other).fill(other as u16);
        }
    }
}

impl Segment {
    /// That of all hashes, empty.
    const fn new(layout: u32) -> Self {
        Self { table: HashTable::new(), layout, prefix: 0, depth: 0 }
    }

    pub(super) const fn layout(&self) -> u32 {
        self.layout
    }

    pub(super) const fn prefix(&self) -> u16 {
        self.prefix
    }

    pub(super) fn buckets(&self) -> usize {
        self.table.num_buckets()
    }

    pub(super) fn bucket(&self, index: usize) -> Option<Handle> {
        self.table.get_bucket(index).copied()
    }

    /// The last bit of the prefix that counts, which tells it from its other half. So many prefixes it has; none if it has all.
    const fn last_bit(&self) -> Option<u16> {
        1_u16.checked_shl(PREFIX_BITS - self.depth as u32)
    }

    /// Whether it would have to be doubled for one more, and is as large as it may be.
    #[inline]
    fn is_to_split(&self) -> bool {
        let (buckets, length) = (self.table.num_buckets(), self.table.len());
        // A table of which less than half is entries is full of deleted places, and is cleaned up where it is.
        let is_doubled = length == self.table.capacity() && length >= buckets / 16 * 7;
        buckets >= BUCKETS_MAX && is_doubled && u32::from(self.depth) < PREFIX_BITS
    }

    fn insert(&mut self, hash: KeyHash, handle: Handle, rehash: impl Fn(Handle) -> KeyHash) {
        let was_full = self.table.len() == self.table.capacity();
        self.table.insert_unique(hash.spread(), handle, |handle| rehash(*handle).spread());
        // A full table that took the entry into the place of a deleted one is as full as before; else it made room.
        if was_full && self.table.len() < self.table.capacity() {
            self.layout = self.layout.wrapping_add(1);
        }
    }

    fn remove(&mut self, hash: KeyHash, handle: Handle) {
        if let Ok(entry) = self.table.find_entry(hash.spread(), |held| *held == handle) {
            entry.remove();
        }
    }

    fn is_sparse(&self) -> bool {
        let left = self.table.len();
        left < self.table.num_buckets() / SPARSE || left == 0 && self.bytes() > 0
    }

    /// Gives most of the memory back if it has become far too large for what is left in it. Returns
    /// whether it did. Room for as many again stays, so that the next time is far off.
    fn shrink(&mut self, rehash: impl Fn(Handle) -> KeyHash) -> bool {
        let is_sparse = self.is_sparse();
        if is_sparse {
            self.table.shrink_to(2 * self.table.len(), |handle| rehash(*handle).spread());
            self.layout = self.layout.wrapping_add(1);
        }
        is_sparse
    }

    /// Keeps those entries whose hashes go on with a zero, and returns the others.
    fn split(&mut self, rehash: impl Fn(Handle) -> KeyHash) -> Self {
        self.depth += 1;
        self.layout = self.layout.wrapping_add(1);
        let bit = self.last_bit().unwrap_or_default();
        let mut other = Self { table: HashTable::new(), prefix: self.prefix | bit, ..*self };
        let entries = mem::replace(&mut self.table, with_room(BUCKETS_MAX / 2));
        other.table = with_room(BUCKETS_MAX / 2);
        for handle in entries {
            let hash = rehash(handle);
            let half = if hash.prefix() & bit == 0 { &mut self.table } else { &mut other.table };
            half.insert_unique(hash.spread(), handle, |handle| rehash(*handle).spread());
        }
        other
    }

    /// Takes the entries of its other half in.
    fn join(&mut self, other: Self, rehash: impl Fn(Handle) -> KeyHash) {
        self.prefix &= !self.last_bit().unwrap_or_default();
        self.depth -= 1;
        self.layout = self.layout.max(other.layout).wrapping_add(1);
        let entries = mem::take(&mut self.table).into_iter().chain(other.table).collect::<Vec<_>>();
        self.table = with_room(2 * entries.len());
        for handle in entries {
            self.table.insert_unique(rehash(handle).spread(), handle, |handle| rehash(*handle).spread());
        }
    }

    fn bytes(&self) -> usize {
        self.table.allocation_size()
    }
}

fn with_room(entries: usize) -> HashTable<Handle> {
    HashTable::with_capacity(entries)
}

#[cfg(test)]
mod tests {
    use hashbrown::HashTable;

    use super::{KeyHash, Segment};

    #[test]
    fn joined_halves_have_a_layout_that_neither_had() {
        for (layout, other) in [(3, 7), (7, 3)] {
            let half = |prefix, layout| Segment { table: HashTable::new(), layout, prefix, depth: 1 };
            let (mut joined, other) = (half(0, layout), half(1 << 15, other));
            joined.join(other, |_| KeyHash::ZERO);
            assert_eq!((joined.prefix, joined.depth, joined.layout), (0, 0, 8));
        }
    }
}
