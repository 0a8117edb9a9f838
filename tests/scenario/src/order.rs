//! What a history tells for certain of the order of stamps.
//!
//! Clients see no stamps. But of many pairs of writes of one key it is certain all the same which has the greater:
//!
//! 1. In one region a write is stamped above what the key had there (DESIGN rule 3). So whatever was acknowledged in a region is
//!    below every write that was called there later.
//! 2. So is whatever was read in that region before the write was called.
//! 3. Stamps follow clocks. What was acknowledged somewhere is below what was called elsewhere so much later that no clock
//!    explains it: more than the clocks were apart, and than a region may follow clocks or predecessors ahead of its own.
//!
//! Where nothing is certain the oracles keep silent: two concurrent writes may go either way. A write whose reply was lost may be
//! carried out late, so nothing is above it but by what was read. A value whose expiry is changed is stamped anew each time,
//! so of the keys that are [`Kind::Fading`] nothing is said, nor of counters.

use std::{collections::BTreeMap, time::Duration};

use crate::history::{Action, Found, History, Kind, Operation, Place, ValueId};

/// How far stamps may be ahead of a clock for other reasons than other clocks: after a restart stamps begin above the
/// persisted mark, which is 400 ms ahead.
const RESTART: Duration = Duration::from_millis(500);

/// The order of the writes of a history.
#[derive(Debug)]
pub struct Order<'a> {
    history: &'a History,
    writes: BTreeMap<ValueId, &'a Operation>,
    /// When each value had been seen in each region at the latest.
    seen: BTreeMap<(Place, ValueId), Duration>,
}

impl<'a> Order<'a> {
    /// Reads a history.
    pub fn new(history: &'a History) -> Self {
        let mut writes = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for operation in &history.operations {
            if let Some(value) = operation.value() {
                writes.insert(value, operation);
            }
            let done = operation.value().filter(|_| operation.is_done());
            if let Some(value) = done.or_else(|| operation.read_value()) {
                let first = seen.entry((operation.region, value)).or_insert(operation.returned);
                *first = operation.returned.min(*first);
            }
        }
        Self { history, writes, seen }
    }

    /// Who wrote a value.
    pub fn write(&self, value: ValueId) -> Option<&'a Operation> {
        self.writes.get(&value).copied()
    }

    /// Who wrote what was found.
    pub fn write_of(&self, found: &Found) -> Option<&'a Operation> {
        match found {
            Found::Value(value) => self.write(*value),
            Found::Number(_) | Found::Strange(_) => None,
        }
    }

    /// Whether the first of two writes or deletes of one key has the lesser stamp for certain, if the second was carried out.
    pub fn is_before(&self, first: &Operation, second: &Operation) -> bool {
        if !matches!(first.key.kind, Kind::Shared | Kind::Own(_)) || !first.may_be_done() {
            return false;
        }
        self.is_before_in_region(first, second) || self.was_seen_before(first, second) || self.is_earlier(first, second)
    }

    fn is_before_in_region(&self, first: &Operation, second: &Operation) -> bool {
        first.region == second.region && first.is_done() && first.returned + self.set_back(first) < second.called
    }

    /// For how long a write may have a greater stamp than one that comes after it in its region. The heir of a primary that was lost stamps above
    /// all that this one stamped, also above what it never heard of, as long as the clocks are as good as is allowed; it cannot if they
    /// were set back by more in between.
    fn set_back(&self, write: &Operation) -> Duration {
        let back = Duration::from_millis(self.history.skew(write.region).back_ms);
        let may_have_an_heir = || self.history.may_be_lost(write.region, write.called, write.returned);
        if back > self.history.max_drift && may_have_an_heir() { back } else { Duration::ZERO }
    }

    fn was_seen_before(&self, first: &Operation, second: &Operation) -> bool {
        let seen = first.value().and_then(|value| self.seen.get(&(second.region, value)));
        // A region that began anew may not know any more what it had shown.
        let is_known = |seen: Duration| !self.history.may_be_forgotten(second.region, seen, second.called);
        seen.is_some_and(|&seen| seen < second.called && is_known(seen))
    }

    fn is_earlier(&self, first: &Operation, second: &Operation) -> bool {
        // A FLUSHALL concerns what its region has seen, however late it comes.
        if !first.is_done() || second.action == Action::Flush {
            return false;
        }
        let (ahead, behind) = (self.history.skew(first.region).most_ms, self.history.skew(second.region).least_ms);
        let slack = 2 * self.history.max_drift + RESTART;
        let [returned, slack, called] = [first.returned, slack, second.called].map(|time| time.as_millis() as i64);
        returned + ahead + slack < called + behind
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Order};
    use crate::{
        history::{History, Loss, Place, Skew},
        oracles::testing::{HERE, Scribe, THERE},
    };

    /// Whether the first write of a history is before the second.
    fn is_before(history: &History) -> bool {
        let order = Order::new(history);
        let writes: Vec<_> = history.operations.iter().filter(|operation| operation.value().is_some()).collect();
        order.is_before(writes[0], writes[1])
    }

    #[test]
    fn clocks_that_were_set_back_confuse_the_order_only_where_a_primary_was_lost() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 1..2, 1);
        scribe.set(HERE, 3..4, 2);
        scribe.history.skews = vec![Skew { least_ms: 0, most_ms: 5_000, back_ms: 5_000 }];
        assert!(is_before(&scribe.history));
        let Operation { called: from, returned: until, .. } = scribe.history.operations[0];
        scribe.history.losses = vec![Loss { region: HERE, from, until, whole: false }];
        assert!(!is_before(&scribe.history));
        scribe.history.skews[0].back_ms = 1;
        scribe.history.max_drift = std::time::Duration::from_millis(1);
        assert!(is_before(&scribe.history));
        scribe.history.skews[0].back_ms = 5_000;
        scribe.history.operations[1].called += std::time::Duration::from_secs(10);
        assert!(is_before(&scribe.history), "it came later than they were set back");
    }

    #[test]
    fn writes_of_one_region_are_in_order_unless_they_overlap_or_one_was_lost() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        assert!(is_before(&scribe.history));
        scribe.history.operations[0].returned = scribe.history.operations[1].called;
        assert!(!is_before(&scribe.history));
        let mut scribe = Scribe::default();
        scribe.lost_set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        assert!(!is_before(&scribe.history));
        scribe.read(HERE, 1..2, Some(1));
        scribe.history.operations[1].called += std::time::Duration::from_millis(1);
        assert!(is_before(&scribe.history), "it was read before the other was called");
    }

    #[test]
    fn what_a_region_has_shown_is_below_what_it_writes_later() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.read(THERE, 2..3, Some(1));
        scribe.set(THERE, 4..5, 2);
        assert!(is_before(&scribe.history));
        let whole = |whole| Loss { region: THERE, from: scribe_time(3), until: scribe_time(3), whole };
        scribe.history.losses = vec![whole(true)];
        assert!(!is_before(&scribe.history), "who began anew does not know it");
    }

    #[test]
    fn clocks_decide_only_what_they_cannot_have_confused() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(THERE, 1_000..1_001, 2);
        assert!(!is_before(&scribe.history));
        scribe.history.operations[1].called = scribe_time(1_502);
        assert!(is_before(&scribe.history));
        scribe.history.skews = vec![Skew { most_ms: 10, ..Skew::default() }, Skew::default()];
        assert!(!is_before(&scribe.history));
        assert_eq!(scribe.history.skew(Place(7)), Skew::default());
    }

    fn scribe_time(ms: u64) -> std::time::Duration {
        std::time::Duration::from_millis(ms)
    }
}
