//! Rows: all that a slot knows of some of its keys, for whoever compares two regions.
//!
//! Digests say that two regions differ; rows say in what. So there is a row for every record, tombstones and markers among
//! them: whether a key is missing because it was evicted, or deleted, or has never come, shows in them and in nothing else. Of
//! a key that has no row all that is known is the slot's floor, and what the slot has seen.
//!
//! `seen` is read before the rows and the floor after them. So if a slot has seen an origin up to the stamp of some record, and has
//! neither that record nor a newer one among its rows, then it is not on its way: that is what `seen` promises.

use clock::{Now, Stamp};

use super::{Record, ScanPosition, Seen, Store, digest::bucket_of};
use crate::{
    limits::{DIGEST_ENTRIES_PER_CALL, ROWS_BYTES_PER_CALL, SCAN_ENTRIES_PER_HOLD},
    slot::Slot,
};

/// Which rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Of which slot.
    pub slot: Slot,
    /// How many buckets the slot is divided into.
    pub buckets: u16,
    /// Of which of those.
    pub wanted: Vec<u16>,
}

/// What one step found beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsRead {
    /// What the slot had seen before, the node's own origin among it.
    pub seen: Seen,
    /// The slot's floor after that.
    pub floor: Stamp,
    /// Where the next step begins; none after the last.
    pub next: Option<ScanPosition>,
}

impl Rows {
    /// Visits rows from a place on, as many as the bounds allow.
    pub fn step(&self, store: &Store, from: ScanPosition, now: Now, mut visit: impl FnMut(&Record<'_>)) -> RowsRead {
        let index = store.stripe_of(self.slot);
        let own = store.origin();
        let mut stripe = store.lock(index);
        let mut seen = stripe.seen().of(self.slot);
        seen.advance(own, stripe.watermark(now.wall));
        drop(stripe);
        let (mut next, mut left, mut bytes) = (Some(from), DIGEST_ENTRIES_PER_CALL, 0);
        while let Some(position) = next
            && left > 0
            && bytes < ROWS_BYTES_PER_CALL
        {
            let granted = left.min(SCAN_ENTRIES_PER_HOLD);
            let mut hold = granted;
            next = store.lock(index).walk_records(self.slot, position, &mut hold, |record| {
                if self.wanted.contains(&bucket_of(record.key, self.buckets)) {
                    bytes += record.key.len();
                    visit(record);
                }
                bytes < ROWS_BYTES_PER_CALL
            });
            left -= granted - hold;
        }
        RowsRead { seen, floor: store.lock(index).floor(self.slot), next }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};

    use super::Rows;
    use crate::{
        limits::{DIGEST_ENTRIES_PER_CALL, ROWS_BYTES_PER_CALL},
        slot::{Slot, SlotRange},
        store::{Record, ScanPosition, Seen, State, Store, StoreOptions, bucket_of},
    };

    const NOW: Now = Now { wall: Time::from_unix_ms(1_700_000_000_000), monotonic: Duration::ZERO };

    fn store() -> Store {
        let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
        let options =
            StoreOptions { origin, start: Time::ZERO, peers: Vec::new(), stripes: 1, log_records: 64, hash_seed: 1 };
        Store::new(&options)
    }

    fn apply(store: &Store, key: &[u8], time: u64, state: State<'_>) {
        let origin = Origin::new(RegionId::new(2).unwrap(), Incarnation::FIRST);
        let record = Record { key, stamp: Stamp { time: Time::from_ntp64(time), origin }, state };
        store.lock(0).apply(store.address(key), &record, &Seen::new(), Time::ZERO).unwrap();
    }

    /// The keys of all rows, and how many steps they took.
    fn keys(store: &Store, rows: &Rows) -> (BTreeSet<Vec<u8>>, usize) {
        let (mut keys, mut next, mut steps) = (BTreeSet::new(), Some(ScanPosition::default()), 0);
        while let Some(from) = next {
            let read = rows.step(store, from, NOW, |record| assert!(keys.insert(record.key.to_vec())));
            next = read.next;
            steps += 1;
        }
        (keys, steps)
    }

    #[test]
    fn every_record_of_the_wanted_buckets_has_one_row_whatever_its_kind() {
        let store = store();
        let slot = Slot::of(b"x");
        let count = DIGEST_ENTRIES_PER_CALL + 100;
        let key = |index: usize| format!("{{x}}{index}").into_bytes();
        for index in 0..count {
            let states = [State::Value { bytes: b"v", expiry: None }, State::Tombstone, State::Evicted];
            apply(&store, &key(index), index as u64 + 1, states[index % 3]);
        }
        let (all, steps) = keys(&store, &Rows { slot, buckets: 1, wanted: vec![0] });
        assert!(all.len() == count && steps == 2, "{} rows in {steps} steps", all.len());
        let (some, _) = keys(&store, &Rows { slot, buckets: 10, wanted: vec![3, 7] });
        let wanted = (0..count).map(key).filter(|key| [3, 7].contains(&bucket_of(key, 10)));
        assert_eq!(some, wanted.collect());
    }

    #[test]
    fn long_keys_come_few_at_a_time() {
        let store = store();
        let key = |index: usize| format!("{{x}}{index}{}", "k".repeat(ROWS_BYTES_PER_CALL)).into_bytes();
        (0..3).for_each(|index| apply(&store, &key(index), 5, State::Tombstone));
        let (all, steps) = keys(&store, &Rows { slot: Slot::of(b"x"), buckets: 1, wanted: vec![0] });
        assert!(all.len() == 3 && steps >= 3, "{} rows in {steps} steps", all.len());
    }

    #[test]
    fn what_was_stamped_here_is_seen_here() {
        let store = store();
        let at = store.address(b"{x}1");
        let stamp = store.lock(0).write(at, b"{x}1", b"v", None, NOW.wall).unwrap();
        let other = Origin::new(RegionId::new(2).unwrap(), Incarnation::FIRST);
        store.lock(0).advance_seen(&SlotRange::ALL, other, Time::from_ntp64(7));
        let rows = Rows { slot: at.slot, buckets: 1, wanted: vec![0] };
        let read = rows.step(&store, ScanPosition::default(), NOW, |_| {});
        assert!(read.seen.at(stamp.origin) >= stamp.time);
        assert_eq!((read.seen.at(other), read.next), (Time::from_ntp64(7), None));
    }
}
