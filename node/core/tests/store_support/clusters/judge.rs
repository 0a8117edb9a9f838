//! What must hold in a world.
//!
//! After every step:
//! - A region never serves a value older than what its owners of the key had before, but for a failover.
//! - `seen` claims nothing that is not there: no node holds a value older than a write that it claims to have seen, and where
//!   nothing is dropped, it holds the newest one that it claims, or the slot's floor says that it may not.
//!
//! And at rest:
//! - All regions that hold a value of a key hold the same, and none holds one older than what any region knew.
//! - Replicas hold what their primaries do, if nothing was dropped or forgotten early.
//! - Nothing holds back the frontier.
//! - If no memory was lost, a key holds its winner or nothing, and nothing if the winner is a delete.
//! - If moreover nothing was dropped or forgotten early and no primary has changed, every region holds every winner.

use std::collections::BTreeMap;

use clock::{Stamp, Time};
use node_core::{slot::Slot, store::Store};

use super::{
    KEYS, Weather, World, Write,
    region::{Node, Region},
};
use crate::store_support::held;

/// What became of a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Nothing was lost, dropped or forgotten early.
    pub(crate) pristine: bool,
    /// A region has lost something that nobody may have.
    pub(crate) lossy: bool,
    /// Values that every region would hold in the best case.
    pub(crate) winners: usize,
    /// Those among them that a region does not hold.
    pub(crate) misses: usize,
    /// What happened.
    pub(crate) trace: Vec<String>,
}

/// What each region holds of a key.
type Copies = BTreeMap<u8, Option<(Stamp, Vec<u8>)>>;

/// Values and stamps that a store dropped for reasons of its own.
pub(super) fn dropped(store: &Store) -> u64 {
    let counters = store.counters();
    counters.evicted + counters.forgotten_early
}

impl World {
    pub(super) fn check_always(&mut self) -> Result<(), String> {
        let drops_nothing = self.weather == Weather::Calm && !self.expires;
        for (id, region) in &mut self.regions {
            for (key, name) in KEYS.iter().enumerate() {
                let Some(shard) = region.serving(Slot::of(name)) else { continue };
                let Some((stamp, ..)) = held(&region.primary(shard).store, name) else { continue };
                let known = region.known.entry(key).or_insert(stamp);
                if stamp < *known {
                    return Err(format!("key {key}: region {id} serves {stamp} after {known}"));
                }
                *known = stamp;
            }
            for (shard, members) in region.shards.iter().enumerate() {
                for (index, node) in members.nodes.iter().enumerate() {
                    for key in 0..KEYS.len() {
                        let writes = self.writes.iter().filter(|write| write.key == key);
                        check_claims(node, key, writes, drops_nothing)
                            .map_err(|wrong| format!("key {key}: node {id}/{shard}/{index} {wrong}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// At rest every owner may forget what was written before all was mended.
    pub(super) fn check_frontiers(&mut self, mended: Time) -> Result<(), String> {
        let owns = |region: &Region, shard| region.owners.values().any(|owner| *owner == shard);
        // To a region of one node the first shards speak also for the slots that there are not. Nobody reports on those, so that
        // they would be held against a shard that speaks for nothing else, and against those that have ended where the region
        // takes the only one that speaks for all of a cluster of one node.
        let is_fair = |region: &Region| {
            let in_use = (0..region.shards.len()).filter(|shard| owns(region, *shard)).count();
            let is_one = region.shards.len() == 1 && !self.failed_over;
            !region.is_cluster || owns(region, 0) && (in_use > 1 || is_one)
        };
        let are_fair = self.regions.values().all(is_fair);
        let shards = self.regions.iter().flat_map(|(id, region)| {
            let counts = region.is_cluster || are_fair;
            (0..region.shards.len()).filter(move |shard| counts && owns(region, *shard)).map(|shard| (*id, shard))
        });
        for (id, shard) in shards.collect::<Vec<_>>() {
            let frontier = self.collect(id, shard);
            if frontier < mended {
                return Err(format!("{id}/{shard} is held back at {frontier:?}, all was mended at {mended:?}"));
            }
        }
        self.check_always()
    }

    /// What the owners of a key hold, region by region.
    pub(super) fn copies(&self) -> Vec<Copies> {
        let now_ms = self.wall.unix_ms();
        let copies = KEYS.iter().map(|name| {
            let copies = self.regions.iter().map(|(id, region)| {
                let found = held(&region.primary(region.owners[&Slot::of(name)]).store, name);
                let lives = found.filter(|(_, _, expiry)| !expiry.is_some_and(|expiry| expiry.has_passed(now_ms)));
                (*id, lives.map(|(stamp, value, _)| (stamp, value)))
            });
            copies.collect()
        });
        copies.collect()
    }

    pub(super) fn check_at_rest(self) -> Result<Summary, (String, Vec<String>)> {
        match self.judge() {
            Ok(summary) => Ok(Summary { trace: self.trace, ..summary }),
            Err(wrong) => Err((wrong, self.trace)),
        }
    }

    fn judge(&self) -> Result<Summary, String> {
        let dropped_any = self
            .regions
            .values()
            .any(|region| region.dropped_before > 0 || region.nodes().any(|node| dropped(&node.store) > 0));
        let pristine = !self.lossy && !self.failed_over && !dropped_any;
        let mut summary = Summary { pristine, lossy: self.lossy, ..Summary::default() };
        let now_ms = self.wall.unix_ms();
        for (key, copies) in self.copies().into_iter().enumerate() {
            let last = self.writes.iter().filter(|write| write.key == key).max_by_key(|write| write.stamp);
            let winner = last.and_then(|write| {
                let (value, expiry) = write.value.clone()?;
                (!expiry.is_some_and(|expiry| expiry.has_passed(now_ms))).then_some((write.stamp, value))
            });
            let best = self.regions.values().filter_map(|region| region.known.get(&key)).max();
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
            if !dropped_any {
                self.check_replicas(key)?;
            }
            summary.winners += copies.len() * usize::from(winner.is_some());
            summary.misses += usize::from(winner.is_some()) * copies.values().filter(|copy| copy.is_none()).count();
        }
        Ok(summary)
    }

    fn check_replicas(&self, key: usize) -> Result<(), String> {
        for (id, region) in &self.regions {
            let shard = region.owners[&Slot::of(KEYS[key])];
            let now_ms = self.wall.unix_ms();
            let lives = |store| {
                held(store, KEYS[key]).filter(|(_, _, expiry)| !expiry.is_some_and(|expiry| expiry.has_passed(now_ms)))
            };
            let primary = lives(&region.primary(shard).store);
            for (index, node) in region.shards[shard].nodes.iter().enumerate() {
                let found = lives(&node.store);
                if found != primary {
                    return Err(format!(
                        "key {key}: replica {id}/{shard}/{index} has {found:?}, its primary {primary:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a node has what it claims to have seen of a key.
fn check_claims<'a>(
    node: &Node,
    key: usize,
    writes: impl Iterator<Item = &'a Write> + Clone,
    drops_nothing: bool,
) -> Result<(), String> {
    let slot = Slot::of(KEYS[key]);
    if !node.owns(slot) {
        return Ok(());
    }
    let (found, own) = (held(&node.store, KEYS[key]).map(|(stamp, ..)| stamp), node.store.origin());
    let stripe = node.store.lock(node.store.stripe_of(slot));
    let claims = |at: &Stamp| at.origin == own || stripe.seen().at(slot, at.origin) >= at.time;
    let Some(missed) = writes.clone().filter(|write| claims(&write.stamp)).max_by_key(|write| write.stamp) else {
        return Ok(());
    };
    match found {
        Some(stamp) if stamp < missed.stamp => Err(format!("holds {stamp} and claims to have seen {}", missed.stamp)),
        None if drops_nothing && missed.value.is_some() => {
            let is_deleted = |write: &Write| write.value.is_none() && write.stamp > missed.stamp;
            if stripe.floor(slot) >= missed.stamp || writes.clone().any(is_deleted) {
                return Ok(());
            }
            Err(format!("holds nothing and claims to have seen {}", missed.stamp))
        }
        _ => Ok(()),
    }
}
