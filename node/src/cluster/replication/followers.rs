//! What the replicas of a primary have acknowledged: for WAIT, for `min-replicas-to-write`, for INFO.
//!
//! A replica has followed *until* a time when a batch that ended in a watermark of that time was acknowledged: then it
//! has applied every record that this primary stamped up to there, in every slot. It is the same time that the replica
//! reports to the leader, so what WAIT has promised is what decides who becomes the heir.
//!
//! A feed sends what it has in batches, some time apart, and says how far it is less often still when there is nothing to
//! send. Who waits for a moment while clients wait for him has it hurry: see [`until_as_of`](Followers::until_as_of).

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use clock::Time;
use node_core::cluster::{Epoch, NodeId};
use tokio::sync::{Notify, futures::Notified};

use super::source::Settled;

/// A replica, as its primary knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Follower {
    /// Since when what it is fed has been moving to it; nothing of a replica. What an earlier feed to it has acknowledged says
    /// nothing of this one.
    pub(crate) since: Epoch,
    /// Whether it is connected and has all that there was when it connected.
    pub(crate) is_online: bool,
    /// It has everything up to here; zero if it never had.
    pub(crate) until: Time,
    /// Changes of the log that it has.
    pub(crate) offset: u64,
    /// It has everything that the log named at this moment of the primary's monotonic time, whoever stamped it.
    pub(crate) as_of: Duration,
    /// When it acknowledged something last, in monotonic time.
    pub(crate) heard: Duration,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    followers: Mutex<BTreeMap<NodeId, Follower>>,
    changed: Notify,
    /// The latest moment that somebody waits for, in nanoseconds.
    wanted: AtomicU64,
    wants: Notify,
}

impl Followers {
    /// This is a replica from now on, connected or not; or a mover, to which something has been moving since then.
    pub(super) fn expect(&self, replica: NodeId, since: Epoch) {
        let mut followers = self.lock();
        let follower = followers.entry(replica).or_default();
        if follower.since != since {
            *follower = Follower { since, ..Follower::default() };
        }
    }

    /// A replica is none any more.
    pub(super) fn remove(&self, replica: NodeId) {
        self.lock().remove(&replica);
    }

    /// There are none.
    pub(super) fn clear(&self) {
        self.lock().clear();
        self.changed.notify_waiters();
    }

    /// A replica has acknowledged everything up to a time.
    pub(super) fn acknowledged(&self, replica: NodeId, since: Epoch, settled: Settled, heard: Duration) {
        let Settled { until, offset, as_of, .. } = settled;
        if let Some(follower) = self.lock().get_mut(&replica).filter(|follower| follower.since == since) {
            *follower = Follower { since, is_online: true, until: follower.until.max(until), offset, as_of, heard };
        }
        self.changed.notify_waiters();
    }

    /// A replica is not connected any more. What it has acknowledged it still has, as far as anybody knows.
    pub(super) fn lost(&self, replica: NodeId, since: Epoch) {
        if let Some(follower) = self.lock().get_mut(&replica).filter(|follower| follower.since == since) {
            follower.is_online = false;
        }
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<(NodeId, Follower)> {
        self.lock().iter().map(|(replica, follower)| (*replica, *follower)).collect()
    }

    /// How many have everything up to a time.
    pub(crate) fn count(&self, until: Time) -> usize {
        self.lock().values().filter(|follower| follower.until >= until).count()
    }

    /// How many are connected and were heard no longer ago than `lag_max`.
    pub(crate) fn online(&self, now: Duration, lag_max: Duration) -> usize {
        let is_good = |follower: &&Follower| follower.is_online && now.saturating_sub(follower.heard) <= lag_max;
        self.lock().values().filter(is_good).count()
    }

    /// Up to where all have everything; none if there are no replicas.
    pub(crate) fn least(&self) -> Option<Time> {
        self.lock().values().map(|follower| follower.until).min()
    }

    /// Whether one of them is connected and has all that there was when it connected.
    pub(crate) fn is_online(&self, replica: NodeId) -> bool {
        self.lock().get(&replica).is_some_and(|follower| follower.is_online)
    }

    /// Waits until one of them is online.
    pub(crate) async fn until_online(&self, replica: NodeId) {
        loop {
            let changed = self.changed.notified();
            if self.is_online(replica) {
                return;
            }
            changed.await;
        }
    }

    /// Has everybody look again who waits for a change: what counts has changed.
    pub(crate) fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// Whether a mover is connected, and has all that there was when it connected of what has been moving since then.
    pub(crate) fn is_fed(&self, mover: NodeId, since: Epoch) -> bool {
        self.lock().get(&mover).is_some_and(|follower| follower.is_online && follower.since == since)
    }

    /// Notices whatever changes from this call on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The latest moment, of this node's monotonic time, that somebody waits for all to have.
    pub(super) fn wanted(&self) -> Duration {
        Duration::from_nanos(self.wanted.load(Acquire))
    }

    /// Notices that a later moment is wanted, from this call on.
    pub(super) fn wants(&self) -> Notified<'_> {
        self.wants.notified()
    }

    /// Waits until one of them has everything that the log named at a moment of this node's monotonic time; a mover, of what
    /// has been moving since then. Their feeds hurry.
    pub(crate) async fn until_as_of(&self, replica: NodeId, since: Epoch, moment: Duration) {
        self.wanted.fetch_max(moment.as_nanos() as u64, Release);
        self.wants.notify_waiters();
        loop {
            let changed = self.changed.notified();
            if self
                .lock()
                .get(&replica)
                .is_some_and(|follower| follower.since == since && follower.is_online && follower.as_of >= moment)
            {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::Time;
    use node_core::cluster::{Epoch, Id, NodeId};

    use super::{Followers, Settled};

    fn settled(ms: u64) -> Settled {
        Settled { batch: 1, until: at(ms), offset: 7, as_of: Duration::ZERO }
    }

    const REPLICA: Epoch = Epoch(0);

    fn node(number: u8) -> NodeId {
        NodeId(Id::from_bytes([number; 20]))
    }

    fn at(ms: u64) -> Time {
        Time::from_unix_ms(ms)
    }

    #[test]
    fn what_was_acknowledged_counts_also_when_the_connection_is_lost() {
        let followers = Followers::default();
        [1, 2].into_iter().for_each(|number| followers.expect(node(number), REPLICA));
        assert_eq!((followers.count(at(1)), followers.least()), (0, Some(Time::ZERO)));
        followers.acknowledged(node(1), REPLICA, settled(5), Duration::from_secs(1));
        followers.lost(node(1), REPLICA);
        assert_eq!((followers.count(at(5)), followers.count(at(6))), (1, 0));
        assert_eq!(followers.online(Duration::from_secs(1), Duration::from_secs(10)), 0);
    }

    #[test]
    fn who_was_not_heard_for_long_is_no_good_replica() {
        let followers = Followers::default();
        followers.expect(node(1), REPLICA);
        followers.acknowledged(node(1), REPLICA, settled(5), Duration::from_secs(1));
        assert_eq!(followers.online(Duration::from_secs(11), Duration::from_secs(10)), 1);
        assert_eq!(followers.online(Duration::from_secs(12), Duration::from_secs(10)), 0);
    }

    #[test]
    fn what_was_acknowledged_of_one_move_says_nothing_of_the_next_to_the_same_node() {
        let movers = Followers::default();
        movers.expect(node(1), Epoch(5));
        movers.acknowledged(node(1), Epoch(5), settled(5), Duration::from_secs(1));
        assert!(movers.is_fed(node(1), Epoch(5)) && !movers.is_fed(node(1), Epoch(6)));
        movers.expect(node(1), Epoch(6));
        movers.acknowledged(node(1), Epoch(5), settled(6), Duration::from_secs(1));
        assert!(!movers.is_fed(node(1), Epoch(6)));
    }

    #[test]
    fn nobody_who_is_no_replica_is_counted() {
        let followers = Followers::default();
        followers.acknowledged(node(9), REPLICA, settled(5), Duration::from_secs(1));
        assert_eq!((followers.count(at(1)), followers.least()), (0, None));
    }
}
