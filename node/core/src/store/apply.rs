//! Records from elsewhere: what a stripe does with what a feed brings.
//!
//! Everything passes through [`merge`], and nothing is stamped: a record keeps the stamp of its write wherever it goes.
//! The clock of the stripe does not follow the stamps that arrive. A local write is stamped above the key's own stamp
//! and the slot's floor anyway, which is all that a register under last-writer-wins can notice; and a region whose
//! clock runs ahead does not drag the others' watermarks, and so their idea of lag, with it.

use std::{collections::HashSet, mem};

use clock::{Incarnation, Origin, Stamp, Time};

use super::{
    entry::Entry,
    heap::HeapFull,
    log::Item,
    record::{Outcome, Record, State, merge},
    seen::Seen,
    settings::Sabotage,
    stripe::{Address, Stripe},
    table::SlotTable,
};
use crate::slot::{Slot, SlotRange, SlotSet};

/// The keys that a source holds in a slot, collected while it sends the whole slot.
pub(super) type Kept = HashSet<Box<[u8]>>;

impl Stripe {
    /// Merges a record into its slot. `sender_saw` is what the sender had seen when it sent it: a held record of
    /// another region that it had not seen was written concurrently, and is counted as a conflict.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub fn apply(
        &mut self,
        at: Address,
        record: &Record<'_>,
        sender_saw: &Seen,
        now: Time,
    ) -> Result<Outcome, HeapFull> {
        let found = self.find(at, record.key);
        let held = found.map(|handle| Entry::at(&self.heap, handle).version());
        let sabotaged = self.settings.is_sabotaged(Sabotage::NoFloor);
        let floor = if sabotaged { Stamp::ZERO } else { self.table(at.slot).floor };
        let outcome = merge(held, floor, record.version());
        if let Some(held) = held {
            let news = record.stamp.time > self.seen.at(at.slot, record.stamp.origin);
            let other = held.stamp.origin.region() != record.stamp.origin.region();
            if news && other && held.stamp.time > sender_saw.at(held.stamp.origin) {
                self.counters.conflicts += 1;
                self.ledger.note(record.key, held.stamp, record.stamp, now);
            }
        }
        match outcome {
            Outcome::Applied => self.install(at, found, record, now)?,
            Outcome::Refused => self.note_refused(at.slot),
            Outcome::Stale => {}
        }
        Ok(outcome)
    }

    /// A record was refused under the floor, and counts as seen from here on. Who is told so may hold something older of its key, since that
    /// was evicted here, or refused as well under a floor that rose before all had seen what was forgotten: it gets the slot whole, and
    /// drops that. While nothing is dropped for memory nobody can.
    fn note_refused(&mut self, slot: Slot) {
        let table = self.table_mut(slot);
        if mem::take(&mut table.is_thinned) {
            let floor = table.floor;
            self.append(Item::reset(slot, floor));
        }
    }

    /// Merges a record without its value: the room for it is not there, so it is dropped for memory on arrival.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub fn apply_without_value(
        &mut self,
        at: Address,
        record: &Record<'_>,
        sender_saw: &Seen,
        now: Time,
    ) -> Result<Outcome, HeapFull> {
        let State::Value { .. } = record.state else { return self.apply(at, record, sender_saw, now) };
        let outcome = self.apply(at, &Record { state: State::Evicted, ..*record }, sender_saw, now)?;
        self.counters.evicted += u64::from(outcome == Outcome::Applied);
        Ok(outcome)
    }

    /// The stamp of a flush of this stripe: above everything that was ever held or forgotten here.
    pub fn issue_flush(&mut self, now: Time) -> Stamp {
        let newest = |table: &SlotTable| table.newest.max(table.floor.time);
        let above = self.tables.iter().map(newest).max().unwrap_or(Time::ZERO);
        self.hlc.issue(now, above)
    }

    /// Drops everything at or under `stamp` in those of `slots` that are here, raises their floors to it, and logs it.
    /// With the floor raised, nothing that old can ever come back, from nowhere.
    pub fn flush(&mut self, slots: &SlotRange, stamp: Stamp) {
        let Some(slots) = self.slots.intersection(slots) else { return };
        // At the flush's own time another region may have stamped above it.
        let ends = |table: &SlotTable| table.newest < stamp.time;
        let leaves_nothing = |slot| {
            let table = self.table(slot);
            table.len() == 0 || slots.contains(slot) && ends(table)
        };
        if self.slots.iter().all(leaves_nothing) {
            self.empty();
        }
        for slot in slots.iter() {
            if ends(self.table(slot)) {
                self.remove_all(slot);
            } else {
                _ = self.drop_where(slot, |entry| entry.stamp() <= stamp);
            }
            self.raise_floor(slot, stamp);
            let table = self.table_mut(slot);
            table.newest = table.newest.max(stamp.time);
        }
        self.hlc_observe_own(stamp);
        if stamp.origin != self.hlc.origin() {
            self.heard.advance(&slots, stamp.origin, stamp.time);
        }
        if slots == self.slots {
            self.append(Item::flush(stamp));
        } else {
            slots.iter().for_each(|slot| self.append(Item::flush_slot(slot, stamp)));
        }
        self.publish();
    }

    /// Drops a slot with all that is known of it, as if it had never been here: it has moved to another shard, or begins to
    /// arrive anew. Nothing is stamped and nothing logged; who follows this stripe is told by the map.
    pub fn clear_slot(&mut self, slot: Slot) {
        self.remove_all(slot);
        let table = self.table_mut(slot);
        (table.floor, table.newest) = (Stamp::ZERO, Time::ZERO);
        self.seen.clear(slot);
        self.heard.clear(slot);
        self.dropped.insert(slot);
        self.publish();
    }

    /// Stamps as `origin` from now on, above `start`. All that the former origin stamped was stamped here; but in a slot that was
    /// dropped meanwhile it is no more, and has to come with the slot if that comes back.
    pub(super) fn begin_life(&mut self, origin: Origin, start: Time) {
        let former = self.hlc.origin();
        let reached = self.hlc.last();
        self.hlc.set_origin(origin);
        self.hlc.observe(start);
        if former != origin && former.incarnation() != Incarnation::UNBORN {
            let mut kept: SlotSet = [self.slots.clone()].into_iter().collect();
            kept.subtract(&self.dropped);
            self.seen.advance_all(kept.ranges(), former, reached);
        }
        self.dropped = SlotSet::new();
    }

    /// Stamps above `start` from now on.
    pub(super) fn stamp_above(&mut self, start: Time) {
        self.hlc.observe(start);
    }

    /// Stamps above all that there is, and was, in a slot from now on.
    pub(super) fn stamp_above_slot(&mut self, slot: Slot) {
        let table = self.table(slot);
        let newest = table.newest.max(table.floor.time);
        self.hlc.observe(newest);
    }

    /// A source has sent all that this stripe lacked of a slot. If it sent the slot `whole`, then also its floor and
    /// the keys that it holds: what is at or under that floor and not among them was forgotten there, and is
    /// dropped. From here on the slot has seen what the source had.
    pub fn finish_slot(&mut self, slot: Slot, whole: Option<(Stamp, &Kept)>, seen: &Seen) {
        if let Some((floor, kept)) = whole {
            let has_dropped = self.drop_where(slot, |entry| entry.stamp() <= floor && !kept.contains(entry.key()));
            let has_risen = floor > self.floor(slot);
            if has_risen {
                self.raise_floor(slot, floor);
                let table = self.table_mut(slot);
                table.newest = table.newest.max(floor.time);
                // The source may have forgotten before all had seen it.
                table.is_thinned = true;
            }
            if has_risen || has_dropped {
                // Who follows this node in everything must drop it as well.
                self.append(Item::reset(slot, floor));
            }
        }
        self.seen.join(slot, &seen.iter().filter(|(origin, _)| self.is_other(*origin)).collect());
        self.publish();
    }

    /// Says that `origin` is seen up to `time` in those of `slots` that are here.
    pub fn advance_seen(&mut self, slots: &SlotRange, origin: Origin, time: Time) {
        if self.is_other(origin) {
            self.seen.advance(slots, origin, time);
        }
    }

    /// Whether `origin` stamps, and not here: of a replica, which has no origin yet, there is nothing to see.
    fn is_other(&self, origin: Origin) -> bool {
        origin != self.hlc.origin() && origin.incarnation() != Incarnation::UNBORN
    }

    /// Stamps of this origin that were issued in another stripe of the node count here as well.
    fn hlc_observe_own(&mut self, stamp: Stamp) {
        if stamp.origin == self.hlc.origin() {
            self.hlc.observe(stamp.time);
        }
    }

    /// Takes out the entries that meet a condition. Returns whether there were any.
    pub(super) fn drop_where(&mut self, slot: Slot, condition: impl Fn(Entry<'_>) -> bool) -> bool {
        let handles = self.table(slot).handles();
        let doomed: Vec<_> = handles.filter(|handle| condition(Entry::at(&self.heap, *handle))).collect();
        for handle in &doomed {
            let hash = self.hash_of(*handle);
            self.remove(slot, hash, *handle);
        }
        !doomed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use proptest::prelude::{prop_assert_eq, proptest};

    use crate::{
        slot::SlotRange,
        store::{EvictionPolicy, Expiry, Outcome, Record, Seen, State, Store, StoreOptions},
    };

    fn stamp(time: u64, region: u8) -> Stamp {
        let region = RegionId::new(region).unwrap();
        Stamp { time: Time::from_ntp64(time), origin: Origin::new(region, Incarnation::FIRST) }
    }

    fn store() -> Store {
        let origin = stamp(0, 1).origin;
        let options =
            StoreOptions { origin, start: Time::ZERO, peers: Vec::new(), stripes: 1, log_records: 16, hash_seed: 1 };
        Store::new(&options)
    }

    fn apply(store: &Store, key: &[u8], stamp: Stamp, state: State<'_>) -> Outcome {
        let record = Record { key, stamp, state };
        store.lock(0).apply(store.address(key), &record, &Seen::new(), Time::ZERO).unwrap()
    }

    #[test]
    fn a_value_without_room_leaves_a_marker_and_counts_once() {
        let store = store();
        let record = Record { key: b"key", stamp: stamp(5, 2), state: VALUE };
        let mut stripe = store.lock(0);
        for outcome in [Outcome::Applied, Outcome::Stale] {
            let at = store.address(b"key");
            assert_eq!(stripe.apply_without_value(at, &record, &Seen::new(), Time::ZERO), Ok(outcome));
            assert_eq!(stripe.counters().evicted, 1);
        }
        assert_eq!(stripe.census().tombstones, 1);
    }

    #[test]
    fn nothing_is_seen_of_a_replica() {
        let (store, unborn) = (store(), Origin::new(RegionId::new(1).unwrap(), Incarnation::UNBORN));
        let slot = SlotRange::ALL.first;
        let seen = [(unborn, Time::from_ntp64(5)), (stamp(0, 2).origin, Time::from_ntp64(6))].into_iter().collect();
        store.lock(0).finish_slot(slot, None, &seen);
        store.lock(0).advance_seen(&SlotRange::ALL, unborn, Time::from_ntp64(7));
        assert_eq!(store.lock(0).seen().at(slot, unborn), Time::ZERO);
        assert_eq!(store.lock(0).seen().at(slot, stamp(0, 2).origin), Time::from_ntp64(6));
    }

    proptest! {
        #[test]
        fn a_record_under_the_floor_is_refused_exactly_where_its_key_is_absent(
            steps in proptest::collection::vec((0..6_u8, 0..6_u8, 1..30_u64, 1..4_u8), 1..80),
        ) {
            let store = store();
            store.settings().set_policy(EvictionPolicy::AllKeysRandom);
            for (what, key, time, region) in steps {
                let (key, stamp) = (format!("{{x}}{key}").into_bytes(), stamp(time, region));
                let (at, mut stripe) = (store.address(&key), store.lock(0));
                let state = match what {
                    0 => {
                        stripe.evict_one(Time::ZERO);
                        continue;
                    }
                    1 => {
                        store.settings().set_tombstone_budget(0);
                        stripe.collect(2);
                        store.settings().set_tombstone_budget(usize::MAX);
                        continue;
                    }
                    2 if time < 5 => {
                        stripe.flush(&SlotRange::ALL, stamp);
                        continue;
                    }
                    // One write made the stamp, so what it wrote follows from it.
                    _ if time % 3 == 0 => State::Tombstone,
                    _ => VALUE,
                };
                let (absent, floor) = (stripe.find(at, &key).is_none(), stripe.floor(at.slot));
                let outcome = stripe.apply(at, &Record { key: &key, stamp, state }, &Seen::new(), Time::ZERO).unwrap();
                prop_assert_eq!(outcome == Outcome::Refused, absent && stamp <= floor);
            }
        }
    }

    const VALUE: State<'static> = State::Value { bytes: b"v", expiry: None };

    #[test]
    fn a_flush_of_everything_leaves_nothing_in_the_books() {
        let (store, now) = (store(), Time::from_ntp64(1_000));
        let books = |store: &Store| {
            let used: usize = (0..store.stripes()).map(|index| store.lock(index).used_bytes()).sum();
            (used, store.settings().used_bytes(), store.settings().tombstone_bytes(), store.census())
        };
        let (empty, values) = (books(&store), [vec![7; 10], vec![7; 3_000]]);
        for round in 0..2 {
            for number in 0..500_u32 {
                let key = number.to_string();
                let at = store.address(key.as_bytes());
                let mut stripe = store.lock(store.stripe_of(at.slot));
                let expiry = number.is_multiple_of(3).then(|| Expiry::at_unix_ms(u64::from(number) + 1_000_000));
                stripe.write(at, key.as_bytes(), &values[number as usize % 2], expiry, now).unwrap();
                if number.is_multiple_of(5) {
                    stripe.delete(at, key.as_bytes(), now).unwrap();
                }
            }
            assert_eq!((store.census().values, store.census().tombstones), (400, 100), "round {round}");
            store.flush(now);
            assert_eq!(books(&store), empty);
        }
    }

    #[test]
    fn a_flush_spares_what_another_region_stamped_above_it_in_the_same_tick() {
        let store = store();
        apply(&store, b"kept", stamp(5, 3), VALUE);
        apply(&store, b"deleted", stamp(5, 3), State::Tombstone);
        apply(&store, b"flushed", stamp(5, 1), VALUE);
        store.lock(0).flush(&SlotRange::ALL, stamp(5, 2));
        assert_eq!(apply(&store, b"kept", stamp(5, 3), VALUE), Outcome::Stale);
        assert_eq!(apply(&store, b"deleted", stamp(5, 2), VALUE), Outcome::Stale);
        assert_eq!(apply(&store, b"flushed", stamp(5, 1), VALUE), Outcome::Refused);
    }
}
