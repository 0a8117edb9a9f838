//! A few regions in one thread, with everything that may happen to them, from one seed.
//!
//! Every region is a real [`Store`], every ordered pair of regions a link: a [`Feed`] at one end, an [`Intake`] at the
//! other, a short queue between. A world takes random steps: writes, deletes, flushes, expiry, eviction, forgetting
//! at the frontier and before it, cuts, resumes over a third region, a region that loses everything, a failover
//! to a copy that lags. In some worlds the clock of one region at a time is an hour ahead, so that links from there hold, until it is set
//! right and the region restamped. Then the links are mended, and what the regions hold is judged.
//!
//! What is checked after every step:
//! - a region never serves a value older than what it held of the key before;
//! - `seen` claims nothing that is not there: no region serves a value older than a write that it claims to have seen.
//!
//! And at rest:
//! - all regions that hold a value of a key hold the same;
//! - nobody serves a value older than what any region knew;
//! - if no region lost state, a key holds its winner or nothing, and nothing if the winner is a delete;
//! - if moreover nothing was dropped or forgotten early, every region holds every winner.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
    time::Duration,
};

use clock::{Now, Offset, Origin, Stamp, Time};
use node_core::{
    slot::Slot,
    store::{
        Claim, EvictionPolicy, Expiry, Feed, FeedItem, Intake, Matrix, Polled, Sabotage, Scope, Seen, Store,
        StoreOptions, Stripe,
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::store_support::{COLLIDING, HASH_SEED, NOON_MS, held, origin, parcel::Parcel, region};

/// Three keys of one slot, two of which collide, and two of another slot in the other half of the key space.
static KEYS: LazyLock<[&[u8]; 5]> = LazyLock::new(|| [&COLLIDING[0], &COLLIDING[1], b"{a}r", b"{c}p", b"{c}q"]);
const STEPS: usize = 120;
/// Parcels in a link beyond which the sender does not poll its feed.
const WINDOW: usize = 12;
/// Rounds in which a mended world must come to rest.
const ROUNDS_MAX: usize = 60;
/// Time between two rounds of a mended world: longer than any two clocks are apart.
const ROUND: Duration = Duration::from_millis(200);
/// How far a clock is ahead that is wrong, and how far a stamp may be.
const WRONG: Duration = Duration::from_secs(3_600);
const MAX_DRIFT: Duration = Duration::from_millis(500);
const HORIZON: Duration = node_core::limits::RESTAMP_HORIZON;

/// A rule that a world breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// One of the store's own.
    Rule(Sabotage),
    /// A region that lost state goes on under its old origin.
    SameOrigin,
}

/// How bad a world is. A calm one is judged the hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weather {
    /// Cuts, but nothing is evicted, forgotten early or lost.
    Calm,
    /// Evictions and early forgetting as well.
    Rough,
    /// Regions lose state as well.
    Storm,
}

type Value = (Vec<u8>, Option<Expiry>);

/// See the head of this file.
pub(crate) struct World {
    random: Pcg64Mcg,
    broken: Option<Broken>,
    wall: Time,
    regions: BTreeMap<u8, Region>,
    links: BTreeMap<(u8, u8), Link>,
    /// Every write: key, stamp.
    writes: Vec<(usize, Stamp)>,
    /// In a world that drifts, what each of them wrote: restamping may make another the newest.
    written: BTreeMap<(usize, Stamp), Option<Value>>,
    /// Per key, the newest write, and the value that it wrote.
    winners: BTreeMap<usize, (Stamp, Option<Value>)>,
    /// What may befall this world.
    weather: Weather,
    /// A region went on with less than it had.
    lossy: bool,
    /// Clocks may be wrong. Nothing expires then: a clock that is ahead ends values that others still have.
    drifts: bool,
    /// The region whose clock is.
    ahead: Option<u8>,
    /// Something changed by restamping that must not.
    wrong: Option<String>,
    /// How many records were restamped.
    restamped: usize,
    value: u64,
    /// What happened, newest last.
    pub(crate) trace: Vec<String>,
}

struct Region {
    store: Store,
    birth: Time,
    offset: Offset,
    lives: u16,
    config: Config,
    /// Per key, the greatest stamp that was held here.
    known: BTreeMap<usize, Stamp>,
    copy: Option<Copy>,
    /// Events of stores that this region had before.
    dropped_before: u64,
}

#[derive(Clone)]
struct Config {
    stripes: usize,
    log_records: usize,
    policy: EvictionPolicy,
    max_memory: usize,
    budget: usize,
}

/// A replica that follows when it is told to.
struct Copy {
    store: Store,
    feed: Feed,
    intake: Intake,
}

#[derive(Default)]
struct Link {
    up: bool,
    feed: Option<Feed>,
    queue: VecDeque<Sent>,
    intake: Intake,
}

enum Sent {
    Item(Parcel),
    Report(Origin, Seen),
}

impl Sent {
    fn is_too_far_ahead(&self, now: Now) -> bool {
        matches!(self, Self::Item(parcel) if parcel.is_too_far_ahead(now))
    }
}

impl Parcel {
    /// Whether its link has to hold.
    fn is_too_far_ahead(&self, now: Now) -> bool {
        let latest = match self {
            Self::Record { stamp, .. } | Self::Flush { stamp, .. } => stamp.time,
            Self::SlotEnd { floor, seen, .. } => {
                let seen = seen.iter().map(|(_, time)| time).max().unwrap_or(Time::ZERO);
                floor.map_or(seen, |floor| floor.time.max(seen))
            }
            Self::Watermark { time, .. } => *time,
            Self::SlotBegin { .. } | Self::Speaks { .. } => Time::ZERO,
        };
        clock::too_far_ahead(latest, now.wall, MAX_DRIFT)
    }
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, broken: Option<Broken>) -> Self {
        Self::of(seed, broken, false)
    }

    /// The world of a seed, in which clocks may be wrong.
    pub(crate) fn that_drifts(seed: u64, broken: Option<Broken>) -> Self {
        Self::of(seed, broken, true)
    }

    fn of(seed: u64, broken: Option<Broken>, drifts: bool) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let count = if random.random_ratio(1, 2) { 3 } else { random.random_range(2..=4) };
        let start = Time::from_unix_ms(NOON_MS);
        let skewed = random.random_ratio(1, 2);
        let weather = [Weather::Calm, Weather::Rough, Weather::Storm, Weather::Storm][random.random_range(0..4)];
        let mut world = Self {
            random,
            broken,
            wall: start.after(Duration::from_secs(1)),
            regions: BTreeMap::new(),
            links: BTreeMap::new(),
            writes: Vec::new(),
            written: BTreeMap::new(),
            winners: BTreeMap::new(),
            weather,
            lossy: false,
            drifts,
            ahead: None,
            wrong: None,
            restamped: 0,
            value: 0,
            trace: Vec::new(),
        };
        for id in 1..=count {
            let config = world.config();
            let offset_ns = if skewed { world.random.random_range(-50_000_000..50_000_000) } else { 0 };
            let store = world.store(origin(id, 0), start, &config, (1..=count).filter(|peer| *peer != id));
            let region = Region {
                store,
                birth: start,
                offset: Offset::from_nanos(offset_ns),
                lives: 0,
                config,
                known: BTreeMap::new(),
                copy: None,
                dropped_before: 0,
            };
            world.regions.insert(id, region);
        }
        for (from, to) in world.pairs() {
            world.links.insert((from, to), Link { up: true, ..Link::default() });
        }
        world
    }

    /// Lets the world happen, mends it, and judges it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn run(mut self) -> Result<Summary, (String, Vec<String>)> {
        for _ in 0..STEPS {
            self.step();
            if let Err(wrong) = self.check_always() {
                return Err((wrong, self.trace));
            }
        }
        match self.settle().and_then(|()| self.check_at_rest()) {
            Ok(summary) => Ok(summary),
            Err(wrong) => Err((wrong, self.trace)),
        }
    }

    fn config(&mut self) -> Config {
        let (random, calm) = (&mut self.random, self.weather == Weather::Calm);
        let stripes = 1 << random.random_range(0..=2);
        let policy = EvictionPolicy::NAMES[random.random_range(0..8)].0;
        Config {
            stripes,
            log_records: stripes * random.random_range(3..=8),
            policy: if random.random_ratio(1, 2) { EvictionPolicy::AllKeysRandom } else { policy },
            max_memory: if !calm && random.random_ratio(1, 6) { random.random_range(60..400) } else { 0 },
            budget: if !calm && random.random_ratio(1, 5) { random.random_range(0..200) } else { 1 << 20 },
        }
    }

    fn store(&self, origin: Origin, start: Time, config: &Config, peers: impl Iterator<Item = u8>) -> Store {
        let store = Store::new(&StoreOptions {
            origin,
            start,
            peers: peers.map(region).collect(),
            stripes: config.stripes,
            log_records: config.log_records,
            hash_seed: HASH_SEED,
        });
        store.settings().set_policy(config.policy);
        store.settings().set_tombstone_budget(config.budget);
        store.settings().set_max_memory(config.max_memory);
        if let Some(Broken::Rule(rule)) = self.broken {
            store.settings().sabotage(rule);
        }
        store
    }

    fn pairs(&self) -> Vec<(u8, u8)> {
        let ids: Vec<u8> = self.regions.keys().copied().collect();
        ids.iter().flat_map(|from| ids.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to).collect()
    }

    fn now(&self, id: u8) -> Now {
        let wall = self.wall.shifted(self.regions[&id].offset);
        let wall = if self.ahead == Some(id) { wall.after(WRONG) } else { wall };
        Now { wall, monotonic: wall.unix() }
    }

    fn pick(&mut self) -> u8 {
        self.random.random_range(1..=self.regions.len() as u8)
    }

    fn pick_other(&mut self, id: u8) -> u8 {
        (id + self.random.random_range(1..self.regions.len() as u8) - 1) % self.regions.len() as u8 + 1
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn step(&mut self) {
        if self.random.random_ratio(2, 3) {
            let ticks = if self.random.random_ratio(1, 3) { 1 << 24 } else { 1 << 4 };
            self.wall = Time::from_ntp64(self.wall.ntp64() + self.random.random_range(0..=ticks));
        }
        let (id, key) = (self.pick(), self.random.random_range(0..KEYS.len()));
        if self.drifts && self.random.random_ratio(1, 25) {
            match self.ahead {
                None => {
                    self.ahead = Some(id);
                    self.note(format!("{id}'s clock is wrong"));
                }
                Some(id) => self.restamp(id),
            }
        }
        match self.random.random_range(0..1_000) {
            0..200 => self.write(id, key),
            200..300 => self.delete(id, key),
            300..410 if self.weather == Weather::Calm => self.write(id, key),
            520..524 | 546..556 if self.weather != Weather::Storm => self.delete(id, key),
            300..370 => self.evict(id, key),
            370..410 => self.forget_early(id),
            410..470 => self.collect(id),
            470..510 => self.toggle_link(),
            510..520 => self.resume_from_third(id),
            520..524 => self.lose_everything(id),
            524..536 => self.make_copy(id),
            536..546 => self.copy_follows(id),
            546..556 => self.fail_over(id),
            556..562 => self.flush(id),
            562..590 => self.expire(id),
            _ => {
                for _ in 0..3 {
                    let pairs = self.pairs();
                    let (from, to) = pairs[self.random.random_range(0..pairs.len())];
                    let (bytes, items) = (self.random.random_range(1..300), self.random.random_range(1..8));
                    self.poll(from, to, bytes);
                    self.deliver(from, to, items);
                }
            }
        }
    }

    fn write(&mut self, id: u8, key: usize) {
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

    fn delete(&mut self, id: u8, key: usize) {
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

    fn flush(&mut self, id: u8) {
        let stamp = self.regions[&id].store.flush(self.now(id).wall);
        self.note(format!("{id} flushes {stamp}"));
        (0..KEYS.len()).for_each(|key| self.wrote(id, key, stamp, None));
    }

    fn wrote(&mut self, id: u8, key: usize, stamp: Stamp, value: Option<Value>) {
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

    fn knows(&mut self, id: u8, key: usize, stamp: Stamp) {
        let region = self.regions.get_mut(&id).expect("regions stay");
        let known = region.known.entry(key).or_insert(stamp);
        *known = stamp.max(*known);
    }

    fn evict(&mut self, id: u8, key: usize) {
        let (now, store) = (self.now(id), &self.regions[&id].store);
        let evicted = store.lock(store.stripe_of(Slot::of(KEYS[key]))).evict_one(now.wall);
        self.note(format!("{id} evicts near {key}: {evicted:?}"));
    }

    fn forget_early(&mut self, id: u8) {
        let (items, region) = (self.random.random_range(1..4), &self.regions[&id]);
        region.store.settings().set_tombstone_budget(0);
        each_stripe(&region.store, |stripe| _ = stripe.collect(items));
        region.store.settings().set_tombstone_budget(region.config.budget);
        self.note(format!("{id} forgets early"));
    }

    fn collect(&mut self, id: u8) {
        let (now, store) = (self.now(id), &self.regions[&id].store);
        let frontier = store.advance_frontier(now);
        each_stripe(store, |stripe| _ = stripe.collect(100));
        self.note(format!("{id} collects up to {frontier:?}"));
    }

    fn expire(&mut self, id: u8) {
        let visits = self.random.random_range(1..5);
        let (now, store) = (self.now(id), &self.regions[&id].store);
        each_stripe(store, |stripe| _ = stripe.sweep(now.wall, visits));
        self.note(format!("{id} sweeps"));
    }

    fn toggle_link(&mut self) {
        let pairs = self.pairs();
        let pair = pairs[self.random.random_range(0..pairs.len())];
        let up = !self.links[&pair].up;
        self.links.insert(pair, Link { up, ..Link::default() });
        self.note(format!("{pair:?} is {}", if up { "mended" } else { "cut" }));
    }

    /// A link that is up but not connected: both ends learn of each other, and the sender goes on where the receiver
    /// stands.
    fn connect(&mut self, from: u8, to: u8) {
        let (source, sink) = (&self.regions[&from], &self.regions[&to]);
        introduce(source, sink);
        let seen = sink.store.seen_table(self.now(to));
        let feed = Feed::resume(&source.store, Scope::Region(region(from)), sink.store.origin(), seen);
        self.links.insert((from, to), Link { up: true, feed: Some(feed), ..Link::default() });
        self.note(format!("{from} connects to {to}"));
    }

    /// Takes what comes next out of a feed and into the queue. Returns whether the feed is drained.
    fn poll(&mut self, from: u8, to: u8, bytes_max: usize) -> bool {
        if !self.links[&(from, to)].up {
            return false;
        }
        if self.links[&(from, to)].feed.is_none() {
            self.connect(from, to);
        }
        let (now, orphans) = (self.now(from), self.random.random_ratio(1, 6));
        let link = self.links.get_mut(&(from, to)).expect("links stay");
        if link.queue.len() > WINDOW {
            return false;
        }
        let store = &self.regions[&from].store;
        let feed = link.feed.as_mut().expect("it was just connected");
        if orphans {
            feed.queue_orphans(store);
        }
        let polled = feed.poll(store, now, bytes_max, |item| {
            let parcel = Parcel::of(item);
            let bytes = parcel.bytes();
            link.queue.push_back(Sent::Item(parcel));
            bytes
        });
        link.queue.push_back(Sent::Report(store.origin(), store.seen_minima(now)));
        polled == Polled::Drained
    }

    /// Hands up to `count` parcels of a link to its receiver.
    fn deliver(&mut self, from: u8, to: u8, count: usize) {
        let now = self.now(to);
        let mut heard = Vec::new();
        let link = self.links.get_mut(&(from, to)).expect("links stay");
        let store = &self.regions[&to].store;
        for _ in 0..count {
            match link.queue.pop_front_if(|sent| !sent.is_too_far_ahead(now)) {
                Some(Sent::Item(parcel)) => {
                    take(store, &mut link.intake, &parcel, now, &mut heard);
                    if heard.last().is_some() {
                        self.trace.push(format!("{from} -> {to} {parcel:?}"));
                    }
                }
                Some(Sent::Report(origin, seen)) => store.update_matrix(|matrix| matrix.report(origin, &seen)),
                None => break,
            }
        }
        heard.into_iter().for_each(|(key, stamp)| self.knows(to, key, stamp));
    }

    /// `id` is fed once by another region, with whatever it lacks of anyone's.
    fn resume_from_third(&mut self, id: u8) {
        let source = self.pick_other(id);
        introduce(&self.regions[&source], &self.regions[&id]);
        let seen = self.regions[&id].store.seen_table(self.now(id));
        let from = &self.regions[&source].store;
        let mut feed = Feed::resume(from, Scope::Everything, self.regions[&id].store.origin(), seen);
        feed.queue_orphans(from);
        let heard = drain(
            &mut feed,
            from,
            self.now(source),
            &self.regions[&id].store,
            &mut Intake::default(),
            self.now(id),
            usize::MAX,
        );
        self.note(format!("{id} resumes from {source}"));
        heard.into_iter().for_each(|(key, stamp)| self.knows(id, key, stamp));
    }

    /// The next life of a region, and where its clock begins.
    fn next_life(&mut self, id: u8) -> (Origin, Time) {
        let now = self.now(id);
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.lives += 1;
        let mark = (0..region.store.stripes()).map(|index| region.store.lock(index).watermark(now.wall)).max();
        let next = origin(id, region.lives);
        let origin = if self.broken == Some(Broken::SameOrigin) { region.store.origin() } else { next };
        (origin, mark.unwrap_or(now.wall).next())
    }

    fn peers_of(&self, id: u8) -> impl Iterator<Item = u8> + use<> {
        let count = self.regions.len() as u8;
        (1..=count).filter(move |peer| *peer != id)
    }

    fn lose_everything(&mut self, id: u8) {
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
    fn clone_from(&mut self, id: u8, source: u8, cut: bool) {
        introduce(&self.regions[&source], &self.regions[&id]);
        let parcels_max = if cut { self.random.random_range(1..35_000) } else { usize::MAX };
        let (from, to) = (&self.regions[&source].store, &self.regions[&id].store);
        let (scope, seen) = (Scope::Region(region(source)), to.seen_table(self.now(id)));
        let mut feed = Feed::clone_rest(from, scope, to.origin(), seen);
        let heard = drain(&mut feed, from, self.now(source), to, &mut Intake::default(), self.now(id), parcels_max);
        heard.into_iter().for_each(|(key, stamp)| self.knows(id, key, stamp));
    }

    fn make_copy(&mut self, id: u8) {
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

    /// The clock of a region is set right, and the region goes on from there.
    fn restamp(&mut self, id: u8) {
        self.ahead = None;
        let (limit, before) = (self.now(id).wall.after(2 * MAX_DRIFT), self.shown(id));
        let life = self.younger(id);
        let ahead = self.regions[&id].store.restamp(life, limit, limit);
        self.note(format!("{id} is restamped as {life}, born at {limit:?}: {ahead:?}"));
        self.restamped += ahead.records;
        if self.shown(id) != before {
            self.wrong = Some(format!("region {id} shows {:?} after {before:?}", self.shown(id)));
        }
        self.break_links(id);
        self.regions.get_mut(&id).expect("regions stay").birth = limit;
        self.copy_is_cleared(id, limit);
        // What others wrote is within the drift, if not by this clock.
        let is_changed = |stamp: &Stamp| stamp.time > limit.after(HORIZON) && stamp.origin.region() == region(id);
        self.writes.retain(|(_, stamp)| !is_changed(stamp));
        for (key, name) in KEYS.iter().enumerate() {
            // What was written ahead is what it has become, and if it was forgotten its slot's floor.
            let store = &self.regions[&id].store;
            let at = store.address(name);
            let stripe = store.lock(store.stripe_of(at.slot));
            let stamp = stripe.record(at, name).map_or(stripe.floor(at.slot), |record| record.stamp);
            drop(stripe);
            let known = &mut self.regions.get_mut(&id).expect("regions stay").known;
            known
                .entry(key)
                .and_modify(|known| *known = if known.time > limit.after(HORIZON) { stamp } else { *known });
            if let Some((_, value)) = self.winners.get(&key).filter(|(winner, _)| is_changed(winner)) {
                self.writes.push((key, stamp));
                self.written.insert((key, stamp), value.clone());
            }
        }
        // Who has not heard of what this region wrote ahead may have written above what that has become.
        self.written.retain(|(_, stamp), _| !is_changed(stamp));
        self.winners = self.written.iter().map(|((key, stamp), value)| (*key, (*stamp, value.clone()))).collect();
    }

    /// A copy drops what lies ahead, and is fed by what its region has become.
    fn copy_is_cleared(&mut self, id: u8, limit: Time) {
        let Some(Copy { store, .. }) = self.regions.get_mut(&id).and_then(|region| region.copy.take()) else { return };
        let (life, now) = (self.younger(id), self.now(id));
        store.clear_ahead(limit);
        store.begin_life(life, limit, limit);
        let feed = Feed::resume(&self.regions[&id].store, Scope::Everything, life, store.seen_table(now));
        let copy = Copy { feed, store, intake: Intake::default() };
        self.regions.get_mut(&id).expect("regions stay").copy = Some(copy);
    }

    fn younger(&mut self, id: u8) -> Origin {
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.lives += 1;
        origin(id, region.lives)
    }

    /// What a region's clients find.
    fn shown(&self, id: u8) -> Vec<Option<Value>> {
        let store = &self.regions[&id].store;
        KEYS.iter().map(|name| held(store, name).map(|(_, value, expiry)| (value, expiry))).collect()
    }

    fn copy_follows(&mut self, id: u8) {
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

    fn fail_over(&mut self, id: u8) {
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
    fn restart(&mut self, id: u8, store: Store, birth: Time) {
        self.lossy = true;
        self.break_links(id);
        let known = KEYS.iter().enumerate().filter_map(|(key, name)| Some((key, held(&store, name)?.0))).collect();
        let region = self.regions.get_mut(&id).expect("regions stay");
        region.dropped_before += dropped(&region.store);
        (region.store, region.birth, region.known, region.copy) = (store, birth, known, None);
    }

    fn break_links(&mut self, id: u8) {
        for (pair, link) in &mut self.links {
            if pair.0 == id || pair.1 == id {
                *link = Link { up: link.up, ..Link::default() };
            }
        }
    }

    /// Mends all links and lets them run until nothing moves any more.
    fn settle(&mut self) -> Result<(), String> {
        if let Some(id) = self.ahead {
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

    fn check_always(&mut self) -> Result<(), String> {
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

    fn check_at_rest(&self) -> Result<Summary, String> {
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

/// The two learn of each other, as in a handshake.
fn introduce(a: &Region, b: &Region) {
    a.store.update_matrix(|matrix| matrix.announce(b.store.origin(), b.birth, &Claim::all()));
    b.store.update_matrix(|matrix| matrix.announce(a.store.origin(), a.birth, &Claim::all()));
}

fn each_stripe(store: &Store, mut act: impl FnMut(&mut Stripe)) {
    (0..store.stripes()).for_each(|index| act(&mut store.lock(index)));
}

/// Values and stamps that a store dropped for reasons of its own.
fn dropped(store: &Store) -> u64 {
    let counters = store.counters();
    counters.evicted + counters.forgotten_early
}

/// Runs a feed into another store, to its end, or until `parcels_max` were taken.
fn drain(
    feed: &mut Feed,
    from: &Store,
    from_now: Now,
    to: &Store,
    intake: &mut Intake,
    to_now: Now,
    mut parcels_max: usize,
) -> Vec<(usize, Stamp)> {
    let mut heard = Vec::new();
    loop {
        let mut parcels = Vec::new();
        let polled = feed.poll(from, from_now, 10_000, |item| {
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        parcels.truncate(parcels_max);
        parcels_max -= parcels.len();
        if let Some(held) = parcels.iter().position(|parcel| parcel.is_too_far_ahead(to_now)) {
            // It is given up there.
            parcels.truncate(held);
            parcels_max = 0;
        }
        parcels.iter().for_each(|parcel| take(to, intake, parcel, to_now, &mut heard));
        if parcels_max == 0 {
            return heard;
        }
        if polled == Polled::Drained {
            to.update_matrix(|matrix| matrix.report(from.origin(), &from.seen_minima(from_now)));
            return heard;
        }
    }
}

/// Takes in one parcel, and notes of which keys something newer is known now.
fn take(store: &Store, intake: &mut Intake, parcel: &Parcel, now: Now, heard: &mut Vec<(usize, Stamp)>) {
    let before = intake.tally().applied;
    intake.take(store, &parcel.item(), &Seen::new(), now).expect("the heap has room");
    match parcel.item() {
        FeedItem::Record { record, .. } if intake.tally().applied > before => {
            let key = KEYS.iter().position(|name| *name == record.key).expect("no other keys are written");
            heard.push((key, record.stamp));
        }
        FeedItem::Flush { slots, stamp } => {
            let flushed = (0..KEYS.len()).filter(|key| slots.contains(Slot::of(KEYS[*key])));
            heard.extend(flushed.map(|key| (key, stamp)));
        }
        _ => {}
    }
}
