//! A client that moves to another region with a token reads its own writes there.
//!
//! Checks what `REGION TOKEN` and `REGION AWAIT` promise: once a token is reached in a region, what it stands for has arrived, as far
//! as it is of the slots of the node that was asked. So the read that follows returns what the client wrote, or something that is
//! not certainly older. Nothing is right only if the value was deleted or has expired meanwhile, or if the region evicts.

use super::Finding;
use crate::{
    history::{Action, History, Operation},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, order: &Order<'_>) -> Finding {
    let mut finding = Finding::default();
    for read in &history.operations {
        let (Action::Follow(value), Some(found)) = (read.action, read.read()) else { continue };
        let Some(own) = order.write(value) else { continue };
        if history.may_be_lost(read.region, read.called, read.returned) {
            continue;
        }
        finding.judged += 1;
        match found.map(|found| order.write_of(found)) {
            Some(Some(written)) if order.is_before(written, own) => {
                let what = "a client read something older than what it wrote before it moved";
                finding.complain(read.key, what.to_owned(), &[written, own, read]);
            }
            None if !history.may_miss.contains(&read.region) && !may_be_gone(history, order, own, read) => {
                let what = "a client read nothing where it wrote before it moved";
                finding.complain(read.key, what.to_owned(), &[own, read]);
            }
            _ => {}
        }
    }
    finding
}

/// Whether something may have ended the value, or replaced it by one that has ended.
fn may_be_gone(history: &History, order: &Order<'_>, own: &Operation, read: &Operation) -> bool {
    let ends = |other: &Operation| match other.action {
        Action::Delete | Action::Flush | Action::Expire(_) => true,
        Action::Set(_, ttl) => ttl.is_some(),
        _ => false,
    };
    let may_end = |other: &&Operation| {
        let is_possible = other.key == own.key && other.may_be_done() && other.called <= read.returned;
        is_possible && ends(other) && !order.is_before(other, own)
    };
    history.operations.iter().any(|other| may_end(&other))
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::{
        history::{Action, Found, Outcome},
        oracles::testing::{HERE, Scribe, THERE, value},
    };

    fn followed(scribe: &mut Scribe, own: u32, found: Option<u32>) {
        let found = found.map(|number| Found::Value(value(number)));
        scribe.note(THERE, 10..90, Action::Follow(value(own)), Outcome::Found(found));
    }

    #[test]
    fn a_client_that_misses_its_own_write_is_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(HERE, 2..3, 2);
        followed(&mut scribe, 2, Some(2));
        assert_eq!(scribe.complaints(judge), 0);
        followed(&mut scribe, 2, Some(1));
        assert_eq!(scribe.complaints(judge), 1);
        followed(&mut scribe, 2, None);
        assert_eq!(scribe.complaints(judge), 2);
        scribe.history.may_miss = vec![THERE];
        assert_eq!(scribe.complaints(judge), 1);
    }

    #[test]
    fn what_may_be_later_or_may_have_ended_it_is_right() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 2..3, 1);
        scribe.set(THERE, 1..4, 2);
        followed(&mut scribe, 1, Some(2));
        assert_eq!(scribe.complaints(judge), 0);
        scribe.delete(THERE, 5..6);
        followed(&mut scribe, 1, None);
        assert_eq!(scribe.complaints(judge), 0);
        let mut scribe = Scribe::default();
        scribe.delete(HERE, 0..1);
        scribe.set(HERE, 2..3, 1);
        followed(&mut scribe, 1, None);
        assert_eq!(scribe.complaints(judge), 1, "the delete was before");
    }
}
