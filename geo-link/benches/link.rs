//! One link between two gateways over TLS on loopback: how many records a second it carries, and how long a lone write
//! takes to cross.
//!
//! Both gateways, the writer, the reader and the forwarder between them share the machine's cores, so this is a lower bound. Not a divan bench:
//! what is measured is a process, not a function.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clock::{Incarnation, Origin, RegionId};
use common::{Lab, Start, TestRegion};
use geo_link::LinkOptions;
use node_core::store::{Feed, FeedItem, Intake, Scope, Seen};

const WRITES: u64 = 500_000;
const LONE_WRITES: usize = 300;

fn main() {
    let lab = Lab::new(["here", "there"]);
    let start = || Start { links: LinkOptions::default(), log_records: 1 << 21, ..Start::default() };
    let (here, there) = (lab.start_with("here", start()), lab.start_with("there", start()));
    here.wait_complete();
    there.wait_complete();
    lone_writes(&here, &there);
    for length in [32, 100, 200, 1_000] {
        flood(&here, &there, length);
    }
    background_cost(&here);
}

fn lone_writes(here: &TestRegion, there: &TestRegion) {
    let mut times: Vec<Duration> = (0..LONE_WRITES)
        .map(|number| {
            // Long enough for the link to be idle.
            std::thread::sleep(Duration::from_millis(5));
            let (key, begin) = (format!("lone:{number}"), Instant::now());
            here.set(&key, "1");
            while there.get(&key).is_none() {
                std::thread::yield_now();
            }
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "a lone write is there after {:?} (median), {:?} (p95)",
        times[LONE_WRITES / 2],
        times[LONE_WRITES * 19 / 20]
    );
}

fn flood(here: &TestRegion, there: &TestRegion, length: usize) {
    let applied = |region: &TestRegion| region.incoming("here").applied;
    let (before, begin) = (applied(there), Instant::now());
    let field = "\"user_id\":1234567,\"name\":\"user-12\",\"active\":true,";
    let base = field.repeat(length / field.len() + 1);
    for number in 0..WRITES {
        let mut value = format!("{number:08x}");
        value.push_str(&base[..length - value.len()]);
        here.set(&format!("flood:{length}:{number:08x}"), &value);
    }
    let written = begin.elapsed();
    here.set("flood:end", &length.to_string());
    let end = length.to_string();
    while there.get("flood:end").as_deref() != Some(&end) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (elapsed, records) = (begin.elapsed(), applied(there) - before);
    println!(
        "{length} B values: {WRITES} writes in {written:.2?}, {records} records there after {elapsed:.2?}: {:.0} records/s",
        records as f64 / elapsed.as_secs_f64()
    );
}

/// What is done for a link whether or not anybody writes.
fn background_cost(here: &TestRegion) {
    let store = &here.store;
    time("a row of seen minima", || drop(black_box(store.seen_minima(here.now()))));
    time("a status", || drop(black_box(here.gateway.region().status(here.now()))));
    let consumer = Origin::new(RegionId::MAX, Incarnation::FIRST);
    let scope = Scope::Region(store.origin().region());
    let mut feed = Feed::resume(store, scope, consumer, store.seen_table(here.now()));
    time("a look for orphans where there are none", || feed.queue_orphans(store));
    let silent = Origin::new(RegionId::MAX, Incarnation::new(1));
    let item = FeedItem::Watermark { origin: silent, time: here.now().wall };
    Intake::default().take(store, &item, &Seen::new(), here.now()).expect("a watermark takes no memory");
    time("a look for orphans where every slot has some", || feed.queue_orphans(store));
}

fn time(what: &str, mut action: impl FnMut()) {
    const TIMES: u32 = 100;
    let begin = Instant::now();
    (0..TIMES).for_each(|_| action());
    println!("{what} takes {:?}", begin.elapsed() / TIMES);
}
