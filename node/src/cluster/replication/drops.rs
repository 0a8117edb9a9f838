//! What a node of a shard drops while feeds flow between its primary and its replicas.
//!
//! A slot that leaves a shard, or begins to move to it, is dropped on each node of the shard when that carries out the map that says so.
//! A replica's primary goes by what it has sent: it would take the replica for somebody who still has what it dropped. And a replica that
//! is late would drop what has come with a move already. So no feed outlives a drop, at either end, and none begins before the replica has
//! carried out the map that its primary has (the epoch of the claim in the greeting): then the replica says anew what it has.

use std::sync::{Mutex, MutexGuard, PoisonError};

use node_core::cluster::Epoch;
use tokio::sync::{Notify, futures::Notified};

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    under_way: usize,
    carried: u64,
}

/// How many drops had begun when a feed began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before(u64);

/// While there is one of these nothing is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, State>);

/// Slots are being dropped, for as long as there is one of these.
#[derive(Debug)]
pub(crate) struct Dropping<'a>(&'a Drops);

impl Drops {
    /// No feed that is under way brings or sends anything more, and none begins, until the end of what this returns.
    pub(crate) fn begin(&self) -> Dropping<'_> {
        let mut state = self.state();
        state.begun += 1;
        state.under_way += 1;
        drop(state);
        self.changed.notify_waiters();
        Dropping(self)
    }

    /// The map of this epoch was carried out.
    pub(crate) fn note_carried(&self, epoch: Epoch) {
        self.state().carried = epoch.0;
        self.changed.notify_waiters();
    }

    /// The epoch of the last map that was carried out.
    pub(super) fn carried(&self) -> u64 {
        self.state().carried
    }

    /// A feed may begin now; nothing if something is being dropped.
    pub(super) fn before(&self) -> Option<Before> {
        let state = self.state();
        (state.under_way == 0).then_some(Before(state.begun))
    }

    /// Nothing is dropped while what this returns is held; nothing if something was since a feed began.
    pub(super) fn turn(&self, before: Before) -> Option<Turn<'_>> {
        let state = self.state();
        (Before(state.begun) == before).then_some(Turn(state))
    }

    /// Until something begins or ends, or a map was carried out.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Drops;

    #[test]
    fn no_feed_outlives_a_drop() {
        let drops = Drops::default();
        let before = drops.before().expect("nothing is dropped");
        assert!(drops.turn(before).is_some());
        let dropping = drops.begin();
        assert!(drops.turn(before).is_none());
        assert_eq!(drops.before(), None);
        drop(dropping);
        assert!(drops.turn(before).is_none(), "it has to begin anew");
        assert!(drops.before().is_some_and(|before| drops.turn(before).is_some()));
    }
}
