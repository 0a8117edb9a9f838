//! Digests: whether two regions hold the same, without sending it.
//!
//! The digest of a set of records is the sum of a hash of each, over 128 bits and wrapping, and their number. A sum does not
//! know of an order, and tables of two nodes have none in common: their hash functions are seeded apart. Sums can also be
//! added up: so a slot is summed in as many steps as it takes, a range that two nodes share is the sum of both, and nothing
//! has to be kept up to date while clients write. Two sets that differ have the same digest with a chance of 1 in 2^128, unless
//! somebody chooses values for it; who can do that can simply write.
//!
//! # What counts
//! What a reader could see at a given instant: values that have not ended by then, each with its key, stamp, expiry and bytes.
//! Tombstones, markers and floors are what a region needs for itself, and differ between regions that agree. The instant is
//! an argument, the same for all regions: a value ends by each node's own clock and is swept whenever, so whoever compares
//! names an instant that lies somewhat *ahead* of all clocks, and what ends before that is left out everywhere, swept or not.
//!
//! # Parts
//! What is summed is divided into [`Parts`]: runs of slots, aligned at multiples of their length, or, where a single slot is
//! large, the buckets of that slot, by a hash of the key that is the same everywhere. Each part has its digest. A comparison
//! begins with long runs and goes on where they differ.
//!
//! # Under writes
//! A stripe is locked for [`SCAN_ENTRIES_PER_HOLD`] entries at a time, and what is written between two holds may be counted or not,
//! or twice if the table changes its layout. So a digest that was disturbed differs from an undisturbed one, and whoever compares
//! asks again. It never hides anything: a record that lies still is counted exactly once whenever the slot is not written to.

use clock::Time;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    Store, Stripe,
    record::{Expiry, Record, State},
    walk::ScanPosition,
};
use crate::{
    limits::{DIGEST_ENTRIES_PER_CALL, SCAN_ENTRIES_PER_HOLD},
    slot::{Slot, SlotRange},
};

/// The digest of a set of records; of none, unless records were added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    sum: u128,
    count: u32,
}

impl Digest {
    /// Its size on the wire, in bytes.
    pub const SIZE: usize = 20;

    /// How many records it stands for.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Adds the records of another set, which has none in common with this one.
    pub const fn add(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count = self.count.wrapping_add(other.count);
    }

    /// The digest of what a record shows a reader at `at_ms`, in milliseconds since 1970.
    pub fn of(record: &Record<'_>, at_ms: u64) -> Self {
        let State::Value { bytes, expiry } = record.state else { return Self::default() };
        if expiry.is_some_and(|expiry| expiry.has_passed(at_ms)) {
            return Self::default();
        }
        let mut facts = [0; 50];
        facts[..16].copy_from_slice(&xxh3_128(record.key).to_le_bytes());
        facts[16..32].copy_from_slice(&xxh3_128(bytes).to_le_bytes());
        facts[32..42].copy_from_slice(&record.stamp.to_bytes());
        // No end that a client can set is the greatest number.
        facts[42..].copy_from_slice(&expiry.map_or(u64::MAX, Expiry::unix_ms).to_le_bytes());
        Self { sum: xxh3_128(&facts), count: 1 }
    }

    /// The bytes that [`from_bytes`](Self::from_bytes) reads, little-endian.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let [sum @ .., a, b, c, d] = *bytes;
        Self { sum: u128::from_le_bytes(sum), count: u32::from_le_bytes([a, b, c, d]) }
    }
}

/// The bucket of a key among so many; the same in every region.
pub fn bucket_of(key: &[u8], buckets: u16) -> u16 {
    (xxh3_64(key) % u64::from(buckets.max(1))) as u16
}

/// What stands for the bytes of a value in a list of rows.
pub fn content_of(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// What is summed apart from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Runs of so many slots, each of which begins at a multiple of that.
    Slots(u16),
    /// So many buckets of each slot together.
    Buckets(u16),
}

impl Parts {
    /// The part of `slot` that `key` belongs to, among those of `slots`.
    fn of(self, slots: &SlotRange, slot: Slot, key: &[u8]) -> usize {
        match self {
            Self::Slots(span) => {
                let run = |slot: Slot| usize::from(slot.number() / span.max(1));
                run(slot) - run(slots.first)
            }
            Self::Buckets(buckets) => usize::from(bucket_of(key, buckets)),
        }
    }

    /// How many parts `slots` have.
    pub fn count(self, slots: &SlotRange) -> usize {
        match self {
            Self::Slots(_) => self.of(slots, slots.last, &[]) + 1,
            Self::Buckets(buckets) => usize::from(buckets.max(1)),
        }
    }
}

/// A sum over slots, made in steps.
#[derive(Clone, Debug)]
pub struct Digests {
    /// Which slots.
    pub slots: SlotRange,
    /// What is summed apart.
    pub parts: Parts,
    /// As of when.
    pub at: Time,
}

/// What one step has summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The part that comes first.
    pub first: usize,
    /// The digests of that part and those that follow it, of what this step has seen of them.
    pub digests: Vec<Digest>,
    /// Where the next step begins; none after the last.
    pub next: Option<(Slot, ScanPosition)>,
}

impl Digests {
    /// Sums from a place on, at most [`DIGEST_ENTRIES_PER_CALL`] entries.
    pub fn step(&self, store: &Store, from: (Slot, ScanPosition)) -> Portion {
        let first = match self.parts {
            Parts::Slots(_) => self.parts.of(&self.slots, from.0, &[]),
            Parts::Buckets(_) => 0,
        };
        let mut portion = Portion { first, digests: Vec::new(), next: Some(from) };
        let mut left = DIGEST_ENTRIES_PER_CALL;
        while let Some((slot, position)) = portion.next
            && left > 0
        {
            let granted = left.min(SCAN_ENTRIES_PER_HOLD);
            let mut hold = granted;
            let stripe = store.lock(store.stripe_of(slot));
            portion.next = self.walk_stripe(&stripe, (slot, position), &mut hold, &mut portion);
            left -= granted - hold;
        }
        if matches!(self.parts, Parts::Buckets(_)) || portion.next.is_none() {
            portion.digests.resize(self.parts.count(&self.slots) - first, Digest::default());
        }
        portion
    }

    /// Goes on under one hold of a stripe's lock.
    fn walk_stripe(
        &self,
        stripe: &Stripe,
        mut from: (Slot, ScanPosition),
        hold: &mut usize,
        portion: &mut Portion,
    ) -> Option<(Slot, ScanPosition)> {
        let at_ms = self.at.unix_ms();
        loop {
            let stopped = stripe.walk_records(from.0, from.1, hold, |record| {
                let part = self.parts.of(&self.slots, from.0, record.key) - portion.first;
                if portion.digests.len() <= part {
                    portion.digests.resize(part + 1, Digest::default());
                }
                portion.digests[part].add(Digest::of(record, at_ms));
                true
            });
            if let Some(position) = stopped {
                return Some((from.0, position));
            }
            let next = Slot::new(from.0.number() + 1).filter(|next| self.slots.contains(*next))?;
            from = (next, ScanPosition::default());
            if *hold == 0 || !stripe.slots().contains(next) {
                return Some(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_assert_ne, proptest};

    use super::{Digest, Digests, Parts};
    use crate::{
        limits::DIGEST_ENTRIES_PER_CALL,
        slot::{Slot, SlotRange},
        store::{Expiry, Record, ScanPosition, Seen, State, Store, StoreOptions},
    };

    const AT: Time = Time::from_unix_ms(1_700_000_000_000);
    const AT_MS: u64 = 1_700_000_000_000;

    fn stamp(time: u64) -> Stamp {
        let origin = Origin::new(RegionId::new(2).unwrap(), Incarnation::FIRST);
        Stamp { time: Time::from_ntp64(time), origin }
    }

    fn store(hash_seed: u64) -> Store {
        let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
        let options =
            StoreOptions { origin, start: Time::ZERO, peers: Vec::new(), stripes: 4, log_records: 64, hash_seed };
        Store::new(&options)
    }

    fn apply(store: &Store, key: &[u8], stamp: Stamp, state: State<'_>) {
        let at = store.address(key);
        let record = Record { key, stamp, state };
        store.lock(store.stripe_of(at.slot)).apply(at, &record, &Seen::new(), Time::ZERO).unwrap();
    }

    fn value(bytes: &[u8]) -> State<'_> {
        State::Value { bytes, expiry: None }
    }

    /// All digests, and how many steps they took.
    fn digests(store: &Store, slots: SlotRange, parts: Parts) -> (Vec<Digest>, usize) {
        let mut all = vec![Digest::default(); parts.count(&slots)];
        let (mut next, mut steps) = (Some((slots.first, ScanPosition::default())), 0);
        let walk = Digests { slots, parts, at: AT };
        while let Some(from) = next {
            let portion = walk.step(store, from);
            for (digest, more) in all[portion.first..].iter_mut().zip(portion.digests) {
                digest.add(more);
            }
            next = portion.next;
            steps += 1;
        }
        (all, steps)
    }

    fn of_everything(store: &Store) -> Digest {
        digests(store, SlotRange::ALL, Parts::Slots(crate::slot::SLOTS)).0[0]
    }

    /// Keys with a value each and the time of its stamp.
    fn entries() -> impl Strategy<Value = Vec<(u16, Vec<u8>, u64)>> {
        let entry = (any::<Vec<u8>>(), 1..1_000_u64);
        let entries = proptest::collection::btree_map(any::<u16>(), entry, 1..60);
        entries.prop_map(|entries| entries.into_iter().map(|(key, (value, time))| (key, value, time)).collect())
    }

    proptest! {
        #[test]
        fn neither_order_nor_seed_of_the_tables_matters(
            (entries, shuffled) in entries().prop_flat_map(|entries| (Just(entries.clone()), Just(entries).prop_shuffle())),
            span in 1..5_000_u16,
        ) {
            let (one, other) = (store(1), store(2));
            entries.iter().for_each(|(key, bytes, time)| apply(&one, &key.to_le_bytes(), stamp(*time), value(bytes)));
            shuffled.iter().for_each(|(key, bytes, time)| apply(&other, &key.to_le_bytes(), stamp(*time), value(bytes)));
            let of = |store| digests(store, SlotRange::ALL, Parts::Slots(span)).0;
            prop_assert_eq!(of(&one), of(&other));
            prop_assert_eq!(of_everything(&one).count() as usize, entries.len());
        }

        #[test]
        fn any_difference_changes_it(entries in entries(), which: usize, what in 0..4_u8) {
            let (one, other) = (store(1), store(1));
            for (index, (key, bytes, time)) in entries.iter().enumerate() {
                let key = key.to_le_bytes();
                apply(&one, &key, stamp(*time), value(bytes));
                let is_it = index == which % entries.len();
                let (time, longer) = (time + u64::from(is_it && what == 0), [&bytes[..], b"x"].concat());
                let expiry = (is_it && what == 1).then(|| Expiry::at_unix_ms(AT_MS + 1));
                let bytes = if is_it && what == 2 { &longer } else { bytes };
                if !is_it || what < 3 {
                    apply(&other, &key, stamp(time), State::Value { bytes, expiry });
                }
            }
            prop_assert_ne!(of_everything(&one), of_everything(&other));
        }

        #[test]
        fn what_nobody_can_read_does_not_count(entries in entries()) {
            let (one, other) = (store(1), store(2));
            for (key, bytes, time) in &entries {
                apply(&one, &key.to_le_bytes(), stamp(*time), value(bytes));
                apply(&other, &key.to_le_bytes(), stamp(*time), value(bytes));
                let gone = |what: &str| [what.as_bytes(), &key.to_le_bytes()].concat();
                let ended = State::Value { bytes, expiry: Some(Expiry::at_unix_ms(AT_MS - 1)) };
                apply(&one, &gone("deleted"), stamp(*time), State::Tombstone);
                apply(&other, &gone("evicted"), stamp(*time), State::Evicted);
                apply(&one, &gone("ended"), stamp(*time), ended);
            }
            prop_assert_eq!(of_everything(&one), of_everything(&other));
            // To forget what is buried, which raises floors, changes nothing either.
            other.settings().set_tombstone_budget(0);
            (0..other.stripes()).for_each(|index| _ = other.lock(index).collect(usize::MAX));
            prop_assert_eq!(other.census().tombstones, 0);
            prop_assert_eq!(of_everything(&one), of_everything(&other));
        }

        #[test]
        fn parts_add_up_to_the_whole(entries in entries(), span in 1..20_000_u16, buckets in 0..50_u16) {
            let store = store(1);
            entries.iter().for_each(|(key, bytes, time)| apply(&store, &key.to_le_bytes(), stamp(*time), value(bytes)));
            for parts in [Parts::Slots(span), Parts::Buckets(buckets)] {
                let mut whole = Digest::default();
                digests(&store, SlotRange::ALL, parts).0.into_iter().for_each(|digest| whole.add(digest));
                prop_assert_eq!(whole, of_everything(&store));
            }
            prop_assert_eq!(Digest::from_bytes(&of_everything(&store).to_bytes()), of_everything(&store));
        }

        #[test]
        fn runs_of_slots_are_the_same_wherever_a_range_begins(entries in entries(), cut in 1..16_384_u16, span in 1..900_u16) {
            let store = store(1);
            entries.iter().for_each(|(key, bytes, time)| apply(&store, &key.to_le_bytes(), stamp(*time), value(bytes)));
            let (whole, _) = digests(&store, SlotRange::ALL, Parts::Slots(span));
            let mut sums = vec![Digest::default(); whole.len()];
            for range in [0..cut, cut..16_384] {
                let begins = usize::from(range.start / span);
                let (some, _) = digests(&store, SlotRange::new(range).unwrap(), Parts::Slots(span));
                sums[begins..].iter_mut().zip(some).for_each(|(sum, digest)| sum.add(digest));
            }
            prop_assert_eq!(sums, whole);
        }
    }

    #[test]
    fn a_large_slot_takes_several_steps_and_counts_everything_once() {
        let store = store(1);
        let count = 2 * DIGEST_ENTRIES_PER_CALL + 7;
        (0..count).for_each(|key| apply(&store, format!("{{x}}{key}").as_bytes(), stamp(key as u64 + 1), value(b"v")));
        let slot = Slot::of(b"x");
        for parts in [Parts::Slots(1), Parts::Buckets(16)] {
            let (parts, steps) = digests(&store, SlotRange { first: slot, last: slot }, parts);
            assert_eq!(parts.iter().map(|digest| digest.count() as usize).sum::<usize>(), count);
            assert!(steps >= 3, "{steps} steps");
            assert!(parts.iter().all(|digest| digest.count() > 0));
        }
    }

    #[test]
    fn the_instant_decides_what_has_ended() {
        let expiry = Some(Expiry::at_unix_ms(AT_MS));
        let record = Record { key: b"k", stamp: stamp(1), state: State::Value { bytes: b"v", expiry } };
        assert_eq!(Digest::of(&record, AT_MS).count(), 1);
        assert_eq!(Digest::of(&record, AT_MS + 1), Digest::default());
    }
}
