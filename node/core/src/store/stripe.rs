//! A stripe: the slots that share a lock, a clock and a log.
//!
//! Everything that changes a record ends in [`Stripe::install`], for local writes after a stamp was issued, for records
//! from elsewhere after [`merge`] has let them in. The files beside this one add what else a stripe can do:
//! `graveyard` (tombstones, floor), `apply` (records from elsewhere), `expire`, `evict`, `walk` (for feeds and SCAN) and `census`.
//!
//! Invariants:
//! - For each key there is at most one entry, and a table's handle is the only one to its block.
//! - A stamp that leaves a slot leaves its time in the slot's floor.
//! - The log has an item for every stamp that was installed; what the log drops it remembers as lost.

use std::{
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use clock::{Hlc, Stamp, Time};
use foldhash::fast::FixedState;

use super::{
    census::{Census, Counters},
    conflicts::Ledger,
    entry::{self, Entry},
    evict::{self, Pool},
    expire::SweepHand,
    graveyard::Graveyard,
    heap::{Handle, Heap, HeapFull},
    log::{Item, Log},
    record::{Expiry, Kind, Record, State},
    seen::SeenTable,
    settings::{Sabotage, Settings},
    table::SlotTable,
};
use crate::slot::{Slot, SlotRange, SlotSet};

/// 32 bits of a key's hash.
///
/// The hash function is seeded per process, so that nobody outside can choose keys that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u32);

impl KeyHash {
    pub(super) const ZERO: Self = Self(0);

    #[inline]
    pub(super) fn of(hasher: &FixedState, key: &[u8]) -> Self {
        Self(hasher.hash_one(key) as u32)
    }

    /// The 64 bits that the table wants: it takes the bucket from the low bits and a fingerprint from the top seven.
    pub(super) const fn spread(self) -> u64 {
        (self.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The first bits, which tell the segments of a large table apart.
    pub(super) const fn prefix(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Where a key lives in this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The key's slot.
    pub slot: Slot,
    pub(super) hash: KeyHash,
}

/// A value that is there and has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The value.
    pub value: &'a [u8],
    /// When it ends, if it does.
    pub expiry: Option<Expiry>,
    /// Its version.
    pub stamp: Stamp,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Stripe {
    pub(super) slots: SlotRange,
    pub(super) tables: Box<[SlotTable]>,
    pub(super) heap: Heap,
    pub(super) hlc: Hlc,
    pub(super) log: Log,
    pub(super) seen: SeenTable,
    /// Per slot and origin, the latest that was installed here. What lies beyond `seen` arrived ahead of the watermark that
    /// would have covered it, which never comes if its origin speaks no more.
    pub(super) heard: SeenTable,
    /// The slots that were dropped since the origin that stamps here began to.
    pub(super) dropped: SlotSet,
    pub(super) graveyard: Graveyard,
    pub(super) pool: Pool,
    pub(super) census: Census,
    pub(super) counters: Counters,
    pub(super) settings: Arc<Settings>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) hasher: FixedState,
    /// Where the sweep for ended values goes on.
    pub(super) sweep: SweepHand,
    /// The log was appended to under this hold of the lock.
    has_news: bool,
    table_bytes: usize,
    published_bytes: usize,
    published_tombstone_bytes: usize,
}

impl Stripe {
    pub(super) fn new(
        slots: SlotRange,
        hlc: Hlc,
        log_records: usize,
        hasher: FixedState,
        settings: Arc<Settings>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            tables: slots.iter().map(|_| SlotTable::new()).collect(),
            heap: Heap::new(),
            hlc,
            log: Log::new(log_records),
            seen: SeenTable::new(slots.clone()),
            heard: SeenTable::new(slots.clone()),
            dropped: SlotSet::new(),
            graveyard: Graveyard::new(),
            pool: Pool::new(u64::from(slots.first.number()) + 1),
            census: Census::default(),
            counters: Counters::default(),
            settings,
            ledger,
            hasher,
            sweep: SweepHand::new(),
            has_news: false,
            table_bytes: 0,
            published_bytes: 0,
            published_tombstone_bytes: 0,
            slots,
        }
    }

    /// Looks a key up for a client: counts a hit or a miss, notes the access, and drops the value if it has ended.
    #[inline]
    pub fn read(&mut self, at: Address, key: &[u8], now: Time) -> Option<Found<'_>> {
        let Some(handle) = self.find_value(at, key, now) else {
            self.counters.misses += 1;
            return None;
        };
        self.counters.hits += 1;
        Some(found(self.touch(handle, now)))
    }

    /// Looks a key up without leaving a trace, except that a value that has ended is dropped.
    pub fn peek(&mut self, at: Address, key: &[u8], now: Time) -> Option<Found<'_>> {
        let handle = self.find_value(at, key, now)?;
        Some(found(Entry::at(&self.heap, handle)))
    }

    /// What is held of a key, whatever its state, without leaving a trace.
    pub fn record(&self, at: Address, key: &[u8]) -> Option<Record<'_>> {
        self.find(at, key).map(|handle| Entry::at(&self.heap, handle).record())
    }

    /// Notes an access, as a read does, without counting a hit or a miss. Returns whether the key is there.
    pub fn note_access(&mut self, at: Address, key: &[u8], now: Time) -> bool {
        let handle = self.find_value(at, key, now);
        if let Some(handle) = handle {
            self.touch(handle, now);
        }
        handle.is_some()
    }

    /// The version of a key as WATCH sees it: two equal answers mean that nothing wrote the key in between.
    pub fn version(&mut self, at: Address, key: &[u8], now: Time) -> Option<Stamp> {
        self.peek(at, key, now).map(|found| found.stamp)
    }

    /// Gives a key a value: the write of a client.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    #[inline]
    pub fn write(
        &mut self,
        at: Address,
        key: &[u8],
        value: &[u8],
        expiry: Option<Expiry>,
        now: Time,
    ) -> Result<Stamp, HeapFull> {
        let (found, stamp) = self.issue_for(at, key, now);
        // As `install` does, but what is written stays in registers.
        if !found.is_some_and(|handle| self.replace_in_place(at, handle, stamp, value, expiry, now)) {
            let state = State::Value { bytes: value, expiry };
            self.install_anew(at, found, &Record { key, stamp, state }, now)?;
        }
        self.counters.writes += 1;
        Ok(stamp)
    }

    /// Deletes a key: the write of a client. Returns whether there was a value.
    ///
    /// Stamps and logs a tombstone also if the key is absent here: absent here is not absent everywhere.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub fn delete(&mut self, at: Address, key: &[u8], now: Time) -> Result<bool, HeapFull> {
        let existed = self.find_value(at, key, now).is_some();
        if !existed && self.settings.is_sabotaged(Sabotage::NoDeleteOfAbsent) {
            return Ok(false);
        }
        self.put(at, key, State::Tombstone, now)?;
        Ok(existed)
    }

    /// Changes when a value ends: a write of the client, with a stamp of its own. Returns whether there is a value.
    /// Where it has an end already, nothing of the value is copied.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub fn set_expiry(&mut self, at: Address, key: &[u8], expiry: Option<Expiry>, now: Time) -> Result<bool, HeapFull> {
        let Some(handle) = self.find_value(at, key, now) else { return Ok(false) };
        let held = Entry::at(&self.heap, handle);
        if let Some(expiry) = expiry.filter(|_| held.expiry().is_some()) {
            let above = held.stamp().time.max(self.table(at.slot).floor.time);
            let stamp = self.hlc.issue(now, above);
            entry::set_expiry_in_place(&mut self.heap, handle, stamp, expiry);
            self.touch(handle, now);
            self.note_due(at.slot, Some(expiry));
            self.installed(at, stamp);
            self.counters.writes += 1;
        } else {
            let value = held.value().to_vec();
            self.write(at, key, &value, expiry, now)?;
        }
        Ok(true)
    }

    /// Overwrites a part of a value, which grows with zeros if the part reaches beyond its end; keeps the expiry.
    /// Returns the new length in bytes. A key that is absent counts as empty.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub fn overwrite(
        &mut self,
        at: Address,
        key: &[u8],
        offset: usize,
        part: &[u8],
        now: Time,
    ) -> Result<usize, HeapFull> {
        let end = offset + part.len();
        let Some(handle) = self.find_value(at, key, now) else {
            let mut value = vec![0; end];
            value[offset..].copy_from_slice(part);
            self.write(at, key, &value, None, now)?;
            return Ok(end);
        };
        let held = Entry::at(&self.heap, handle);
        let (above, length) = (held.stamp().time.max(self.table(at.slot).floor.time), held.value().len().max(end));
        let stamp = self.hlc.issue(now, above);
        let in_place = entry::restamp_in_place(&mut self.heap, handle, stamp, length);
        if in_place {
            entry::value_mut(&mut self.heap, handle)[offset..end].copy_from_slice(part);
            self.touch(handle, now);
            self.installed(at, stamp);
            self.counters.writes += 1;
        } else {
            let held = Entry::at(&self.heap, handle);
            let (expiry, mut value) = (held.expiry(), held.value().to_vec());
            value.resize(length, 0);
            value[offset..end].copy_from_slice(part);
            self.write(at, key, &value, expiry, now)?;
        }
        Ok(length)
    }

    /// The slots of this stripe.
    pub const fn slots(&self) -> &SlotRange {
        &self.slots
    }

    /// What has arrived, slot by slot, but for what is stamped here.
    pub const fn seen(&self) -> &SeenTable {
        &self.seen
    }

    /// The greatest stamp that was ever forgotten in a slot.
    pub fn floor(&self, slot: Slot) -> Stamp {
        self.table(slot).floor
    }

    /// Bytes that a key's entry costs, table included; `None` if it has no value.
    pub fn entry_bytes(&mut self, at: Address, key: &[u8], now: Time) -> Option<usize> {
        let handle = self.find_value(at, key, now)?;
        let table = self.table(at.slot);
        Some(self.heap.block_size(handle) + table.bytes() / table.len().max(1))
    }

    /// What eviction knows of a key's use.
    pub fn access(&mut self, at: Address, key: &[u8], now: Time) -> Option<evict::Access> {
        let handle = self.find_value(at, key, now)?;
        Some(evict::Access::of(Entry::at(&self.heap, handle).access(), now, &self.settings))
    }

    /// A promise that all stamps issued here from now on are later than the time returned.
    pub fn watermark(&mut self, now: Time) -> Time {
        self.hlc.watermark(now)
    }

    /// The latest time that was stamped here, or when this life began if none was.
    pub const fn issued(&self) -> Time {
        self.hlc.issued()
    }

    fn put(&mut self, at: Address, key: &[u8], state: State<'_>, now: Time) -> Result<Stamp, HeapFull> {
        let (found, stamp) = self.issue_for(at, key, now);
        self.install(at, found, &Record { key, stamp, state }, now)?;
        self.counters.writes += 1;
        Ok(stamp)
    }

    /// A key's entry, if it has one, and a stamp for what is to follow it.
    #[inline]
    fn issue_for(&mut self, at: Address, key: &[u8], now: Time) -> (Option<Handle>, Stamp) {
        let found = self.find(at, key);
        let held = found.map_or(Time::ZERO, |handle| Entry::at(&self.heap, handle).stamp().time);
        (found, self.hlc.issue(now, held.max(self.table(at.slot).floor.time)))
    }

    /// Makes `record` what the slot holds of its key; the one way in which entries come to be. `found` is the key's
    /// entry, if it has one.
    #[inline]
    pub(super) fn install(
        &mut self,
        at: Address,
        found: Option<Handle>,
        record: &Record<'_>,
        now: Time,
    ) -> Result<(), HeapFull> {
        if let (Some(handle), State::Value { bytes, expiry }) = (found, record.state)
            && self.replace_in_place(at, handle, record.stamp, bytes, expiry, now)
        {
            return Ok(());
        }
        self.install_anew(at, found, record, now)
    }

    /// The part of [`install`](Self::install) that changes nothing but an entry's content. Returns `false`, and does
    /// nothing, where more has to change.
    #[inline]
    fn replace_in_place(
        &mut self,
        at: Address,
        handle: Handle,
        stamp: Stamp,
        value: &[u8],
        expiry: Option<Expiry>,
        now: Time,
    ) -> bool {
        let replaced = entry::replace_in_place(&mut self.heap, handle, stamp, value, expiry);
        if replaced {
            // Neither the census nor the books of memory change.
            self.touch(handle, now);
            self.note_due(at.slot, expiry);
            self.note_stamp(at, stamp);
        }
        replaced
    }

    /// The part of [`install`](Self::install) that changes what memory is in use.
    fn install_anew(
        &mut self,
        at: Address,
        found: Option<Handle>,
        record: &Record<'_>,
        now: Time,
    ) -> Result<(), HeapFull> {
        let lfu = self.settings.policy().is_lfu();
        let handle = if let Some(old) = found {
            let access = evict::touched(Entry::at(&self.heap, old).access(), now, lfu, &mut self.pool, &self.settings);
            self.uncount(at.slot, old);
            let replaced = entry::replace(&mut self.heap, old, record, access);
            let Ok(new) = replaced else {
                self.count(at.slot, old);
                return replaced.map(drop);
            };
            if new != old {
                self.table_mut(at.slot).exchange(at.hash, old, new);
            }
            new
        } else {
            let new = entry::store(&mut self.heap, record, evict::fresh(now, lfu))?;
            self.insert(at, new);
            new
        };
        self.count(at.slot, handle);
        if let State::Value { expiry, .. } = record.state {
            self.note_due(at.slot, expiry);
        }
        self.installed(at, record.stamp);
        if !matches!(record.state, State::Value { .. }) {
            self.bury(at, handle);
        }
        Ok(())
    }

    /// Writes a marker where a value lies. Nothing is logged: dropping a value is this region's own affair.
    pub(super) fn become_marker(&mut self, at: Address, handle: Handle, marker: &Record<'_>) {
        self.uncount(at.slot, handle);
        // A marker is smaller than the value was; were there no block for it, the value would stay, which is safe.
        let kept = entry::replace(&mut self.heap, handle, marker, 0).unwrap_or(handle);
        if kept != handle {
            self.table_mut(at.slot).exchange(at.hash, handle, kept);
        }
        self.count(at.slot, kept);
        if Entry::at(&self.heap, kept).kind() != Kind::Value {
            self.bury(at, kept);
        }
    }

    #[inline]
    pub(super) fn find(&self, at: Address, key: &[u8]) -> Option<Handle> {
        self.table(at.slot).find(&self.heap, at.hash, key)
    }

    /// The key's entry, if it is a value that has not ended. One that has is dropped on the way.
    #[inline]
    pub(super) fn find_value(&mut self, at: Address, key: &[u8], now: Time) -> Option<Handle> {
        let handle = self.find(at, key)?;
        if Entry::at(&self.heap, handle).is_lasting() { Some(handle) } else { self.unless_over(at, handle, now) }
    }

    /// The entry, if it is a value that has not ended; if it has, it is dropped.
    fn unless_over(&mut self, at: Address, handle: Handle, now: Time) -> Option<Handle> {
        let held = Entry::at(&self.heap, handle);
        if held.kind() != Kind::Value {
            return None;
        }
        if held.expiry().is_some_and(|expiry| expiry.has_passed(now.unix_ms())) {
            self.counters.expired += 1;
            self.drop_value(at, handle);
            return None;
        }
        Some(handle)
    }

    /// Notes an access.
    #[inline]
    fn touch(&mut self, handle: Handle, now: Time) -> Entry<'_> {
        let lfu = self.settings.policy().is_lfu();
        entry::touch(&mut self.heap, handle, |before| evict::touched(before, now, lfu, &mut self.pool, &self.settings))
    }

    fn insert(&mut self, at: Address, handle: Handle) {
        let (heap, hasher) = (&self.heap, &self.hasher);
        let table = &mut self.tables[self.slots.index(at.slot)];
        let before = table.bytes();
        table.insert(at.hash, handle, |handle| KeyHash::of(hasher, Entry::at(heap, handle).key()));
        self.table_bytes += table.bytes() - before;
    }

    /// Notes when a value of this slot ends.
    #[inline]
    fn note_due(&mut self, slot: Slot, expiry: Option<Expiry>) {
        if let Some(expiry) = expiry {
            let table = self.table_mut(slot);
            table.due_ms = table.due_ms.min(expiry.unix_ms());
        }
    }

    /// Notes that `at` was given `stamp`: in the log, in the slot, in the books.
    fn installed(&mut self, at: Address, stamp: Stamp) {
        self.note_stamp(at, stamp);
        self.publish();
    }

    /// Notes that `at` was given `stamp`: in the log and in the slot.
    #[inline]
    fn note_stamp(&mut self, at: Address, stamp: Stamp) {
        let table = self.table_mut(at.slot);
        table.newest = table.newest.max(stamp.time);
        if stamp.origin != self.hlc.origin() {
            self.heard.advance_slot(at.slot, stamp.origin, stamp.time);
        }
        self.append(Item::key(at.slot, at.hash, stamp));
    }

    /// Whether something was appended to the log since the last call, and a reader waits to hear of it.
    #[inline]
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news) && self.settings.news.take()
    }

    #[inline]
    pub(super) fn append(&mut self, item: Item) {
        self.log.append(item);
        self.has_news = true;
    }

    #[inline]
    pub(super) fn table(&self, slot: Slot) -> &SlotTable {
        &self.tables[self.slots.index(slot)]
    }

    #[inline]
    pub(super) fn table_mut(&mut self, slot: Slot) -> &mut SlotTable {
        &mut self.tables[self.slots.index(slot)]
    }

    /// Takes an entry out for good. The caller raises the floor.
    pub(super) fn remove(&mut self, slot: Slot, hash: KeyHash, handle: Handle) {
        self.uncount(slot, handle);
        let (heap, hasher) = (&self.heap, &self.hasher);
        let table = &mut self.tables[self.slots.index(slot)];
        let before = table.bytes();
        if table.remove(hash, handle, |handle| KeyHash::of(hasher, Entry::at(heap, handle).key())) {
            self.table_bytes = self.table_bytes + table.bytes() - before;
        }
        self.heap.release(handle);
    }

    /// Takes all entries of a slot out for good. The caller raises the floor.
    pub(super) fn remove_all(&mut self, slot: Slot) {
        let table = self.table_mut(slot);
        let bytes = table.bytes();
        table.due_ms = super::table::NEVER;
        let handles = table.take_all();
        self.table_bytes -= bytes;
        for handle in handles {
            self.uncount(slot, handle);
            self.heap.release(handle);
        }
    }

    /// Takes all entries of all slots out for good, without a look at any of them.
    pub(super) fn empty(&mut self) {
        for table in &mut self.tables {
            drop(table.take_all());
            table.values = 0;
        }
        self.table_bytes = 0;
        self.heap = Heap::new();
        self.graveyard = Graveyard::new();
        self.census = Census::default();
    }

    pub(super) fn hash_of(&self, handle: Handle) -> KeyHash {
        KeyHash::of(&self.hasher, Entry::at(&self.heap, handle).key())
    }

    /// Bytes that entries, tables and the graveyard hold.
    pub fn used_bytes(&self) -> usize {
        self.heap.used_bytes() + self.table_bytes + self.graveyard.queue_bytes()
    }

    /// Bytes that entries hold, rounding included.
    pub const fn entries_bytes(&self) -> usize {
        self.heap.used_bytes()
    }

    /// Bytes of room in the heap's pages, held but not in use.
    pub fn idle_bytes(&self) -> usize {
        self.heap.idle_bytes()
    }

    /// Bytes that the ring of the log holds.
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Tells the other stripes how much memory is in use here.
    pub(super) fn publish(&mut self) {
        let (used, tombstones) = (self.used_bytes(), self.graveyard.bytes());
        if used != self.published_bytes {
            self.settings.used_bytes.fetch_add(used.wrapping_sub(self.published_bytes), Relaxed);
            self.published_bytes = used;
        }
        if tombstones != self.published_tombstone_bytes {
            let change = tombstones.wrapping_sub(self.published_tombstone_bytes);
            self.settings.tombstone_bytes.fetch_add(change, Relaxed);
            self.published_tombstone_bytes = tombstones;
        }
    }
}

#[inline]
fn found(entry: Entry<'_>) -> Found<'_> {
    Found { value: entry.value(), expiry: entry.expiry(), stamp: entry.stamp() }
}
