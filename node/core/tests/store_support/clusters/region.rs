//! One region: shards of a primary and replicas, and a map that each node follows in its own time.
//!
//! A slot moves as in the real thing: the target drops what it has of it, is fed by the source, and when it has all, while
//! nobody writes, the map changes. From then on the target may serve, as soon as it has followed the map that far; the source
//! gives the slot up when it has, and drops it a while later. A replica that has dropped slots asks its primary anew.

use std::{collections::BTreeMap, time::Duration};

use clock::{Incarnation, Now, Offset, Origin, Stamp, Time};
use node_core::{
    slot::{Slot, SlotSet},
    store::{EvictionPolicy, Feed, Intake, Scope, Store, StoreOptions},
};
use rand::RngExt;

use super::{
    Broken, KEYS, OFFSET_MAX, SLOTS, Weather, World,
    judge::dropped,
    pump::{each_stripe, pump},
};
use crate::store_support::{HASH_SEED, held, origin, region};

/// Further than any two clocks are apart.
const DRIFT: Duration = Duration::from_millis(50);

/// How the nodes of a region are built.
#[derive(Clone)]
pub(super) struct Config {
    stripes: usize,
    log_records: usize,
    policy: EvictionPolicy,
    max_memory: usize,
    pub(super) budget: usize,
}

pub(super) struct Region {
    pub(super) is_cluster: bool,
    lives: u16,
    pub(super) shards: Vec<Shard>,
    /// Who owns each slot, by the newest map.
    pub(super) owners: BTreeMap<Slot, usize>,
    changes: Vec<Change>,
    mover: Option<Mover>,
    pub(super) config: Config,
    /// Per key, the greatest stamp that its owners had.
    pub(super) known: BTreeMap<usize, Stamp>,
    /// Values and stamps that nodes which are no more had dropped for reasons of their own.
    pub(super) dropped_before: u64,
}

pub(super) struct Shard {
    pub(super) nodes: Vec<Node>,
    pub(super) primary: usize,
    pub(super) birth: Time,
}

pub(super) struct Node {
    pub(super) store: Store,
    pub(super) offset: Offset,
    /// How many changes of the map this node has followed.
    followed: usize,
    /// What it owned and has not dropped yet.
    to_clear: SlotSet,
    /// If a rule is broken: what it has dropped and not given up yet.
    to_give_up: Option<(SlotSet, u64)>,
    /// From the primary, if this is a replica that follows.
    upstream: Option<(Feed, Intake)>,
}

/// A change of the map; its epoch is its number.
#[derive(Clone)]
enum Change {
    /// Slots begin to move to a shard.
    Arrives { slots: SlotSet, to: usize },
    /// Slots have moved.
    Moved { slots: SlotSet, from: usize, to: usize },
    /// A shard has another primary.
    Promoted,
}

/// Slots that move.
struct Mover {
    slots: SlotSet,
    from: usize,
    to: usize,
    feed: Option<(Feed, Intake)>,
}

impl Region {
    pub(super) fn primary(&self, shard: usize) -> &Node {
        &self.shards[shard].nodes[self.shards[shard].primary]
    }

    /// The slots of a shard by the newest map.
    fn slots_of(&self, shard: usize) -> SlotSet {
        self.owners.iter().filter(|(_, owner)| **owner == shard).map(|(slot, _)| *slot).collect()
    }

    /// The shard whose primary serves a slot now, if one does.
    pub(super) fn serving(&self, slot: Slot) -> Option<usize> {
        let shard = self.owners[&slot];
        self.primary(shard).owns(slot).then_some(shard)
    }

    /// Whether a primary has followed the map as far as it goes.
    fn is_level(&self, shard: usize) -> bool {
        self.primary(shard).followed == self.changes.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(|shard| &shard.nodes)
    }
}

impl Node {
    pub(super) fn now(&self, wall: Time) -> Now {
        let wall = wall.shifted(self.offset);
        Now { wall, monotonic: wall.unix() }
    }

    pub(super) fn owns(&self, slot: Slot) -> bool {
        self.store.owned().is_none_or(|owned| owned.contains(slot))
    }
}

impl World {
    pub(super) fn config(&mut self) -> Config {
        let calm = matches!(self.weather, Weather::Calm | Weather::Windy);
        let random = &mut self.random;
        let stripes = 1 << random.random_range(0..=2);
        let policy = EvictionPolicy::NAMES[random.random_range(0..8)].0;
        Config {
            stripes,
            log_records: stripes * random.random_range(2..=10),
            policy: if random.random_ratio(1, 2) { EvictionPolicy::AllKeysRandom } else { policy },
            max_memory: if !calm && random.random_ratio(1, 6) { random.random_range(100..600) } else { 0 },
            budget: if !calm && random.random_ratio(1, 6) { random.random_range(0..200) } else { 1 << 20 },
        }
    }

    /// Founds a region: one node without a map, or some shards.
    pub(super) fn found(&mut self, id: u8, count: u8, skewed: bool) {
        let config = self.config();
        let is_cluster = self.random.random_ratio(3, 4);
        let shards = if is_cluster { self.random.random_range(1..=3) } else { 1 };
        let mut founded = Region {
            is_cluster,
            lives: 0,
            shards: Vec::new(),
            owners: SLOTS.iter().map(|slot| (*slot, self.random.random_range(0..shards))).collect(),
            changes: Vec::new(),
            mover: None,
            config,
            known: BTreeMap::new(),
            dropped_before: 0,
        };
        for _ in 0..shards {
            let nodes = 1 + self.random.random_range(0..=2);
            let nodes = (0..nodes).map(|_| {
                let nanos = if skewed { self.random.random_range(-OFFSET_MAX..OFFSET_MAX) } else { 0 };
                let store = self.store(id, &founded.config, count);
                let (to_clear, to_give_up) = (SlotSet::new(), None);
                Node { store, offset: Offset::from_nanos(nanos), followed: 0, to_clear, to_give_up, upstream: None }
            });
            let nodes = nodes.collect();
            founded.shards.push(Shard { nodes, primary: 0, birth: Time::ZERO });
        }
        self.regions.insert(id, founded);
        (0..shards).for_each(|shard| self.promote(id, shard, 0, Duration::ZERO));
    }

    fn store(&self, id: u8, config: &Config, count: u8) -> Store {
        let store = Store::new(&StoreOptions {
            origin: Origin::new(region(id), Incarnation::UNBORN),
            start: Time::ZERO,
            peers: (1..=count).filter(|peer| *peer != id).map(region).collect(),
            stripes: config.stripes,
            log_records: config.log_records,
            hash_seed: HASH_SEED,
        });
        store.settings().set_policy(config.policy);
        store.settings().set_tombstone_budget(config.budget);
        if let Some(Broken::Rule(rule)) = self.broken {
            store.settings().sabotage(rule);
        }
        store
    }

    pub(super) fn region(&mut self, id: u8) -> &mut Region {
        self.regions.get_mut(&id).expect("regions stay")
    }

    /// A node becomes the primary of its shard, under a new origin; its clock begins `ahead` of now.
    fn promote(&mut self, id: u8, shard: usize, heir: usize, ahead: Duration) {
        let wall = self.wall;
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.lives += 1;
        region.changes.push(Change::Promoted);
        let (origin, nodes) = (origin(id, region.lives), region.shards[shard].nodes.len());
        for node in 0..nodes {
            self.follow_map_to_the_end(id, shard, node);
        }
        let region = self.region(id);
        let max_memory = region.config.max_memory;
        let slots = region.is_cluster.then(|| (region.slots_of(shard), region.changes.len() as u64));
        let shard = &mut region.shards[shard];
        let birth = shard.nodes[heir].now(wall).wall;
        (shard.primary, shard.birth) = (heir, birth);
        for (index, node) in shard.nodes.iter_mut().enumerate() {
            node.upstream = None;
            if let Some((slots, epoch)) = &slots {
                node.store.set_owned(slots.clone(), *epoch);
            }
            if index == heir {
                node.store.begin_life(origin, birth, birth.after(ahead));
                node.store.settings().set_max_memory(max_memory);
            } else {
                node.store.follow(origin, birth);
                node.store.settings().set_max_memory(0);
                node.store.settings().set_frontier_limit(Time::MAX);
            }
        }
        if let Some(mover) = &mut region.mover {
            mover.feed = None;
        }
    }

    /// A replica takes over, the former primary goes on as one, perhaps with nothing.
    pub(super) fn fail_over(&mut self, id: u8, loses_memory: bool) {
        let shard = self.random.random_range(0..self.regions[&id].shards.len());
        let (former, count) = (self.regions[&id].shards[shard].primary, self.regions[&id].shards[shard].nodes.len());
        let heir = (former + self.random.random_range(0..count)) % count;
        if heir == former && !loses_memory {
            return;
        }
        if loses_memory {
            let store = self.store(id, &self.regions[&id].config, self.regions.len() as u8);
            let node = &mut self.region(id).shards[shard].nodes[former];
            let lost = dropped(&std::mem::replace(&mut node.store, store));
            (node.to_clear, node.to_give_up) = (SlotSet::new(), None);
            self.region(id).dropped_before += lost;
            self.lossy = true;
        }
        self.failed_over = true;
        self.promote(id, shard, heir, DRIFT);
        let region = self.region(id);
        for (key, name) in KEYS.iter().enumerate().filter(|(_, name)| region.owners[&Slot::of(name)] == shard) {
            match held(&region.primary(shard).store, name) {
                Some((stamp, ..)) => _ = region.known.insert(key, stamp),
                None => _ = region.known.remove(&key),
            }
        }
        self.end_streams_of(id, shard);
        let origin = self.regions[&id].primary(shard).store.origin();
        self.note(format!("{id}/{shard} fails over from {former} to {heir}, {origin}, memory lost: {loses_memory}"));
    }

    /// A node follows the map by one change, or drops what it still has of a slot that it gave up.
    pub(super) fn follow_map(&mut self, id: u8, shard: usize, node: usize) {
        let (broken, at_once) = (self.broken, self.random.random_ratio(1, 2));
        let region = self.regions.get_mut(&id).expect("regions stay");
        let changes = &region.changes;
        let follower = &mut region.shards[shard].nodes[node];
        if let Some((slots, epoch)) = follower.to_give_up.take() {
            follower.store.set_owned(slots, epoch);
        }
        if !follower.to_clear.is_empty() {
            let slots = std::mem::take(&mut follower.to_clear);
            clear(follower, &slots, broken);
            self.note(format!("{id}/{shard}/{node} drops what it gave up"));
            return;
        }
        let Some(change) = changes.get(follower.followed) else { return };
        follower.followed += 1;
        let epoch = follower.followed as u64;
        let Some(owned) = follower.store.owned() else { return };
        let mut owned = (*owned).clone();
        match change {
            Change::Arrives { slots, to } if *to == shard => clear(follower, slots, broken),
            Change::Moved { slots, from, .. } if *from == shard => {
                owned.subtract(slots);
                if broken == Some(Broken::ClearedFirst) {
                    follower.to_give_up = Some((owned, epoch));
                    clear(follower, slots, broken);
                } else {
                    follower.store.set_owned(owned, epoch);
                    follower.to_clear.add(slots);
                    if at_once {
                        let slots = std::mem::take(&mut follower.to_clear);
                        clear(follower, &slots, broken);
                    }
                }
            }
            Change::Moved { slots, to, .. } if *to == shard => {
                owned.add(slots);
                follower.store.set_owned(owned, epoch);
            }
            _ => follower.store.set_owned(owned, epoch),
        }
        self.note(format!("{id}/{shard}/{node} follows the map to {epoch}"));
    }

    pub(super) fn follow_map_to_the_end(&mut self, id: u8, shard: usize, node: usize) {
        let is_level = |region: &Region| {
            let node = &region.shards[shard].nodes[node];
            node.followed == region.changes.len() && node.to_clear.is_empty() && node.to_give_up.is_none()
        };
        while !is_level(&self.regions[&id]) {
            self.follow_map(id, shard, node);
        }
    }

    /// Slots begin to move, or move on.
    pub(super) fn move_slots(&mut self, id: u8, bytes: usize) {
        let region = self.regions.get_mut(&id).expect("regions stay");
        let count = region.shards.len();
        if count == 1 {
            return;
        }
        if region.mover.is_none() {
            let slot = *region.owners.keys().nth(self.random.random_range(0..SLOTS.len())).expect("so many slots");
            let from = region.owners[&slot];
            let mut slots: SlotSet = [slot].into_iter().collect();
            if self.random.random_ratio(1, 4) {
                slots = region.slots_of(from);
            }
            let to = (from + self.random.random_range(1..count)) % count;
            region.changes.push(Change::Arrives { slots: slots.clone(), to });
            self.trace.push(format!("{id}: {:?} begin to move from {from} to {to}", slots.ranges()));
            region.mover = Some(Mover { slots, from, to, feed: None });
            return;
        }
        self.pump_mover(id, bytes);
    }

    /// Feeds the slots that move to their target. Returns whether it has all.
    fn pump_mover(&mut self, id: u8, bytes: usize) -> bool {
        let (wall, orphans) = (self.wall, self.random.random_ratio(1, 4));
        let region = self.regions.get_mut(&id).expect("regions stay");
        let Some(mut mover) = region.mover.take() else { return false };
        let drained = region.is_level(mover.from) && region.is_level(mover.to) && {
            let (source, target) = (region.primary(mover.from), region.primary(mover.to));
            let (feed, intake) = mover.feed.get_or_insert_with(|| {
                target.store.clear_slots(&mover.slots);
                let feed = Feed::of_slots(&source.store, mover.slots.clone());
                (feed, Intake::of_slots(mover.slots.clone()))
            });
            if orphans {
                feed.queue_orphans(&source.store);
            }
            pump(feed, source, target, intake, wall, bytes).is_drained
        };
        region.mover = Some(mover);
        drained
    }

    /// The slots that move change hands, if their target can be brought up to date.
    pub(super) fn change_hands(&mut self, id: u8) {
        if !self.pump_mover(id, usize::MAX) {
            return;
        }
        let region = self.region(id);
        let Some(Mover { slots, from, to, .. }) = region.mover.take() else { return };
        slots.iter().for_each(|slot| _ = region.owners.insert(slot, to));
        let has_strangers = region.shards[from].nodes.iter().enumerate().any(|(index, node)| {
            // What it has not returned it will drop.
            index != region.shards[from].primary && node.upstream.is_none()
        });
        region.changes.push(Change::Moved { slots: slots.clone(), from, to });
        self.lossy |= has_strangers && self.failed_over;
        self.note(format!("{id}: {:?} have moved from {from} to {to}", slots.ranges()));
    }

    /// A replica follows its primary. Returns whether it has all.
    pub(super) fn follow(&mut self, id: u8, shard: usize, node: usize, bytes: usize) -> bool {
        let (wall, orphans) = (self.wall, bytes == usize::MAX || self.random.random_ratio(1, 4));
        let region = self.regions.get_mut(&id).expect("regions stay");
        let members = &mut region.shards[shard];
        if node == members.primary {
            return true;
        }
        let upstream = members.nodes[node].upstream.take();
        let (primary, replica) = (&members.nodes[members.primary], &members.nodes[node]);
        let mut heard = Vec::new();
        let (mut feed, mut intake) = upstream.unwrap_or_else(|| {
            // What it has and the primary lacks comes home first.
            let scope = Scope::Region(primary.store.origin().region());
            let (origin, seen) = (primary.store.origin(), primary.store.seen_table(primary.now(wall)));
            let mut home = Feed::resume(&replica.store, scope, origin, seen);
            let returned = pump(&mut home, replica, primary, &mut Intake::default(), wall, usize::MAX);
            heard = returned.heard;
            let mut seen = replica.store.seen_table(replica.now(wall));
            returned.slots.iter().for_each(|slot| seen.clear(slot));
            let feed = Feed::resume(&primary.store, Scope::Everything, replica.store.origin(), seen);
            self.trace.push(format!("{id}/{shard}/{node} follows, has returned {heard:?}"));
            (feed, Intake::default())
        });
        if orphans {
            feed.queue_orphans(&primary.store);
        }
        let drained = pump(&mut feed, primary, replica, &mut intake, wall, bytes).is_drained;
        replica.store.settings().set_frontier(primary.store.settings().frontier());
        members.nodes[node].upstream = Some((feed, intake));
        // What comes home to a primary that does not know yet that the slot has moved away, no owner has.
        let is_served = |key: usize| region.serving(Slot::of(KEYS[key])) == Some(shard);
        let heard: Vec<_> = heard.into_iter().filter(|(key, _)| is_served(*key)).collect();
        heard.into_iter().for_each(|(key, stamp)| self.knows(id, key, stamp));
        drained
    }

    pub(super) fn detach(&mut self, id: u8, shard: usize, node: usize) {
        self.region(id).shards[shard].nodes[node].upstream = None;
    }

    /// A primary forgets what everybody is past.
    pub(super) fn collect(&mut self, id: u8, shard: usize) -> Time {
        let wall = self.wall;
        let members = &self.regions[&id].shards[shard];
        let primary = &members.nodes[members.primary];
        let origin = primary.store.origin();
        let replicas = members.nodes.iter().enumerate().filter(|(index, _)| *index != members.primary);
        let followed = replicas.map(|(_, node)| node.store.seen_minima(node.now(wall)).at(origin)).min();
        primary.store.settings().set_frontier_limit(followed.unwrap_or(Time::MAX));
        let frontier = primary.store.advance_frontier(primary.now(wall));
        members.nodes.iter().for_each(|node| each_stripe(&node.store, |stripe| _ = stripe.collect(100)));
        self.note(format!("{id}/{shard} collects up to {frontier:?}"));
        frontier
    }

    /// Finishes what goes on inside of a region.
    pub(super) fn settle_region(&mut self, id: u8) -> Result<(), String> {
        for shard in 0..self.regions[&id].shards.len() {
            for node in 0..self.regions[&id].shards[shard].nodes.len() {
                self.follow_map_to_the_end(id, shard, node);
                if !self.follow(id, shard, node, usize::MAX) {
                    return Err(format!("replica {id}/{shard}/{node} is not drained"));
                }
            }
        }
        if self.regions[&id].mover.is_some() {
            self.change_hands(id);
        }
        Ok(())
    }
}

/// A node drops slots with all that it knows of them. A replica must ask its primary anew: what the primary sent before, or
/// sends before it has dropped them itself, is not there any more, or should not be.
fn clear(node: &mut Node, slots: &SlotSet, broken: Option<Broken>) {
    node.store.clear_slots(slots);
    node.to_clear.subtract(slots);
    if broken != Some(Broken::FollowsOn) {
        node.upstream = None;
    }
}
