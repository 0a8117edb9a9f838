//! What was deleted, flushed or has expired stays away.
//!
//! Checks promise 5: a delete, an expiry, a FLUSHALL is final for every write that it has seen, in every region. A read that comes
//! after an acknowledged delete in the same region must not return what is certainly older, from wherever it arrives; and no
//! region returns a value after its time, as far as the clocks can be told apart.

use super::{
    Finding,
    sweep::{Bar, older_reads},
};
use crate::{
    history::{Action, History, Operation},
    limits,
    order::Order,
};

/// See the head of this file.
pub fn judge<'a>(history: &'a History, order: &Order<'a>) -> Finding {
    let bar = |shown: &'a Operation| is_end(shown).then_some(Bar { known: shown.returned, write: shown, shown });
    let mut finding = older_reads(history, order, bar, "a read returned a value that its region had deleted");
    let slack = limits::EXPIRY_SLACK + history.apart();
    for read in &history.operations {
        let Some(written) = read.read_value().and_then(|value| order.write(value)) else { continue };
        let Action::Set(_, Some(ttl)) = written.action else { continue };
        finding.judged += 1;
        // Without an answer nobody knows when it was written.
        if written.is_done() && read.called > written.returned + ttl + slack {
            finding.complain(read.key, "a read returned a value that has expired".to_owned(), &[written, read]);
        }
    }
    finding
}

fn is_end(operation: &Operation) -> bool {
    operation.is_done() && matches!(operation.action, Action::Delete | Action::Flush)
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Action, Loss, Outcome, Skew},
        oracles::testing::{HERE, Scribe, THERE, ms},
    };

    #[test]
    fn a_value_that_comes_back_after_its_delete_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.delete(HERE, 2..3);
        scribe.read(HERE, 4..5, None);
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(HERE, 6..7, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn an_older_write_from_elsewhere_that_arrives_after_the_delete_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(THERE, 0..1, 1);
        scribe.delete(HERE, 2_000..2_001);
        scribe.read(HERE, 2_100..2_101, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.operations[0].returned = ms(1_000);
        assert_eq!(scribe.complaints(judge), 0, "it may be the later of the two");
    }

    #[test]
    fn a_flush_is_final_for_what_it_has_seen() {
        let mut scribe = Scribe::default();
        scribe.set(THERE, 0..1, 1);
        scribe.note(HERE, 2_000..2_001, Action::Flush, Outcome::Done);
        scribe.read(HERE, 2_100..2_101, Some(1));
        assert_eq!(scribe.complaints(judge), 0, "it may not have arrived before");
        scribe.read(HERE, 60..61, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn a_delete_that_may_be_lost_excuses_its_value() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.delete(HERE, 20..21);
        scribe.read(HERE, 40..41, Some(1));
        scribe.history.losses = vec![Loss { region: HERE, from: ms(10), until: ms(30), whole: false }];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.losses.clear();
        scribe.history.operations[1].outcome = Outcome::Unknown("gone".to_owned());
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn a_value_that_outlives_its_time_is_found() {
        let mut scribe = Scribe::default();
        scribe.set_for(HERE, 0..10, 1, 100);
        scribe.read(THERE, 355..356, Some(1));
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(THERE, 361..362, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.skews = vec![Skew { most_ms: 50, ..Skew::default() }, Skew::default()];
        assert_eq!(scribe.complaints(judge), 0, "its expiry follows the clock of its writer");
    }
}
