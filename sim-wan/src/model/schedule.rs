//! A timeline of faults: what changes on which lines, and when.
//!
//! Kept apart from the lines so that one timeline can be told beforehand, in a test or from a seed, and be carried out
//! by a network in virtual time as by one in real time. Changes of the same moment are made in the order in which they
//! were added, and before anything arrives at that moment.

use std::{collections::BTreeMap, time::Duration};

use super::{
    LineId,
    settings::{LineChange, State},
};

/// Changes that are still to come, ordered by time and then by the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    changes: BTreeMap<(Duration, u64), Vec<(LineId, LineChange)>>,
    added: u64,
}

impl Schedule {
    /// Adds changes to be made together at `at`. A time that has passed means at the next poll.
    pub fn add(&mut self, at: Duration, changes: Vec<(LineId, LineChange)>) {
        self.changes.insert((at, self.added), changes);
        self.added += 1;
    }

    /// When the next change is due.
    pub fn next_at(&self) -> Option<Duration> {
        self.changes.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next changes if they are due at `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<Vec<(LineId, LineChange)>> {
        let next = self.changes.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }

    /// Drops what is still to come.
    pub fn clear(&mut self) {
        self.changes.clear();
    }
}

/// Changes that set these lines to one state.
pub(super) fn set_all(lines: impl IntoIterator<Item = LineId>, state: State) -> Vec<(LineId, LineChange)> {
    lines.into_iter().map(|line| (line, LineChange::state(state))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Schedule, set_all};
    use crate::model::{LineId, State};

    #[test]
    fn changes_come_in_order_of_time_and_then_of_entry() {
        let at = Duration::from_secs;
        let [late, early, same] = [LineId::new(0), LineId::new(1), LineId::new(2)].map(|id| set_all([id], State::Up));
        let mut schedule = Schedule::default();
        schedule.add(at(2), late.clone());
        schedule.add(at(1), early.clone());
        schedule.add(at(1), same.clone());
        assert_eq!(schedule.next_at(), Some(at(1)));
        assert_eq!(schedule.take_due(at(0)), None);
        assert_eq!(schedule.take_due(at(1)), Some(early));
        assert_eq!(schedule.take_due(at(1)), Some(same));
        assert_eq!(schedule.take_due(at(1)), None);
        assert_eq!(schedule.take_due(at(9)), Some(late));
        assert_eq!(schedule.next_at(), None);
    }
}
