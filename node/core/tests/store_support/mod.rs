//! What the tests of the store share: names for regions and times, and feed items that own their bytes.

#![allow(dead_code, reason = "no test needs all of it")]

pub(crate) mod seeds;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Expiry, FeedItem, Record, Seen, State, Store, StoreOptions},
};

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

/// A [`FeedItem`] that owns its bytes, as it lies in a link.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Record { slot: Slot, key: Vec<u8>, stamp: Stamp, state: OwnedState },
    Flush { slots: SlotRange, stamp: Stamp },
    SlotBegin { slot: Slot, whole: bool },
    SlotEnd { slot: Slot, floor: Option<Stamp>, seen: Seen },
    Speaks { origin: Origin, epoch: u64, slots: Arc<SlotSet> },
    Watermark { origin: Origin, time: Time },
}

/// A [`State`] that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) enum OwnedState {
    Value(Vec<u8>, Option<Expiry>),
    Tombstone,
    Evicted,
}

impl Parcel {
    /// Copies an item.
    pub(crate) fn of(item: &FeedItem<'_>) -> Self {
        match item {
            FeedItem::Record { slot, record } => Self::Record {
                slot: *slot,
                key: record.key.to_vec(),
                stamp: record.stamp,
                state: match record.state {
                    State::Value { bytes, expiry } => OwnedState::Value(bytes.to_vec(), expiry),
                    State::Tombstone => OwnedState::Tombstone,
                    State::Evicted => OwnedState::Evicted,
                },
            },
            FeedItem::Flush { slots, stamp } => Self::Flush { slots: slots.clone(), stamp: *stamp },
            FeedItem::SlotBegin { slot, whole } => Self::SlotBegin { slot: *slot, whole: *whole },
            FeedItem::SlotEnd { slot, floor, seen } => Self::SlotEnd { slot: *slot, floor: *floor, seen: seen.clone() },
            FeedItem::Speaks { origin, epoch, slots } => {
                Self::Speaks { origin: *origin, epoch: *epoch, slots: slots.clone() }
            }
            FeedItem::Watermark { origin, time } => Self::Watermark { origin: *origin, time: *time },
        }
    }

    /// The item again.
    pub(crate) fn item(&self) -> FeedItem<'_> {
        match self {
            Self::Record { slot, key, stamp, state } => {
                let state = match state {
                    OwnedState::Value(bytes, expiry) => State::Value { bytes, expiry: *expiry },
                    OwnedState::Tombstone => State::Tombstone,
                    OwnedState::Evicted => State::Evicted,
                };
                FeedItem::Record { slot: *slot, record: Record { key, stamp: *stamp, state } }
            }
            Self::Flush { slots, stamp } => FeedItem::Flush { slots: slots.clone(), stamp: *stamp },
            Self::SlotBegin { slot, whole } => FeedItem::SlotBegin { slot: *slot, whole: *whole },
            Self::SlotEnd { slot, floor, seen } => FeedItem::SlotEnd { slot: *slot, floor: *floor, seen: seen.clone() },
            Self::Speaks { origin, epoch, slots } => {
                FeedItem::Speaks { origin: *origin, epoch: *epoch, slots: slots.clone() }
            }
            Self::Watermark { origin, time } => FeedItem::Watermark { origin: *origin, time: *time },
        }
    }

    /// Bytes that this takes of a batch, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Record { key, state: OwnedState::Value(value, _), .. } => 20 + key.len() + value.len(),
            Self::Record { key, .. } => 20 + key.len(),
            Self::Flush { .. } => 14,
            Self::SlotBegin { .. } | Self::SlotEnd { .. } | Self::Speaks { .. } | Self::Watermark { .. } => 1,
        }
    }
}
