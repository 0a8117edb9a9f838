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

/// Any slots, as their runs: in order, apart from one another by a slot at least. Sent as these.
///
/// What is asked of a set costs as much as it has runs, and the slots that a shard owns are few of those. Were each slot a run of its own, a
/// set would take 32 KiB.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub struct SlotSet(Vec<SlotRange>);

impl SlotSet {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// All.
    pub fn all() -> Self {
        Self(vec![SlotRange::ALL])
    }

    /// Adds a slot. Returns whether it was not there before.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let is_new = !self.contains(slot);
        if is_new {
            self.insert_range(&SlotRange { first: slot, last: slot });
        }
        is_new
    }

    /// Adds neighbouring slots.
    pub fn insert_range(&mut self, range: &SlotRange) {
        // Those that it meets or touches become one with it.
        let from = self.0.partition_point(|run| run.last.0 + 1 < range.first.0);
        let to = from + self.0[from..].partition_point(|run| run.first.0 <= range.last.0 + 1);
        let Some(former) = self.0[from..to].last().map(|run| run.last) else {
            return self.0.insert(from, range.clone());
        };
        let run = &mut self.0[from];
        (run.first, run.last) = (run.first.min(range.first), former.max(range.last));
        self.0.drain(from + 1..to);
    }

    /// Takes a slot out. Returns whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let place = self.place(slot);
        let Some(run) = self.0.get_mut(place).filter(|run| run.first <= slot) else { return false };
        let after = SlotRange { first: Slot(slot.0 + 1), last: run.last };
        if run.first < slot {
            run.last = Slot(slot.0 - 1);
            if after.first <= after.last {
                self.0.insert(place + 1, after);
            }
        } else if after.first <= after.last {
            *run = after;
        } else {
            self.0.remove(place);
        }
        true
    }

    /// Whether a slot is there.
    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.get(self.place(slot)).is_some_and(|run| run.first <= slot)
    }

    /// Adds all that `other` has.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else {
            other.0.iter().for_each(|range| self.insert_range(range));
        }
    }

    /// Takes out all that `other` has.
    pub fn subtract(&mut self, other: &Self) {
        if self.0.is_empty() || other.0.is_empty() {
            return;
        }
        let (mut left, mut place) = (Vec::with_capacity(self.0.len() + 1), 0);
        for run in &self.0 {
            let mut next = run.first.0;
            while let Some(out) = other.0.get(place).filter(|out| out.first <= run.last) {
                if out.first.0 > next {
                    left.push(SlotRange { first: Slot(next), last: Slot(out.first.0 - 1) });
                }
                next = next.max(out.last.0 + 1);
                if out.last >= run.last {
                    // It may reach into the next run as well.
                    break;
                }
                place += 1;
            }
            if next <= run.last.0 {
                left.push(SlotRange { first: Slot(next), last: run.last });
            }
        }
        self.0 = left;
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut both, mut one, mut two) = (Vec::new(), self.0.as_slice(), other.0.as_slice());
        while let (Some(first), Some(second)) = (one.first(), two.first()) {
            both.extend(first.intersection(second));
            if first.last < second.last {
                one = &one[1..];
            } else {
                two = &two[1..];
            }
        }
        Self(both)
    }

    /// Whether there is a slot that is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let meets =
            |range: &SlotRange| other.0.get(other.place(range.first)).is_some_and(|run| run.first <= range.last);
        self.0.iter().any(meets)
    }

    /// Whether all that `other` has is here.
    pub fn has_all(&self, other: &Self) -> bool {
        let has = |range: &SlotRange| {
            self.0.get(self.place(range.first)).is_some_and(|run| run.first <= range.first && range.last <= run.last)
        };
        other.0.iter().all(has)
    }

    /// The runs of those slots that are in `range`, in order.
    pub fn ranges_in(&self, range: &SlotRange) -> impl Iterator<Item = SlotRange> + use<'_> {
        let range = range.clone();
        self.0[self.place(range.first)..].iter().map_while(move |run| run.intersection(&range))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(SlotRange::count).sum()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(SlotRange::iter)
    }

    /// The runs of neighbouring slots, in order.
    pub fn ranges(&self) -> &[SlotRange] {
        &self.0
    }

    /// The place of the run in which `slot` is, or else of the next; that after the last if there is none.
    fn place(&self, slot: Slot) -> usize {
        self.0.partition_point(|run| run.last < slot)
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

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut ranges: Vec<SlotRange> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|range| range.first);
        ranges.dedup_by(|next, kept| {
            let touches = next.first.0 <= kept.last.0 + 1;
            if touches {
                kept.last = kept.last.max(next.last);
            }
            touches
        });
        Self(ranges)
    }
}

impl TryFrom<Vec<(u16, u16)>> for SlotSet {
    type Error = InvalidSlot;

    fn try_from(runs: Vec<(u16, u16)>) -> Result<Self, InvalidSlot> {
        let range = |(first, last)| Ok(SlotRange { first: Slot::try_from(first)?, last: Slot::try_from(last)? });
        let ranges: Vec<SlotRange> = runs.into_iter().map(range).collect::<Result<_, _>>()?;
        // One whose end lies before its beginning names nothing.
        Ok(ranges.into_iter().filter(|range| range.first <= range.last).collect())
    }
}

impl From<SlotSet> for Vec<(u16, u16)> {
    fn from(set: SlotSet) -> Self {
        set.0.iter().map(|range| (range.first.0, range.last.0)).collect()
    }
}

/// As Redis prints them: `0-5460 5462`.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
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
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

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

    proptest! {
        #[test]
        fn a_set_is_what_one_bit_per_slot_would_be(
            steps in proptest::collection::vec((0..7_u8, 0..40_u16, 1..6_u16, 0..40_u16, 1..12_u16), 0..60),
        ) {
            let range = |first: u16, count| SlotRange::new(first..first + count).unwrap();
            let (mut set, mut plain) = (SlotSet::new(), BTreeSet::new());
            for (what, first, count, other_first, other_count) in steps {
                let (one, two) = (range(first, count), range(other_first, other_count));
                let other: SlotSet = [two.clone(), one.clone()].into_iter().collect();
                let others: BTreeSet<Slot> = one.iter().chain(two.iter()).collect();
                match what {
                    0 => prop_assert_eq!(set.insert(one.first), plain.insert(one.first)),
                    1 => prop_assert_eq!(set.remove(one.first), plain.remove(&one.first)),
                    2 => {
                        set.insert_range(&one);
                        plain.extend(one.iter());
                    }
                    3 => {
                        set.add(&other);
                        plain.extend(&others);
                    }
                    4 => {
                        set.subtract(&other);
                        plain.retain(|slot| !others.contains(slot));
                    }
                    5 => {
                        let both = set.intersection(&other);
                        let expected: Vec<Slot> = plain.intersection(&others).copied().collect();
                        prop_assert_eq!(both.iter().collect::<Vec<_>>(), expected);
                    }
                    _ => {
                        let inside: Vec<Slot> = set.ranges_in(&two).flat_map(|range| range.iter()).collect();
                        let expected = plain.iter().copied().filter(|slot| two.contains(*slot));
                        prop_assert_eq!(inside, expected.collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!((set.len(), set.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert_eq!(set.meets(&other), plain.intersection(&others).next().is_some());
                prop_assert_eq!(set.has_all(&other), plain.is_superset(&others));
                prop_assert!((0..60).filter_map(Slot::new).all(|slot| set.contains(slot) == plain.contains(&slot)));
                let apart = |pair: &[SlotRange]| pair[0].last.number() + 1 < pair[1].first.number();
                prop_assert!(set.ranges().windows(2).all(apart), "{:?}", set.ranges());
            }
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
