//! What the tests of the store share: names for regions and times, and feed items that own their bytes.

#![allow(dead_code, reason = "no test needs all of it")]

pub(crate) mod parcel;
pub(crate) mod seeds;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};
use node_core::store::{Expiry, Store, StoreOptions};

/// Noon of some day, in milliseconds since the Unix epoch; where the tests' clocks begin.
pub(crate) const NOON_MS: u64 = 1_800_000_000_000;

/// Seeds the hash of keys; with it, [`COLLIDING`] collide.
pub(crate) const HASH_SEED: u64 = 7;

/// Two keys of the slot of `{a}` with the same 32 bits of hash. The log cannot tell them apart.
pub(crate) static COLLIDING: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let store = Store::new(&options(1, 1));
    let mut known = HashMap::new();
    let mut names = (0..).map(|number| format!("{{a}}{number}").into_bytes());
    // Of some hundred thousand keys two have the same hash; an address shows it to nobody but a person.
    names
        .find_map(|name| known.insert(format!("{:?}", store.address(&name)), name.clone()).map(|other| [other, name]))
        .expect("numbers do not end before two of them collide")
});

/// The region with this number.
pub(crate) fn region(id: u8) -> RegionId {
    RegionId::new(id).expect("tests name regions from 1 to 63")
}

/// The origin of a region in one of its lives.
pub(crate) fn origin(id: u8, life: u16) -> Origin {
    Origin::new(region(id), Incarnation::new(life))
}

/// So many milliseconds after noon.
pub(crate) fn at_ms(ms: u64) -> Now {
    Now { wall: Time::from_unix_ms(NOON_MS + ms), monotonic: Duration::from_millis(ms) }
}

/// Options of a store of region 1 that knows of no other region.
pub(crate) fn options(stripes: usize, log_records: usize) -> StoreOptions {
    StoreOptions {
        origin: origin(1, 0),
        start: Time::ZERO,
        peers: Vec::new(),
        stripes,
        log_records,
        hash_seed: HASH_SEED,
    }
}

/// Writes a value as a client does.
pub(crate) fn write(store: &Store, key: &[u8], value: &[u8], expiry: Option<Expiry>, now: Now) -> Stamp {
    let at = store.address(key);
    store.lock(store.stripe_of(at.slot)).write(at, key, value, expiry, now.wall).expect("the heap has room")
}

/// Deletes a key as a client does.
pub(crate) fn delete(store: &Store, key: &[u8], now: Now) -> bool {
    let at = store.address(key);
    store.lock(store.stripe_of(at.slot)).delete(at, key, now.wall).expect("the heap has room")
}

/// What a key holds: its stamp, value and expiry, whether or not that has passed.
pub(crate) fn held(store: &Store, key: &[u8]) -> Option<(Stamp, Vec<u8>, Option<Expiry>)> {
    let at = store.address(key);
    let mut stripe = store.lock(store.stripe_of(at.slot));
    let found = stripe.peek(at, key, Time::ZERO)?;
    Some((found.stamp, found.value.to_vec(), found.expiry))
}
