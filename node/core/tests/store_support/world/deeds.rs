//! What clients, operators and time do to one region.

use clock::{Stamp, Time};
use node_core::{
    slot::Slot,
    store::{Expiry, Sabotage},
};
use rand::RngExt;

use super::{Broken, KEYS, Value, World, each_stripe};
use crate::store_support::held;

impl World {
    pub(super) fn write(&mut self, id: u8, key: usize) {
        let (now, name) = (self.now(id), KEYS[key]);
        self.value += 1;
        let mut value = self.value.to_string().into_bytes();
        if self.random.random_ratio(1, 10) {
            value.resize(self.random.random_range(0..5_000), b'.');
        }
        let expiry = (!self.drifts && self.random.random_ratio(1, 6)).then(|| self.random.random_range(1..300));
        let expiry = expiry.map(|ms| Expiry::at_unix_ms(now.unix_ms() + ms));
        let how = self.random.random_range(0..8);
        let store = &self.regions[&id].store;
        if store.make_room(now.wall).is_err() {
            return;
        }
        let at = store.address(name);
        let mut stripe = store.lock(store.stripe_of(at.slot));
        let done = match how {
            0 => stripe.set_expiry(at, name, expiry, now.wall).expect("room"),
            1 => stripe.overwrite(at, name, value.len() % 9, &value, now.wall).is_ok(),
            _ => stripe.write(at, name, &value, expiry, now.wall).is_ok(),
        };
        drop(stripe);
        if !done {
            return;
        }
        let (stamp, value, expiry) = held(&self.regions[&id].store, name).expect("a value that was just written");
        self.note(format!("{id} writes {key} {stamp} expiry {expiry:?}"));
        self.wrote(id, key, stamp, Some((value, expiry)));
    }

    pub(super) fn delete(&mut self, id: u8, key: usize) {
        let (now, name) = (self.now(id), KEYS[key]);
        let store = &self.regions[&id].store;
        let at = store.address(name);
        let mut stripe = store.lock(store.stripe_of(at.slot));
        let existed = stripe.delete(at, name, now.wall).expect("room");
        let silent = !existed && self.broken == Some(Broken::Rule(Sabotage::NoDeleteOfAbsent));
        // What the client believes, if nothing was stamped; else the stamp just issued.
        let above = if silent { stripe.floor(at.slot).time.max(now.wall).next() } else { Time::ZERO };
        let stamp = Stamp { time: stripe.watermark(Time::ZERO).max(above), origin: store.origin() };
        drop(stripe);
        self.note(format!("{id} deletes {key} {stamp}"));
        if silent {
            let winner = self.winners.entry(key).or_insert((Stamp::ZERO, None));
            *winner = if stamp > winner.0 { (stamp, None) } else { winner.clone() };
        } else {
            self.wrote(id, key, stamp, None);
        }
    }

    pub(super) fn flush(&mut self, id: u8) {
        let stamp = self.regions[&id].store.flush(self.now(id).wall);
        self.note(format!("{id} flushes {stamp}"));
        (0..KEYS.len()).for_each(|key| self.wrote(id, key, stamp, None));
    }

    pub(super) fn wrote(&mut self, id: u8, key: usize, stamp: Stamp, value: Option<Value>) {
        self.writes.push((key, stamp));
        if self.drifts {
            self.written.insert((key, stamp), value.clone());
        }
        self.knows(id, key, stamp);
        let winner = self.winners.entry(key).or_insert((Stamp::ZERO, None));
        if stamp > winner.0 {
            *winner = (stamp, value);
        }
    }

    pub(super) fn knows(&mut self, id: u8, key: usize, stamp: Stamp) {
        let region = self.regions.get_mut(&id).expect("regions stay");
        let known = region.known.entry(key).or_insert(stamp);
        *known = stamp.max(*known);
    }

    pub(super) fn evict(&mut self, id: u8, key: usize) {
        let (now, store) = (self.now(id), &self.regions[&id].store);
        let evicted = store.lock(store.stripe_of(Slot::of(KEYS[key]))).evict_one(now.wall);
        self.note(format!("{id} evicts near {key}: {evicted:?}"));
    }

    pub(super) fn forget_early(&mut self, id: u8) {
        let (items, region) = (self.random.random_range(1..4), &self.regions[&id]);
        region.store.settings().set_tombstone_budget(0);
        each_stripe(&region.store, |stripe| _ = stripe.collect(items));
        region.store.settings().set_tombstone_budget(region.config.budget);
        self.note(format!("{id} forgets early"));
    }

    pub(super) fn collect(&mut self, id: u8) {
        let (now, store) = (self.now(id), &self.regions[&id].store);
        let frontier = store.advance_frontier(now);
        each_stripe(store, |stripe| _ = stripe.collect(100));
        self.note(format!("{id} collects up to {frontier:?}"));
    }

    pub(super) fn expire(&mut self, id: u8) {
        let visits = self.random.random_range(1..5);
        let (now, store) = (self.now(id), &self.regions[&id].store);
        each_stripe(store, |stripe| _ = stripe.sweep(now.wall, visits));
        self.note(format!("{id} sweeps"));
    }
}
