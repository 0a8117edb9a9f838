//! The names of keys and values, as they stand in stores.
//!
//! A key's name bears a tag that puts it into a slot of its own. The slots of all keys are neighbours, in two blocks that lie in
//! different stripes of a node; so what a shard owns is a few runs of slots, as it is in a real cluster.
//!
//! A value is a number: below [`VALUES`] one that was counted, above it one that a client wrote, by who wrote it and as which
//! of its own.

use std::{collections::BTreeMap, sync::LazyLock};

use node_core::slot::Slot;
use scenario::history::{ClientId, Found, Key, Kind, Place, ValueId};

/// Keys of each kind, of each region those of [`Kind::Own`].
pub(crate) const SHARED: u32 = 12;
/// Of the shared keys those that are neither deleted nor expire, so that it can be known what must be there.
pub(crate) const LASTING: u32 = 4;
pub(crate) const OWN: u32 = 3;
pub(crate) const COUNTERS: u32 = 2;
pub(crate) const FADING: u32 = 2;
/// Regions of a world, at the most.
pub(crate) const REGIONS_MAX: u8 = 5;
/// Values of one client, at the most.
const VALUES: u64 = 1_000_000;

/// Where the slots of keys begin.
const BLOCKS: [u16; 2] = [4_096, 12_288];

/// All keys, and how they are written.
static KEYS: LazyLock<BTreeMap<Key, &'static [u8]>> = LazyLock::new(|| {
    let kind = |kind, count| (0..count).map(move |number| Key { kind, number });
    let own = (0..REGIONS_MAX).flat_map(|place| kind(Kind::Own(Place(place)), OWN));
    let keys =
        kind(Kind::Shared, SHARED).chain(own).chain(kind(Kind::Counter, COUNTERS)).chain(kind(Kind::Fading, FADING));
    let keys: Vec<Key> = keys.collect();
    let mut wanted: BTreeMap<Slot, Key> =
        keys.iter().enumerate().filter_map(|(index, key)| Some((slot(index, keys.len())?, *key))).collect();
    let mut named = BTreeMap::new();
    let letters = || b'a'..=b'z';
    let tags = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
    for tag in tags.flat_map(|[a, b, c]| letters().map(move |d| [a, b, c, d])) {
        if let Some(key) = wanted.remove(&Slot::of(&tag)) {
            // They live as long as the process: once for all worlds.
            named.insert(key, &*format!("{key}{{{}}}", tag.escape_ascii()).into_bytes().leak());
        }
        if wanted.is_empty() {
            break;
        }
    }
    named
});

/// The slot of the key at a place among so many. Keys that follow one another are as far apart as they can be: in different blocks,
/// and then in different halves of one, which may be different shards'.
fn slot(index: usize, count: usize) -> Option<Slot> {
    let (block, place) = (BLOCKS[index % BLOCKS.len()], index / BLOCKS.len());
    let half = count.div_ceil(2 * BLOCKS.len());
    Slot::new(block + (place % 2 * half + place / 2) as u16)
}

/// All keys.
pub(crate) fn keys() -> impl Iterator<Item = (Key, &'static [u8])> {
    KEYS.iter().map(|(key, name)| (*key, *name))
}

/// How a key is written.
pub(crate) fn name_of(key: Key) -> &'static [u8] {
    KEYS.get(&key).copied().expect("only keys of the table are asked for")
}

/// The key that is written so.
pub(crate) fn key_of(name: &[u8]) -> Key {
    let found = KEYS.iter().find(|(_, other)| **other == name);
    found.map(|(key, _)| *key).expect("only keys of the table are written")
}

/// The number of a value.
pub(crate) fn number_of(value: ValueId) -> u64 {
    (u64::from(value.client.0) + 1) * VALUES + u64::from(value.number)
}

/// The value of a number, if it is one.
pub(crate) fn value_of(number: u64) -> Option<ValueId> {
    let client = (number / VALUES).checked_sub(1)?;
    Some(ValueId { client: ClientId(u16::try_from(client).ok()?), number: (number % VALUES) as u32 })
}

/// What a client makes of a number.
pub(crate) fn found(number: u64) -> Found {
    value_of(number).map_or(Found::Number(number), Found::Value)
}
