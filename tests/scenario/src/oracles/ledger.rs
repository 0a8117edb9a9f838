//! Each acknowledged write is accounted for.
//!
//! Checks promises 2, 4 and 6 together: a write that was acknowledged is at the end a winner, or superseded by one that is not
//! certainly older, or ended by a delete, a FLUSHALL or an expiry that is not certainly before it, or evicted, or within the loss of
//! a primary that died. What is none of these has vanished. How many there are of each is part of the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Finding;
use crate::{
    history::{Action, History, Key, Kind, Operation},
    order::Order,
};

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It stands.
    Winner,
    /// Another stands that is not certainly older.
    Superseded,
    /// A delete, a flush or an expiry may have ended it, or what replaced it.
    Ended,
    /// Its region may have evicted it.
    Evicted,
    /// A primary died that had it.
    Lost,
    /// Nobody knows.
    Vanished,
}

/// See the head of this file.
pub fn judge(history: &History, order: &Order<'_>) -> Finding {
    let mut finding = Finding::default();
    for (write, fate) in fates(history, order) {
        finding.judged += 1;
        if fate == Fate::Vanished {
            let mut shown = vec![write];
            shown.extend(history.last_of(write.key).filter_map(|last| order.write_of(last.found.as_ref()?)));
            finding.complain(write.key, "an acknowledged write has vanished".to_owned(), &shown);
        }
    }
    finding
}

/// How many writes had each fate.
pub fn count(history: &History, order: &Order<'_>) -> BTreeMap<Fate, usize> {
    let mut counts = BTreeMap::new();
    for (_, fate) in fates(history, order) {
        *counts.entry(fate).or_default() += 1;
    }
    counts
}

/// What became of each acknowledged write of a register in the regions that are judged.
fn fates<'a>(history: &'a History, order: &Order<'a>) -> Vec<(&'a Operation, Fate)> {
    let mut by_key: BTreeMap<Key, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        by_key.entry(operation.key).or_default().push(operation);
    }
    let mut standing: BTreeMap<Key, Vec<Option<&Operation>>> = BTreeMap::new();
    for last in history.last.iter().filter(|last| history.judged.contains(&last.region)) {
        let written = last.found.as_ref().and_then(|found| order.write_of(found));
        standing.entry(last.key).or_default().push(written);
    }
    let mut fates = Vec::new();
    for (key, standing) in standing.iter().filter(|(key, _)| matches!(key.kind, Kind::Shared | Kind::Own(_))) {
        let operations = by_key.get(key).map_or(&[][..], Vec::as_slice);
        // Whoever may end a write, the latest first, since that one most often does.
        let mut ends: Vec<_> = operations.iter().copied().filter(|operation| may_end(operation)).collect();
        ends.sort_by_key(|operation| std::cmp::Reverse(operation.called));
        let is_judged =
            |write: &&&Operation| write.value().is_some() && write.is_done() && history.judged.contains(&write.region);
        let writes = operations.iter().filter(is_judged);
        fates.extend(writes.map(|write| (*write, fate(history, order, write, standing, &ends))));
    }
    fates
}

fn may_end(operation: &Operation) -> bool {
    let ends = match operation.action {
        Action::Delete | Action::Flush => true,
        Action::Set(_, ttl) => ttl.is_some(),
        _ => false,
    };
    ends && operation.may_be_done()
}

fn fate(
    history: &History,
    order: &Order<'_>,
    write: &Operation,
    standing: &[Option<&Operation>],
    ends: &[&Operation],
) -> Fate {
    let stands = |found: &Option<&Operation>| found.is_some_and(|found| found.value() == write.value());
    let supersedes = |found: &Option<&Operation>| found.is_some_and(|found| !order.is_before(found, write));
    if standing.iter().all(stands) {
        return Fate::Winner;
    }
    if standing.iter().all(|found| stands(found) || supersedes(found)) {
        return Fate::Superseded;
    }
    if history.may_be_lost(write.region, write.called, write.returned) {
        return Fate::Lost;
    }
    let is_absent = standing.iter().all(|found| found.is_none() || stands(found) || supersedes(found));
    if is_absent && ends.iter().any(|end| !order.is_before(end, write)) {
        return Fate::Ended;
    }
    if is_absent && !history.may_miss.is_empty() {
        return Fate::Evicted;
    }
    Fate::Vanished
}

#[cfg(test)]
mod tests {
    use super::{Fate, count, judge};
    use crate::{
        history::{Loss, Outcome},
        oracles::testing::{HERE, Scribe, THERE, ms},
        order::Order,
    };

    fn fates(scribe: &Scribe) -> Vec<(Fate, usize)> {
        count(&scribe.history, &Order::new(&scribe.history)).into_iter().collect()
    }

    #[test]
    fn every_write_has_its_fate() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        scribe.lost_set(HERE, 4..5, 3);
        scribe.ends([Some(2), Some(2)]);
        assert_eq!(fates(&scribe), [(Fate::Winner, 1), (Fate::Superseded, 1)]);
        scribe.delete(THERE, 1..2);
        scribe.history.last.clear();
        scribe.ends([None, None]);
        assert_eq!(fates(&scribe), [(Fate::Ended, 2)]);
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn a_write_that_vanishes_is_found() {
        let mut scribe = Scribe::default();
        scribe.delete(HERE, 0..1);
        scribe.set(HERE, 2..3, 1);
        scribe.ends([None, None]);
        assert_eq!(scribe.complaints(judge), 1, "the delete was before");
        scribe.history.operations[0].outcome = Outcome::Unknown("gone".to_owned());
        assert_eq!(scribe.complaints(judge), 0, "a delete without an answer may come late");
    }

    #[test]
    fn a_write_that_is_there_only_in_its_own_region_has_vanished() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.ends([Some(1), None]);
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.may_miss = vec![THERE];
        assert_eq!(fates(&scribe), [(Fate::Evicted, 1)]);
    }

    #[test]
    fn an_older_value_in_its_place_is_no_excuse() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        scribe.ends([Some(1), Some(1)]);
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.losses = vec![Loss { region: HERE, from: ms(2), until: ms(9), whole: false }];
        assert_eq!(fates(&scribe), [(Fate::Winner, 1), (Fate::Lost, 1)]);
    }

    #[test]
    fn what_expires_is_ended_and_so_is_what_it_replaced() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set_for(HERE, 2..3, 2, 50);
        scribe.ends([None, None]);
        assert_eq!(fates(&scribe), [(Fate::Ended, 2)]);
        scribe.set(HERE, 4..5, 3);
        assert_eq!(fates(&scribe), [(Fate::Ended, 2), (Fate::Vanished, 1)]);
    }
}
