//! Every value read was really written.
//!
//! Checks rule 2 (a record is a state, which merge takes or leaves whole) from the side of clients: no byte of a value is of
//! nobody, none is of another key, none comes before it was asked for, and what was refused is nowhere to be seen. A counter is
//! at least one and at most as many as INCR was asked for, the lost ones included.

use std::{collections::BTreeMap, time::Duration};

use super::Finding;
use crate::{
    history::{Action, Found, History, Key, Operation, Outcome},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, order: &Order<'_>) -> Finding {
    let mut finding = Finding::default();
    let counted = increments(history);
    for read in &history.operations {
        let found = match &read.outcome {
            Outcome::Found(Some(found)) => found.clone(),
            Outcome::Number(number) => Found::Number(*number),
            _ => continue,
        };
        finding.judged += 1;
        if let Some((what, written)) = complaint(order, &counted, read.key, &found, read.returned) {
            let shown: Vec<_> = written.into_iter().chain([read]).collect();
            finding.complain(read.key, what, &shown);
        }
    }
    for last in &history.last {
        let Some(found) = &last.found else { continue };
        finding.judged += 1;
        if let Some((what, written)) = complaint(order, &counted, last.key, found, Duration::MAX) {
            let what = format!("at the end, in {}: {what}", history.name(last.region));
            finding.complain(last.key, what, &written.into_iter().collect::<Vec<_>>());
        }
    }
    finding
}

/// When INCR of each key was called, in order.
fn increments(history: &History) -> BTreeMap<Key, Vec<Duration>> {
    let mut counted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let may_count = |operation: &&Operation| operation.action == Action::Increment && operation.may_be_done();
    for operation in history.operations.iter().filter(may_count) {
        counted.entry(operation.key).or_default().push(operation.called);
    }
    counted.values_mut().for_each(|times| times.sort());
    counted
}

/// What is wrong with something that was found at a key by a time, and who wrote it.
fn complaint<'a>(
    order: &Order<'a>,
    counted: &BTreeMap<Key, Vec<Duration>>,
    key: Key,
    found: &Found,
    by: Duration,
) -> Option<(String, Option<&'a Operation>)> {
    if let Found::Number(number) = found {
        let times = counted.get(&key).map_or(&[][..], Vec::as_slice);
        let most = times.partition_point(|called| *called <= by) as u64;
        let what = format!("the counter is {number}, where INCR was asked for {most} times");
        return (!(1..=most).contains(number)).then_some((what, None));
    }
    let Some(written) = order.write_of(found) else { return Some((format!("nobody has written {found}"), None)) };
    let what = match written {
        _ if written.key != key => format!("{found} was written to {}", written.key),
        _ if !written.may_be_done() => format!("{found} was refused, and is there all the same"),
        _ if written.called > by => format!("{found} was read before it was written"),
        _ => return None,
    };
    Some((what, Some(written)))
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Action, Found, Outcome},
        oracles::testing::{self, COUNTER, HERE, OWN, Scribe, THERE},
    };

    /// The first complaint about a history.
    fn complaint(scribe: &Scribe) -> Option<String> {
        testing::judge(judge, &scribe.history).violations.into_iter().next().map(|violation| violation.what)
    }

    #[test]
    fn a_value_of_nobody_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.lost_set(HERE, 0..1, 2);
        scribe.read(THERE, 2..3, Some(1));
        scribe.read(THERE, 2..3, Some(2));
        assert_eq!(complaint(&scribe), None);
        scribe.read(THERE, 2..3, Some(3));
        assert_eq!(complaint(&scribe).as_deref(), Some("nobody has written c1.3"));
    }

    #[test]
    fn torn_bytes_are_found() {
        let mut scribe = Scribe::default();
        scribe.note(HERE, 0..1, Action::Get, Outcome::Found(Some(Found::Strange("c1.1..x".to_owned()))));
        assert_eq!(complaint(&scribe).as_deref(), Some("nobody has written \"c1.1..x\""));
    }

    #[test]
    fn what_was_refused_is_nowhere() {
        let mut scribe = Scribe::default();
        scribe.refused_set(HERE, 0..1, 1);
        scribe.ends([None, Some(1)]);
        assert!(complaint(&scribe).unwrap().contains("at the end, in there: c1.1 was refused"));
    }

    #[test]
    fn a_value_of_another_key_or_of_the_future_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 5..6, 1);
        scribe.read(HERE, 2..3, Some(1));
        assert!(complaint(&scribe).unwrap().contains("before it was written"));
        scribe.history.operations.pop();
        scribe.key = OWN;
        scribe.read(HERE, 7..8, Some(1));
        assert!(complaint(&scribe).unwrap().contains("was written to shared:0"));
    }

    #[test]
    fn a_counter_above_what_was_counted_is_found() {
        let mut scribe = Scribe { key: COUNTER, ..Scribe::default() };
        scribe.note(HERE, 0..1, Action::Increment, Outcome::Number(1));
        scribe.note(HERE, 0..1, Action::Increment, Outcome::Unknown("gone".to_owned()));
        scribe.note(THERE, 2..3, Action::Get, Outcome::Found(Some(Found::Number(2))));
        assert_eq!(complaint(&scribe), None);
        scribe.note(THERE, 2..3, Action::Get, Outcome::Found(Some(Found::Number(3))));
        assert!(complaint(&scribe).unwrap().contains("the counter is 3"));
    }
}
