//! Linked clusters in one thread, with everything that may happen to them, from one seed.
//!
//! A world has two or three regions of different shapes: one node without a map, or a cluster of up to three shards with
//! replicas. Every node is a real [`Store`](node_core::store::Store). `region` plays what happens inside of a region: its
//! map, which its nodes follow each in its own time, failovers, and slots that move. `stream` plays the links: each primary
//! feeds each other region through that region's gateway, which splits what comes by the owners of the slots. `judge` says
//! what must hold after every step, and at rest.
//!
//! A world takes random steps. Then all is mended, and what the regions hold is judged.

mod judge;
mod pump;
mod region;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use clock::{Stamp, Time};
use node_core::{
    slot::Slot,
    store::{Expiry, Sabotage},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub(crate) use self::judge::Summary;
use self::{
    pump::each_stripe,
    region::Region,
    stream::{Stream, StreamId},
};
use crate::store_support::{COLLIDING, NOON_MS, delete, held};

/// Several keys of a slot, two of which collide, and slots all over the key space.
static KEYS: LazyLock<[&[u8]; 8]> =
    LazyLock::new(|| [&COLLIDING[0], &COLLIDING[1], b"{c}p", b"{c}q", b"{e}1", b"{e}2", b"x", b"y"]);
/// The slots that there are: those of the keys.
static SLOTS: LazyLock<BTreeSet<Slot>> = LazyLock::new(|| KEYS.iter().map(|key| Slot::of(key)).collect());
const STEPS: usize = 250;
/// Rounds in which a mended world must come to rest.
const ROUNDS_MAX: usize = 40;
/// Time between two rounds of a mended world: longer than any two clocks are apart.
const ROUND: Duration = Duration::from_millis(200);
/// How far a clock may be off, in nanoseconds.
const OFFSET_MAX: i64 = 20_000_000;

/// A rule that a world breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// One of the store's own.
    Rule(Sabotage),
    /// A watermark counts for all slots of who receives it, not for those that its origin speaks for.
    WatermarkOfAll,
    /// A slot that has moved away is cleared before the node has given it up.
    ClearedFirst,
    /// What a feed had sent before the stream was welcomed anew is applied after.
    StaleItems,
    /// Of slots that a primary has come to own it takes for granted that the others have what it has.
    AssumedSeen,
    /// Nobody hears that slots of another region have changed hands.
    NobodyEnds,
    /// An owner takes in what was sent by what it had owned before.
    UncheckedOwner,
    /// A replica that has cleared slots follows on as if it had not.
    FollowsOn,
}

/// How bad a world is. A calm one is judged the hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weather {
    /// Cuts and moves, but nothing is evicted, forgotten early or lost.
    Calm,
    /// Evictions and early forgetting as well.
    Rough,
    /// Failovers as well, but no memory is lost.
    Windy,
    /// All of it.
    Storm,
}

/// What a client wrote; no value if it deleted.
#[derive(Clone, Debug)]
struct Write {
    key: usize,
    stamp: Stamp,
    value: Option<(Vec<u8>, Option<Expiry>)>,
}

/// See the head of this file.
pub(crate) struct World {
    random: Pcg64Mcg,
    broken: Option<Broken>,
    wall: Time,
    weather: Weather,
    expires: bool,
    regions: BTreeMap<u8, Region>,
    streams: BTreeMap<StreamId, Stream>,
    writes: Vec<Write>,
    /// Primaries have changed.
    failed_over: bool,
    /// A region has lost something that nobody may have.
    lossy: bool,
    value: u64,
    /// What happened, newest last.
    trace: Vec<String>,
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let count = random.random_range(2..=3);
        let skewed = random.random_ratio(1, 2);
        let weather = [Weather::Calm, Weather::Rough, Weather::Windy, Weather::Storm][random.random_range(0..4)];
        let expires = random.random_ratio(1, 2);
        let mut world = Self {
            random,
            broken,
            wall: Time::from_unix_ms(NOON_MS).after(Duration::from_secs(1)),
            weather,
            expires,
            regions: BTreeMap::new(),
            streams: BTreeMap::new(),
            writes: Vec::new(),
            failed_over: false,
            lossy: false,
            value: 0,
            trace: Vec::new(),
        };
        for id in 1..=count {
            world.found(id, count, skewed);
        }
        world.link();
        world
    }

    /// Lets the world happen, mends it, and judges it.
    ///
    /// # Errors
    /// What is wrong with it, and what happened.
    pub(crate) fn run(mut self) -> Result<Summary, (String, Vec<String>)> {
        for _ in 0..STEPS {
            self.step();
            if let Err(wrong) = self.check_always() {
                return Err((wrong, self.trace));
            }
        }
        if let Err(wrong) = self.settle() {
            return Err((wrong, self.trace));
        }
        self.check_at_rest()
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn step(&mut self) {
        if self.random.random_ratio(2, 3) {
            let ticks = if self.random.random_ratio(1, 3) { 1 << 24 } else { 1 << 4 };
            self.wall = Time::from_ntp64(self.wall.ntp64() + self.random.random_range(0..=ticks));
        }
        let (id, key) =
            (self.random.random_range(1..=self.regions.len() as u8), self.random.random_range(0..KEYS.len()));
        let shard = self.random.random_range(0..self.regions[&id].shards.len());
        let node = self.random.random_range(0..self.regions[&id].shards[shard].nodes.len());
        let bytes = self.random.random_range(1..200);
        match self.random.random_range(0..1_000) {
            0..150 => self.write(id, key),
            150..220 => self.delete(id, key),
            220..226 => self.flush(id, shard),
            226..260 => _ = self.collect(id, shard),
            260..270 if self.expires => self.sweep(id, shard, node),
            270..300 if self.is_rough() => self.evict(id, key),
            300..320 if self.is_rough() => self.forget_early(id, shard, node),
            320..330 if self.weather >= Weather::Windy => self.fail_over(id, false),
            330..335 if self.weather == Weather::Storm => self.fail_over(id, true),
            335..360 => self.cut_or_mend(),
            360..440 => self.move_slots(id, bytes),
            440..460 => self.change_hands(id),
            460..500 => self.follow_map(id, shard, node),
            500..570 => _ = self.follow(id, shard, node, bytes),
            570..580 => self.detach(id, shard, node),
            580..640 => {
                let stream = self.any_stream();
                self.look(stream);
            }
            _ => self.let_flow(),
        }
    }

    const fn is_rough(&self) -> bool {
        matches!(self.weather, Weather::Rough | Weather::Storm)
    }

    /// Some things move in some streams.
    fn let_flow(&mut self) {
        for _ in 0..4 {
            let id = self.any_stream();
            let (bytes, parcels) = (self.random.random_range(1..300), self.random.random_range(1..12));
            if self.random.random_ratio(1, 4) {
                self.look(id);
            }
            self.send(id, bytes);
            self.pass_on(id, parcels);
            let owner = self.random.random_range(0..self.regions[&id.2].shards.len());
            let parcels = self.random.random_range(1..12);
            self.take_in(id, owner, parcels);
        }
    }

    fn write(&mut self, id: u8, key: usize) {
        let name = KEYS[key];
        let Some(shard) = self.regions[&id].serving(Slot::of(name)) else { return };
        self.value += 1;
        let mut value = self.value.to_string().into_bytes();
        if self.random.random_ratio(1, 10) {
            value.resize(self.random.random_range(0..5_000), b'.');
        }
        let expiry = (self.expires && self.random.random_ratio(1, 6)).then(|| self.random.random_range(1..300));
        let how = self.random.random_range(0..8);
        let node = self.regions[&id].primary(shard);
        let (store, now) = (&node.store, node.now(self.wall));
        let expiry = expiry.map(|ms| Expiry::at_unix_ms(now.unix_ms() + ms));
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
        let (stamp, value, expiry) = held(store, name).expect("a value that was just written");
        self.note(format!("{id}/{shard} writes {key} {stamp} expiry {expiry:?}"));
        self.wrote(id, key, stamp, Some((value, expiry)));
    }

    fn delete(&mut self, id: u8, key: usize) {
        let name = KEYS[key];
        let Some(shard) = self.regions[&id].serving(Slot::of(name)) else { return };
        let node = self.regions[&id].primary(shard);
        let (store, now) = (&node.store, node.now(self.wall));
        delete(store, name, now);
        let time = store.lock(store.stripe_of(Slot::of(name))).watermark(Time::ZERO);
        let stamp = Stamp { time, origin: store.origin() };
        self.note(format!("{id}/{shard} deletes {key} {stamp}"));
        self.wrote(id, key, stamp, None);
    }

    /// One primary flushes what it owns, unless it has not followed the map that far.
    fn flush(&mut self, id: u8, shard: usize) {
        let region = &self.regions[&id];
        let node = region.primary(shard);
        let owned: Vec<_> = (0..KEYS.len()).filter(|key| node.owns(Slot::of(KEYS[*key]))).collect();
        if owned.iter().any(|key| region.serving(Slot::of(KEYS[*key])) != Some(shard)) {
            return;
        }
        let stamp = node.store.flush(node.now(self.wall).wall);
        self.note(format!("{id}/{shard} flushes {owned:?} {stamp}"));
        owned.into_iter().for_each(|key| self.wrote(id, key, stamp, None));
    }

    fn wrote(&mut self, id: u8, key: usize, stamp: Stamp, value: Option<(Vec<u8>, Option<Expiry>)>) {
        self.writes.push(Write { key, stamp, value });
        self.knows(id, key, stamp);
    }

    fn knows(&mut self, id: u8, key: usize, stamp: Stamp) {
        let known = self.region(id).known.entry(key).or_insert(stamp);
        *known = stamp.max(*known);
    }

    fn evict(&mut self, id: u8, key: usize) {
        let Some(shard) = self.regions[&id].serving(Slot::of(KEYS[key])) else { return };
        let node = self.regions[&id].primary(shard);
        let stripe = node.store.stripe_of(Slot::of(KEYS[key]));
        let evicted = node.store.lock(stripe).evict_one(node.now(self.wall).wall);
        self.note(format!("{id}/{shard} evicts near {key}: {evicted:?}"));
    }

    fn forget_early(&mut self, id: u8, shard: usize, node: usize) {
        let items = self.random.random_range(1..4);
        let (region, store) = (&self.regions[&id], &self.regions[&id].shards[shard].nodes[node].store);
        store.settings().set_tombstone_budget(0);
        each_stripe(store, |stripe| _ = stripe.collect(items));
        store.settings().set_tombstone_budget(region.config.budget);
        self.note(format!("{id}/{shard}/{node} forgets early"));
    }

    fn sweep(&mut self, id: u8, shard: usize, node: usize) {
        let visits = self.random.random_range(1..5);
        let node = &self.regions[&id].shards[shard].nodes[node];
        each_stripe(&node.store, |stripe| _ = stripe.sweep(node.now(self.wall).wall, visits));
        self.note(format!("{id}/{shard} sweeps"));
    }

    /// Mends everything and lets it run until nothing moves any more.
    fn settle(&mut self) -> Result<(), String> {
        self.note("all is mended".to_owned());
        self.mend_streams();
        let mended = self.wall;
        let (mut before, mut quiet) = (Vec::new(), 0);
        for _ in 0..ROUNDS_MAX {
            self.wall = self.wall.after(ROUND);
            let ids: Vec<_> = self.regions.keys().copied().collect();
            ids.into_iter().try_for_each(|id| self.settle_region(id))?;
            let mut drained = true;
            let streams: Vec<_> = self.streams.keys().copied().collect();
            for id in streams {
                self.look(id);
                self.queue_orphans(id);
                drained &= self.send(id, 100_000);
                self.pass_on(id, usize::MAX);
                (0..self.regions[&id.2].shards.len()).for_each(|owner| self.take_in(id, owner, usize::MAX));
                self.check_always()?;
            }
            let state = self.copies();
            quiet = if drained && state == before { quiet + 1 } else { 0 };
            before = state;
            if quiet == 3 {
                return self.check_frontiers(mended);
            }
        }
        Err("the mended world does not come to rest".to_owned())
    }
}
