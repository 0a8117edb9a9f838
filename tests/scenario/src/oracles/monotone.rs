//! In a region no key goes back.
//!
//! Checks promise 3: within a region a key never goes back to an older stamp, also across failover of what was replicated. It
//! needs no clocks and no order of writes. Each value is written once, so it has one stamp: whoever has seen it, then something
//! else, and then the same value again, has seen stamps go back. The same holds for nothing in place of something else, unless
//! the region evicts, or was being refilled: then it had only mislaid the value. And when a value expires each node tells by its own
//! clock: after a failover it may be there once more, for as long as those clocks are apart.

use std::{collections::BTreeMap, time::Duration};

use super::Finding;
use crate::{
    history::{Action, Found, History, Key, Kind, Operation, Outcome, Place, ValueId},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, _: &Order<'_>) -> Finding {
    let mut groups: BTreeMap<(Place, Key), Vec<Sight<'_>>> = BTreeMap::new();
    for operation in &history.operations {
        if let Some(found) = sight(operation) {
            groups.entry((operation.region, operation.key)).or_default().push(Sight { found, operation });
        }
    }
    let expiring = history.operations.iter().filter_map(|operation| match operation.action {
        Action::Set(value, Some(ttl)) => Some((value, (operation.called + ttl).saturating_sub(history.apart()))),
        _ => None,
    });
    let expiries: BTreeMap<ValueId, Duration> = expiring.collect();
    let mut finding = Finding::default();
    for ((region, key), sights) in groups {
        if matches!(key.kind, Kind::Shared | Kind::Own(_)) {
            finding.judged += sights.len();
            judge_one(history, region, sights, &expiries, &mut finding);
        }
    }
    finding
}

/// What somebody saw at a key, or put there.
#[derive(Clone, Copy, Debug)]
struct Sight<'a> {
    found: Option<ValueId>,
    operation: &'a Operation,
}

fn sight(operation: &Operation) -> Option<Option<ValueId>> {
    match (operation.value(), &operation.outcome) {
        (Some(value), Outcome::Done) => Some(Some(value)),
        (_, Outcome::Found(None)) => Some(None),
        (_, Outcome::Found(Some(Found::Value(value)))) => Some(Some(*value)),
        _ => None,
    }
}

/// `expiries` is when values that do expire may have for some node.
fn judge_one(
    history: &History,
    region: Place,
    mut sights: Vec<Sight<'_>>,
    expiries: &BTreeMap<ValueId, Duration>,
    finding: &mut Finding,
) {
    sights.sort_by_key(|sight| sight.operation.called);
    // Of each value the sight that ended first, and the one that began last. What a dead primary alone had shown may come home
    // later: then it was first seen there.
    let mut lasts: BTreeMap<_, &Operation> = BTreeMap::new();
    for Sight { found, operation } in &sights {
        if let Some(value) = *found {
            lasts.insert(value, operation);
        }
    }
    let mut ends: BTreeMap<_, (&Operation, &Operation)> = BTreeMap::new();
    for Sight { found, operation } in &sights {
        let Some((value, last)) = found.and_then(|value| Some((value, *lasts.get(&value)?))) else { continue };
        if history.may_be_forgotten(region, operation.returned, last.called) {
            continue;
        }
        let (first, _) = ends.entry(value).or_insert((operation, last));
        if operation.returned < first.returned {
            *first = operation;
        }
    }
    let misses_excused = history.may_miss.contains(&region);
    for (value, (first, last)) in ends {
        let start = sights.partition_point(|sight| sight.operation.called <= first.returned);
        let end = sights.partition_point(|sight| sight.operation.called < last.called);
        let has_expired = |other: &Sight<'_>| {
            other.found.is_none() && expiries.get(&value).is_some_and(|from| other.operation.returned >= *from)
        };
        let is_between = |other: &&Sight<'_>| {
            other.found != Some(value)
                && !has_expired(other)
                && other.operation.returned < last.called
                && !is_excused(history, region, other, misses_excused, last.called)
        };
        if let Some(other) = sights.get(start..end).unwrap_or_default().iter().find(is_between) {
            let what = format!("{value} was seen, then something else, then {value} again");
            finding.complain(last.key, what, &[first, other.operation, last]);
        }
    }
}

/// Whether what was seen between proves nothing.
fn is_excused(history: &History, region: Place, sight: &Sight<'_>, misses: bool, later: Duration) -> bool {
    let Operation { called, returned, .. } = *sight.operation;
    match sight.found {
        None => misses || history.may_be_lost(region, called, returned),
        Some(_) => history.may_be_forgotten(region, returned, later),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Loss, Skew},
        oracles::testing::{HERE, Scribe, THERE, ms},
    };

    #[test]
    fn a_value_that_returns_after_another_is_found_whatever_the_clocks_say() {
        let mut scribe = Scribe::default();
        scribe.read(HERE, 0..1, Some(1));
        scribe.read(HERE, 2..3, Some(2));
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(THERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 0, "elsewhere it may still be on its way");
        scribe.read(HERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn what_has_expired_by_one_clock_only_may_be_seen_once_more() {
        let mut scribe = Scribe::default();
        scribe.set_for(THERE, 0..1, 1, 100);
        scribe.read(HERE, 20..21, Some(1));
        scribe.read(HERE, 70..71, None);
        scribe.read(HERE, 90..91, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.skews = vec![Skew { least_ms: -10, most_ms: 20, back_ms: 0 }, Skew::default()];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(HERE, 60..61, None);
        assert_eq!(scribe.complaints(judge), 1, "no clock was so far ahead");
    }

    #[test]
    fn an_own_write_is_a_sight_as_well() {
        let mut scribe = Scribe::default();
        scribe.read(HERE, 0..1, Some(1));
        scribe.set(HERE, 2..3, 2);
        scribe.read(HERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.operations.clear();
        scribe.read(HERE, 0..1, Some(1));
        scribe.lost_set(HERE, 2..3, 2);
        scribe.read(HERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 0, "it may never have been carried out");
    }

    #[test]
    fn sights_that_overlap_prove_nothing() {
        let mut scribe = Scribe::default();
        scribe.read(HERE, 0..3, Some(1));
        scribe.read(HERE, 2..5, Some(2));
        scribe.read(HERE, 4..6, Some(1));
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn a_value_that_rises_from_the_dead_is_found_unless_it_was_only_mislaid() {
        let mut scribe = Scribe::default();
        scribe.read(HERE, 0..1, Some(1));
        scribe.read(HERE, 2..3, None);
        scribe.read(HERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.may_miss = vec![HERE];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.may_miss.clear();
        scribe.history.losses = vec![Loss { region: HERE, from: ms(1), until: ms(3), whole: true }];
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn a_dead_primary_excuses_only_its_last_moments() {
        let mut scribe = Scribe::default();
        scribe.read(HERE, 0..1, Some(1));
        scribe.set(HERE, 20..21, 2);
        scribe.read(HERE, 40..41, Some(1));
        scribe.history.losses = vec![Loss { region: HERE, from: ms(15), until: ms(30), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.losses[0].from = ms(22);
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn what_comes_home_from_a_dead_primary_is_seen_anew() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 20..21, 2);
        scribe.read(HERE, 40..41, Some(1));
        scribe.read(HERE, 60..61, Some(2));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.losses = vec![Loss { region: HERE, from: ms(15), until: ms(30), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(HERE, 80..81, Some(1));
        assert_eq!(scribe.complaints(judge), 1, "but now it stays");
    }
}
