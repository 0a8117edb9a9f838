//! One shard in one thread, from one seed: a primary, two replicas, failovers to whoever has most, former primaries that
//! come back with what nobody else has, and slots that move in from elsewhere under writes.
//!
//! What is checked:
//! - A key never goes back to an older stamp where it was held, also across failovers.
//! - What a replica has acknowledged by a watermark (`WAIT 1`) is not lost to a failover, also if the primary's memory is.
//! - If no memory was lost and nothing forgotten early, nothing is lost: what a former primary had and its heir lacked
//!   comes home.
//! - At rest all nodes hold the same.

mod store_support;

use std::collections::{BTreeMap, HashSet};

use clock::{Incarnation, Now, Origin, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{
        Claim, Eviction, EvictionPolicy, Feed, FeedItem, Intake, Outcome, Polled, Record, Scope, Seen, SeenTable,
        State, Store, StoreOptions,
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use store_support::{at_ms, delete, held, options, origin, parcel::Parcel, region, write};

const KEYS: [&[u8]; 6] = [b"{a}1", b"{a}2", b"{a}3", b"{c}1", b"{c}2", b"x"];
const NODES: usize = 3;
const STEPS: usize = 120;
const SEEDS: u64 = 60;
/// Further than any two clocks of a region are apart.
const DRIFT_MS: u64 = 500;

struct Node {
    store: Store,
    /// From the primary, if this is a replica that follows.
    feed: Option<(Feed, Intake)>,
    /// Per key, the greatest stamp that was held here.
    known: BTreeMap<usize, Stamp>,
}

struct Shard {
    random: Pcg64Mcg,
    nodes: Vec<Node>,
    primary: usize,
    lives: u16,
    ms: u64,
    /// Every write: key, stamp, and whether it is a delete.
    writes: Vec<(usize, Stamp, bool)>,
    /// Writes that a replica had before the primary was told so.
    safe: Vec<(usize, Stamp, bool)>,
    memory_was_lost: bool,
    /// Tombstones are forgotten before their time.
    is_rough: bool,
}

fn replica(stripes: usize, log_records: usize) -> Store {
    Store::new(&StoreOptions { origin: Origin::new(region(1), Incarnation::UNBORN), ..options(stripes, log_records) })
}

impl Shard {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let nodes = (0..NODES).map(|_| {
            let store = replica(1 << random.random_range(0..3), random.random_range(4..40));
            Node { store, feed: None, known: BTreeMap::new() }
        });
        let nodes = nodes.collect();
        let mut shard = Self {
            random,
            nodes,
            primary: 0,
            lives: 0,
            ms: 1_000,
            writes: Vec::new(),
            safe: Vec::new(),
            memory_was_lost: false,
            is_rough: false,
        };
        shard.is_rough = shard.random.random_ratio(1, 3);
        shard.promote(0);
        shard
    }

    fn now(&self) -> Now {
        at_ms(self.ms)
    }

    fn promote(&mut self, heir: usize) {
        self.lives += 1;
        self.ms += 1;
        let (origin, now) = (origin(1, self.lives), self.now().wall);
        self.nodes[heir].store.begin_life(origin, now, at_ms(self.ms + DRIFT_MS).wall);
        self.primary = heir;
        for index in (0..NODES).filter(|index| *index != heir) {
            self.nodes[index].store.follow(origin, now);
            self.nodes[index].feed = None;
        }
        self.nodes[heir].feed = None;
    }

    /// A replica connects: what it has and the primary lacks comes home; then it follows from where it stands. Of slots
    /// in which something came home it says that it has seen nothing: the primary may have refused it as being under its
    /// floor, and then it must go here as well.
    fn connect(&mut self, index: usize) {
        let (now, primary) = (self.now(), &self.nodes[self.primary].store);
        let store = &self.nodes[index].store;
        let mut home = Feed::resume(store, Scope::Region(region(1)), primary.origin(), primary.seen_table(now));
        let (_, returned) = pump_slots(&mut home, store, primary, &mut Intake::default(), now, usize::MAX);
        let mut seen = store.seen_table(now);
        returned.iter().for_each(|slot| seen.clear(slot));
        let feed = Feed::resume(primary, Scope::Everything, store.origin(), seen);
        self.nodes[index].feed = Some((feed, Intake::default()));
    }

    fn follow(&mut self, index: usize, bytes: usize) -> bool {
        if index == self.primary {
            return true;
        }
        if self.nodes[index].feed.is_none() {
            self.connect(index);
        }
        let now = self.now();
        let (mut feed, mut intake) = self.nodes[index].feed.take().expect("it is connected");
        let (primary, store) = (&self.nodes[self.primary].store, &self.nodes[index].store);
        let drained = pump(&mut feed, primary, store, &mut intake, now, bytes);
        self.nodes[index].feed = Some((feed, intake));
        let acknowledged = self.held_until(index);
        let origin = self.nodes[self.primary].store.origin();
        let is_safe = |(_, stamp, _): &&(usize, Stamp, bool)| stamp.origin == origin && stamp.time <= acknowledged;
        self.safe.extend(self.writes.iter().filter(is_safe).copied().collect::<Vec<_>>());
        drained
    }

    /// Up to where a replica has what the primary stamped.
    fn held_until(&self, index: usize) -> Time {
        self.nodes[index].store.seen_minima(self.now()).at(self.nodes[self.primary].store.origin())
    }

    fn step(&mut self) -> Result<(), String> {
        self.ms += self.random.random_range(0..3);
        let (key, now) = (self.random.random_range(0..KEYS.len()), self.now());
        let node = self.random.random_range(0..NODES);
        let store = &self.nodes[self.primary].store;
        match self.random.random_range(0..100) {
            0..35 => {
                let stamp = write(store, KEYS[key], format!("{}", self.ms).as_bytes(), None, now);
                self.writes.push((key, stamp, false));
            }
            35..50 => {
                delete(store, KEYS[key], now);
                let at = store.address(KEYS[key]);
                let time = store.lock(store.stripe_of(at.slot)).watermark(Time::ZERO);
                self.writes.push((key, Stamp { time, origin: store.origin() }, true));
            }
            50..52 => {
                let stamp = store.flush(now.wall);
                self.writes.extend((0..KEYS.len()).map(|key| (key, stamp, true)));
            }
            52..60 => {
                let store = &self.nodes[node].store;
                if node == self.primary {
                    let others = (0..NODES).filter(|index| *index != node);
                    let followed = others.map(|index| self.held_until(index)).min().unwrap_or(Time::MAX);
                    store.settings().set_frontier_limit(followed);
                    store.advance_frontier(now);
                }
                (0..store.stripes()).for_each(|index| _ = store.lock(index).collect(100));
            }
            60..90 => {
                let bytes = self.random.random_range(1..200);
                self.follow(node, bytes);
            }
            90..94 => self.nodes[node].feed = None,
            94..97 => self.fail_over(false)?,
            97..98 => self.fail_over(true)?,
            _ if self.is_rough => {
                let store = &self.nodes[node].store;
                store.settings().set_tombstone_budget(0);
                (0..store.stripes()).for_each(|index| _ = store.lock(index).collect(2));
                store.settings().set_tombstone_budget(usize::MAX);
            }
            _ => {}
        }
        Ok(())
    }

    /// The replica that has most takes over; the former primary comes back, with or without its memory.
    fn fail_over(&mut self, loses_memory: bool) -> Result<(), String> {
        let former = self.primary;
        let heir = (0..NODES).filter(|index| *index != former).max_by_key(|index| self.held(*index));
        let heir = heir.expect("there are replicas");
        self.promote(heir);
        if loses_memory {
            for (key, stamp, is_delete) in std::mem::take(&mut self.safe) {
                let found = held(&self.nodes[heir].store, KEYS[key]).map(|(stamp, ..)| stamp);
                let is_there = found.map_or(is_delete, |found| found >= stamp);
                if !is_there && !self.was_deleted(key, stamp) {
                    return Err(format!("key {key}: {stamp} was acknowledged, the heir {heir} holds {found:?}"));
                }
            }
            self.memory_was_lost = true;
            let (now, primary) = (self.now().wall, self.nodes[self.primary].store.origin());
            let store = replica(self.nodes[former].store.stripes(), 16);
            store.follow(primary, now);
            self.nodes[former] = Node { store, feed: None, known: BTreeMap::new() };
        }
        Ok(())
    }

    /// How far a replica has followed, the latest primary first.
    fn held(&self, index: usize) -> Vec<Time> {
        let seen = self.nodes[index].store.seen_minima(self.now());
        (1..=self.lives).rev().map(|life| seen.at(origin(1, life))).collect()
    }

    fn check(&mut self) -> Result<(), String> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            for (key, name) in KEYS.iter().enumerate() {
                let Some((stamp, ..)) = held(&node.store, name) else { continue };
                let known = node.known.entry(key).or_insert(stamp);
                if stamp < *known {
                    return Err(format!("key {key}: node {index} serves {stamp} after {known}"));
                }
                *known = stamp;
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        for index in 0..NODES {
            self.nodes[index].feed = None;
        }
        for _ in 0..3 {
            for index in 0..NODES {
                self.ms += 1;
                if !self.follow(index, usize::MAX) {
                    return Err(format!("node {index} is not drained"));
                }
            }
        }
        for (key, name) in KEYS.iter().enumerate() {
            let copies: Vec<_> = self.nodes.iter().map(|node| held(&node.store, name)).collect();
            if copies.iter().any(|copy| *copy != copies[self.primary]) {
                return Err(format!("key {key}: nodes hold {copies:?}, the primary is {}", self.primary));
            }
            let kept = if self.memory_was_lost || self.is_rough { &self.safe } else { &self.writes };
            let last = kept.iter().filter(|(written, ..)| *written == key).max_by_key(|(_, stamp, _)| *stamp);
            let found = copies[self.primary].as_ref().map(|(stamp, ..)| *stamp);
            match last {
                Some((_, stamp, false))
                    if !self.is_rough && found.is_none_or(|found| found < *stamp) && !self.was_deleted(key, *stamp) =>
                {
                    return Err(format!("key {key}: {stamp} is lost, the primary holds {found:?}"));
                }
                Some((_, stamp, true)) if found.is_some_and(|found| found < *stamp) => {
                    return Err(format!("key {key}: {found:?} is back after the delete {stamp}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a delete that may or may not have been lost came after.
    fn was_deleted(&self, key: usize, stamp: Stamp) -> bool {
        self.writes.iter().any(|(written, at, is_delete)| *written == key && *at > stamp && *is_delete)
    }
}

/// Moves about so many bytes from one store to another. Returns whether that was all.
fn pump(feed: &mut Feed, from: &Store, to: &Store, intake: &mut Intake, now: Now, bytes: usize) -> bool {
    pump_slots(feed, from, to, intake, now, bytes).0
}

/// As [`pump`]; returns also of which slots records were moved.
fn pump_slots(
    feed: &mut Feed,
    from: &Store,
    to: &Store,
    intake: &mut Intake,
    now: Now,
    bytes: usize,
) -> (bool, SlotSet) {
    let mut slots = SlotSet::new();
    loop {
        let mut parcels = Vec::new();
        let polled = feed.poll(from, now, bytes.min(10_000), |item| {
            if let FeedItem::Record { slot, .. } = item {
                slots.insert(*slot);
            }
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        for parcel in &parcels {
            intake.take(to, &parcel.item(), &node_core::store::Seen::new(), now).expect("the heap has room");
        }
        if polled == Polled::Drained || bytes < 10_000 {
            return (polled == Polled::Drained, slots);
        }
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut shard = Shard::new(seed);
    for _ in 0..STEPS {
        shard.step()?;
        shard.check()?;
    }
    shard.settle()
}

#[test]
fn a_shard_loses_nothing_that_was_acknowledged_and_agrees_in_the_end() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let range = number("MERIDIAN_TEST_SEED").map(|seed| seed..seed + 1);
    let range = range.unwrap_or(0..number("MERIDIAN_TEST_SEEDS").unwrap_or(SEEDS));
    for seed in range {
        if let Err(wrong) = run(seed) {
            panic!(
                "seed {seed}: {wrong}\nMERIDIAN_TEST_SEED={seed} cargo test -p meridian-node-core --test store_shard"
            );
        }
    }
}

#[test]
fn a_slot_that_moves_under_writes_arrives_whole_and_alone() {
    for seed in 0..60 {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let source = Store::new(&StoreOptions { origin: origin(1, 2), ..options(4, random.random_range(4..40)) });
        let target = Store::new(&StoreOptions { origin: origin(1, 1), ..options(2, 40) });
        // Of a former life of the source, which speaks no more, there is something in every slot.
        KEYS.iter().for_each(|key| _ = write(&source, key, b"former", None, at_ms(1)));
        source.begin_life(origin(1, 0), at_ms(1).wall, at_ms(1).wall);
        let moving: SlotSet = [Slot::of(b"{a}")].into_iter().collect();
        let mut ms = 1;
        let change = |random: &mut Pcg64Mcg, ms: u64| {
            let key = KEYS[random.random_range(0..KEYS.len())];
            match random.random_range(0..10) {
                0..6 => drop(write(&source, key, ms.to_string().as_bytes(), None, at_ms(ms))),
                6..9 => drop(delete(&source, key, at_ms(ms))),
                _ => drop(source.flush(at_ms(ms).wall)),
            }
        };
        (0..30).for_each(|_| {
            ms += 1;
            change(&mut random, ms);
        });
        // Something of an earlier stay is still at the target.
        write(&target, b"{a}1", b"old", None, at_ms(0));
        target.clear_slots(&moving);
        let mut feed = Feed::of_slots(&source, moving.clone());
        let mut intake = Intake::of_slots(moving.clone());
        for _ in 0..random.random_range(5..40) {
            ms += 1;
            change(&mut random, ms);
            feed.queue_orphans(&source);
            pump(&mut feed, &source, &target, &mut intake, at_ms(ms), random.random_range(1..200));
        }
        assert!(pump(&mut feed, &source, &target, &mut intake, at_ms(ms + 1), usize::MAX), "seed {seed}");
        assert_eq!(target.census().values, moving_keys(&source, &moving), "seed {seed}");
        for key in KEYS {
            let expected = held(&source, key).filter(|_| moving.contains(Slot::of(key)));
            assert_eq!(held(&target, key), expected, "seed {seed} {key:?}");
        }
        let seen = target.seen_table(at_ms(ms));
        assert!(seen.at(Slot::of(b"{a}"), origin(1, 0)) > Time::ZERO);
        assert_eq!(seen.at(Slot::of(b"x"), origin(1, 0)), Time::ZERO);
    }
}

/// So many that its table is split while it is sent, and joined again as most of it is deleted.
#[test]
fn a_large_slot_arrives_whole_however_its_table_changes_meanwhile() {
    let (source, target) = (Store::new(&options(1, 40)), replica(2, 40));
    let key = |number: usize| format!("{{a}}{number}").into_bytes();
    let mut ms = 1;
    let mut set = |numbers: std::ops::Range<usize>| {
        ms += 1;
        numbers.for_each(|number| _ = write(&source, &key(number), &ms.to_string().into_bytes(), None, at_ms(ms)));
        ms
    };
    set(0..20_000);
    // Nobody else has to see what is deleted: it leaves at once.
    source.settings().set_frontier(at_ms(1_000_000).wall);
    let (mut feed, mut intake) = (Feed::clone_all(&source, Scope::Everything, target.origin()), Intake::default());
    let mut under_way = 0;
    let mut has_all = |ms, bytes| pump(&mut feed, &source, &target, &mut intake, at_ms(ms), bytes);
    for to in (25_000..=60_000).step_by(5_000) {
        let ms = set(to - 5_000..to);
        under_way += (0..10).filter(|_| !has_all(ms, 9_000)).count();
        if to % 10_000 == 0 {
            (2_000..to).for_each(|number| _ = delete(&source, &key(number), at_ms(ms)));
        }
    }
    let ms = set(0..100);
    while !has_all(ms, usize::MAX) {}
    assert!(under_way > 50, "it was nearly always there already: {under_way}");
    assert_eq!(source.census().values, 2_000);
    assert_eq!(target.census().values, 2_000);
    assert!((0..2_000).all(|number| held(&target, &key(number)) == held(&source, &key(number))));
}

#[test]
fn a_slot_that_comes_back_brings_what_was_stamped_where_it_comes_to() {
    let first = Store::new(&StoreOptions { origin: origin(1, 1), ..options(1, 100) });
    let second = Store::new(&StoreOptions { origin: origin(1, 2), ..options(1, 100) });
    let slots: SlotSet = [Slot::of(b"{a}")].into_iter().collect();
    write(&first, b"{a}1", b"v", None, at_ms(1));
    let bring = |from: &Store, to: &Store, ms| {
        to.clear_slots(&slots);
        let mut feed = Feed::of_slots(from, slots.clone());
        pump(&mut feed, from, to, &mut Intake::of_slots(slots.clone()), at_ms(ms), usize::MAX);
        from.clear_slots(&slots);
    };
    bring(&first, &second, 2);
    bring(&second, &first, 3);
    assert_eq!(held(&first, b"{a}1").map(|(stamp, ..)| stamp.origin), Some(origin(1, 1)));
}

/// How many keys of these slots a store has.
fn moving_keys(store: &Store, slots: &SlotSet) -> usize {
    KEYS.iter().filter(|key| slots.contains(Slot::of(key)) && held(store, key).is_some()).count()
}

#[test]
fn who_stamps_no_more_claims_nothing_of_slots_that_it_has_given_away() {
    let (store, life) = (Store::new(&options(2, 100)), origin(1, 0));
    let [given, kept] = [b"{a}1", b"{c}1"].map(|key| {
        write(&store, key, b"v", None, at_ms(1));
        Slot::of(key)
    });
    store.set_owned([kept].into_iter().collect(), 1);
    store.clear_slots(&[given].into_iter().collect());
    // It comes back to the shard, but not to this node, before that hears of anything.
    store.set_owned([given, kept].into_iter().collect(), 3);
    store.follow(origin(1, 1), at_ms(2).wall);
    let seen = |slot| store.lock(store.stripe_of(slot)).seen().at(slot, life);
    assert!(seen(kept) >= at_ms(1).wall);
    assert_eq!(seen(given), Time::ZERO, "if it comes back it comes whole");
}

#[test]
fn a_flush_spares_slots_that_are_not_owned_also_where_it_is_replicated() {
    for (stripes, others) in [(1, 4), (4, 1), (2, 2)] {
        let primary = Store::new(&StoreOptions { origin: origin(1, 0), ..options(stripes, 100) });
        let follower = replica(others, 100);
        follower.follow(origin(1, 0), Time::ZERO);
        KEYS.iter().for_each(|key| _ = write(&primary, key, b"v", None, at_ms(1)));
        let mut feed = Feed::clone_all(&primary, Scope::Everything, follower.origin());
        let mut intake = Intake::default();
        pump(&mut feed, &primary, &follower, &mut intake, at_ms(2), usize::MAX);
        primary.set_owned([Slot::of(b"{a}")].into_iter().collect(), 1);
        primary.flush(at_ms(3).wall);
        pump(&mut feed, &primary, &follower, &mut intake, at_ms(4), usize::MAX);
        for key in KEYS {
            let stays = Slot::of(key) != Slot::of(b"{a}");
            assert_eq!(held(&primary, key).is_some(), stays);
            assert_eq!(held(&follower, key).is_some(), stays);
        }
    }
}

/// The primary has evicted an old value and forgotten a later delete of another key of the slot, so that it refuses what was written in between.
#[test]
fn what_a_primary_refuses_its_replica_does_not_answer_with_something_older() {
    let (primary, follower) = (Store::new(&StoreOptions { origin: origin(1, 0), ..options(1, 100) }), replica(1, 100));
    let arrives = |ms| {
        let (key, stamp) = (b"{a}1", Stamp { time: at_ms(ms).wall, origin: origin(3, 0) });
        let record = Record { key, stamp, state: State::Value { bytes: b"v", expiry: None } };
        primary.lock(0).apply(primary.address(key), &record, &Seen::new(), at_ms(ms).wall).expect("the heap has room")
    };
    let mut feed = Feed::clone_all(&primary, Scope::Everything, follower.origin());
    let mut intake = Intake::default();
    assert_eq!(arrives(1), Outcome::Applied);
    delete(&primary, b"{a}2", at_ms(5));
    pump(&mut feed, &primary, &follower, &mut intake, at_ms(6), usize::MAX);
    assert!(held(&follower, b"{a}1").is_some());
    primary.settings().set_tombstone_budget(0);
    primary.settings().set_policy(EvictionPolicy::AllKeysRandom);
    assert_eq!(primary.lock(0).evict_one(at_ms(7).wall), Eviction::Dropped);
    while primary.lock(0).collect(100) {}
    assert_eq!(arrives(3), Outcome::Refused);
    pump(&mut feed, &primary, &follower, &mut intake, at_ms(8), usize::MAX);
    assert_eq!(held(&follower, b"{a}1"), None);
}

/// As above, without any eviction: the one who refuses relays, and its floor has risen before all had seen what was forgotten, here or where the slot
/// came from.
#[test]
fn what_a_relay_refuses_whoever_it_relays_to_does_not_answer_with_something_older() {
    for comes_whole in [false, true] {
        let (slot, speaker) = (Slot::of(b"{a}1"), origin(2, 0));
        let peers = vec![region(2), region(3)];
        let relay = Store::new(&StoreOptions { origin: origin(1, 0), peers, ..options(1, 1) });
        let consumer = Store::new(&StoreOptions { origin: origin(3, 0), ..options(1, 100) });
        relay.update_matrix(|matrix| matrix.announce(speaker, Time::ZERO, &Claim::all()));
        let arrives = |store: &Store, ms| {
            let (key, stamp) = (b"{a}1", Stamp { time: at_ms(ms).wall, origin: speaker });
            let record = Record { key, stamp, state: State::Value { bytes: b"v", expiry: None } };
            let outcome = store.lock(0).apply(store.address(key), &record, &Seen::new(), at_ms(ms).wall);
            store.lock(0).advance_seen(&SlotRange::ALL, speaker, at_ms(ms).wall);
            outcome.expect("the heap has room")
        };
        assert_eq!(arrives(&consumer, 1), Outcome::Applied);
        if comes_whole {
            let floor = Stamp { time: at_ms(5).wall, origin: origin(2, 0) };
            relay.lock(0).finish_slot(slot, Some((floor, &HashSet::new())), &Seen::new());
        } else {
            delete(&relay, b"{a}2", at_ms(5));
            relay.settings().set_tombstone_budget(0);
            while relay.lock(0).collect(100) {}
        }
        // The log remembers nothing of it.
        write(&relay, b"x", b"v", None, at_ms(6));
        consumer.lock(0).advance_seen(&SlotRange::ALL, relay.origin(), at_ms(6).wall);
        let scope = Scope::Region(relay.origin().region());
        let mut feed = Feed::resume(&relay, scope, consumer.origin(), consumer.seen_table(at_ms(6)));
        assert!(feed.relay(&relay, &[region(2)].into()));
        let mut intake = Intake::default();
        pump(&mut feed, &relay, &consumer, &mut intake, at_ms(7), usize::MAX);
        // That a slot came whole stands in the log, or in what that has lost, as the work of who stamped its floor.
        assert_eq!(held(&consumer, b"{a}1").is_some(), !comes_whole);
        assert_eq!((arrives(&relay, 1), arrives(&relay, 3)), (Outcome::Refused, Outcome::Refused));
        pump(&mut feed, &relay, &consumer, &mut intake, at_ms(8), usize::MAX);
        let claims = consumer.lock(0).seen().at(slot, speaker) >= at_ms(3).wall;
        assert!(claims && held(&consumer, b"{a}1").is_none(), "{claims} {comes_whole}");
    }
}

#[test]
fn who_owns_no_slot_still_tells_its_replica_that_it_has_all() {
    let primary = Store::new(&StoreOptions { origin: origin(1, 0), ..options(2, 100) });
    primary.update_matrix(|matrix| matrix.announce(origin(1, 0), Time::ZERO, &Claim::all()));
    primary.set_owned(SlotSet::new(), 1);
    let follower = replica(2, 100);
    let mut feed = Feed::clone_all(&primary, Scope::Everything, follower.origin());
    let mut told = Vec::new();
    while feed.poll(&primary, at_ms(2), usize::MAX, |item| {
        if let FeedItem::Watermark { origin, time } = item {
            told.push((*origin, *time));
        }
        1
    }) == Polled::More
    {}
    assert_eq!(told, [(origin(1, 0), at_ms(2).wall)]);
}

/// A write of another region is replaced by one that a dead primary of the consumer's region made and its heir never had. As long as
/// nobody here knows of the heir it counts as the consumer's own; but the first counts as seen only if the second arrives.
#[test]
fn a_scan_sends_what_the_consumers_region_has_lost_before_it_is_known_that_it_has() {
    let source = Store::new(&StoreOptions { peers: vec![region(3)], ..options(1, 100) });
    let (dead, gateway) = (origin(3, 1), Origin::new(region(3), Incarnation::UNBORN));
    source.update_matrix(|matrix| matrix.announce(dead, Time::ZERO, &Claim::all()));
    let replaced = write(&source, b"{a}1", b"replaced", None, at_ms(10));
    let (at, last) = (source.address(b"{a}1"), Stamp { time: at_ms(20).wall, origin: dead });
    let record = Record { key: b"{a}1", stamp: last, state: State::Value { bytes: b"last", expiry: None } };
    source.lock(0).apply(at, &record, &Seen::new(), at_ms(20).wall).expect("the heap has room");
    let mut seen = SeenTable::new(SlotRange::ALL);
    seen.advance(&SlotRange::ALL, dead, at_ms(15).wall);
    let mut feed = Feed::clone_rest(&source, Scope::Region(region(1)), gateway, seen);
    let (mut sent, mut claimed) = (Vec::new(), Time::ZERO);
    while feed.poll(&source, at_ms(30), usize::MAX, |item| {
        match item {
            FeedItem::Record { record, .. } => sent.push(record.stamp),
            FeedItem::SlotEnd { slot, seen, .. } if *slot == at.slot => claimed = seen.at(replaced.origin),
            _ => {}
        }
        1
    }) == Polled::More
    {}
    assert!(claimed >= replaced.time);
    assert_eq!(sent, [last]);
}
