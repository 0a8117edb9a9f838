//! CLIENT PAUSE: for a while no client, or none that writes, is served.
//!
//! A connection that meets a pause keeps its request and waits for [`Pause::until_over`]. What a command must ask first
//! is one load of a number that hardly ever changes.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// Who is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Paused {
    /// Nobody.
    Nobody,
    /// Commands that write.
    Writes,
    /// All commands.
    All,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Pause {
    who: AtomicU8,
    /// When it ends, on the monotonic clock.
    end: Mutex<Duration>,
    changed: Notify,
}

impl Default for Pause {
    fn default() -> Self {
        Self { who: AtomicU8::new(Paused::Nobody as u8), end: Mutex::default(), changed: Notify::new() }
    }
}

impl Pause {
    /// Who is paused. Right until the end of a pause has passed and somebody noticed; see [`expire`](Self::expire).
    #[inline]
    pub(crate) fn who(&self) -> Paused {
        match self.who.load(Relaxed) {
            0 => Paused::Nobody,
            1 => Paused::Writes,
            _ => Paused::All,
        }
    }

    /// Begins a pause, or widens and prolongs the one that holds, as Redis does.
    pub(crate) fn begin(&self, who: Paused, end: Duration) {
        let mut until = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        *until = if self.who() == Paused::Nobody { end } else { end.max(*until) };
        self.who.store(self.who().max(who) as u8, Relaxed);
    }

    /// Ends the pause, if one holds.
    pub(crate) fn end(&self) {
        self.who.store(Paused::Nobody as u8, Relaxed);
        self.changed.notify_waiters();
    }

    /// Ends the pause if its time has come.
    pub(crate) fn expire(&self, now: Duration) {
        if self.who() != Paused::Nobody && self.left(now).is_zero() {
            self.end();
        }
    }

    /// Waits until nobody is paused. `now` reads the monotonic clock.
    pub(crate) async fn until_over(&self, now: impl Fn() -> Duration) {
        loop {
            let changed = self.changed.notified();
            self.expire(now());
            if self.who() == Paused::Nobody {
                return;
            }
            // At the timeout the loop looks again: the pause may have been prolonged.
            let _ = tokio::time::timeout(self.left(now()), changed).await;
        }
    }

    fn left(&self, now: Duration) -> Duration {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).saturating_sub(now)
    }
}
