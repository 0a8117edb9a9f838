//! Whether somebody waits to hear that a log was appended to.
//!
//! A writer must not pay for readers that are busy anyway, and a reader that goes to sleep must not miss the append that it sleeps for. So
//! the reader first [asks](News::ask), then looks at the logs once more, each under its stripe's lock, and only then waits. A writer
//! appends and looks at the flag under that same lock: if its append came after the reader's look, so did its own look at the flag.

use crate::atomics::{AtomicBool, Relaxed, SeqCst};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct News(AtomicBool);

impl News {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks to be woken by the next append.
    pub(crate) fn ask(&self) {
        self.0.store(true, SeqCst);
    }

    /// Whether readers are to be woken: somebody has asked, and nobody wakes them already.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.0.load(Relaxed) && self.0.swap(false, SeqCst)
    }
}
