//! A key that one region alone uses is linearizable.
//!
//! Checks promise 2: in a region, single-key operations on the primary are linearizable, but for what a primary lost that
//! died. So the history of such a key is that of a register ([`linearizable`]), up to the first death in
//! its region; where a region evicts a key may always be empty, and there is nothing to judge.

use std::{collections::BTreeMap, time::Duration};

use super::Finding;
use crate::{
    history::{Action, Found, History, Key, Kind, Operation, Outcome, Place, ValueId},
    linearizable::{self, is_linearizable},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, _: &Order<'_>) -> Finding {
    let mut keys: BTreeMap<Key, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        if let Kind::Own(region) = operation.key.kind
            && !history.may_miss.contains(&region)
            && operation.called < first_death(history, region)
        {
            keys.entry(operation.key).or_default().push(operation);
        }
    }
    let mut finding = Finding::default();
    for (key, operations) in keys {
        let Kind::Own(region) = key.kind else { continue };
        let death = first_death(history, region);
        let told: Vec<_> = operations.iter().filter_map(|operation| told(operation, region, death)).collect();
        finding.judged += told.len();
        if !is_linearizable(&told) {
            let what = format!("no order of its {} operations explains what was read", told.len());
            finding.complain(key, what, &operations);
        }
    }
    finding
}

/// When a region may first have lost something.
fn first_death(history: &History, region: Place) -> Duration {
    let deaths = history.losses.iter().filter(|loss| loss.region == region).map(|loss| loss.from);
    deaths.min().unwrap_or(Duration::MAX)
}

/// An operation as the search takes it; none if it tells nothing. What was answered after a death may be undone by it; and a
/// FLUSHALL of another region comes when its link brings it, or not at all, if what it would have ended is newer.
fn told(operation: &Operation, region: Place, death: Duration) -> Option<linearizable::Operation> {
    let is_known = operation.is_done() && operation.returned < death && operation.region == region;
    let action = match (&operation.action, &operation.outcome) {
        (_, Outcome::Refused(_)) => return None,
        (Action::Set(value, _), _) => linearizable::Action::Set(number(*value)),
        (Action::Delete, Outcome::Was(was)) if is_known => linearizable::Action::Delete(Some(*was)),
        (Action::Delete | Action::Flush, _) => linearizable::Action::Delete(None),
        (Action::Get, Outcome::Found(None)) if is_known => linearizable::Action::Read(None),
        (Action::Get, Outcome::Found(Some(Found::Value(value)))) if is_known => {
            linearizable::Action::Read(Some(number(*value)))
        }
        _ => return None,
    };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let returned = is_known.then(|| nanos(operation.returned));
    Some(linearizable::Operation { called: nanos(operation.called), returned, action })
}

/// A value as a number.
fn number(ValueId { client, number }: ValueId) -> u64 {
    u64::from(client.0) << 32 | u64::from(number)
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Action, Loss, Outcome},
        oracles::testing::{HERE, OWN, Scribe, THERE, ms},
    };

    fn scribe() -> Scribe {
        Scribe { key: OWN, ..Scribe::default() }
    }

    #[test]
    fn a_lost_write_is_found_unless_its_primary_died() {
        let mut scribe = scribe();
        scribe.set(HERE, 0..1, 1);
        scribe.read(HERE, 2..3, None);
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.losses = vec![Loss { region: HERE, from: ms(0), until: ms(2), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn what_was_judged_before_a_death_stays_judged() {
        let mut scribe = scribe();
        scribe.set(HERE, 0..1, 1);
        scribe.read(HERE, 2..3, None);
        scribe.set(HERE, 20..21, 2);
        scribe.history.losses = vec![Loss { region: HERE, from: ms(10), until: ms(30), whole: true }];
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn a_flush_elsewhere_comes_when_it_comes_and_one_here_at_once() {
        let mut scribe = scribe();
        scribe.set(HERE, 0..1, 1);
        scribe.note(THERE, 2..3, Action::Flush, Outcome::Done);
        scribe.read(HERE, 4..5, Some(1));
        scribe.read(HERE, 60..61, None);
        assert_eq!(scribe.complaints(judge), 0);
        scribe.set(HERE, 62..63, 2);
        scribe.note(HERE, 64..65, Action::Flush, Outcome::Done);
        scribe.read(HERE, 66..67, Some(2));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn a_write_without_an_answer_may_come_late_or_never() {
        let mut scribe = scribe();
        scribe.lost_set(HERE, 0..1, 1);
        scribe.refused_set(HERE, 0..1, 2);
        scribe.read(HERE, 2..3, None);
        scribe.read(HERE, 4..5, Some(1));
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(HERE, 6..7, Some(2));
        assert_eq!(scribe.complaints(judge), 1);
    }
}
