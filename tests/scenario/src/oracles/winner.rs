//! The greatest stamp wins.
//!
//! Checks rule 3: the greater stamp wins, everywhere and always. What stands at a key at the end must not be certainly older than
//! anything that was acknowledged, be it a write, a delete or a FLUSHALL, unless that died with its primary. Whether it is nothing at all
//! that stands there is for the ledger.

use std::collections::BTreeMap;

use super::Finding;
use crate::{
    history::{Action, History, Key, Operation},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, order: &Order<'_>) -> Finding {
    let mut finding = Finding::default();
    let mut newest = newest_by_region(history);
    for last in history.last.iter().filter(|last| history.judged.contains(&last.region)) {
        let Some(standing) = last.found.as_ref().and_then(|found| order.write_of(found)) else { continue };
        finding.judged += 1;
        let rivals = newest.entry(last.key).or_default();
        if let Some(rival) = rivals.iter().find(|rival| order.is_before(standing, rival)) {
            let what = format!("in {} an older value stands than one that was acknowledged", history.name(last.region));
            finding.complain(last.key, what, &[standing, rival]);
        }
    }
    finding
}

/// Per key, of each region that is judged, the acknowledged write or delete that was called last, and the last FLUSHALL, of those
/// that cannot be lost.
fn newest_by_region(history: &History) -> BTreeMap<Key, Vec<&Operation>> {
    let mut newest = BTreeMap::<_, Vec<&Operation>>::new();
    let is_rival = |operation: &&Operation| {
        let Operation { region, called, returned, .. } = **operation;
        let is_change = matches!(operation.action, Action::Set(..) | Action::Delete | Action::Flush);
        let stays = history.judged.contains(&region) && !history.may_be_lost(region, called, returned);
        is_change && operation.is_done() && stays
    };
    for operation in history.operations.iter().filter(is_rival) {
        let rivals = newest.entry(operation.key).or_default();
        let is_flush = |operation: &Operation| operation.action == Action::Flush;
        let is_alike = |rival: &Operation| (rival.region, is_flush(rival)) == (operation.region, is_flush(operation));
        match rivals.iter_mut().find(|rival| is_alike(rival)) {
            Some(rival) if rival.called < operation.called => *rival = operation,
            Some(_) => {}
            None => rivals.push(operation),
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Action, Loss, Outcome},
        oracles::testing::{HERE, Scribe, THERE, ms},
    };

    #[test]
    fn a_lesser_stamp_that_wins_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.read(THERE, 60..61, Some(1));
        scribe.set(THERE, 62..63, 2);
        scribe.ends([Some(2), Some(2)]);
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.last.clear();
        scribe.ends([Some(1), Some(1)]);
        assert_eq!(scribe.complaints(judge), 2);
    }

    #[test]
    fn an_older_value_that_stands_against_a_delete_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(THERE, 0..1, 1);
        scribe.delete(HERE, 2_000..2_001);
        scribe.ends([None, Some(1)]);
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn a_value_that_a_flush_had_seen_and_that_stands_elsewhere_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(THERE, 0..1, 1);
        scribe.note(HERE, 2_000..2_001, Action::Flush, Outcome::Done);
        scribe.ends([None, Some(1)]);
        assert_eq!(scribe.complaints(judge), 0, "it may not have arrived before");
        scribe.read(HERE, 60..61, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.set(HERE, 2_002..2_003, 2);
        assert_eq!(scribe.complaints(judge), 1, "what was written after it is another rival");
        scribe.history.losses = vec![Loss { region: HERE, from: ms(1_999), until: ms(2_004), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn of_two_at_once_either_may_win() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(THERE, 2..3, 2);
        scribe.ends([Some(1), Some(1)]);
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn what_died_with_its_primary_is_no_rival() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 20..21, 2);
        scribe.ends([Some(1), Some(1)]);
        assert_eq!(scribe.complaints(judge), 2);
        scribe.history.losses = vec![Loss { region: HERE, from: ms(15), until: ms(30), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
    }
}
