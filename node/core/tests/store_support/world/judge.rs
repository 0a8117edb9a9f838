//! What is checked after every step, and what when a mended world has come to rest.

use std::collections::BTreeMap;

use clock::Stamp;
use node_core::{slot::Slot, store::Expiry};
use rand::RngExt;

use super::{KEYS, Link, ROUND, ROUNDS_MAX, World, dropped};
use crate::store_support::held;

impl World {
    /// Mends all links and lets them run until nothing moves any more.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..self.regions.len() {
            let Some(id) = self.of_the_future() else { break };
            self.restamp(id);
        }
        self.note("all is mended".to_owned());
        let anew = self.random.random_ratio(1, 2);
        for link in self.links.values_mut().filter(|link| anew || !link.up) {
            *link = Link { up: true, ..Link::default() };
        }
        let (mut before, mut quiet) = (Vec::new(), 0);
        for _ in 0..ROUNDS_MAX {
            self.wall = self.wall.after(ROUND);
            let mut drained = true;
            for (from, to) in self.pairs() {
                if self.links[&(from, to)].feed.is_none() {
                    self.connect(from, to);
                }
                let feed = self.links.get_mut(&(from, to)).and_then(|link| link.feed.as_mut()).expect("connected");
                feed.queue_orphans(&self.regions[&from].store);
                drained &= self.poll(from, to, 100_000);
                self.deliver(from, to, usize::MAX);
                self.check_always()?;
            }
            let state: Vec<_> =
                self.regions.values().map(|region| KEYS.map(|name| held(&region.store, name))).collect();
            quiet = if drained && state == before { quiet + 1 } else { 0 };
            before = state;
            if quiet == 3 {
                return Ok(());
            }
        }
        Err("the mended world does not come to rest".to_owned())
    }

    pub(super) fn check_always(&mut self) -> Result<(), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        for (id, region) in &mut self.regions {
            for (key, name) in KEYS.iter().enumerate() {
                let Some((stamp, ..)) = held(&region.store, name) else { continue };
                let known = region.known.entry(key).or_insert(stamp);
                if stamp < *known {
                    return Err(format!("key {key}: region {id} serves {stamp} after {known}"));
                }
                *known = stamp;
                let slot = Slot::of(name);
                let stripe = region.store.lock(region.store.stripe_of(slot));
                let own = region.store.origin();
                let claims = |at: &Stamp| at.origin == own || stripe.seen().at(slot, at.origin) >= at.time;
                let newer = self.writes.iter().filter(|(written, at)| *written == key && *at > stamp);
                if let Some((_, missed)) = newer.clone().find(|(_, at)| claims(at)) {
                    return Err(format!("key {key}: region {id} serves {stamp} and claims to have seen {missed}"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_at_rest(&self) -> Result<Summary, String> {
        let pristine = !self.lossy && self.regions.values().all(|region| dropped(&region.store) == 0);
        let (lossy, restamped) = (self.lossy, self.restamped);
        let mut summary = Summary { pristine, lossy, restamped, ..Summary::default() };
        let now_ms = self.wall.unix_ms();
        for (key, name) in KEYS.iter().enumerate() {
            let lives = |(stamp, value, expiry): &(Stamp, Vec<u8>, Option<Expiry>)| {
                (!expiry.is_some_and(|expiry| expiry.has_passed(now_ms))).then(|| (*stamp, (value.clone(), *expiry)))
            };
            let copies: BTreeMap<u8, _> = self
                .regions
                .iter()
                .map(|(id, region)| (*id, held(&region.store, name).as_ref().and_then(lives)))
                .collect();
            let best = self.regions.values().filter_map(|region| region.known.get(&key)).max();
            let winner = self.winners.get(&key).and_then(|(stamp, value)| {
                let (value, expiry) = value.clone()?;
                lives(&(*stamp, value, expiry))
            });
            let mut alive = copies.iter().filter_map(|(id, copy)| Some((id, copy.as_ref()?)));
            if let Some((id, copy)) = alive.clone().find(|(_, copy)| Some(&copy.0) < best) {
                return Err(format!("key {key}: region {id} serves {}, but {best:?} was known", copy.0));
            }
            if let Some((_, first)) = alive.next()
                && alive.any(|(_, copy)| copy != first)
            {
                return Err(format!("key {key}: regions hold different values {copies:?}"));
            }
            for (id, copy) in &copies {
                if !self.lossy && copy.is_some() && *copy != winner || pristine && *copy != winner {
                    return Err(format!("key {key}: region {id} holds {copy:?}, the winner is {winner:?}"));
                }
            }
            summary.winners += copies.len() * usize::from(winner.is_some());
            summary.misses += usize::from(winner.is_some()) * copies.values().filter(|copy| copy.is_none()).count();
        }
        Ok(summary)
    }
}

/// What became of a world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    /// Nothing was lost, dropped or forgotten early.
    pub(crate) pristine: bool,
    /// A region went on with less than it had.
    pub(crate) lossy: bool,
    /// Records that were of the future and were restamped.
    pub(crate) restamped: usize,
    /// Values that every region would hold in the best case.
    pub(crate) winners: usize,
    /// Those among them that a region does not hold.
    pub(crate) misses: usize,
}
