//! What all clients of a region that is alone have seen, and whether each key was a register.

use std::{collections::BTreeSet, time::Duration};

use scenario::linearizable::{Action, Operation, is_linearizable};

use super::clients::KEYS;

/// Operations that are shown of a history that is wrong.
const SHOWN: usize = 12;

/// An operation that has ended, on a key.
struct Ended {
    key: &'static [u8],
    operation: Operation,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct History {
    ended: Vec<Ended>,
}

impl History {
    /// How many operations have ended.
    pub(crate) fn len(&self) -> usize {
        self.ended.len()
    }

    /// An operation on a key has ended: when it was called, and when it returned if its result is promised.
    pub(crate) fn note(&mut self, key: &'static [u8], called: Duration, returned: Option<Duration>, action: Action) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("a world is young");
        let operation = Operation { called: nanos(called), returned: returned.map(nanos), action };
        self.ended.push(Ended { key, operation });
    }

    fn ended_of(&self, key: &[u8]) -> Vec<Operation> {
        self.ended.iter().filter(|ended| ended.key == key).map(|ended| ended.operation).collect()
    }

    /// Whether each key was a register.
    ///
    /// What a primary lost before anybody else had it is not promised. So where processes end, writes count that were
    /// replicated, and reads of those; a read of anything else says nothing, and neither do results that hang on it.
    pub(crate) fn check(&self, is_stormy: bool) -> Result<(), String> {
        for key in KEYS {
            let ended = self.ended_of(key);
            let history = if is_stormy { promised(&ended) } else { ended.clone() };
            if let Some(read) = ended.iter().find(|read| is_stormy && goes_back(&ended, read)) {
                return Err(format!("key {} goes back: {read:?}", String::from_utf8_lossy(key)));
            }
            if !is_linearizable(&history) {
                let key = String::from_utf8_lossy(key);
                return Err(format!("key {key} was no register: {}", show(&history)));
            }
        }
        Ok(())
    }
}

/// Whether a read gives a value that was read before, and has been overwritten since for certain. That must not happen even
/// to a value that was never promised.
fn goes_back(history: &[Operation], read: &Operation) -> bool {
    let Action::Read(Some(value)) = read.action else { return false };
    let seen = history.iter().filter(|other| other.action == Action::Read(Some(value)));
    let Some(seen) = seen.filter_map(|other| other.returned).min() else { return false };
    let is_write = |action| !matches!(action, Action::Read(_)) && action != Action::Set(value);
    history.iter().any(|write| {
        is_write(write.action) && write.called > seen && write.returned.is_some_and(|returned| returned < read.called)
    })
}

/// What is left of a history of one key if only what was replicated is promised.
fn promised(history: &[Operation]) -> Vec<Operation> {
    let is_promised = |operation: &&Operation| operation.returned.is_some();
    let sets = history.iter().filter(is_promised).filter_map(|operation| match operation.action {
        Action::Set(value) => Some(value),
        _ => None,
    });
    let sets: BTreeSet<u64> = sets.collect();
    let is_delete = |operation: &&Operation| matches!(operation.action, Action::Delete(_));
    let doubtful = history.iter().filter(|operation| operation.returned.is_none()).filter(is_delete);
    let doubtful = doubtful.map(|operation| operation.called).min().unwrap_or(u64::MAX);
    let counts = |operation: &&Operation| match operation.action {
        Action::Read(Some(value)) => sets.contains(&value),
        Action::Read(None) => operation.returned.is_some_and(|returned| returned < doubtful),
        _ => true,
    };
    let plain = |operation: &Operation| match operation.action {
        // What was there before may have been lost since.
        Action::Delete(_) => Operation { action: Action::Delete(None), ..*operation },
        _ => *operation,
    };
    history.iter().filter(is_promised).filter(counts).map(plain).collect()
}

/// The last operations of the shortest part of a history that is none of a register, one to a line.
fn show(history: &[Operation]) -> String {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.returned);
    let until = |end: u64| -> Vec<Operation> {
        let begun = history.iter().filter(|operation| operation.called < end);
        begun.map(|one| Operation { returned: one.returned.filter(|returned| *returned <= end), ..*one }).collect()
    };
    let ends = history.iter().filter_map(|operation| operation.returned);
    let mut shortest = ends.map(until).find(|part| !is_linearizable(part)).unwrap_or_default();
    shortest.sort_by_key(|operation| operation.called);
    let first = shortest.len().saturating_sub(SHOWN);
    shortest[first..].iter().map(|operation| format!("\n  {operation:?}")).collect()
}
