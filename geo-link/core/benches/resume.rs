//! What a resume costs: a region of 5 million keys has missed 0.1 % of them, and asks for what it lacks.
//!
//! `cargo bench -p meridian-geo-link-core --bench resume` prints what is sent and what both sides compute, three times: when the
//! sender's log still holds what was missed, when it has lost it, and, to compare, when the receiver begins with nothing.
//! The cost is to be in proportion to what was missed. `KEYS=1000000` in the environment takes another number of keys.

#![expect(clippy::disallowed_methods, reason = "a bench is no part of the core: it reads the clock")]

use std::{
    env,
    time::{Duration, Instant},
};

use clock::{Incarnation, Now, Origin, RegionId, Time};
use geo_link_core::{BodyWriter, Envelope, Packer, TimeRange, Want, Welcome};
use node_core::store::{Feed, FeedItem, Intake, Polled, Scope, Seen, Store, StoreOptions};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const KEYS: usize = 5_000_000;
const MISSED_PER_MILLE: usize = 1;
const VALUE_BYTES: usize = 100;
/// As the product has them by default.
const STRIPES: usize = 64;
const LOG_RECORDS: usize = 1 << 20;
const BATCH_BYTES: usize = 256 << 10;

fn main() {
    let keys = env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    for (what, log_records) in [("the log holds what was missed", LOG_RECORDS), ("the log has lost it", STRIPES)] {
        let mut clock = Ticker(0);
        let (source, target) = (store(1, log_records), store(2, LOG_RECORDS));
        for number in 0..keys {
            write(&source, number, b'a', clock.tick());
        }
        let now = clock.tick();
        let all = Feed::clone_all(&source, Scope::Region(source.origin().region()), target.origin());
        let all = pump(all, &source, &target, &[], now);
        if log_records == LOG_RECORDS {
            all.print(&format!("{keys} keys, the receiver begins with nothing"));
        }
        let (mut random, missed) = (Pcg64Mcg::seed_from_u64(1), keys * MISSED_PER_MILLE / 1_000);
        let seen = target.seen_table(clock.tick());
        for _ in 0..missed {
            write(&source, random.random_range(0..keys), b'b', clock.tick());
        }
        let now = clock.tick();
        let began = Instant::now();
        let (origin, birth, want) = (target.origin(), Time::ZERO, Want::Resume(seen.clone()));
        let mut welcome = Vec::new();
        Welcome { origin, birth, frame_bytes_max: 1 << 28, round: 1, want }.put(&mut welcome);
        let feed = Feed::resume(&source, Scope::Region(source.origin().region()), origin, seen);
        let resumed = began.elapsed();
        let mut rest = pump(feed, &source, &target, &welcome, now);
        rest.sending += resumed;
        rest.print(&format!("{missed} writes were missed, {what}"));
        println!(
            "  1/{:.0} of the bytes, 1/{:.0} of the sender's time",
            all.wire as f64 / rest.wire as f64,
            ratio(&all, &rest)
        );
        assert_eq!(source.census().values, target.census().values);
    }
}

fn ratio(all: &Cost, rest: &Cost) -> f64 {
    all.sending.as_secs_f64() / rest.sending.as_secs_f64()
}

/// What a feed has cost.
#[derive(Default)]
struct Cost {
    records: u64,
    scans: u64,
    wire: u64,
    greeting: u64,
    sending: Duration,
    receiving: Duration,
}

impl Cost {
    fn print(&self, what: &str) {
        let Self { records, scans, wire, greeting, sending, receiving } = self;
        println!(
            "{what}:\n  {records} records of {scans} scanned slots, {wire} bytes, and {greeting} to ask; sender {sending:.1?}, receiver {receiving:.1?}"
        );
    }
}

/// Sends all that there is, in batches.
fn pump(mut feed: Feed, source: &Store, target: &Store, greeting: &[u8], now: Now) -> Cost {
    let mut cost = Cost { greeting: greeting.len() as u64, ..Cost::default() };
    let (mut intake, mut body, mut packer, mut frame) =
        (Intake::default(), BodyWriter::new(), Packer::new(), Vec::new());
    let origin = source.origin();
    loop {
        let mut unpacker = geo_link_core::Unpacker::new();
        let began = Instant::now();
        let polled = feed.poll(source, now, BATCH_BYTES, |item| {
            match item {
                FeedItem::Record { .. } => cost.records += 1,
                FeedItem::SlotEnd { .. } => cost.scans += 1,
                _ => {}
            }
            body.push(item)
        });
        frame.clear();
        let envelope =
            Envelope { origin, epoch: 1, sequence: 1, round: 1, sent: now.wall, range: TimeRange::EMPTY, seen: None };
        let packed = packer.pack(&envelope, &mut body, &mut frame);
        cost.sending += began.elapsed();
        cost.wire += packed.wire_bytes as u64;
        let began = Instant::now();
        let batch = unpacker.unpack(&frame[5..], 1 << 28).expect("it was just packed");
        for item in batch.items() {
            let item = item.expect("it was just packed");
            intake.take(target, &item, &Seen::new(), now).expect("it fits the heap");
        }
        cost.receiving += began.elapsed();
        if polled == Polled::Drained {
            return cost;
        }
    }
}

/// Ever later moments.
struct Ticker(u64);

impl Ticker {
    fn tick(&mut self) -> Now {
        self.0 += 1;
        let since = Duration::from_micros(self.0);
        Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::ZERO }.after(since)
    }
}

fn store(region: u8, log_records: usize) -> Store {
    let id = |id| RegionId::new(id).expect("there are such regions");
    let origin = Origin::new(id(region), Incarnation::FIRST);
    let peers = vec![id(3 - region)];
    Store::new(&StoreOptions { origin, start: Time::ZERO, peers, stripes: STRIPES, log_records, hash_seed: 7 })
}

fn write(store: &Store, number: usize, byte: u8, now: Now) {
    let key = format!("key:{number:012}");
    let at = store.address(key.as_bytes());
    let written = store.lock(store.stripe_of(at.slot)).write(at, key.as_bytes(), &[byte; VALUE_BYTES], None, now.wall);
    written.expect("it fits the heap");
}
