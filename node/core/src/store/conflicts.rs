//! The ledger of conflicts: the latest writes of one key that neither side had seen of the other.
//!
//! Where the later write was made by somebody who knew of the earlier one, it is an overwrite, which is what registers are for, and it
//! counts for nothing here. A *conflict* is a pair of concurrent writes of two regions, one of which is lost though its client
//! was told that it is done. Operators want to know whether there are any, and of which keys.
//!
//! # What is known
//! A record arrives and the key is held in a version of another region. Its sender has said up to where it had seen that region
//! (its *row*, which travels in the same stream, ahead of what it is about). If the version that is held is later than that, the
//! sender had not seen it, and the two were concurrent.
//!
//! A row is sent with every heartbeat and not with every record, so it may be older than the record by that, 50 ms unless
//! configured, and it is the least over the sender's slots. Whoever overwrites within that time what has only just arrived is counted as
//! well: the ledger errs on the side of telling. It never misses a pair whose writes are further apart than it takes to fill a batch.
//! A record that comes again is counted once, by where it first arrives as news.
//!
//! Each region has its own ledger. The one whose write is lost notes it, there where the winner arrives. The one whose write stands may:
//! if the other has heard of the winner before it has sent the loser, there is nothing left to send.
//!
//! # What it costs
//! Nothing, as long as there are none; then a short lock and a copy of the key. It keeps no values, and is bounded by
//! [`CONFLICTS_KEPT`]: the oldest goes. The counter beside it goes on.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clock::{Stamp, Time};

use crate::limits::{CONFLICT_KEY_BYTES_MAX, CONFLICTS_KEPT};

/// Two concurrent writes of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key; of a long one its first [`CONFLICT_KEY_BYTES_MAX`] bytes.
    pub key: Box<[u8]>,
    /// The version that stands.
    pub winner: Stamp,
    /// The version that was lost.
    pub loser: Stamp,
    /// When the later of the two arrived here, by the clock of this node.
    pub found: Time,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Ledger {
    latest: Mutex<VecDeque<Conflict>>,
}

impl Ledger {
    /// Notes that `held` and `arrived` are concurrent.
    pub(super) fn note(&self, key: &[u8], held: Stamp, arrived: Stamp, found: Time) {
        let key = &key[..key.len().min(CONFLICT_KEY_BYTES_MAX)];
        let conflict = Conflict { key: key.into(), winner: held.max(arrived), loser: held.min(arrived), found };
        let mut latest = self.lock();
        if latest.len() == CONFLICTS_KEPT {
            latest.pop_front();
        }
        latest.push_back(conflict);
    }

    /// Up to so many, the latest first.
    pub fn latest(&self, count: usize) -> Vec<Conflict> {
        self.lock().iter().rev().take(count).cloned().collect()
    }

    /// Forgets all that are kept. Counters go on.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Conflict>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};

    use super::Ledger;
    use crate::limits::{CONFLICT_KEY_BYTES_MAX, CONFLICTS_KEPT};

    fn stamp(time: u64, region: u8) -> Stamp {
        let region = RegionId::new(region).unwrap();
        Stamp { time: Time::from_ntp64(time), origin: Origin::new(region, Incarnation::FIRST) }
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let ledger = Ledger::default();
        for time in 0..=CONFLICTS_KEPT as u64 {
            ledger.note(b"key", stamp(time, 1), stamp(time, 2), Time::from_ntp64(time));
        }
        let latest = ledger.latest(usize::MAX);
        assert_eq!(latest.len(), CONFLICTS_KEPT);
        assert_eq!(latest[0].found, Time::from_ntp64(CONFLICTS_KEPT as u64));
        assert_eq!((latest[0].winner.origin, latest[0].loser.origin), (stamp(0, 2).origin, stamp(0, 1).origin));
        assert_eq!(latest.last().unwrap().found, Time::from_ntp64(1));
        assert_eq!(ledger.latest(3).len(), 3);
        ledger.clear();
        assert!(ledger.latest(1).is_empty());
    }

    #[test]
    fn a_long_key_is_cut() {
        let ledger = Ledger::default();
        ledger.note(&[b'k'; 10_000], stamp(2, 1), stamp(1, 2), Time::ZERO);
        assert_eq!(ledger.latest(1)[0].key.len(), CONFLICT_KEY_BYTES_MAX);
    }
}
