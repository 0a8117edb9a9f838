//! No read is older than what its region had seen of the key.
//!
//! Checks promise 3 (within a region a key never goes back to an older stamp) and rule 3 (a local write is stamped above
//! everything it could have seen). What a region has seen is what its clients wrote there and what they read there; where a
//! primary died, what was seen last before that does not count.

use super::{
    Finding,
    sweep::{Bar, older_reads},
};
use crate::{
    history::{History, Operation, ValueId},
    order::Order,
};

/// See the head of this file.
pub fn judge<'a>(history: &'a History, order: &Order<'a>) -> Finding {
    let bar = |shown: &'a Operation| {
        let value = seen(shown)?;
        Some(Bar { known: shown.returned, write: order.write(value)?, shown })
    };
    older_reads(history, order, bar, "a read returned a value that is older than what its region had seen")
}

/// What a region had certainly seen once this was answered.
fn seen(shown: &Operation) -> Option<ValueId> {
    shown.value().filter(|_| shown.is_done()).or_else(|| shown.read_value())
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::Loss,
        oracles::testing::{HERE, Scribe, THERE, ms},
    };

    #[test]
    fn a_value_that_was_overwritten_in_its_region_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        scribe.read(HERE, 4..5, Some(2));
        assert_eq!(scribe.complaints(judge), 0);
        scribe.read(HERE, 6..7, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn a_value_older_than_one_that_had_arrived_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        scribe.read(THERE, 60..61, Some(2));
        scribe.read(THERE, 60..61, Some(1));
        assert_eq!(scribe.complaints(judge), 0, "two reads at once may be in either order");
        scribe.read(THERE, 62..63, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn concurrent_writes_may_go_either_way() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..5, 1);
        scribe.set(HERE, 1..4, 2);
        scribe.set(THERE, 0..5, 3);
        scribe.read(HERE, 6..7, Some(1));
        scribe.read(HERE, 8..9, Some(3));
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn a_dead_primary_excuses_what_it_had_taken_last_and_no_more() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 20..21, 2);
        scribe.read(HERE, 40..41, Some(1));
        let loss = |from| Loss { region: HERE, from: ms(from), until: ms(30), whole: false };
        scribe.history.losses = vec![loss(15)];
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.losses = vec![loss(25)];
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.losses[0].whole = true;
        assert_eq!(scribe.complaints(judge), 0, "nobody was left who knew");
    }
}
