//! Who is in the middle of a turn, so that a change of the cluster can be waited for until it holds everywhere.
//!
//! A turn decides by what it found at its start: the routing, and whether the lease ran. When a node ceases to own a
//! slot, it must not ship its last records while a turn still writes by the former routing. So it publishes the new one
//! and waits until every turn that may have begun under the old one has ended. Readers pay two stores a turn for that,
//! and a lock nowhere; it is the idea of "read, copy, update", with the turn as the reader's critical section.
//!
//! Each worker has a number that is odd within a turn and even outside. The worker first makes it odd, then loads the
//! routing; the other first stores the routing, then looks at the number. Between the two each has a fence, and fences are in one order
//! for all: so either the worker sees the new routing, or the other sees that it is in a turn. A later number, odd or even, is as
//! good as the end of the turn: what began since saw the new routing.

use crate::atomics::{Acquire, AtomicU64, Relaxed, Release, SeqCst, fence};

/// See the head of this file.
#[derive(Debug)]
pub struct Turns(Box<[Turning]>);

/// One worker's number, on a cache line of its own: it changes with every turn.
#[derive(Debug)]
#[repr(align(128))]
struct Turning(AtomicU64);

/// A turn; ends when dropped, also by a panic.
#[derive(Debug)]
#[must_use]
pub struct InTurn<'t>(&'t AtomicU64);

/// The turns that have to end before what was stored before holds everywhere.
#[derive(Debug)]
#[must_use]
pub struct Passing<'t>(Vec<(&'t AtomicU64, u64)>);

impl Turns {
    /// Of so many workers, all outside.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Turning(AtomicU64::new(0))).collect())
    }

    /// Begins a turn of a worker, counted from zero, which is in none.
    #[inline]
    pub fn begin(&self, worker: usize) -> InTurn<'_> {
        let turn = &self.0[worker].0;
        // The worker alone writes its number. Released, since it also says that the turn before is over.
        turn.store(turn.load(Relaxed) + 1, Release);
        // What the turn loads now must not be older than what whoever looks at the number has stored before.
        fence(SeqCst);
        InTurn(turn)
    }

    /// The turns that have begun before this call and not ended. Turns that begin later see what was stored before it.
    pub fn passing(&self) -> Passing<'_> {
        fence(SeqCst);
        let numbers = self.0.iter().map(|Turning(turn)| (turn, turn.load(Acquire)));
        Passing(numbers.filter(|(_, seen)| seen % 2 == 1).collect())
    }
}

impl Passing<'_> {
    /// Whether all of them have ended, and what they wrote is seen.
    pub fn is_over(&mut self) -> bool {
        self.0.retain(|(turn, seen)| turn.load(Acquire) == *seen);
        self.0.is_empty()
    }
}

impl Drop for InTurn<'_> {
    #[inline]
    fn drop(&mut self) {
        // All that the turn wrote is seen by whoever sees that it is over.
        self.0.store(self.0.load(Relaxed) + 1, Release);
    }
}
