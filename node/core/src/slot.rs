//! Slots: the 16,384 parts of the key space, the same in every region.
//!
//! A key belongs to the slot `CRC16(key) mod 16384`, where only the part between the first `{` and the next `}`
//! counts if it is not empty, so that related keys can be kept together. Both are Redis Cluster's rules
//! (Redis documentation, "Redis cluster specification", key distribution model and hash tags); a cluster client
//! computes the same slot before it ever asks us.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

use crc::{CRC_16_XMODEM, Crc, Table};

/// How many slots there are, in every region.
pub const SLOTS: u16 = 16_384;

const CRC16: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// The number of a slot, 0 to 16,383.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(CRC16.checksum(hashed_part(key)) % SLOTS)
    }

    /// Takes a number from outside; `None` unless it lies under [`SLOTS`].
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// The number, 0 to 16,383.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// All slots, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SLOTS).map(Self)
    }
}

/// A number that is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no slot, which are 0 to 16383")]
pub struct InvalidSlot(pub u16);

impl TryFrom<u16> for Slot {
    type Error = InvalidSlot;

    fn try_from(number: u16) -> Result<Self, InvalidSlot> {
        Self::new(number).ok_or(InvalidSlot(number))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of neighbouring slots; what a stripe covers and what a flush names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: Slot,
    /// The last slot, itself included.
    pub last: Slot,
}

impl SlotRange {
    /// The whole key space.
    pub const ALL: Self = Self { first: Slot(0), last: Slot(SLOTS - 1) };

    /// The slots in `numbers`; `None` if that is empty or reaches past the last slot.
    pub const fn new(numbers: Range<u16>) -> Option<Self> {
        if numbers.start < numbers.end && numbers.end <= SLOTS {
            Some(Self { first: Slot(numbers.start), last: Slot(numbers.end - 1) })
        } else {
            None
        }
    }

    /// How many slots these are, 1 to 16,384.
    pub const fn count(&self) -> usize {
        (self.last.0 - self.first.0) as usize + 1
    }

    /// Whether `slot` is one of them.
    pub const fn contains(&self, slot: Slot) -> bool {
        self.first.0 <= slot.0 && slot.0 <= self.last.0
    }

    /// The slots that are in both; `None` if there is none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// The place of `slot` among these, from zero. `slot` must be one of them.
    pub const fn index(&self, slot: Slot) -> usize {
        (slot.0 - self.first.0) as usize
    }

    /// The slot at `index` from the first.
    pub fn at(&self, index: usize) -> Option<Slot> {
        let slot = u16::try_from(index).ok().and_then(|index| self.first.0.checked_add(index)).map(Slot)?;
        (slot <= self.last).then_some(slot)
    }

    /// Each slot, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Slot> + use<> {
        (self.first.0..=self.last.0).map(Slot)
    }
}

/// Any slots: a bit for each, 2 KiB. Sent as its runs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub struct SlotSet(Box<[u64; WORDS]>);

const WORDS: usize = SLOTS as usize / 64;

impl SlotSet {
    /// None.
    pub fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// All.
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Adds a slot. Returns whether it was not there before.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let is_new = !self.contains(slot);
        self.0[usize::from(slot.0 / 64)] |= 1 << (slot.0 % 64);
        is_new
    }

    /// Takes a slot out. Returns whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let was_there = self.contains(slot);
        self.0[usize::from(slot.0 / 64)] &= !(1 << (slot.0 % 64));
        was_there
    }

    /// Whether a slot is there.
    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        self.0[usize::from(slot.0 / 64)] & 1 << (slot.0 % 64) != 0
    }

    /// Adds all that `other` has.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word |= other);
    }

    /// Takes out all that `other` has.
    pub fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word &= !other);
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word &= other);
        both
    }

    /// The runs of those slots that are in `range`, in order.
    pub fn ranges_in(&self, range: &SlotRange) -> Vec<SlotRange> {
        let (mut ranges, mut next, end) = (Vec::new(), range.first.0, range.last.0 + 1);
        loop {
            let first = self.next(next, true);
            if first >= end {
                return ranges;
            }
            next = self.next(first, false).min(end);
            ranges.push(SlotRange { first: Slot(first), last: Slot(next - 1) });
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().zip(0..).flat_map(|(word, index): (&u64, u16)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as u16)?;
                left &= left - 1;
                Some(Slot(index * 64 + bit))
            })
        })
    }

    /// The runs of neighbouring slots, in order.
    pub fn ranges(&self) -> Vec<SlotRange> {
        self.ranges_in(&SlotRange::ALL)
    }

    /// The number of the next slot from `from` on that is there, or that is not; that after the last if there is none.
    fn next(&self, from: u16, is_there: bool) -> u16 {
        let flip = if is_there { 0 } else { u64::MAX };
        let first = usize::from(from / 64);
        let mut mask = u64::MAX << (from % 64);
        for (word, index) in self.0[first.min(WORDS)..].iter().zip(first as u16..) {
            let found = (word ^ flip) & mask;
            if found != 0 {
                return index * 64 + found.trailing_zeros() as u16;
            }
            mask = u64::MAX;
        }
        SLOTS
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        set.extend(slots);
        set
    }
}

impl Extend<Slot> for SlotSet {
    fn extend<I: IntoIterator<Item = Slot>>(&mut self, slots: I) {
        slots.into_iter().for_each(|slot| _ = self.insert(slot));
    }
}

impl TryFrom<Vec<(u16, u16)>> for SlotSet {
    type Error = InvalidSlot;

    fn try_from(runs: Vec<(u16, u16)>) -> Result<Self, InvalidSlot> {
        let mut set = Self::new();
        for (first, last) in runs {
            let (first, last) = (Slot::try_from(first)?, Slot::try_from(last)?);
            set.extend(SlotRange { first, last }.iter());
        }
        Ok(set)
    }
}

impl From<SlotSet> for Vec<(u16, u16)> {
    fn from(set: SlotSet) -> Self {
        set.ranges().into_iter().map(|range| (range.first.0, range.last.0)).collect()
    }
}

/// As Redis prints them: `0-5460 5462`.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges().into_iter().enumerate() {
            let blank = if index > 0 { " " } else { "" };
            write!(f, "{blank}{}", range.first)?;
            if range.last > range.first {
                write!(f, "-{}", range.last)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// The part of a key that decides its slot.
#[inline]
fn hashed_part(key: &[u8]) -> &[u8] {
    if has_brace(key) { tag_or_all(key) } else { key }
}

/// Whether a `{` is in a key. Eight bytes at a time, here and now: most keys are too short for the call of a wider search
/// to pay.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    let (words, rest) = key.as_chunks();
    words.iter().any(|word| {
        // Only a byte that is zero borrows into its top bit without having it set (Mycroft's test).
        let differing = u64::from_le_bytes(*word) ^ u64::from_le_bytes([b'{'; 8]);
        differing.wrapping_sub(LOW_BITS) & !differing & (LOW_BITS << 7) != 0
    }) || rest.contains(&b'{')
}

/// The lowest bit of each byte.
const LOW_BITS: u64 = u64::from_le_bytes([1; 8]);

fn tag_or_all(key: &[u8]) -> &[u8] {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let inner = &key[open + 1..];
        memchr::memchr(b'}', inner).map(|close| &inner[..close])
    });
    match tag {
        Some(tag) if !tag.is_empty() => tag,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Slot, SlotRange, SlotSet};

    proptest! {
        #[test]
        fn a_set_is_its_runs(numbers in proptest::collection::btree_set(0..300_u16, 0..200), wide in any::<bool>()) {
            let slots = numbers.iter().map(|number| Slot::new(if wide { number * 54 } else { *number }).unwrap());
            let set: SlotSet = slots.clone().collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), slots.collect::<Vec<_>>());
            prop_assert_eq!(set.len(), numbers.len());
            prop_assert_eq!(set.is_empty(), numbers.is_empty());
            let runs: Vec<(u16, u16)> = set.clone().into();
            prop_assert_eq!(SlotSet::try_from(runs).unwrap(), set);
        }
    }

    #[test]
    fn a_set_prints_as_in_redis() {
        let mut set: SlotSet = SlotRange::new(0..3).unwrap().iter().collect();
        assert!(set.insert(Slot::new(16_383).unwrap()) && !set.insert(Slot::new(2).unwrap()));
        assert_eq!(set.to_string(), "0-2 16383");
        assert!(set.remove(Slot::new(1).unwrap()));
        assert_eq!(set.to_string(), "0 2 16383");
        assert_eq!(SlotSet::all().to_string(), "0-16383");
        assert!(SlotSet::try_from(vec![(0, 16_384)]).is_err());
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // From `CLUSTER KEYSLOT` of Redis 7.0.
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("", 0), ("123456789", 12739)] {
            assert_eq!(Slot::of(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn a_hash_tag_keeps_keys_together() {
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"{user1000}.followers"));
        assert_eq!(Slot::of(b"foo{}{bar}").number(), 8363);
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
        assert_eq!(Slot::of(b"foo{bar}{zap}"), Slot::of(b"bar"));
        assert_ne!(Slot::of(b"{open"), Slot::of(b"open"));
    }

    #[test]
    fn ranges_meet_where_they_overlap() {
        let low = SlotRange::new(0..256).unwrap();
        let high = SlotRange::new(255..512).unwrap();
        assert_eq!(low.intersection(&high), SlotRange::new(255..256));
        assert_eq!(low.intersection(&SlotRange::new(256..257).unwrap()), None);
        assert_eq!(SlotRange::ALL.count(), 16_384);
        assert!(SlotRange::new(16_384..16_385).is_none());
    }
}
