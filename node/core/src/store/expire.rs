//! Expiry: values that have ended make room.
//!
//! A value is a miss once the millisecond in which it ends is over, whoever asks; a read drops it on the way. What nobody
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
    table::{Bucket, NEVER},
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

/// Where the sweep goes on.
#[derive(Debug)]
pub(super) struct SweepHand {
    table: usize,
    /// Where in that table, if the walk over it has begun.
    bucket: Option<Bucket>,
    /// The earliest end among the values that the walk has passed.
    due_ms: u64,
}

impl SweepHand {
    pub(super) const fn new() -> Self {
        Self { table: 0, bucket: None, due_ms: NEVER }
    }
}

impl Stripe {
    /// Drops values that have ended, slot by slot, until `visits_max` entries were looked at; goes on there next time,
    /// also in the middle of a slot.
    pub fn sweep(&mut self, now: Time, visits_max: usize) -> Swept {
        let mut swept = Swept::default();
        let now_ms = now.unix_ms();
        // One more than a full round, since the hand may start in the middle of a slot.
        for _ in 0..=self.tables.len() {
            if swept.visited >= visits_max {
                return swept;
            }
            let due = self.tables[self.sweep.table].due_ms < now_ms;
            if due || self.sweep.bucket.is_some() {
                self.sweep_slot(now_ms, visits_max, &mut swept);
            }
            if self.sweep.bucket.is_none() {
                self.sweep.table = (self.sweep.table + 1) % self.tables.len();
            }
        }
        swept.complete = self.sweep.bucket.is_none();
        swept
    }

    fn sweep_slot(&mut self, now_ms: u64, visits_max: usize, swept: &mut Swept) {
        let index = self.sweep.table;
        let Some(slot) = self.slots.at(index) else { return };
        let from = self.sweep.bucket.unwrap_or_else(|| {
            // What is written while the walk pauses brings its own time in here.
            self.tables[index].due_ms = NEVER;
            self.tables[index].first_bucket()
        });
        let (heap, mut due_ms, mut ended) = (&self.heap, self.sweep.due_ms, Vec::new());
        self.sweep.bucket = self.tables[index].walk(from, |handle| {
            swept.visited += 1;
            let held = Entry::at(heap, handle);
            match held.expiry().filter(|_| held.kind() == Kind::Value) {
                Some(expiry) if expiry.has_passed(now_ms) => ended.push(handle),
                Some(expiry) => due_ms = due_ms.min(expiry.unix_ms()),
                None => {}
            }
            swept.visited < visits_max
        });
        self.sweep.due_ms = if self.sweep.bucket.is_some() { due_ms } else { NEVER };
        if self.sweep.bucket.is_none() {
            let table = &mut self.tables[index];
            table.due_ms = table.due_ms.min(due_ms);
        }
        swept.expired += ended.len();
        self.counters.expired += ended.len() as u64;
        for handle in ended {
            let at = Address { slot, hash: self.hash_of(handle) };
            self.drop_value(at, handle);
        }
    }
}
