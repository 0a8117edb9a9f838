//! Slots: the 16,384 parts of the key space, the same in every region.
//!
//! A key belongs to the slot `CRC16(key) mod 16384`, where only the part between the first `{` and the next `}`
//! counts if it is not empty, so that related keys can be kept together. Both are Redis Cluster's rules
//! (Redis documentation, "Redis cluster specification", key distribution model and hash tags); a cluster client
//! computes the same slot before it ever asks us.

use std::{fmt, ops::Range};

use crc::{CRC_16_XMODEM, Crc, Table};

/// How many slots there are, in every region.
pub const SLOTS: u16 = 16_384;

const CRC16: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// The number of a slot, 0 to 16,383.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// The part of a key that decides its slot.
fn hashed_part(key: &[u8]) -> &[u8] {
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
    use super::{Slot, SlotRange};

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
