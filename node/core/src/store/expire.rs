//! Expiry: values that have ended make room.
//!
//! A value that has ended is a miss from that millisecond on, whoever asks; a read drops it on the way. What nobody
//! reads is found by a sweep. There is no second index of expiries, which costs Redis half as much again per key:
//! each slot knows only a time before which nothing in it ends, and the sweep visits the slots whose time has come.
//! How much it may visit is the caller's to say; what it leaves stays a miss and is found the next time round.
//!
//! Ending is local, as evicting is: every region does it by its own clock, and nothing is sent.

use clock::Time;

use super::{
    entry::Entry,
    record::Kind,
    stripe::{Address, Stripe},
    table::NEVER,
};

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub visited: usize,
    /// Values that had ended and were dropped.
    pub expired: usize,
    /// Every slot whose time had come was swept.
    pub complete: bool,
}

impl Stripe {
    /// Drops values that have ended, slot by slot, until some `visits_max` entries were looked at.
    pub fn sweep(&mut self, now: Time, visits_max: usize) -> Swept {
        let mut swept = Swept::default();
        let now_ms = now.unix_ms();
        for _ in 0..self.tables.len() {
            if swept.visited >= visits_max {
                return swept;
            }
            let index = self.sweep_hand;
            self.sweep_hand = (index + 1) % self.tables.len();
            if self.tables[index].due_ms <= now_ms {
                self.sweep_slot(index, now_ms, &mut swept);
            }
        }
        swept.complete = true;
        swept
    }

    fn sweep_slot(&mut self, index: usize, now_ms: u64, swept: &mut Swept) {
        let Some(slot) = self.slots.at(index) else { return };
        let mut due_ms = NEVER;
        let mut ended = Vec::new();
        for handle in self.tables[index].handles() {
            swept.visited += 1;
            let held = Entry::at(&self.heap, handle);
            if held.kind() != Kind::Value {
                continue;
            }
            match held.expiry() {
                Some(expiry) if expiry.has_passed(now_ms) => ended.push(handle),
                Some(expiry) => due_ms = due_ms.min(expiry.unix_ms()),
                None => {}
            }
        }
        self.tables[index].due_ms = due_ms;
        swept.expired += ended.len();
        self.counters.expired += ended.len() as u64;
        for handle in ended {
            let at = Address { slot, hash: self.hash_of(handle) };
            self.drop_value(at, handle);
        }
    }
}
