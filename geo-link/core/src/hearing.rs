//! Whether another region is heard, or must be relayed by those that hear it.

use std::time::Duration;

use clock::Now;

use crate::limits::DEAF_AFTER;

/// When a region was last heard, over whichever of its streams.
///
/// A region with a link that is connected may be silent all the same: what a black hole swallows ends no connection for seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing {
    /// In monotonic time.
    last: Duration,
}

impl Hearing {
    /// Nothing was heard yet, and it is waited for from now on.
    pub(crate) const fn new(now: Now) -> Self {
        Self { last: now.monotonic }
    }

    /// A stream of the region was last heard at `at`, in monotonic time.
    pub(crate) fn hear(&mut self, at: Duration) {
        self.last = self.last.max(at);
    }

    /// Whether nothing was heard for [`DEAF_AFTER`].
    pub(crate) fn is_deaf(&self, now: Now) -> bool {
        now.monotonic >= self.last + DEAF_AFTER
    }
}
