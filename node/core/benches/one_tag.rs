//! Many keys under one hash tag: what the longest write and the longest delete hold up everybody else in the stripe for.
//!
//! `cargo bench -p meridian-node-core --bench one_tag` writes a million keys of one slot, reads them in another order and deletes
//! them, and prints of each the mean, what one in a thousand takes, and the longest. Whatever moves entries in a table
//! shows in the last column. `KEYS=100000` in the environment takes another number of keys.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    env,
    time::{Duration, Instant},
};

use clock::{Incarnation, Origin, RegionId, Time};
use mimalloc::MiMalloc;
use node_core::store::{Store, StoreOptions};
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const KEYS: usize = 1_000_000;
const VALUE: [u8; 100] = [b'v'; 100];
const NOON: Time = Time::from_unix_ms(1_800_000_000_000);

fn main() {
    let count = env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
    let options = StoreOptions {
        origin,
        start: NOON,
        peers: vec![RegionId::MAX],
        stripes: 64,
        log_records: 1 << 20,
        hash_seed: 7,
    };
    let store = Store::new(&options);
    let mut keys: Vec<String> = (0..count).map(|number| format!("{{tag}}{number:011}")).collect();
    println!("{count} keys of one slot  {:>10} {:>10} {:>10}", "mean", "p99.9", "longest");
    measure("write", &keys, |key| {
        let at = store.address(key);
        store.lock(store.stripe_of(at.slot)).write(at, key, &VALUE, None, NOON).expect("the heap has room");
    });
    keys.shuffle(&mut Pcg64Mcg::seed_from_u64(7));
    measure("read", &keys, |key| {
        let at = store.address(key);
        assert!(store.lock(store.stripe_of(at.slot)).read(at, key, NOON).is_some());
    });
    // Everybody has seen all of it, so that what is deleted leaves at once.
    store.settings().set_frontier(NOON.after(Duration::from_secs(60)));
    measure("delete", &keys, |key| {
        let at = store.address(key);
        store.lock(store.stripe_of(at.slot)).delete(at, key, NOON).expect("the heap has room");
    });
}

fn measure(what: &str, keys: &[String], mut act: impl FnMut(&[u8])) {
    let mut times: Vec<Duration> = keys
        .iter()
        .map(|key| {
            let began = Instant::now();
            act(key.as_bytes());
            began.elapsed()
        })
        .collect();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("  {what:20} {mean:>12.2?} {:>10.2?} {:>10.2?}", at(0.999), at(1.0));
}
