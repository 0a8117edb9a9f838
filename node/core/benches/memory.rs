//! What an entry costs beyond its bytes: fills a store with 5 million keys of 16 bytes and values of 100, and reads from
//! the system how much the process grew.
//!
//! `cargo bench -p meridian-node-core --bench memory` prints, without and with an expiry on every key, the resident bytes
//! per entry beyond the 116 of key and value, and what they are made of. The product's bound is 54.
//! `KEYS=1000000` in the environment takes another number of keys.

use std::{env, fs, io, process::Command};

use clock::{Incarnation, Origin, RegionId, Time};
use mimalloc::MiMalloc;
use node_core::store::{Expiry, Store, StoreOptions};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const KEYS: usize = 5_000_000;
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const PAYLOAD: usize = KEY_BYTES + VALUE_BYTES;
/// Tells the child process which of the two it measures.
const EXPIRES: &str = "EXPIRES";
const OVERHEAD_MAX: f64 = 54.0;
/// As the product has it by default.
const STRIPES: usize = 64;
const LOG_RECORDS: usize = 1 << 20;
const NOON: Time = Time::from_unix_ms(1_800_000_000_000);

fn main() -> io::Result<()> {
    let keys = env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    if let Ok(expires) = env::var(EXPIRES) {
        return measure(keys, expires == "yes");
    }
    // Each in a process of its own: an allocator keeps what was freed.
    for expires in ["no", "yes"] {
        Command::new(env::current_exe()?).env(EXPIRES, expires).status()?;
    }
    Ok(())
}

fn measure(keys: usize, expires: bool) -> io::Result<()> {
    let before = resident_bytes()?;
    let store = fill(keys, expires);
    let grown = resident_bytes()?.saturating_sub(before);
    let per_entry = |bytes: usize| bytes as f64 / keys as f64;
    let overhead = per_entry(grown) - PAYLOAD as f64;
    let (mut used, mut idle, mut log) = (0, 0, 0);
    for index in 0..store.stripes() {
        let stripe = store.lock(index);
        used += stripe.used_bytes();
        idle += stripe.idle_bytes();
        log += stripe.log_bytes();
    }
    let entries = store.lock(0).entries_bytes();
    let entries_there = store.lock(0).census().values;
    let block = entries as f64 / entries_there as f64;
    let header = if expires { 25.0 } else { 17.0 };
    println!("{keys} keys, {}", if expires { "each with an expiry" } else { "none expires" });
    println!("  resident beyond key and value  {overhead:6.2} bytes per entry (at most {OVERHEAD_MAX})");
    println!("    header                       {header:6.2}");
    println!("    rounding to a size class     {:6.2}", block - header - PAYLOAD as f64);
    println!("    table                        {:6.2}", per_entry(used) - block);
    println!("    room in pages                {:6.2}", per_entry(idle));
    println!("    ring of the log              {:6.2}", per_entry(log));
    println!("    rest                         {:6.2}", per_entry(grown) - per_entry(used + idle + log));
    Ok(())
}

fn fill(keys: usize, expires: bool) -> Store {
    let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
    let options = StoreOptions {
        origin,
        start: NOON,
        peers: Vec::new(),
        stripes: STRIPES,
        log_records: LOG_RECORDS,
        hash_seed: 7,
    };
    let store = Store::new(&options);
    let (value, expiry) = ([b'v'; VALUE_BYTES], expires.then(|| Expiry::at_unix_ms(NOON.unix_ms() + 3_600_000)));
    for number in 0..keys {
        let key = format!("key:{number:012}");
        let at = store.address(key.as_bytes());
        let written = store.lock(store.stripe_of(at.slot)).write(at, key.as_bytes(), &value, expiry, NOON);
        written.expect("five million entries fit the heap");
    }
    store
}

/// What the process holds of memory now, in bytes.
fn resident_bytes() -> io::Result<usize> {
    // proc(5): the second number of statm is the resident set, in pages.
    const PAGE_BYTES: usize = 4_096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.map(|pages| pages * PAGE_BYTES).ok_or_else(|| io::Error::other("statm holds no resident set"))
}
