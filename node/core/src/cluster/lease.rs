//! A primary's lease: how long it may go on taking writes without hearing from the Raft leader.
//!
//! The primary asks, the leader makes sure that it still leads, and answers. The lease counts from the moment of
//! *asking*, on the primary's own monotonic clock; the leader counts from the moment of *answering*, on its own, and
//! waits longer by [`Lease::waits`]. Both clocks need only run at about the same rate: no times are compared. A process
//! that was stopped finds its lease over when it goes on, since monotonic time went on as well.

use std::time::Duration;

/// The primary's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    length: Duration,
    /// In monotonic time of this node.
    until: Duration,
}

impl Lease {
    /// None yet. Each that is granted is this long.
    pub const fn new(length: Duration) -> Self {
        Self { length, until: Duration::ZERO }
    }

    /// The leader has granted what was asked for at `asked`.
    pub fn granted(&mut self, asked: Duration) {
        self.until = self.until.max(asked + self.length);
    }

    /// Until when it runs, in monotonic time of this node.
    pub const fn until(&self) -> Duration {
        self.until
    }

    /// Whether it runs at `now`.
    pub fn holds(&self, now: Duration) -> bool {
        now < self.until
    }

    /// Lets go of it at once: the role has changed, or is about to.
    pub const fn give_up(&mut self) {
        self.until = Duration::ZERO;
    }

    /// How long after its last answer a leader waits until such a lease is certainly over: a tenth longer, for clocks that
    /// do not run at the same rate. Real ones differ by less than a thousandth.
    pub fn waits(length: Duration) -> Duration {
        length + length / 10
    }
}
