//! When an end of a connection works again if nothing happens before: the earliest time that it asked for.

use std::time::Duration;

/// See the head of this file. In true time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alarm(Option<Duration>);

impl Alarm {
    /// Asks to be woken at a time. Returns whether that is news: it was to be later, or not at all.
    pub(super) fn set(&mut self, at: Duration) -> bool {
        let is_news = self.0.is_none_or(|former| former > at);
        if is_news {
            self.0 = Some(at);
        }
        is_news
    }

    /// It is `now`. Returns whether it was set to that; if it was, it is set no more. One that was set earlier meanwhile stays.
    pub(super) fn rings(&mut self, now: Duration) -> bool {
        self.0.take_if(|at| *at == now).is_some()
    }
}
