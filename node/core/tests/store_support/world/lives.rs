//! Regions that lose what they have, are cloned, fail over, or are restamped.

use clock::{Origin, Stamp, Time};
use node_core::{
    slot::Slot,
    store::{Feed, Intake, Matrix, Polled, Restamping, Scope, Store},
};
use rand::RngExt;

use super::{
    Broken, Config, Copy, HORIZON, KEYS, Link, MAX_DRIFT, Value, World, dropped, each_stripe, introduce,
    links::{drain, take},
};
use crate::store_support::{held, origin, parcel::Parcel, region};

impl World {
    /// The next life of a region, and where its clock begins.
    pub(super) fn next_life(&mut self, id: u8) -> (Origin, Time) {
        let now = self.now(id);
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.lives += 1;
        let mark = (0..region.store.stripes()).map(|index| region.store.lock(index).watermark(now.wall)).max();
        let next = origin(id, region.lives);
        let origin = if self.broken == Some(Broken::SameOrigin) { region.store.origin() } else { next };
        (origin, mark.unwrap_or(now.wall).next())
    }

    pub(super) fn peers_of(&self, id: u8) -> impl Iterator<Item = u8> + use<> {
        let count = self.regions.len() as u8;
        (1..=count).filter(move |peer| *peer != id)
    }

    pub(super) fn lose_everything(&mut self, id: u8) {
        let source = self.pick_other(id);
        let (origin, start) = self.next_life(id);
        let store = self.store(origin, start, &self.regions[&id].config, self.peers_of(id));
        self.restart(id, store, start);
        self.note(format!("{id} lost everything, is {origin} and clones {source}"));
        if self.random.random_ratio(1, 2) {
            self.clone_from(id, source, true);
            let source = self.pick_other(id);
            self.note(format!("that was cut off; {id} clones the rest from {source}"));
            self.clone_from(id, source, false);
        } else {
            self.clone_from(id, source, false);
        }
    }

    /// `id` is sent by `source` what it lacks of everything, or, if that is `cut` off, a part of it.
    pub(super) fn clone_from(&mut self, id: u8, source: u8, cut: bool) {
        introduce(&self.regions[&source], &self.regions[&id]);
        let parcels_max = if cut { self.random.random_range(1..35_000) } else { usize::MAX };
        let (from, to) = (&self.regions[&source].store, &self.regions[&id].store);
        let (scope, seen) = (Scope::Region(region(source)), to.seen_table(self.now(id)));
        let mut feed = Feed::clone_rest(from, scope, to.origin(), seen);
        let heard = drain(&mut feed, from, self.now(source), to, &mut Intake::default(), self.now(id), parcels_max);
        heard.into_iter().for_each(|(key, stamp)| self.knows(id, key, stamp));
    }

    pub(super) fn make_copy(&mut self, id: u8) {
        let (origin, start) = self.next_life(id);
        let config = Config { max_memory: 0, ..self.regions[&id].config.clone() };
        let store = self.store(origin, start, &config, self.peers_of(id));
        let from = &self.regions[&id].store;
        let mut copy =
            Copy { feed: Feed::clone_all(from, Scope::Everything, origin), store, intake: Intake::default() };
        drain(&mut copy.feed, from, self.now(id), &copy.store, &mut copy.intake, self.now(id), usize::MAX);
        self.regions.get_mut(&id).expect("regions stay").copy = Some(copy);
        self.note(format!("{id} is copied"));
    }

    /// The region whose clock is wrong, or else one that holds something of the future still, as an heir may that had not followed its
    /// restamped primary to the end.
    pub(super) fn of_the_future(&self) -> Option<u8> {
        let present = self.wall.after(2 * MAX_DRIFT);
        let holds_some = |id: &u8| !self.regions[id].store.ahead(present).is_none();
        self.ahead.or_else(|| self.regions.keys().copied().find(holds_some))
    }

    /// The clock of a region is set right, and the region goes on from there.
    pub(super) fn restamp(&mut self, id: u8) {
        self.ahead = None;
        let (limit, before) = (self.now(id).wall.after(2 * MAX_DRIFT), self.shown(id));
        let life = self.younger(id);
        let restamping = Restamping { life, birth: limit };
        let ahead = self.regions[&id].store.restamp(restamping, limit);
        self.note(format!("{id} is restamped as {life}, born at {limit:?}: {ahead:?}"));
        self.restamped += ahead.records;
        if self.shown(id) != before {
            self.wrong = Some(format!("region {id} shows {:?} after {before:?}", self.shown(id)));
        }
        self.break_links(id);
        self.regions.get_mut(&id).expect("regions stay").birth = limit;
        self.copy_follows_restamped(id, restamping);
        // What others wrote is within the drift, if not by this clock.
        let is_changed = |stamp: &Stamp| stamp.time > limit.after(HORIZON) && stamp.origin.region() == region(id);
        self.writes.retain(|(_, stamp)| !is_changed(stamp));
        for (key, name) in KEYS.iter().enumerate() {
            // What was written ahead is what it has become, and if it was forgotten its slot's floor.
            let store = &self.regions[&id].store;
            let floor = || store.lock(store.stripe_of(Slot::of(name))).floor(Slot::of(name));
            let stamp = stamp_of(store, name).unwrap_or_else(floor);
            // Unless it was lost with the memory of the region before.
            let is_lost = self.lossy && stamp.origin != life;
            let known = &mut self.regions.get_mut(&id).expect("regions stay").known;
            known
                .entry(key)
                .and_modify(|known| *known = if known.time > limit.after(HORIZON) { stamp } else { *known });
            let winner = self.winners.get(&key).filter(|(winner, _)| is_changed(winner) && !is_lost);
            if let Some((_, value)) = winner {
                self.writes.push((key, stamp));
                self.written.insert((key, stamp), value.clone());
            }
        }
        // Who has not heard of what this region wrote ahead may have written above what that has become.
        self.written.retain(|(_, stamp), _| !is_changed(stamp));
        self.winners = self.written.iter().map(|((key, stamp), value)| (*key, (*stamp, value.clone()))).collect();
    }

    /// What a copy holds of the future gives way to what its region has become. Sometimes that is cut off; then it goes on with what the copy has.
    fn copy_follows_restamped(&mut self, id: u8, restamping: Restamping) {
        let Some(Copy { store, .. }) = self.regions.get_mut(&id).and_then(|region| region.copy.take()) else { return };
        let (life, now, is_cut) = (self.younger(id), self.now(id), self.random.random_ratio(1, 3));
        let source = &self.regions[&id].store;
        store.follow(restamping.life, restamping.birth);
        let horizon = restamping.birth.after(HORIZON);
        let is_others = |stamp: Stamp| stamp.time > horizon && stamp.origin.region() != region(id);
        // A slot with records of another region's future is dropped whole.
        let is_dropped = |name: &[u8]| {
            let mut others = KEYS.iter().filter(|other| Slot::of(other) == Slot::of(name));
            others.any(|other| stamp_of(&store, other).is_some_and(is_others))
        };
        let shown = KEYS.iter().zip(shown_by(&store)).map(|(name, shown)| shown.filter(|_| !is_dropped(name)));
        let mut shown: Vec<_> = shown.collect();
        store.follow_restamped(restamping);
        let seen = store.seen_table(now);
        let mut feed = Feed::resume(source, Scope::Everything, life, seen);
        let (mut intake, mut left) = (Intake::of_restamped(restamping), self.random.random_range(0..30));
        loop {
            let (mut parcels, mut heard) = (Vec::new(), Vec::new());
            let polled = feed.poll(source, now, 1, |item| {
                parcels.push(Parcel::of(item));
                1
            });
            for parcel in &parcels {
                // It lags: what its source has lost by a flush it loses when that arrives, also where something was written since.
                let flushed = KEYS.iter().zip(&mut shown).filter(|(key, _)| is_flushed_by(parcel, &store, key));
                flushed.for_each(|(_, shown)| *shown = None);
                take(&store, &mut intake, parcel, now, &mut heard);
            }
            let here = shown.iter().zip(shown_by(source)).map(|(before, source)| before.is_some() && source.is_some());
            if here.zip(shown_by(&store)).any(|(was_here, after)| was_here && after.is_none()) {
                self.wrong = Some(format!("a copy of region {id} shows {:?} after {shown:?}", shown_by(&store)));
            }
            if polled == Polled::Drained || is_cut && left == 0 {
                break;
            }
            left -= usize::from(left > 0);
        }
        if !is_cut {
            intake.drop_replaced(&store);
        }
        store.begin_life(life, restamping.birth, restamping.birth);
        self.regions.get_mut(&id).expect("regions stay").copy = Some(Copy { feed, store, intake });
    }

    pub(super) fn younger(&mut self, id: u8) -> Origin {
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.lives += 1;
        origin(id, region.lives)
    }

    /// What a region's clients find.
    fn shown(&self, id: u8) -> Vec<Option<Value>> {
        shown_by(&self.regions[&id].store)
    }

    pub(super) fn copy_follows(&mut self, id: u8) {
        let (now, bytes) = (self.now(id), self.random.random_range(1..200));
        let region = self.regions.get_mut(&id).expect("regions stay");
        let Some(copy) = &mut region.copy else { return };
        let mut parcels = Vec::new();
        copy.feed.poll(&region.store, now, bytes, |item| {
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        parcels.iter().for_each(|parcel| take(&copy.store, &mut copy.intake, parcel, now, &mut Vec::new()));
        self.note(format!("{id}'s copy follows"));
    }

    pub(super) fn fail_over(&mut self, id: u8) {
        let Some(copy) = self.regions.get_mut(&id).and_then(|region| region.copy.take()) else { return };
        let (_, start) = self.next_life(id);
        let (store, peers) = (copy.store, self.peers_of(id));
        store.update_matrix(|matrix| *matrix = Matrix::new(store.origin(), start, peers.map(region)));
        each_stripe(&store, |stripe| _ = stripe.watermark(start));
        store.settings().set_max_memory(self.regions[&id].config.max_memory);
        self.note(format!("{id} fails over to {}", store.origin()));
        self.restart(id, store, start);
    }

    /// The region goes on with `store`; its links break.
    pub(super) fn restart(&mut self, id: u8, store: Store, birth: Time) {
        self.lossy = true;
        self.break_links(id);
        let known = KEYS.iter().enumerate().filter_map(|(key, name)| Some((key, held(&store, name)?.0))).collect();
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.dropped_before += dropped(&region.store);
        (region.store, region.birth, region.known, region.copy) = (store, birth, known, None);
    }

    pub(super) fn break_links(&mut self, id: u8) {
        for (pair, link) in &mut self.links {
            if pair.0 == id || pair.1 == id {
                *link = Link { up: link.up, ..Link::default() };
            }
        }
    }
}

/// Whether taking that in ends what this store has of a key: it is a flush, and later.
fn is_flushed_by(parcel: &Parcel, store: &Store, key: &[u8]) -> bool {
    let Parcel::Flush { slots, stamp: flush } = parcel else { return false };
    slots.contains(Slot::of(key)) && held(store, key).is_some_and(|(stamp, ..)| stamp <= *flush)
}

/// What a store holds of a key, be it a value or not.
fn stamp_of(store: &Store, name: &[u8]) -> Option<Stamp> {
    let at = store.address(name);
    store.lock(store.stripe_of(at.slot)).record(at, name).map(|record| record.stamp)
}

/// What clients of this store find.
fn shown_by(store: &Store) -> Vec<Option<Value>> {
    KEYS.iter().map(|name| held(store, name).map(|(_, value, expiry)| (value, expiry))).collect()
}
