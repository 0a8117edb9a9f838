//! Whether a history of one key can have happened one operation after another.
//!
//! A history is linearizable if its operations can be put in an order in which each takes place at one moment between its
//! call and its return, and each result is what a register would give. The search is that of Wing and Gong (Testing and
//! verifying concurrent objects, 1993): take any operation that was called before the first return among those that
//! are left; go back where none fits. As Lowe does, it remembers which sets of operations in which state led nowhere.
//!
//! An operation whose reply was lost may have taken place at any time after its call, or never: it has no return, and need not
//! be taken. Keys are independent of one another, and a history is linearizable if that of each key is.

use std::collections::HashSet;

/// What was asked for, and what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `SET`.
    Set(u64),
    /// `INCR`, and the value after it; none if nobody heard. Of nothing it makes one.
    Increment(Option<u64>),
    /// `DEL`, and whether there was a value; none if nobody heard.
    Delete(Option<bool>),
    /// `GET`.
    Read(Option<u64>),
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it returned, on the same clock; none if its reply was lost.
    pub returned: Option<u64>,
    /// What it was.
    pub action: Action,
}

impl Action {
    /// The state after it, or none if it cannot have been answered so in this state.
    fn after(self, state: Option<u64>) -> Option<Option<u64>> {
        match self {
            Self::Set(value) => Some(Some(value)),
            Self::Increment(None) => Some(Some(state.unwrap_or(0) + 1)),
            Self::Increment(Some(value)) => (state.unwrap_or(0) + 1 == value).then_some(Some(value)),
            Self::Delete(None) => Some(None),
            Self::Delete(Some(was_there)) => (state.is_some() == was_there).then_some(None),
            Self::Read(value) => (state == value).then_some(state),
        }
    }
}

/// Whether a register that is empty at first can have given these results.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let mut search = Search { taken: vec![0; history.len().div_ceil(64)], history, known: HashSet::new(), first: 0 };
    search.run()
}

struct Search {
    history: Vec<Operation>,
    /// A bit for each operation that was taken.
    taken: Vec<u64>,
    /// What led nowhere.
    known: HashSet<(Vec<u64>, Option<u64>)>,
    /// All before this one were taken.
    first: usize,
}

impl Search {
    /// Depth first, with a stack of its own: a history is longer than the stack of a thread is deep.
    fn run(&mut self) -> bool {
        let mut state = None;
        // What was taken, the state before it, and how far the prefix reached then.
        let mut path: Vec<(usize, Option<u64>, usize)> = Vec::new();
        let mut from = 0;
        loop {
            if self.is_complete() {
                return true;
            }
            if let Some((index, after)) = self.next(from.max(self.first), state) {
                path.push((index, state, self.first));
                self.set(index, true);
                self.advance();
                state = after;
                from = 0;
                continue;
            }
            let Some((index, before, first)) = path.pop() else { return false };
            self.set(index, false);
            (state, self.first, from) = (before, first, index + 1);
        }
    }

    /// The next operation that can be taken in this state, and has not led nowhere already.
    fn next(&mut self, from: usize, state: Option<u64>) -> Option<(usize, Option<u64>)> {
        let left = (self.first..self.history.len()).filter(|index| !self.is_taken(*index));
        // Whoever was called later than the first return is called too late to be next, and so are all that follow.
        let mut bound = u64::MAX;
        let mut candidates = Vec::new();
        for index in left {
            let Operation { called, returned, .. } = self.history[index];
            if called > bound {
                break;
            }
            bound = bound.min(returned.unwrap_or(u64::MAX));
            candidates.push(index);
        }
        for index in candidates.into_iter().filter(|index| *index >= from) {
            let Operation { called, action, .. } = self.history[index];
            let Some(after) = action.after(state).filter(|_| called <= bound) else { continue };
            self.set(index, true);
            let is_news = self.known.insert((self.taken.clone(), after));
            self.set(index, false);
            if is_news {
                return Some((index, after));
            }
        }
        None
    }

    /// Whether all that returned were taken.
    fn is_complete(&self) -> bool {
        let mut left = (self.first..self.history.len()).filter(|index| !self.is_taken(*index));
        left.all(|index| self.history[index].returned.is_none())
    }

    fn advance(&mut self) {
        while self.first < self.history.len() && self.is_taken(self.first) {
            self.first += 1;
        }
    }

    fn is_taken(&self, index: usize) -> bool {
        self.taken[index / 64] & 1 << (index % 64) != 0
    }

    fn set(&mut self, index: usize, is_taken: bool) {
        let bit = 1 << (index % 64);
        if is_taken { self.taken[index / 64] |= bit } else { self.taken[index / 64] &= !bit }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Action::{Delete, Increment, Read, Set},
        Operation, is_linearizable,
    };

    fn operation(called: u64, returned: u64, action: super::Action) -> Operation {
        Operation { called, returned: Some(returned), action }
    }

    fn lost(called: u64, action: super::Action) -> Operation {
        Operation { called, returned: None, action }
    }

    #[test]
    fn one_after_another_is_linearizable() {
        let history = [
            operation(0, 1, Read(None)),
            operation(2, 3, Set(1)),
            operation(4, 5, Read(Some(1))),
            operation(6, 7, Delete(Some(true))),
            operation(8, 9, Delete(Some(false))),
            operation(10, 11, Read(None)),
        ];
        assert!(is_linearizable(&history));
    }

    #[test]
    fn what_overlaps_may_take_place_in_any_order() {
        let history = [
            operation(0, 10, Set(1)),
            operation(0, 10, Set(2)),
            operation(1, 3, Read(Some(2))),
            operation(4, 6, Read(Some(1))),
            operation(11, 12, Read(Some(1))),
        ];
        assert!(is_linearizable(&history));
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [operation(0, 1, Set(1)), operation(2, 3, Set(2)), operation(4, 5, Read(Some(1)))];
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(!is_linearizable(&[operation(0, 1, Set(1)), operation(2, 3, Read(None))]));
        assert!(!is_linearizable(&[operation(0, 1, Set(1)), operation(2, 3, Delete(Some(false)))]));
    }

    #[test]
    fn a_value_that_goes_back_between_two_readers_is_found() {
        let history = [operation(0, 10, Set(1)), operation(1, 2, Read(Some(1))), operation(3, 4, Read(None))];
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn a_delete_that_comes_undone_is_found() {
        let history = [operation(0, 1, Set(1)), operation(2, 3, Delete(Some(true))), operation(4, 5, Read(Some(1)))];
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn an_increment_that_is_lost_or_counted_twice_is_found() {
        let first = [operation(0, 1, Increment(Some(1))), lost(2, Increment(None))];
        for (value, is_possible) in [(2, true), (3, true), (1, false), (4, false)] {
            let history = [first[0], first[1], operation(3, 4, Increment(Some(value)))];
            assert_eq!(is_linearizable(&history), is_possible, "{value}");
        }
        let after_set = [operation(0, 1, Set(7)), operation(2, 5, Increment(Some(8))), operation(3, 4, Read(Some(8)))];
        assert!(is_linearizable(&after_set));
    }

    #[test]
    fn what_was_lost_may_take_place_late_or_never_but_once() {
        let set = [lost(0, Set(1)), operation(1, 2, Read(None))];
        assert!(is_linearizable(&set));
        let late = [set[0], set[1], operation(3, 4, Read(Some(1)))];
        assert!(is_linearizable(&late));
        let twice = [late[0], late[1], late[2], operation(5, 6, Set(2)), operation(7, 8, Read(Some(1)))];
        assert!(!is_linearizable(&twice));
        let too_early = [operation(0, 1, Read(Some(1))), lost(2, Set(1))];
        assert!(!is_linearizable(&too_early));
    }

    #[test]
    fn a_long_history_with_much_overlap_is_decided() {
        // Four clients in step, each round overlapping in full; the reads of each round see one of its writes.
        let round = |round: u64| {
            let (called, returned) = (round * 10, round * 10 + 9);
            let writes = (0..3).map(move |client| operation(called, returned, Set(round * 3 + client)));
            writes.chain([operation(called + 1, returned, Read(Some(round * 3 + round % 3)))])
        };
        let mut history: Vec<_> = (0..500).flat_map(round).collect();
        assert!(is_linearizable(&history));
        history.push(operation(5_001, 5_002, Read(Some(7))));
        assert!(!is_linearizable(&history));
    }
}
