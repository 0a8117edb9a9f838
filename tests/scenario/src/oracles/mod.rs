//! The judges of a history: one promise in each file.
//!
//! An oracle complains of what cannot have been if the promise was kept, and of nothing else: where the order of two writes is not
//! certain ([`Order`]), where a reply was lost or a primary died, it keeps silent. So a complaint is always a fault, of the
//! product or of the oracle. That they do complain is shown by histories that break each promise, made by hand, in the tests of
//! each file. How much each has judged stands in the verdict, since one that had nothing to judge has shown nothing.
//!
//! | oracle | the promise of the design that it checks |
//! |---|---|
//! | [`written`] | a record is a state (rule 2): every value that is read was really written |
//! | [`monotone`] | 3: in a region a key never goes back to an older stamp |
//! | [`stale`] | 3 and rule 3: no read is older than what its region had seen of the key |
//! | [`finality`] | 5: a delete, an expiry, a FLUSHALL is final |
//! | [`own_writes`] | a token that was reached: a client that moves reads its own writes |
//! | [`register`] | 2: in a region a key is linearizable |
//! | [`equality`] | 4: when all is quiet, regions hold the same |
//! | [`winner`] | rule 3: the greatest stamp wins |
//! | [`ledger`] | 2, 4 and 6: every acknowledged write is accounted for |

pub mod equality;
pub mod finality;
pub mod ledger;
pub mod monotone;
pub mod own_writes;
pub mod register;
pub mod stale;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
pub mod winner;
pub mod written;

use serde::Serialize;

use crate::{
    history::{History, Key, Operation},
    order::Order,
};

/// Something that cannot have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// About which key.
    pub key: Key,
    /// What, in a sentence.
    pub what: String,
    /// The operations that show it.
    pub operations: Vec<Operation>,
}

/// What an oracle has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it has looked at.
    pub judged: usize,
    /// What cannot have been.
    pub violations: Vec<Violation>,
}

/// One oracle.
#[derive(Clone, Copy, Debug)]
pub struct Oracle {
    /// What it is called.
    pub name: &'static str,
    /// What it makes sure of.
    pub claim: &'static str,
    /// Whether it is about what is read; else about what becomes of writes.
    pub of_reads: bool,
    judge: for<'a> fn(&'a History, &Order<'a>) -> Finding,
}

/// All of them.
pub const ALL: [Oracle; 9] = [
    Oracle::of_reads("written", "every value read was really written", written::judge),
    Oracle::of_reads("monotone", "in a region no key goes back", monotone::judge),
    Oracle::of_reads("stale", "no read is older than what its region had seen", stale::judge),
    Oracle::of_reads("finality", "what was deleted, flushed or has expired stays away", finality::judge),
    Oracle::of_reads("own-writes", "a client that moves with a token reads its own writes", own_writes::judge),
    Oracle::of_reads("register", "a key of one region is linearizable", register::judge),
    Oracle::of_writes("equality", "when all is quiet the regions hold the same", equality::judge),
    Oracle::of_writes("winner", "the greatest stamp wins", winner::judge),
    Oracle::of_writes("ledger", "each acknowledged write is accounted for", ledger::judge),
];

impl Oracle {
    const fn of_reads(
        name: &'static str,
        claim: &'static str,
        judge: for<'a> fn(&'a History, &Order<'a>) -> Finding,
    ) -> Self {
        Self { name, claim, of_reads: true, judge }
    }

    const fn of_writes(
        name: &'static str,
        claim: &'static str,
        judge: for<'a> fn(&'a History, &Order<'a>) -> Finding,
    ) -> Self {
        Self { name, claim, of_reads: false, judge }
    }

    /// Judges a history.
    pub fn judge<'a>(&self, history: &'a History, order: &Order<'a>) -> Finding {
        (self.judge)(history, order)
    }
}

impl Finding {
    fn complain(&mut self, key: Key, what: String, operations: &[&Operation]) {
        let operations = operations.iter().map(|operation| (*operation).clone()).collect();
        self.violations.push(Violation { key, what, operations });
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, testing};

    #[test]
    fn no_oracle_complains_of_a_history_in_which_all_went_well() {
        let scribe = testing::well();
        for oracle in ALL {
            let finding = testing::judge(oracle.judge, &scribe.history);
            assert_eq!(finding.violations, [], "{}", oracle.name);
            assert!(finding.judged > 0, "{} had nothing to judge", oracle.name);
        }
    }
}
