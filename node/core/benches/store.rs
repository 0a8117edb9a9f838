//! How long the store takes for what a node does all day: keys of 16 bytes with values of 100.
//!
//! `cargo bench -p meridian-node-core --bench store` prints operations per second; one million per second is a
//! microsecond each. Keys are visited in an order that has nothing to do with where they lie. So with a million keys each
//! visit pays its misses of the cache, four of them one after the other: slot, group of the table, bucket, entry. With
//! ten thousand it pays for the instructions alone.

use std::{sync::LazyLock, time::Duration};

use clock::{Hlc, Incarnation, Now, Origin, RegionId, Stamp, Time};
use divan::{Bencher, counter::ItemsCount};
use mimalloc::MiMalloc;
use node_core::{
    keyspace::Keyspace,
    slot::{Slot, SlotRange},
    store::{Feed, FeedItem, Intake, Polled, Record, Scope, Seen, SeenTable, State, Store, StoreOptions},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// So few that all fit a cache, and so many that they do not.
const SIZES: [usize; 2] = [10_000, 1_000_000];
const KEYS: usize = SIZES[1];
/// Operations that one sample is made of.
const BATCH: usize = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];
const NOON: Time = Time::from_unix_ms(1_800_000_000_000);
const NOW: Now = Now { wall: NOON, monotonic: Duration::ZERO };

static FULL: LazyLock<Store> = LazyLock::new(|| filled(KEYS));
static PEER_RECORDS: LazyLock<Vec<([u8; 16], Stamp)>> = LazyLock::new(peer_records);

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 20, args = SIZES)]
fn get_hit(bencher: Bencher<'_, '_>, size: usize) {
    let (store, keys) = (filled(size), shuffled(size));
    let mut turn = keys.iter().cycle();
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| turn.by_ref().take(BATCH).filter(|key| get(&store, *key)).count());
}

/// As MGET does it, ten keys at a time.
#[divan::bench(sample_count = 20, args = SIZES)]
fn get_ten(bencher: Bencher<'_, '_>, size: usize) {
    let (store, keys) = (filled(size), shuffled(size));
    let mut turn = keys.chunks_exact(10).cycle();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for ten in turn.by_ref().take(BATCH / 10) {
            let mut keyspace = Keyspace::new(&store, NOW);
            keyspace.hold(ten.iter().map(|key| &key[..]));
            let found = |key: &[u8; 16]| keyspace.on(key, |stripe, at| stripe.read(at, key, NOON).is_some());
            assert_eq!(ten.iter().map(found).filter(|found| *found).count(), 10);
        }
    });
}

#[divan::bench(sample_count = 20, args = SIZES)]
fn get_miss(bencher: Bencher<'_, '_>, size: usize) {
    let (store, mut keys) = (filled(size), shuffled(size));
    keys.iter_mut().for_each(|key| key[0] = b'n');
    let mut turn = keys.iter().cycle();
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| turn.by_ref().take(BATCH).filter(|key| get(&store, *key)).count());
}

#[divan::bench(sample_count = 20, args = SIZES)]
fn set_overwrite(bencher: Bencher<'_, '_>, size: usize) {
    let (store, keys) = (filled(size), shuffled(size));
    let mut turn = keys.iter().cycle();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| turn.by_ref().take(BATCH).for_each(|key| set(&store, key)));
}

#[divan::bench(sample_count = 5)]
fn set_new(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(KEYS)).bench_local(|| filled(KEYS));
}

#[divan::bench(sample_count = 5)]
fn flush(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(KEYS)).with_inputs(|| filled(KEYS)).bench_local_refs(|store| store.flush(NOON));
}

#[divan::bench(sample_count = 10)]
fn merge_from_a_peer(bencher: Bencher<'_, '_>) {
    let (store, records, sender_saw) = (filled(KEYS), &*PEER_RECORDS, Seen::new());
    let (mut intake, mut turn) = (Intake::default(), records.iter());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for (key, stamp) in turn.by_ref().take(BATCH) {
            let record = Record { key, stamp: *stamp, state: State::Value { bytes: &VALUE, expiry: None } };
            let item = FeedItem::Record { slot: Slot::of(key), record };
            intake.take(&store, &item, &sender_saw, NOW).expect("the heap has room");
        }
    });
}

#[divan::bench(sample_count = 20)]
fn feed_tail(bencher: Bencher<'_, '_>) {
    let store = filled(KEYS);
    bencher
        .counter(ItemsCount::new(KEYS))
        .with_inputs(|| Feed::resume(&store, scope(), peer(), SeenTable::new(SlotRange::ALL)))
        .bench_local_values(|feed| drain(&store, feed));
}

#[divan::bench(sample_count = 20)]
fn feed_scan(bencher: Bencher<'_, '_>) {
    let store = &*FULL;
    bencher
        .counter(ItemsCount::new(KEYS))
        .with_inputs(|| Feed::clone_all(store, scope(), peer()))
        .bench_local_values(|feed| drain(store, feed));
}

fn drain(store: &Store, mut feed: Feed) -> usize {
    let mut records = 0;
    let mut emit = |item: &FeedItem<'_>| match item {
        FeedItem::Record { record, .. } => {
            records += 1;
            record.key.len() + VALUE.len()
        }
        _ => 1,
    };
    while feed.poll(store, NOW, 256 * 1024, &mut emit) == Polled::More {}
    records
}

fn scope() -> Scope {
    Scope::Region(RegionId::MIN)
}

fn peer() -> Origin {
    Origin::new(RegionId::MAX, Incarnation::FIRST)
}

fn key(number: usize) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn get(store: &Store, key: &[u8]) -> bool {
    let at = store.address(key);
    store.lock(store.stripe_of(at.slot)).read(at, key, NOON).is_some()
}

fn set(store: &Store, key: &[u8]) {
    let at = store.address(key);
    let written = store.lock(store.stripe_of(at.slot)).write(at, key, &VALUE, None, NOON);
    written.expect("the heap has room");
}

/// A store of the product's default layout with so many keys.
fn filled(size: usize) -> Store {
    let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
    let (peers, stripes, log_records) = (vec![RegionId::MAX], 64, 1 << 20);
    let store = Store::new(&StoreOptions { origin, start: NOON, peers, stripes, log_records, hash_seed: 7 });
    (0..size).for_each(|number| set(&store, &key(number)));
    store
}

/// Newer values of all keys, written by a peer.
fn peer_records() -> Vec<([u8; 16], Stamp)> {
    let mut hlc = Hlc::new(peer(), NOON);
    let above = NOON.after(Duration::from_secs(60));
    shuffled(KEYS).into_iter().map(|key| (key, hlc.issue(above, Time::ZERO))).collect()
}

/// The keys of a store of that size, in an order without order.
fn shuffled(size: usize) -> Vec<[u8; 16]> {
    let mut keys: Vec<_> = (0..size).map(key).collect();
    keys.shuffle(&mut Pcg64Mcg::seed_from_u64(1));
    keys
}
