//! The persisted mark, as workers see it: no stamp above it may leave.
//!
//! Housekeeping moves it ahead of the clock in good time ([`clock::HighWater`]), so a worker's check is one load per
//! turn. Only where the clock has jumped ahead does a turn wait here, and wakes housekeeping so as not to wait long.

use std::{
    sync::{
        OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    thread::Thread,
};

use clock::Time;
use tokio::sync::Notify;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Mark {
    persisted: AtomicU64,
    moved: Notify,
    /// Who moves it.
    keeper: OnceLock<Thread>,
}

impl Mark {
    /// Begins where the state file stands; [`Time::MAX`] where none is kept.
    pub(crate) fn new(persisted: Time) -> Self {
        Self { persisted: AtomicU64::new(persisted.ntp64()), moved: Notify::new(), keeper: OnceLock::new() }
    }

    /// Says which thread moves the mark.
    pub(crate) fn kept_by(&self, keeper: Thread) {
        let _ = self.keeper.set(keeper);
    }

    /// Whether writes of this time may be made.
    #[inline]
    pub(crate) fn covers(&self, time: Time) -> bool {
        time.ntp64() <= self.persisted.load(Acquire)
    }

    /// Moves the mark; it is on disk.
    pub(crate) fn advance(&self, persisted: Time) {
        self.persisted.store(persisted.ntp64(), Release);
        self.moved.notify_waiters();
    }

    /// Waits until writes of this time may be made.
    pub(crate) async fn until_covers(&self, time: Time) {
        loop {
            let moved = self.moved.notified();
            if self.covers(time) {
                return;
            }
            if let Some(keeper) = self.keeper.get() {
                keeper.unpark();
            }
            moved.await;
        }
    }
}
