//! What happens per second, for INFO: the totals now, compared with those of a while ago.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::stats::Totals;

/// Events per second over the last while.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    commands: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Rates {
    /// Commands per second.
    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(Relaxed)
    }

    /// Bytes per second that clients sent.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Relaxed)
    }

    /// Bytes per second that were sent to clients.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Relaxed)
    }

    /// Takes the totals, `elapsed` after those of `before`.
    pub(crate) fn update(&self, before: &Totals, after: &Totals, elapsed: Duration) {
        let per_second = |before: u64, after: u64| {
            let rate = after.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(1e-3);
            rate as u64
        };
        self.commands.store(per_second(before.calls(), after.calls()), Relaxed);
        self.read_bytes.store(per_second(before.read_bytes, after.read_bytes), Relaxed);
        self.written_bytes.store(per_second(before.written_bytes, after.written_bytes), Relaxed);
    }
}
