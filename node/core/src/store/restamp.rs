//! Restamping: how a region comes back from the future.
//!
//! A region whose clock was an hour ahead has stamped an hour ahead. Other regions hold its link, and in the region itself such a stamp
//! wins over whatever comes, until time has caught up. Setting the clock right does not help: a stamp is part of its record, a new one
//! lies above the one before, and so do the clocks of the stripes. An operator who does not want to wait has the region restamped.
//!
//! # What happens
//! The region goes on in a *younger life*, once nothing is written or arrives any more. What lies further ahead of the present than a
//! *horizon* ([`RESTAMP_HORIZON`]) is of the future; a clock that was wrong by less is waited for in less time than this takes. Every record of the future
//! is stamped anew in that life, in the order of the old stamps of its stripe; values, expiries and deletes stay what they are. All else that lies
//! there comes down: clocks, `seen`, the log, the frontier. What lies under the horizon is not touched.
//!
//! New stamps begin at a *limit*: the present, for which the caller leaves room for clocks that differ, or the latest time under the
//! horizon that was heard of here, whichever is later.
//!
//! # Why nothing comes back
//! - *A key does not go back.* A record of the future has won over versions that were there or came later. Those of the future were of
//!   this region, or were restamped with it; any other was heard of here, so it lies under the limit. Each new stamp lies above that.
//! - *A delete stays one.* Tombstones are restamped as values are. Of one that was forgotten the slot's floor is left, an hour ahead;
//!   that comes down to a stamp of the new life, the first, and not merely to the limit. What it has refused so far lies under it. And
//!   nobody has `seen` the new life beyond its birth, which is no later than the limit, so each consumer lies under that floor, gets the slot
//!   whole and drops there what was deleted (rule 6). That floor lies under all that is restamped, so it refuses none of it.
//! - *No stamp is given twice.* New stamps bear a new origin. The old one has ended, and issues nothing any more.
//! - *`seen` claims less and never more.* Lowered, it is as true as it was: the old life has no record of the future any more, and if
//!   somebody has sent us one of another's, it is asked for again and held.
//! - *Nobody misses anything.* What was restamped is in the log under its new stamp, as any write is; where a floor came down the log
//!   names a record that is gone, so that readers scan the slot. Who has read further than the log begins now goes back to it.
//!
//! # What is not repaired from here
//! A peer that did take records of the future in, since its own clock was ahead or its `max_drift` is larger, keeps them: they out-stamp
//! what they have become here, and come home over a link that holds for them, visibly, until that region is restamped as well. Which of two such
//! regions wrote last cannot be told from stamps. Expiries stay as well: they were given by the clock of their time.
//!
//! # Replicas
//! A replica holds the same records, and cannot give them new stamps. When its restamped primary is there to feed it, it brings down all else
//! ([`Store::follow_restamped`]); each record of the future stays until what it has become arrives, to which it gives way
//! ([`Intake::of_restamped`](super::Intake::of_restamped)), and what is left when all has arrived is dropped
//! ([`Intake::drop_replaced`](super::Intake::drop_replaced)). So a replica has every key at any moment. Should its primary die meanwhile its heir is partly of the future still, which restamping cures again. Only slots with records of *another*
//! region's future, of which there may be some where two regions were in it at once, are dropped whole at the beginning: such a record looks
//! like any that arrives later.

use clock::{Hlc, Incarnation, Origin, Stamp, Time};

use super::{
    KeyHash, Store, Stripe,
    apply::Kept,
    entry::{self, Entry},
    heap::Handle,
    log::Item,
    record::{Kind, Record},
    stripe::Address,
};
use crate::{limits::RESTAMP_HORIZON, slot::Slot};

/// What a store holds of the future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Records: values, tombstones, markers.
    pub records: usize,
    /// Slots in which there are any, or whose floor lies there.
    pub slots: usize,
    /// The latest time of all that there is, the clocks of the stripes among it; zero if there is nothing.
    pub latest: Time,
}

impl Ahead {
    /// Whether there is nothing.
    pub const fn is_none(&self) -> bool {
        self.latest.ntp64() == 0
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.slots += other.slots;
        self.latest = self.latest.max(other.latest);
    }
}

/// From where on a time is of the future, if this is the present.
const fn horizon(present: Time) -> Time {
    present.after(RESTAMP_HORIZON)
}

/// A life that begins by restamping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restamping {
    /// The life.
    pub life: Origin,
    /// Its birth: the present, by a clock that is right.
    pub birth: Time,
}

impl Restamping {
    /// From where on a time is of the future.
    const fn horizon(self) -> Time {
        horizon(self.birth)
    }

    /// Whether there is another stamp now for what bears this one, if that was there before: of another life of this region. Another shard's
    /// may go on and stamp so late by right; what it stamped comes with slots that move, and is told from the rest by having arrived since.
    pub(super) fn has_replaced(self, stamp: Stamp) -> bool {
        let is_former = stamp.origin.region() == self.life.region() && stamp.origin != self.life;
        is_former && stamp.time > self.horizon()
    }
}

impl Store {
    /// What there is of the future.
    pub fn ahead(&self, present: Time) -> Ahead {
        let mut sum = Ahead::default();
        (0..self.stripes()).for_each(|index| sum.add(self.lock(index).ahead(horizon(present))));
        sum
    }

    /// Goes on in another life, and brings down all that lies in the future; see the head of this file. Returns what that
    /// was. All stripes are locked meanwhile.
    ///
    /// Call it only while no feed runs, in or out. `present` is the time by a clock that is right, and beyond it by as much as anybody's stamps may
    /// be.
    ///
    /// # Panics
    /// If the birth of that life lies above `present`.
    pub fn restamp(&self, restamping: Restamping, present: Time) -> Ahead {
        let Restamping { life, birth } = restamping;
        assert!(birth <= present, "a life stamps above its birth");
        let mut stripes: Vec<_> = (0..self.stripes()).map(|index| self.lock(index)).collect();
        let horizon = restamping.horizon();
        let limit = stripes.iter().map(|stripe| stripe.latest_under(horizon)).fold(present, Time::max);
        self.take_up(life, birth);
        let mut sum = Ahead::default();
        stripes.iter_mut().for_each(|stripe| sum.add(stripe.restamp(life, limit, horizon)));
        self.lower_frontier(limit);
        sum
    }

    /// Brings down all that lies in the future but for this region's records, as a replica of who was restamped so. Returns what there was.
    pub fn follow_restamped(&self, restamping: Restamping) -> Ahead {
        let mut sum = Ahead::default();
        for index in 0..self.stripes() {
            sum.add(self.lock(index).follow_restamped(restamping));
        }
        self.lower_frontier(restamping.birth);
        sum
    }

    /// Drops what was replaced, but for the keys that were `kept`: all that has replaced it has arrived, or was deleted and forgotten
    /// meanwhile. Returns how many records that was.
    pub(super) fn drop_replaced(&self, restamping: Restamping, kept: &Kept) -> usize {
        (0..self.stripes()).map(|index| self.lock(index).drop_replaced(restamping, kept)).sum()
    }

    fn lower_frontier(&self, limit: Time) {
        self.settings().set_frontier(self.settings().frontier().min(limit));
    }
}

impl Stripe {
    fn ahead(&self, horizon: Time) -> Ahead {
        let beyond = |time: Time| if time > horizon { time } else { Time::ZERO };
        let mut ahead = Ahead { latest: beyond(self.hlc.last()), ..Ahead::default() };
        for slot in self.slots_ahead(horizon) {
            let (mut records, mut latest) = (0, beyond(self.floor(slot).time));
            for (stamp, _) in self.entries_ahead(slot, horizon) {
                (records, latest) = (records + 1, latest.max(stamp.time));
            }
            ahead.add(Ahead { records, slots: usize::from(latest > Time::ZERO), latest });
        }
        ahead
    }

    fn restamp(&mut self, life: Origin, limit: Time, horizon: Time) -> Ahead {
        let ahead = self.ahead(horizon);
        let (former, reached) = (self.hlc.origin(), self.hlc.last());
        self.bring_down(life, limit, |stamp| stamp.time > horizon);
        self.hlc.observe(limit);
        if former != life && former.incarnation() != Incarnation::UNBORN {
            // All that it stamped was stamped here.
            let slots = self.slots.clone();
            self.seen.advance(&slots, former, reached.min(limit));
        }
        let slots = self.slots_ahead(horizon);
        self.lower_floors(&slots, limit, horizon);
        self.restamp_entries(&slots, limit, horizon);
        self.publish();
        ahead
    }

    /// Has the floors of these slots that lie in the future come down to the next stamp.
    fn lower_floors(&mut self, slots: &[Slot], limit: Time, horizon: Time) {
        let ahead: Vec<_> = slots.iter().copied().filter(|slot| self.floor(*slot).time > horizon).collect();
        let floor = (!ahead.is_empty()).then(|| self.hlc.issue(limit, Time::ZERO));
        for slot in ahead {
            let table = self.table_mut(slot);
            table.floor = floor.unwrap_or(table.floor);
            // It names a record that is not there any more, which is what a floor stands for.
            let item = Item::key(slot, KeyHash::ZERO, table.floor);
            self.append(item);
        }
    }

    /// Gives the entries of these slots that lie in the future new stamps, in the order of the old ones.
    fn restamp_entries(&mut self, slots: &[Slot], limit: Time, horizon: Time) {
        let of = |slot: Slot| self.entries_ahead(slot, horizon).map(move |(stamp, handle)| (stamp, slot, handle));
        let mut entries: Vec<(Stamp, Slot, Handle)> = slots.iter().flat_map(|slot| of(*slot)).collect();
        entries.sort_unstable_by_key(|(stamp, slot, _)| (*stamp, *slot));
        for slot in slots {
            let table = self.table_mut(*slot);
            table.newest = limit.max(table.floor.time);
        }
        for (_, slot, handle) in entries {
            let stamp = self.hlc.issue(limit, Time::ZERO);
            entry::set_stamp(&mut self.heap, handle, stamp);
            self.table_mut(slot).newest = stamp.time;
            let item = Item::key(slot, self.hash_of(handle), stamp);
            if Entry::at(&self.heap, handle).kind() != Kind::Value {
                self.graveyard.take_in(item);
            }
            self.append(item);
        }
    }

    fn follow_restamped(&mut self, restamping: Restamping) -> Ahead {
        let Restamping { birth, .. } = restamping;
        let horizon = restamping.horizon();
        let (ahead, limit) = (self.ahead(horizon), birth.max(self.latest_under(horizon)));
        self.bring_down(self.hlc.origin(), limit, |stamp| restamping.has_replaced(stamp));
        for slot in self.slots_ahead(horizon) {
            if self.entries_ahead(slot, horizon).any(|(stamp, _)| !restamping.has_replaced(stamp)) {
                self.clear_slot(slot);
            }
            let table = self.table_mut(slot);
            // The primary's is above all that this one has refused, and is sent with the slot.
            table.floor.time = if table.floor.time > horizon { birth } else { table.floor.time };
        }
        self.publish();
        ahead
    }

    /// Takes a record out that `record` is to replace, whatever their stamps.
    pub(super) fn give_way(&mut self, at: Address, record: &Record<'_>, restamping: Restamping) {
        let handle = self.find(at, record.key);
        let is_replaced = |handle: &Handle| restamping.has_replaced(Entry::at(&self.heap, *handle).stamp());
        if let Some(handle) = handle.filter(is_replaced) {
            self.remove(at.slot, at.hash, handle);
        }
    }

    fn drop_replaced(&mut self, restamping: Restamping, kept: &Kept) -> usize {
        let mut dropped = 0;
        for slot in self.slots_ahead(restamping.horizon()) {
            let before = self.table(slot).handles().count();
            self.drop_where(slot, |entry| restamping.has_replaced(entry.stamp()) && !kept.contains(entry.key()));
            dropped += before - self.table(slot).handles().count();
            let newest = self.entries_ahead(slot, Time::ZERO).map(|(stamp, _)| stamp.time).max();
            let table = self.table_mut(slot);
            table.newest = newest.unwrap_or_default().max(table.floor.time);
        }
        self.publish();
        dropped
    }

    /// Brings down to `limit` what lies in the future, but for records and floors, and forgets what bears a stamp that is `gone`; stamps are
    /// `life`'s from here on.
    fn bring_down(&mut self, life: Origin, limit: Time, gone: impl Fn(Stamp) -> bool) {
        self.hlc = Hlc::new(life, self.hlc.last().min(limit));
        self.seen.lower(limit);
        self.heard.lower(limit);
        self.log.forget(limit, &gone);
        self.graveyard.let_go(gone);
    }

    /// The latest time under the horizon that was heard of here, or stamped.
    fn latest_under(&self, horizon: Time) -> Time {
        let tables = self.slots.iter().map(|slot| self.table(slot));
        let of_tables = tables.flat_map(|table| [table.newest, table.floor.time]);
        // What is newest in those is of the future, and hides what else there is.
        let hidden = self.slots_ahead(horizon);
        let hidden = hidden.iter().flat_map(|slot| self.entries_ahead(*slot, Time::ZERO)).map(|(stamp, _)| stamp.time);
        // What was overwritten by something of the future is in the log alone: the clock has gone on since.
        let times = of_tables.chain(hidden).chain(self.log.times()).chain([self.hlc.last()]);
        let times = times.filter(|time| *time <= horizon);
        let seen = [&self.seen, &self.heard].map(|table| table.latest_under(horizon));
        times.chain(seen).max().unwrap_or(Time::ZERO)
    }

    /// The slots in which there is or was anything above a time.
    fn slots_ahead(&self, limit: Time) -> Vec<Slot> {
        let is_ahead = |slot: &Slot| self.table(*slot).newest.max(self.floor(*slot).time) > limit;
        self.slots.iter().filter(is_ahead).collect()
    }

    /// The entries of a slot above a time, in no order.
    fn entries_ahead(&self, slot: Slot, limit: Time) -> impl Iterator<Item = (Stamp, Handle)> {
        let stamped = self.table(slot).handles().map(|handle| (Entry::at(&self.heap, handle).stamp(), handle));
        stamped.filter(move |(stamp, _)| stamp.time > limit)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Ahead, Restamping};
    use crate::{
        slot::{Slot, SlotRange},
        store::{
            Feed, FeedItem, Intake, Kind, Outcome, Polled, Record, Scope, Seen, SeenTable, State, Store, StoreOptions,
        },
    };

    /// The present.
    const NOW: Time = Time::from_ntp64(1_000);

    fn origin(region: u8, life: u16) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::new(life))
    }

    fn store() -> Store {
        let (origin, start) = (origin(1, 0), Time::ZERO);
        Store::new(&StoreOptions { origin, start, peers: Vec::new(), stripes: 2, log_records: 64, hash_seed: 1 })
    }

    fn apply(store: &Store, key: &[u8], stamp: Stamp, state: State<'_>) -> Outcome {
        let at = store.address(key);
        let record = Record { key, stamp, state };
        store.lock(store.stripe_of(at.slot)).apply(at, &record, &Seen::new(), Time::ZERO).unwrap()
    }

    /// A key's stamp and what it is.
    fn held(store: &Store, key: &[u8]) -> Option<(Stamp, Kind, Vec<u8>)> {
        let at = store.address(key);
        let stripe = store.lock(store.stripe_of(at.slot));
        stripe.record(at, key).map(|record| match record.state {
            State::Value { bytes, .. } => (record.stamp, Kind::Value, bytes.to_vec()),
            State::Tombstone => (record.stamp, Kind::Tombstone, Vec::new()),
            State::Evicted => (record.stamp, Kind::Evicted, Vec::new()),
        })
    }

    /// What lies above the present is some minutes ahead.
    fn stamp(time: u64, origin: Origin) -> Stamp {
        let time = if time > NOW.ntp64() { time << 32 } else { time };
        Stamp { time: Time::from_ntp64(time), origin }
    }

    proptest! {
        #[test]
        fn stamps_come_down_in_their_order_and_what_they_are_of_stays(
            records in proptest::collection::vec((0..12_u8, 0..400_u64, any::<bool>(), 1..4_u8), 0..60),
            flush in proptest::option::of(0..5_000_u64),
        ) {
            let store = store();
            for (key, time, is_value, region) in records {
                let value = time.to_string();
                // One write made the stamp, so what it wrote follows from it.
                let state = match is_value && time % 2 == 0 {
                    true => State::Value { bytes: value.as_bytes(), expiry: None },
                    false => State::Tombstone,
                };
                apply(&store, &[key], stamp(time * 13 + u64::from(key), origin(region, 0)), state);
            }
            if let Some(time) = flush {
                store.lock(0).flush(&SlotRange::ALL, stamp(time, origin(1, 0)));
            }
            let all = || (0..12_u8).filter_map(|key| Some((key, held(&store, &[key])?)));
            let before: Vec<_> = all().collect();
            let ahead = store.ahead(NOW);
            prop_assert_eq!(ahead.records, before.iter().filter(|(_, held)| held.0.time > NOW).count());

            prop_assert_eq!(store.restamp(Restamping { life: origin(1, 1), birth: NOW }, NOW), ahead);
            let after: Vec<_> = all().collect();
            prop_assert_eq!(store.ahead(NOW), Ahead::default());
            prop_assert_eq!(before.len(), after.len());
            for ((key, old), (other, new)) in before.iter().zip(&after) {
                prop_assert_eq!((key, old.1, &old.2), (other, new.1, &new.2));
                match old.0.time > NOW {
                    true => prop_assert!(new.0.time > NOW && new.0.time.ntp64() < NOW.ntp64() + 100 && new.0.origin == origin(1, 1)),
                    false => prop_assert_eq!(old.0, new.0),
                }
            }
            for index in 0..store.stripes() {
                let of_stripe = |key: u8| store.stripe_of(Slot::of(&[key])) == index;
                let mut pairs: Vec<_> = before.iter().zip(&after).filter(|(old, _)| of_stripe(old.0)).collect();
                pairs.sort_by_key(|(old, _)| old.1.0);
                prop_assert!(pairs.is_sorted_by_key(|(_, new)| new.1.0));
            }
        }
    }

    #[test]
    fn what_was_overwritten_from_the_future_stays_older_than_what_overwrote_it() {
        let store = store();
        let life = origin(1, 0);
        let [before, ahead] = [Stamp { time: Time::from_ntp64(5_000), origin: life }, stamp(9_000, life)];
        for (stamp, bytes) in [(before, &b"older"[..]), (ahead, b"newer")] {
            store.lock(store.stripe_of(Slot::of(b"key"))).hlc.observe(stamp.time);
            let at = store.address(b"key");
            let record = Record { key: b"key", stamp, state: State::Value { bytes, expiry: None } };
            store.lock(store.stripe_of(at.slot)).apply(at, &record, &Seen::new(), Time::ZERO).unwrap();
        }
        store.restamp(Restamping { life: origin(1, 1), birth: NOW }, NOW);
        let (stamp, _, bytes) = held(&store, b"key").unwrap();
        assert!(stamp > before && stamp.time.ntp64() < ahead.time.ntp64() && bytes == b"newer", "{stamp}");
    }

    #[test]
    fn a_floor_of_the_future_comes_down_to_where_it_still_refuses_all_that_there_is() {
        let store = store();
        apply(&store, b"{a}kept", stamp(9_000, origin(1, 0)), State::Value { bytes: b"v", expiry: None });
        store.lock(store.stripe_of(Slot::of(b"a"))).flush(&SlotRange::ALL, stamp(8_000, origin(1, 0)));
        store.restamp(Restamping { life: origin(1, 1), birth: NOW }, NOW);
        let old = stamp(NOW.ntp64(), origin(2, 0));
        assert_eq!(apply(&store, b"{a}flushed", old, State::Value { bytes: b"v", expiry: None }), Outcome::Refused);
        let floor = store.lock(store.stripe_of(Slot::of(b"a"))).floor(Slot::of(b"a"));
        assert!(floor.time > NOW && floor < held(&store, b"{a}kept").unwrap().0);
        // Who has seen all of the old life, and knows when the new one was born, gets the slot whole all the same.
        let consumer = origin(2, 0);
        let mut seen = SeenTable::new(SlotRange::ALL);
        seen.advance(&SlotRange::ALL, origin(1, 0), Time::MAX);
        let mut feed = Feed::resume(&store, Scope::Region(origin(1, 0).region()), consumer, seen);
        let mut whole = Vec::new();
        let now = clock::Now { wall: NOW, monotonic: std::time::Duration::ZERO };
        let mut poll = || {
            feed.poll(&store, now, usize::MAX, |item| {
                if let FeedItem::SlotEnd { slot, floor: Some(floor), .. } = item {
                    whole.push((*slot, *floor));
                }
                1
            })
        };
        while poll() == Polled::More {}
        assert!(whole.contains(&(Slot::of(b"a"), floor)), "{whole:?}");
    }

    #[test]
    fn a_replica_keeps_its_own_future_and_drops_slots_with_anybody_elses() {
        let store = store();
        for (key, time, region) in [(b"{a}x", 500, 1), (b"{a}y", 3_000, 1), (b"{b}x", 500, 1), (b"{b}y", 3_000, 2)] {
            apply(&store, key, stamp(time, origin(region, 0)), State::Value { bytes: b"v", expiry: None });
        }
        let follows = origin(1, 0);
        store.follow(follows, Time::ZERO);
        for index in 0..store.stripes() {
            store.lock(index).advance_seen(&SlotRange::ALL, follows, stamp(3_000, follows).time);
        }
        let restamping = Restamping { life: origin(1, 1), birth: NOW };
        assert_eq!(store.follow_restamped(restamping).slots, 2);
        assert!(held(&store, b"{a}x").is_some() && held(&store, b"{a}y").is_some());
        assert_eq!((held(&store, b"{b}x"), held(&store, b"{b}y")), (None, None));
        let seen = |key: &[u8]| store.lock(store.stripe_of(Slot::of(key))).seen().at(Slot::of(key), follows);
        assert_eq!((seen(b"a"), seen(b"b")), (NOW, Time::ZERO));

        assert_eq!(Intake::of_restamped(restamping).drop_replaced(&store), Some(1));
        assert!(held(&store, b"{a}x").is_some() && held(&store, b"{a}y").is_none());
        assert!(store.ahead(NOW).is_none());
    }

    #[test]
    fn what_arrives_stays_also_if_another_shard_has_stamped_it_long_after_the_restamping() {
        let (store, other) = (store(), origin(1, 7));
        for key in [b"{a}x", b"{a}y", b"{a}z"] {
            apply(&store, key, stamp(3_000, origin(1, 0)), State::Value { bytes: b"future", expiry: None });
        }
        store.follow(origin(1, 1), NOW);
        let restamping = Restamping { life: origin(1, 1), birth: NOW };
        store.follow_restamped(restamping);
        let mut intake = Intake::of_restamped(restamping);
        let mut take = |key: &[u8], stamp, bytes: &[u8]| {
            let record = Record { key, stamp, state: State::Value { bytes, expiry: None } };
            let item = FeedItem::Record { slot: Slot::of(key), record };
            let now = clock::Now { wall: NOW, monotonic: std::time::Duration::ZERO };
            intake.take(&store, &item, &Seen::new(), now).unwrap();
        };
        take(b"{a}x", stamp(1_000, origin(1, 1)), b"anew");
        take(b"{a}y", stamp(2_000, other), b"moved in");
        take(b"{a}y", stamp(2_500, other), b"moved in, newer");
        assert_eq!(intake.drop_replaced(&store), Some(1));
        let value = |key| held(&store, key).map(|(.., bytes)| bytes);
        let expected = [Some(b"anew".to_vec()), Some(b"moved in, newer".to_vec()), None];
        assert_eq!([value(b"{a}x"), value(b"{a}y"), value(b"{a}z")], expected);
        assert_eq!(intake.drop_replaced(&store), None);
    }
}
