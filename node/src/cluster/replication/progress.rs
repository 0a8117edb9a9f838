//! How far a node is in what it is to be: what its store may be used for, and what a replica can say that it holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use clock::Incarnation;

use super::stamped;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The store stamps under this one.
    serves: Option<Incarnation>,
    /// The store has all that this incarnation had when it was last followed, or stamped it itself.
    holds: Option<Incarnation>,
    /// What this node had and its primary lacked was returned, so it may be fed.
    has_returned: bool,
}

impl Progress {
    /// The incarnation under which local writes can be stamped.
    pub(crate) fn serving(&self) -> Option<Incarnation> {
        self.lock().serves
    }

    /// Of which incarnation the store has all up to what it has seen; none before its first full copy.
    pub(crate) fn holding(&self) -> Option<Incarnation> {
        self.lock().holds
    }

    /// Whether the primary may feed this node.
    pub(super) fn may_be_fed(&self) -> bool {
        self.lock().has_returned
    }

    pub(super) fn idle(&self) {
        let mut state = self.lock();
        (state.serves, state.has_returned) = (None, false);
    }

    pub(super) fn serves(&self, incarnation: Incarnation) {
        let mut state = self.lock();
        (state.serves, state.holds) = (Some(incarnation), Some(incarnation));
    }

    /// A replica begins to follow, whose store stamped as `former` before.
    pub(super) fn follows(&self, former: Incarnation) {
        let mut state = self.lock();
        (state.serves, state.has_returned) = (None, false);
        if let Some(former) = stamped(former) {
            state.holds = Some(former);
        }
    }

    pub(super) fn has_returned(&self) {
        self.lock().has_returned = true;
    }

    /// A replica has all that its primary had when it connected.
    pub(super) fn is_full_copy(&self, of: Incarnation) {
        self.lock().holds = Some(of);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
