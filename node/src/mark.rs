//! The persisted mark, as workers see it: no stamp above it may leave.
//!
//! Housekeeping moves it ahead of the clock in good time ([`clock::HighWater`]), so a worker's check is one load per
//! turn. Only where the clock has jumped ahead does a turn wait here, and wakes housekeeping so as not to wait long.
//!
//! # Why no stamp can pass it
//! A stamp lies above three times: the worker's clock, the stamps that this node has issued before, and the stamps of the
//! key and its slot, which may come from a region whose clock runs ahead. Each is kept under the mark, by
//! [`MARK_MARGIN`]: the clock by the check before a turn's writes, what comes from elsewhere by the check before a link
//! takes it in ([`covers_or_moves`](Mark::covers_or_moves)), and our own stamps by housekeeping, which moves the mark in
//! each round that finds less than 25 ms above them. From there a stamp only counts up, by 4 ns a write at most: to use up
//! the margin, 2.5 million writes would have to be made one above the other between two rounds, 100 ms apart.
//!
//! Where a region is restamped its stamps begin anew, further back, in another life. Then the mark does as well, or the next start would
//! begin in the future again.
//!
//! So the check is made before the fact and never after: neither a reply nor a record has to be held back.

use std::{
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread::Thread,
};

use clock::Time;
use tokio::sync::Notify;

use crate::limits::MARK_MARGIN;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Mark {
    /// The persisted mark, less the margin.
    limit: AtomicU64,
    /// How far it has to reach for what waits at a link.
    wanted: AtomicU64,
    /// It may go back: nothing that was stamped up to where it is lies ahead any more.
    goes_back: AtomicBool,
    moved: Notify,
    /// Who moves it.
    keeper: OnceLock<Thread>,
}

impl Mark {
    /// Begins where the state file stands; [`Time::MAX`] where none is kept.
    pub(crate) fn new(persisted: Time) -> Self {
        Self {
            limit: AtomicU64::new(below(persisted)),
            wanted: AtomicU64::new(0),
            goes_back: AtomicBool::new(false),
            moved: Notify::new(),
            keeper: OnceLock::new(),
        }
    }

    /// Says which thread moves the mark.
    pub(crate) fn kept_by(&self, keeper: Thread) {
        let _ = self.keeper.set(keeper);
    }

    /// Whether writes of this time may be made.
    #[inline]
    pub(crate) fn covers(&self, time: Time) -> bool {
        time.ntp64() <= self.limit.load(Acquire)
    }

    /// Whether what is stamped up to this time elsewhere may be taken in; if not, has the mark moved. Does not wait.
    pub(crate) fn covers_or_moves(&self, time: Time) -> bool {
        let covers = self.covers(time);
        if !covers {
            self.wanted.fetch_max(time.ntp64(), Relaxed);
            self.wake_keeper();
        }
        covers
    }

    /// Says that stamps begin anew, further back: the mark goes back with them. Until it has, it covers more than it needs to.
    pub(crate) fn begin_anew(&self) {
        self.wanted.store(0, Relaxed);
        self.goes_back.store(true, Release);
        self.wake_keeper();
    }

    /// Whether it may go back; once each time.
    pub(crate) fn goes_back(&self) -> bool {
        self.goes_back.swap(false, AcqRel)
    }

    /// The greatest time that was asked for by [`covers_or_moves`](Self::covers_or_moves).
    pub(crate) fn wanted(&self) -> Time {
        Time::from_ntp64(self.wanted.load(Relaxed))
    }

    /// Moves the mark; it is on disk.
    pub(crate) fn advance(&self, persisted: Time) {
        self.limit.store(below(persisted), Release);
        self.moved.notify_waiters();
    }

    /// Waits until writes of this time may be made.
    pub(crate) async fn until_covers(&self, time: Time) {
        loop {
            let moved = self.moved.notified();
            if self.covers(time) {
                return;
            }
            self.wake_keeper();
            moved.await;
        }
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }
}

/// Up to where stamps are under a mark.
fn below(persisted: Time) -> u64 {
    persisted.before(MARK_MARGIN).ntp64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{HighWater, Time};

    use super::Mark;
    use crate::limits::MARK_MARGIN;

    const NOON: Time = Time::from_unix_ms(1_800_000_000_000);

    #[test]
    fn stamps_stay_a_margin_below_what_is_on_disk() {
        let mark = Mark::new(NOON);
        assert!(mark.covers(NOON.before(MARK_MARGIN)) && !mark.covers(NOON));
        mark.advance(NOON.after(MARK_MARGIN));
        assert!(mark.covers(NOON) && !mark.covers(NOON.next()));
    }

    #[test]
    fn what_a_link_asks_for_is_covered_after_one_move() {
        let (mark, mut marks) = (Mark::new(NOON), HighWater::resume(NOON));
        for ahead in (0..2_000).map(Duration::from_millis) {
            let time = NOON.after(ahead);
            if !mark.covers_or_moves(time) {
                marks.persisted(marks.poll(NOON, mark.wanted()).expect("less is left than is always kept"));
                mark.advance(marks.mark());
                assert!(mark.covers_or_moves(time), "{ahead:?}");
            }
        }
    }
}
