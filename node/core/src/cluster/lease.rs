//! A primary's lease: how long it may go on taking writes without hearing from the Raft leader.
//!
//! The primary asks, the leader makes sure that it still leads, and answers. The lease counts from the moment of
//! *asking*, on the primary's own monotonic clock; the leader counts from the moment of *answering*, on its own, and
//! waits longer by [`Lease::waits`]. Both clocks need only run at about the same rate: no times are compared. A process
//! that was stopped finds its lease over when it goes on, since monotonic time went on as well.
//!
//! Who gives a lease up may have asked before; the answer may still be on its way, and must not bring the lease back. So
//! only what was asked for afterwards counts. Who takes a resignation back gives up once more: the leader may have acted
//! on the resignation after it had granted what was asked for before.

use std::time::Duration;

/// The primary's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    length: Duration,
    /// In monotonic time of this node.
    until: Duration,
    /// When it was last given up: what was asked for until then is not granted.
    given_up: Option<Duration>,
}

impl Lease {
    /// None yet. Each that is granted is this long.
    pub const fn new(length: Duration) -> Self {
        Self { length, until: Duration::ZERO, given_up: None }
    }

    /// The leader has granted what was asked for at `asked`.
    pub fn granted(&mut self, asked: Duration) {
        if self.given_up.is_none_or(|given_up| asked > given_up) {
            self.until = self.until.max(asked + self.length);
        }
    }

    /// Until when it runs, in monotonic time of this node.
    pub const fn until(&self) -> Duration {
        self.until
    }

    /// Whether it runs at `now`.
    pub fn holds(&self, now: Duration) -> bool {
        now < self.until
    }

    /// Lets go of it at once: the role has changed or is about to, or is not to change after all.
    pub const fn give_up(&mut self, now: Duration) {
        (self.until, self.given_up) = (Duration::ZERO, Some(now));
    }

    /// How long after its last answer a leader waits until such a lease is certainly over: a tenth longer, for clocks that
    /// do not run at the same rate. Real ones differ by less than a thousandth.
    pub fn waits(length: Duration) -> Duration {
        length + length / 10
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Lease;

    const LENGTH: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_counts_from_asking_whatever_the_order_of_the_answers() {
        let mut lease = Lease::new(LENGTH);
        assert!(!lease.holds(Duration::ZERO));
        for asked in [3, 1, 2] {
            lease.granted(Duration::from_secs(asked));
        }
        assert_eq!(lease.until(), Duration::from_secs(4));
        assert!(lease.holds(Duration::from_millis(3_999)) && !lease.holds(Duration::from_secs(4)));
    }

    #[test]
    fn an_answer_to_what_was_asked_before_giving_up_brings_nothing_back() {
        let mut lease = Lease::new(LENGTH);
        lease.granted(Duration::from_secs(5));
        lease.give_up(Duration::from_secs(5));
        lease.granted(Duration::from_secs(5));
        assert!(!lease.holds(Duration::from_secs(5)));
        lease.granted(Duration::from_millis(5_001));
        assert!(lease.holds(Duration::from_secs(6)));
    }
}
