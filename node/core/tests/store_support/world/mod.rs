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

mod deeds;
mod judge;
mod links;
mod lives;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
    time::Duration,
};

use clock::{Now, Offset, Origin, Stamp, Time};
use node_core::store::{Claim, EvictionPolicy, Expiry, Feed, Intake, Sabotage, Seen, Store, StoreOptions, Stripe};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub(crate) use self::judge::Summary;
use crate::store_support::{COLLIDING, HASH_SEED, NOON_MS, origin, parcel::Parcel, region};

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
            match self.of_the_future() {
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
