//! [`node_core::cluster::Progress`], shared by the threads of a node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use clock::Incarnation;
use node_core::cluster::Progress as State;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<State>);

impl Progress {
    /// The incarnation under which local writes can be stamped.
    pub(crate) fn serving(&self) -> Option<Incarnation> {
        self.lock().serving()
    }

    /// Of which incarnation the store has all up to what it has seen; none before its first full copy.
    pub(crate) fn holding(&self) -> Option<Incarnation> {
        self.lock().holding()
    }

    /// Locks it, to change it or to ask for more.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
