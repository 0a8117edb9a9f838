//! The log: which records changed, in the order in which they did, as a bounded ring.
//!
//! The log does not hold values. An item names a key by its hash and says which stamp it was given; whoever reads the
//! item looks the key up and takes the record that is there *now*. Since a record is a state, the newer one is as
//! good as, and better than, the one that the item was about: a reader that lags skips what was overwritten since.
//! So conflation under back-pressure is not a mechanism but a consequence, and a ring of a million changes costs
//! 16 MiB whatever the values weigh. Two keys with the same hash are both sent: that is harmless.
//!
//! If the key is gone, it was forgotten before this reader had it, and the slot's floor has risen over it: the reader
//! must go back to the scan for that slot. A reader that fell off the ring must do so for all slots of the stripe that
//! changed since; `lost` says what the ring no longer holds.

use std::mem;

use clock::{Origin, Stamp, Time};

use super::{KeyHash, Seen};
use crate::slot::{SLOTS, Slot};

/// A change: the key with this hash in this slot was given this stamp.
///
/// 16 bytes. What happens to a slot as a whole is an item too, marked by a bit above the numbers of slots; a flush of the
/// whole stripe is named by a slot that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    time: Time,
    origin: Origin,
    slot: u16,
    hash: KeyHash,
}

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The keys of this hash in this slot.
    Key(Slot, KeyHash),
    /// Everything in the stripe at or under the item's stamp was flushed.
    Flush,
    /// Everything in this slot at or under the item's stamp was flushed.
    FlushSlot(Slot),
    /// This slot was received whole: its floor is the item's stamp, and what was not sent and lay under that is gone.
    Reset(Slot),
}

const FLUSH: u16 = u16::MAX;
/// Above the numbers of slots.
const FLUSH_SLOT: u16 = 1 << 14;
const RESET: u16 = 1 << 15;
const SLOT_MASK: u16 = FLUSH_SLOT - 1;
const _: () = assert!(SLOT_MASK == SLOTS - 1 && RESET | SLOT_MASK != FLUSH);
const _: () = assert!(size_of::<Item>() == 16);

impl Item {
    pub(super) const fn key(slot: Slot, hash: KeyHash, stamp: Stamp) -> Self {
        Self { time: stamp.time, origin: stamp.origin, slot: slot.number(), hash }
    }

    pub(super) const fn flush(stamp: Stamp) -> Self {
        Self { time: stamp.time, origin: stamp.origin, slot: FLUSH, hash: KeyHash::ZERO }
    }

    pub(super) const fn flush_slot(slot: Slot, stamp: Stamp) -> Self {
        Self { time: stamp.time, origin: stamp.origin, slot: slot.number() | FLUSH_SLOT, hash: KeyHash::ZERO }
    }

    pub(super) const fn reset(slot: Slot, floor: Stamp) -> Self {
        Self { time: floor.time, origin: floor.origin, slot: slot.number() | RESET, hash: KeyHash::ZERO }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { time: self.time, origin: self.origin }
    }

    /// The slot that this is about; `None` for a flush of all.
    pub(super) const fn slot(&self) -> Option<Slot> {
        if self.slot == FLUSH { None } else { Slot::new(self.slot & SLOT_MASK) }
    }

    pub(super) fn subject(&self) -> Subject {
        match self.slot() {
            None => Subject::Flush,
            Some(slot) if self.slot & FLUSH_SLOT != 0 => Subject::FlushSlot(slot),
            Some(slot) if self.slot & RESET != 0 => Subject::Reset(slot),
            Some(slot) => Subject::Key(slot, self.hash),
        }
    }
}

/// Where a reader stands: the number of the next item it has not read. Items are numbered from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(u64);

impl LogPosition {
    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many items lie between `earlier` and this position.
    pub const fn distance(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The ring; one per stripe.
#[derive(Debug)]
pub(super) struct Log {
    items: Vec<Item>,
    capacity: usize,
    /// Where the oldest item stands; moves once all places are taken.
    oldest: usize,
    /// Number of the oldest item that is still here.
    start: u64,
    /// Per origin, the greatest stamp that dropped off the ring.
    lost: Seen,
}

impl Log {
    /// An empty ring for `capacity` items, at least one. Memory is taken as it fills.
    pub(super) fn new(capacity: usize) -> Self {
        Self { items: Vec::new(), capacity: capacity.max(1), oldest: 0, start: 0, lost: Seen::new() }
    }

    #[inline]
    pub(super) fn append(&mut self, item: Item) {
        if self.items.len() < self.capacity {
            self.items.push(item);
            return;
        }
        let lost = mem::replace(&mut self.items[self.oldest], item);
        self.oldest = if self.oldest + 1 == self.capacity { 0 } else { self.oldest + 1 };
        self.start += 1;
        self.lost.advance(lost.origin, lost.time);
    }

    /// Keeps only what does not bear a stamp that is `gone`, of which nothing lies above `limit` any more; who has read any of it begins
    /// again.
    pub(super) fn forget(&mut self, limit: Time, gone: impl Fn(Stamp) -> bool) {
        let end = self.end();
        let (newer, older) = self.items.split_at(self.oldest);
        let kept = older.iter().chain(newer).filter(|item| !gone(item.stamp())).copied().collect();
        (self.items, self.oldest, self.start) = (kept, 0, end.0);
        let lowered = |(origin, time)| if gone(Stamp { time, origin }) { time.min(limit) } else { time };
        self.lost = self.lost.iter().map(|lost| (lost.0, lowered(lost))).collect();
    }

    /// The times of all items, in no order.
    pub(super) fn times(&self) -> impl Iterator<Item = Time> {
        self.items.iter().map(|item| item.stamp().time)
    }

    /// The oldest position that can still be read.
    pub(super) const fn start(&self) -> LogPosition {
        LogPosition(self.start)
    }

    /// The position of the next item to be appended.
    pub(super) fn end(&self) -> LogPosition {
        LogPosition(self.start + self.items.len() as u64)
    }

    /// The item at `position`; `None` at the end, or if the position has dropped off.
    pub(super) fn item(&self, position: LogPosition) -> Option<Item> {
        let index = usize::try_from(position.0.checked_sub(self.start)?).ok()?;
        let until_wrap = self.items.len() - self.oldest;
        if index < until_wrap {
            Some(self.items[self.oldest + index])
        } else {
            self.items[..self.oldest].get(index - until_wrap).copied()
        }
    }

    /// What is no longer here: per origin, the greatest stamp that dropped off.
    pub(super) const fn lost(&self) -> &Seen {
        &self.lost
    }

    /// Bytes that the ring holds.
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<Item>()
    }
}

#[cfg(test)]
mod tests {
    use clock::{Stamp, Time};

    use super::{Item, Log, LogPosition, Subject};
    use crate::{slot::Slot, store::KeyHash};

    fn item(time: u64) -> Item {
        let slot = Slot::new(7).unwrap();
        Item::key(slot, KeyHash::ZERO, Stamp { time: Time::from_ntp64(time), ..Stamp::ZERO })
    }

    #[test]
    fn the_ring_keeps_the_newest_and_says_what_it_lost() {
        let mut log = Log::new(3);
        for time in 1..=5 {
            log.append(item(time));
        }
        assert_eq!(log.item(LogPosition::default()), None);
        assert_eq!(log.item(log.start()), Some(item(3)));
        assert_eq!(log.item(log.end()), None);
        assert_eq!(log.end().distance(log.start()), 3);
        assert_eq!(log.lost().at(Stamp::ZERO.origin), Time::from_ntp64(2));
    }

    #[test]
    fn what_is_forgotten_above_a_limit_is_read_by_nobody_and_the_rest_by_all() {
        let mut log = Log::new(3);
        for time in [1, 9, 2, 8, 3] {
            log.append(item(time));
        }
        let before = log.end();
        log.forget(Time::from_ntp64(5), |stamp| stamp.time > Time::from_ntp64(5));
        assert_eq!((log.start(), log.item(log.start()), log.end().distance(before)), (before, Some(item(2)), 2));
        assert_eq!(log.lost().at(Stamp::ZERO.origin), Time::from_ntp64(5));
        (4..=5).for_each(|time| log.append(item(time)));
        assert_eq!((log.item(log.start()), log.end().distance(log.start())), (Some(item(3)), 3));
    }

    #[test]
    fn a_flush_is_no_key() {
        let last = Slot::new(16_383).unwrap();
        assert_eq!(Item::flush(Stamp::ZERO).subject(), Subject::Flush);
        assert_eq!(Item::flush(Stamp::ZERO).slot(), None);
        assert_eq!(Item::flush_slot(last, Stamp::ZERO).subject(), Subject::FlushSlot(last));
        assert_eq!(Item::reset(last, Stamp::ZERO).subject(), Subject::Reset(last));
        assert_eq!(Item::key(last, KeyHash::ZERO, Stamp::ZERO).subject(), Subject::Key(last, KeyHash::ZERO));
        assert_eq!(item(1).subject(), Subject::Key(Slot::new(7).unwrap(), KeyHash::ZERO));
    }
}
