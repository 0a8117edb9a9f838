//! Who is in the middle of a turn, so that a change of the cluster can be waited for until it holds everywhere.
//!
//! A turn decides by what it found at its start: the routing, and whether the lease ran. When a node ceases to own a
//! slot, it must not ship its last records while a turn still writes by the former routing. So it publishes the new one
//! and waits until every turn that may have begun under the old one has ended. Readers pay two stores a turn for that,
//! and a lock nowhere; it is the idea of "read, copy, update", with the turn as the reader's critical section.
//!
//! Each worker has a number that is odd within a turn and even outside. The worker first makes it odd, then loads the
//! routing; the other first stores the routing, then looks at the number. Both orders are sequentially consistent, so
//! either the worker sees the new routing, or the other sees that it is in a turn. A later number, odd or even, is as
//! good as the end of the turn: what began since saw the new routing.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use tokio::{task::yield_now, time::sleep};

use crate::limits::{TURN_GLANCES, TURN_REST};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Turns(Box<[Turning]>);

/// One worker's number, on a cache line of its own: it changes with every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turning(AtomicU64);

/// A turn; ends when dropped, also by a panic.
#[derive(Debug)]
#[must_use]
pub(crate) struct InTurn<'t>(&'t AtomicU64);

impl Turns {
    /// Of so many workers, all outside.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Turning::default()).collect())
    }

    /// Begins a turn of a worker, which is in none.
    #[inline]
    pub(crate) fn begin(&self, worker: usize) -> InTurn<'_> {
        let turn = &self.0[worker].0;
        // The worker alone writes its number. Released, since it also says that the turn before is over.
        turn.store(turn.load(Relaxed) + 1, Release);
        // What the turn loads now must not be older than what whoever looks at the number has stored before.
        fence(SeqCst);
        InTurn(turn)
    }

    /// Waits until every turn that has begun before this call has ended. What was stored before it is seen by all
    /// others.
    pub(crate) async fn until_passed(&self) {
        fence(SeqCst);
        for Turning(turn) in &self.0 {
            let seen = turn.load(SeqCst);
            let is_under_way = || seen % 2 == 1 && turn.load(Acquire) == seen;
            let mut glances = 0..TURN_GLANCES;
            while is_under_way() {
                match glances.next() {
                    Some(_) => yield_now().await,
                    None => sleep(TURN_REST).await,
                }
            }
        }
    }
}

impl Drop for InTurn<'_> {
    #[inline]
    fn drop(&mut self) {
        // All that the turn wrote is seen by whoever sees that it is over.
        self.0.store(self.0.load(Relaxed) + 1, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        thread,
    };

    use tokio::runtime::{Builder, Runtime};

    use super::Turns;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn what_is_outside_is_not_waited_for() {
        let turns = Turns::new(3);
        runtime().block_on(turns.until_passed());
        drop(turns.begin(1));
        runtime().block_on(turns.until_passed());
    }

    #[test]
    fn a_panic_ends_a_turn() {
        let turns = Turns::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _turn = turns.begin(0);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        runtime().block_on(turns.until_passed());
    }

    #[test]
    fn a_turn_under_way_is_waited_for_and_a_later_one_is_not() {
        let turns = Turns::new(1);
        let first = turns.begin(0);
        runtime().block_on(async {
            let mut passed = Box::pin(turns.until_passed());
            let mut is_done = async || tokio::select! { biased; () = &mut passed => true, () = async {} => false };
            assert!(!is_done().await);
            drop(first);
            let _second = turns.begin(0);
            assert!(is_done().await);
        });
    }

    #[test]
    fn no_turn_goes_by_what_was_replaced_before_it_was_waited_for() {
        // Workers count what they do under the number that they found; after the wait nothing is counted under the old.
        let (turns, routing, stop) = (Turns::new(2), AtomicU64::new(0), AtomicBool::new(false));
        let done: [AtomicU64; 64] = std::array::from_fn(|_| AtomicU64::new(0));
        thread::scope(|scope| {
            for worker in 0..2 {
                let (turns, routing, stop, done) = (&turns, &routing, &stop, &done);
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        let _turn = turns.begin(worker);
                        let found = routing.load(Relaxed);
                        thread::yield_now();
                        done[found as usize].fetch_add(1, Relaxed);
                    }
                });
            }
            let (runtime, mut late) = (runtime(), 0);
            for next in 1..done.len() {
                routing.store(next as u64, Relaxed);
                runtime.block_on(turns.until_passed());
                let before = done[next - 1].load(Relaxed);
                thread::yield_now();
                late += done[next - 1].load(Relaxed) - before;
            }
            stop.store(true, Relaxed);
            assert_eq!(late, 0);
        });
    }
}
