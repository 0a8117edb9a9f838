//! FLUSHALL, as a client asks one node for it.
//!
//! It concerns all slots that the node owns at that moment. Who asked is told that it was done, which stands in the history as one
//! operation on each key of those slots; without an answer it may have been done to any key.

use clock::{Now, Stamp};
use node_core::{
    cluster::{Access, Route},
    slot::{Slot, SlotSet},
};
use scenario::history::{Action, ClientId, Key, Operation, Outcome as Told};

use super::{
    Load, Process, Region, Written,
    clients::{Outcome, UnderWay},
    process::Turn,
};
use crate::{Broken, names::keys};

impl Process {
    /// Does what a turn does that is asked to flush.
    pub(super) fn flush(&self, turn: &Turn, access: Access) -> Outcome {
        match turn.routing.route_keyless(access) {
            Route::Here => Outcome::Flushed(self.flush_now(turn.now)),
            Route::Hold => Outcome::Held(turn.now.monotonic),
            Route::Moved(_) | Route::TryAgain | Route::Unserved | Route::Down | Route::ReadOnly => Outcome::Refused,
        }
    }

    fn flush_now(&self, now: Now) -> Stamp {
        let store = &self.store;
        if self.broken != Some(Broken::FlushesOneStripe) {
            return store.flush(now.wall);
        }
        let mut stripe = store.lock(0);
        let stamp = stripe.issue_flush(now.wall);
        let owned = store.owned().map_or_else(SlotSet::all, |owned| (*owned).clone());
        owned.ranges().iter().for_each(|slots| stripe.flush(slots, stamp));
        stamp
    }

    /// The keys that a flush of this moment concerns.
    fn own_keys(&self) -> impl Iterator<Item = (Key, &'static [u8])> {
        let owned = self.store.owned();
        keys().filter(move |(_, name)| owned.as_ref().is_none_or(|owned| owned.contains(Slot::of(name))))
    }
}

impl Region {
    /// Takes note of a flush that a node has stamped.
    pub(super) fn note_flush(&mut self, index: usize, stamp: Stamp) {
        let own: Vec<_> = self.processes[index].own_keys().collect();
        note!(self, "{index} flushes {} keys at {stamp:?}", own.len());
        for (key, name) in &own {
            let (at, address) = (self.now, self.processes[index].store.address(name));
            self.written.push(Written { index, key: *key, name, address, stamp, value: None, is_flush: true, at });
        }
        self.flushed.insert(stamp, own.into_iter().map(|(key, _)| key).collect());
    }

    /// A node answers a flush, in the name of all its slots.
    pub(super) fn answers_flush(&mut self, index: usize) {
        let own = self.processes[index].own_keys();
        self.answered_by.extend(own.map(|(_, name)| (index, Slot::of(name))));
    }

    /// Writes down what has become of a flush.
    pub(super) fn record_flush(&mut self, client: ClientId, under_way: &UnderWay, outcome: Outcome) {
        let Load::Kinds { place: region, .. } = self.load else { return };
        let (concerned, outcome) = match outcome {
            Outcome::Flushed(stamp) => (self.flushed.remove(&stamp).unwrap_or_default(), Told::Done),
            _ => (keys().map(|(key, _)| key).collect(), Told::Unknown("no answer".to_owned())),
        };
        let (called, returned) = (under_way.called, self.now);
        self.operations.extend(concerned.into_iter().map(|key| {
            let (action, outcome) = (Action::Flush, outcome.clone());
            Operation { client, region, key, called, returned, action, outcome }
        }));
    }
}
