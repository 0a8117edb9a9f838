//! A timeline of faults: what changes on which lines, and when.
//!
//! Kept apart from the lines so that one timeline can be told beforehand, in a test or from a seed, and be carried out
//! by a network in virtual time as by one in real time. Changes of the same moment are made in the order in which they
//! were added, and before anything arrives at that moment. [`storm`] draws a timeline for seeded simulations.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_pcg::Pcg32;

use super::{
    network::{Change, LineId},
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

/// Draws a timeline of `faults` changes in `begin..end`: partitions, cuts of one direction, resets, and heals between
/// them. The last entry, at `end`, heals all, so that a simulation can go on to check that everything converges.
///
/// A list and not a [`Schedule`], so that a failing run can be cut down to the faults that matter. With fewer than two
/// regions there is nothing to cut, and only the heal remains.
pub fn storm(seed: u64, regions: &[&str], begin: Duration, end: Duration, faults: usize) -> Vec<(Duration, Change)> {
    let mut random = Pcg32::seed_from_u64(seed);
    let faults = if regions.len() < 2 || begin >= end { 0 } else { faults };
    let mut timeline: Vec<_> =
        (0..faults).map(|_| (random.random_range(begin..end), draw_change(&mut random, regions))).collect();
    timeline.sort_by_key(|(at, _)| *at);
    timeline.push((end, Change::Heal));
    timeline
}

/// One change between at least two regions.
fn draw_change(random: &mut Pcg32, regions: &[&str]) -> Change {
    let pair: Vec<String> = regions.sample(random, 2).map(|&region| region.to_owned()).collect();
    let line = |state| match pair.as_slice() {
        [from, to] => Change::Line { from: from.clone(), to: to.clone(), change: LineChange::state(state) },
        _ => unreachable!("two of at least two regions were drawn"),
    };
    // Heals are as frequent as partitions: most of the time something is cut, and seldom all of it.
    match random.random_range(0..8) {
        0..3 => Change::Heal,
        3..6 => {
            let size = random.random_range(1..regions.len());
            Change::Partition(regions.sample(random, size).map(|&region| region.to_owned()).collect())
        }
        6 => line(State::Blackhole),
        _ => line(State::Reset),
    }
}

/// Changes that set these lines to one state.
pub(super) fn set_all(lines: impl IntoIterator<Item = LineId>, state: State) -> Vec<(LineId, LineChange)> {
    lines.into_iter().map(|line| (line, LineChange::state(state))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Schedule, set_all, storm};
    use crate::model::{Bounds, Change, LineId, LineSettings, Network, State};

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
    #[test]
    fn a_storm_is_told_by_its_seed_fits_its_network_and_ends_in_calm() {
        let regions = ["ap", "eu", "us"];
        let (begin, end) = (Duration::from_secs(1), Duration::from_secs(9));
        let mut network = Network::<()>::new(0, Bounds::default());
        for (from, to) in [("ap", "eu"), ("eu", "ap"), ("ap", "us"), ("us", "ap"), ("eu", "us"), ("us", "eu")] {
            network.add_line(from, to, LineSettings::default()).unwrap();
        }
        for seed in 0..50 {
            let timeline = storm(seed, &regions, begin, end, 20);
            assert_eq!(timeline, storm(seed, &regions, begin, end, 20));
            assert!(timeline.is_sorted_by_key(|(at, _)| *at) && timeline[0].0 >= begin);
            assert_eq!((timeline.len(), timeline.last()), (21, Some(&(end, Change::Heal))));
            for (at, change) in &timeline {
                network.schedule(*at, change).unwrap();
            }
            assert_eq!(network.poll(end), None);
            assert!(network.links().all(|link| link.detail.state == State::Up));
        }
        assert_ne!(storm(1, &regions, begin, end, 20), storm(2, &regions, begin, end, 20));
        assert_eq!(storm(1, &["us"], begin, end, 20), [(end, Change::Heal)]);
    }
}
