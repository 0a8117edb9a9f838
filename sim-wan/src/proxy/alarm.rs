//! Wakes one thread at a given time, to a fraction of a millisecond.
//!
//! Tokio's timers count whole milliseconds and round up, so a delay of 50 ms would become one of 50 to 51.5. A
//! condition variable with a time-out waits in nanoseconds (on Linux a futex, late by the 50 µs of timer slack) and
//! costs nothing while it waits. Nothing spins.
//!
//! The protocol has no lost wake-up: the waiting thread calls [`rearm`](Alarm::rearm) *before* it looks for the next
//! deadline, so whatever becomes due earlier while it looks lowers the deadline that it will then find.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A deadline that anyone may bring forward, and one thread that waits for it.
#[derive(Debug)]
pub(super) struct Alarm {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    deadline: Duration,
    stopped: bool,
}

impl Alarm {
    pub(super) fn new(started: Instant) -> Self {
        let state = State { deadline: Duration::MAX, stopped: false };
        Self { started, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Wakes the waiting thread at this time, counted from the start, unless it wakes earlier anyway.
    pub(super) fn ring_by(&self, at: Duration) {
        let mut state = self.lock();
        if at < state.deadline {
            state.deadline = at;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Wakes the waiting thread for good.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Forgets the deadline. To be called before looking for the next one.
    pub(super) fn rearm(&self) {
        self.lock().deadline = Duration::MAX;
    }

    /// Waits until `at`, or until what [`ring_by`](Self::ring_by) said since [`rearm`](Self::rearm). False when stopped.
    pub(super) fn wait_until(&self, at: Duration) -> bool {
        let mut state = self.lock();
        state.deadline = state.deadline.min(at);
        while !state.stopped {
            let left = state.deadline.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Two plain fields, each valid at any moment: a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::Alarm;

    #[test]
    fn it_never_rings_early() {
        let started = Instant::now();
        let alarm = Alarm::new(started);
        for ms in [1, 2, 5] {
            let at = started.elapsed() + Duration::from_millis(ms);
            alarm.rearm();
            assert!(alarm.wait_until(at));
            assert!(started.elapsed() >= at);
        }
    }

    #[test]
    fn a_deadline_brought_forward_while_looking_is_not_missed() {
        let alarm = Alarm::new(Instant::now());
        alarm.rearm();
        alarm.ring_by(Duration::ZERO);
        assert!(alarm.wait_until(Duration::MAX));
    }

    #[test]
    fn it_can_be_brought_forward_and_stopped_from_another_thread() {
        let alarm = Alarm::new(Instant::now());
        alarm.rearm();
        thread::scope(|threads| {
            threads.spawn(|| alarm.ring_by(Duration::from_millis(1)));
            assert!(alarm.wait_until(Duration::MAX));
        });
        alarm.rearm();
        thread::scope(|threads| {
            threads.spawn(|| alarm.stop());
            assert!(!alarm.wait_until(Duration::MAX));
        });
    }
}
