//! Walks over a stripe for its readers: the feed's scan and tail, and SCAN.
//!
//! Each call holds the stripe's lock for a bounded time and says where to go on.

use clock::{Stamp, Time};

use super::{
    entry::Entry,
    log::{Item, LogPosition, Subject},
    record::Record,
    seen::Seen,
    settings::Sabotage,
    stripe::{KeyHash, Stripe},
    table::{Bucket, SlotTable},
};
use crate::{
    limits::{FEED_BYTES_PER_HOLD, FEED_ITEMS_PER_HOLD, SCAN_ENTRIES_PER_HOLD},
    slot::{Slot, SlotRange},
};

/// Where a scan of one slot stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanPosition(Bucket);

impl ScanPosition {
    /// Packs the position into the low 40 bits of a number, for [`Stripe::scan_keys`].
    ///
    /// Eight bits of the segment's layout are kept: one that changed its layout 256 times since looks unchanged, so
    /// that is good enough for SCAN and not for a feed.
    pub const fn to_bits(self) -> u64 {
        ((self.0.layout & 0xff) as u64) << 32 | self.0.index as u64
    }

    /// Unpacks what [`to_bits`](Self::to_bits) packed; any number is a position, if perhaps of no use.
    pub const fn from_bits(bits: u64) -> Self {
        Self(Bucket { layout: (bits >> 32) as u32 & 0xff, index: bits as u32 })
    }
}

/// What an item of the log stands for now.
pub(super) enum Change {
    /// Nothing that this reader needs: it was overwritten, and a later item says with what.
    Superseded,
    /// These entries, by number of records emitted.
    Emitted,
    /// The record was forgotten before it was read, or more than one record has changed: the slot must be scanned.
    Gone(Slot),
    /// A flush of these slots.
    Flushed(SlotRange),
}

impl Stripe {
    /// Visits the records of a slot from `from` on; stops after a bounded number of them or of bytes let through by
    /// `visit`, which returns the bytes it took. Returns where to go on, or `None` when the slot is done.
    pub(super) fn scan_slot(
        &self,
        slot: Slot,
        from: ScanPosition,
        mut visit: impl FnMut(&Record<'_>) -> usize,
    ) -> Option<ScanPosition> {
        let (mut visits, mut bytes) = (0, 0);
        let stopped = self.table(slot).walk(from.0, |handle| {
            bytes += visit(&Entry::at(&self.heap, handle).record());
            visits += 1;
            visits < SCAN_ENTRIES_PER_HOLD && bytes < FEED_BYTES_PER_HOLD
        });
        stopped.map(ScanPosition)
    }

    /// Visits the records of a slot from `from` on, until `visit` returns `false` or as many as `budget` says were visited;
    /// takes them off `budget`. Returns where to go on, or `None` when the slot is done. A walk in a segment
    /// that has changed its layout begins that again.
    pub fn walk_records(
        &self,
        slot: Slot,
        from: ScanPosition,
        budget: &mut usize,
        mut visit: impl FnMut(&Record<'_>) -> bool,
    ) -> Option<ScanPosition> {
        let table = self.table(slot);
        let stopped = table.walk(table.recall(from.0), |handle| {
            *budget = budget.saturating_sub(1);
            visit(&Entry::at(&self.heap, handle).record()) && *budget > 0
        });
        stopped.map(ScanPosition)
    }

    /// The first position of a slot.
    pub(super) fn scan_start(&self, slot: Slot) -> ScanPosition {
        ScanPosition(self.table(slot).first_bucket())
    }

    /// Visits the keys of a slot that hold a value at `now`, with the value, until `visit` returns `false` or as many
    /// entries as `budget` says were looked at, those without a value among them; takes them off `budget`. Returns where
    /// to go on, or `None` when the slot is done. Every key that is there throughout a scan is visited at least once.
    pub fn scan_keys(
        &self,
        slot: Slot,
        from: ScanPosition,
        now: Time,
        budget: &mut usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<ScanPosition> {
        let now_ms = now.unix_ms();
        let table = self.table(slot);
        let stopped = table.walk(table.recall(from.0), |handle| {
            *budget = budget.saturating_sub(1);
            let held = Entry::at(&self.heap, handle);
            (!held.is_readable(now_ms) || visit(held.key(), held.value())) && *budget > 0
        });
        stopped.map(ScanPosition)
    }

    /// A key that holds a value at `now`, chosen by 64 random bits: each with nearly the same chance. `None` if no value
    /// is held.
    ///
    /// A slot is drawn by its number of values, then a bucket, and the first value from there on is taken: what lies
    /// behind a gap has a somewhat better chance, but gaps come by hash and have nothing to do with the keys.
    pub fn random_key(&self, random: u64, now: Time) -> Option<&[u8]> {
        let now_ms = now.unix_ms();
        let values = self.census.values.max(1) as u64;
        let (mut rest, random) = (random % values, random / values);
        let drawn = self.tables.iter().position(|table| {
            let (values, before) = (u64::from(table.values), rest);
            rest = rest.saturating_sub(values);
            before < values
        })?;
        let mut found = None;
        let mut look = |table: &SlotTable, from| {
            table.walk(from, |handle| {
                let held = Entry::at(&self.heap, handle);
                found = held.is_readable(now_ms).then(|| held.key());
                found.is_none()
            });
            found
        };
        // To the end of the slot that was drawn, and if nothing is left there, all round the stripe.
        let (before, after) = self.tables.split_at(drawn);
        look(&after[0], after[0].bucket(random))
            .or_else(|| after.iter().chain(before).find_map(|table| look(table, table.first_bucket())))
    }

    /// Whether a slot may hold a record newer than `since`.
    pub(super) fn has_newer(&self, slot: Slot, since: Time) -> bool {
        self.table(slot).newest > since
    }

    /// Reads the log from `from` on and hands each item to `visit`, which returns the bytes it took, until a bound is
    /// met. Returns where to go on. `from` must not have dropped off the ring.
    pub(super) fn read_log(&self, from: LogPosition, mut visit: impl FnMut(&Item) -> usize) -> LogPosition {
        let (mut position, mut items, mut bytes) = (from, 0, 0);
        while let Some(item) = self.log.item(position) {
            bytes += visit(&item);
            position = position.next();
            items += 1;
            if items >= FEED_ITEMS_PER_HOLD || bytes >= FEED_BYTES_PER_HOLD {
                break;
            }
        }
        position
    }

    /// Looks up what an item of the log stands for now. `comes_again` says of a stamp whether it is in the scope of
    /// the reader, so that its own item will bring it.
    pub(super) fn resolve(
        &self,
        item: &Item,
        comes_again: impl Fn(Stamp) -> bool,
        mut emit: impl FnMut(Slot, &Record<'_>),
    ) -> Change {
        let (slot, hash) = match item.subject() {
            Subject::Flush => return Change::Flushed(self.slots().clone()),
            Subject::FlushSlot(slot) => return Change::Flushed(SlotRange { first: slot, last: slot }),
            Subject::Reset(slot) => return Change::Gone(slot),
            Subject::Key(slot, hash) => (slot, hash),
        };
        let (mut change, mut present) = (Change::Superseded, false);
        let floor = self.table(slot).floor;
        for handle in self.table(slot).with_hash(hash) {
            let held = Entry::at(&self.heap, handle);
            if KeyHash::of(&self.hasher, held.key()) != hash {
                continue;
            }
            // Under the floor only the very record counts as present: a newer one might be of another key with this hash.
            present |= held.stamp() == item.stamp() || item.stamp() > floor;
            if held.stamp() <= item.stamp() || !comes_again(held.stamp()) {
                emit(slot, &held.record());
                change = Change::Emitted;
            }
        }
        if present || item.stamp() > floor { change } else { Change::Gone(slot) }
    }

    /// Whether a scan sends a record to a consumer that has seen `since`.
    pub(super) fn is_wanted(&self, stamp: Stamp, whole: bool, since: &Seen) -> bool {
        let foreign = stamp.origin.region() != self.hlc.origin().region();
        if foreign && self.settings.is_sabotaged(Sabotage::OriginScan) {
            return false;
        }
        whole || stamp.time > since.at(stamp.origin)
    }
}
