//! Turns on real threads; `tests/interleavings.rs` tries every order in which they may come.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use crate::turns::Turns;

#[test]
fn what_is_outside_is_not_waited_for() {
    let turns = Turns::new(3);
    assert!(turns.passing().is_over());
    drop(turns.begin(1));
    assert!(turns.passing().is_over());
}

#[test]
fn a_panic_ends_a_turn() {
    let turns = Turns::new(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _turn = turns.begin(0);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(turns.passing().is_over());
}

#[test]
fn a_turn_under_way_is_waited_for_and_a_later_one_is_not() {
    let turns = Turns::new(1);
    let first = turns.begin(0);
    let mut passing = turns.passing();
    assert!(!passing.is_over());
    drop(first);
    let _second = turns.begin(0);
    assert!(passing.is_over());
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
        let mut late = 0;
        for next in 1..done.len() {
            routing.store(next as u64, Relaxed);
            let mut passing = turns.passing();
            while !passing.is_over() {
                thread::yield_now();
            }
            let before = done[next - 1].load(Relaxed);
            thread::yield_now();
            late += done[next - 1].load(Relaxed) - before;
        }
        stop.store(true, Relaxed);
        assert_eq!(late, 0);
    });
}
