//! This node's part in its region's cluster: the shell around [`node_core::cluster`].
//!
//! ```text
//! bus          every connection between nodes: TLS, channels, frames
//! raft         the map's replicated log: openraft over redb
//! gossip       who answers, and who does not
//! steward      the node's own part: reports to the leader, takes leases, follows the map; hands over, steps aside,
//!              gives and takes slots
//! clocks       whether this node's clock is the one that is wrong
//! government   the leader's loop: reports in, answers and commands out
//! replication  feeds to replicas and from the primary
//! gateways     the gateways of the region, and the way through them to other regions
//! ```
//! What commands need of all this is in [`Cluster`], which is read without a lock.

pub(crate) mod bus;
pub(crate) mod clocks;
pub(crate) mod gateways;
mod gossip;
mod government;
mod hand_over;
mod holds;
mod moves;
mod observed;
mod raft;
mod regions;
mod replication;
pub(crate) mod start;
mod step_aside;
mod steward;
mod takes;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{self, Relaxed},
        },
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use clock::Incarnation;
use node_core::{
    cluster::{ClusterMap, Custody, NodeId, Routing, Run},
    slot::SlotSet,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

pub(crate) use self::{
    gateways::Gateways,
    holds::Hold,
    observed::Observed,
    replication::{Follower, Shared},
};

use self::holds::Holds;
use crate::limits::HOLD_MAX;

/// What the threads of a node know of the cluster that it is in.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// This node.
    pub(crate) me: NodeId,
    /// This process.
    pub(crate) run: Run,
    /// The map, as this node has it.
    map: ArcSwap<ClusterMap>,
    /// What follows from the map and from what is held.
    routing: ArcSwap<Routing>,
    /// Slots that are held. Locked by whoever changes map, custody or routing, so that one always follows from the others.
    held: Mutex<Holds>,
    /// Slots that were given or taken. Locked after `held`.
    custody: Arc<Mutex<Custody>>,
    /// Told of each new routing.
    rerouted: Notify,
    /// Until when this node may take writes, in nanoseconds of its monotonic time.
    lease_until: AtomicU64,
    /// Whether as many replicas follow this primary as `min-replicas-to-write` asks for.
    enough_replicas: AtomicBool,
    /// Whether this node's clock disagrees with most of the region.
    outvoted: AtomicBool,
    /// The clocks of the others minus this one's, in seconds.
    clock_offsets: Mutex<Vec<(NodeId, f64)>>,
    observations: observed::Observations,
    /// The latest life of this region that others know and this cluster may not.
    superseded_by: watch::Sender<Option<Incarnation>>,
    /// What runs, once it does.
    running: OnceLock<Running>,
    /// Messages to and from other nodes, as CLUSTER INFO counts them.
    messages: [AtomicU64; 2],
}

/// What commands need of the parts that run.
#[derive(Debug)]
struct Running {
    replication: Arc<Shared>,
    gateways: Arc<Gateways>,
    /// Wakes who asks the primary to hand over.
    failover: Arc<Notify>,
}

/// How a replica takes the place of its primary when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailoverKind {
    /// The primary hands over and loses nothing.
    HandOver,
    /// The primary is not asked.
    Force,
    /// Neither the primary nor the others are asked.
    TakeOver,
}

/// Why a failover does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FailoverRefused {
    /// The cluster's part of the node does not run yet.
    #[error("ERR this node is still starting")]
    Starting,
    /// A majority decides on that, not a replica.
    #[error(
        "ERR the control plane promotes a replica by itself when a majority finds that the primary has failed; \
         CLUSTER FAILOVER without options hands over while it is there"
    )]
    NotByForce,
}

impl Cluster {
    /// Not in a cluster yet.
    pub(crate) fn new(me: NodeId, run: Run) -> Self {
        let map = ClusterMap::new();
        Self {
            me,
            run,
            routing: ArcSwap::from_pointee(Routing::new(&map, me)),
            map: ArcSwap::from_pointee(map),
            held: Mutex::default(),
            custody: Arc::new(Mutex::new(Custody::new(me, run))),
            rerouted: Notify::new(),
            lease_until: AtomicU64::new(0),
            enough_replicas: AtomicBool::new(true),
            outvoted: AtomicBool::new(false),
            clock_offsets: Mutex::default(),
            observations: observed::Observations::default(),
            superseded_by: watch::Sender::new(None),
            running: OnceLock::new(),
            messages: Default::default(),
        }
    }

    /// The map, as this node has it.
    pub(crate) fn map(&self) -> Arc<ClusterMap> {
        self.map.load_full()
    }

    /// What follows from the map for single requests. Cheap; not to be kept for longer than a turn.
    #[inline]
    pub(crate) fn routing(&self) -> Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// Takes in another map, unless it is older than the one that is here. Slots whose move has come to its end are held
    /// no longer.
    ///
    /// Turns that are under way still go by the former one; [`Server::until_turns_passed`] waits for them.
    ///
    /// [`Server::until_turns_passed`]: crate::server::Server::until_turns_passed
    pub(crate) fn set_map(&self, map: Arc<ClusterMap>) {
        let mut held = self.lock_held();
        let former = self.map.load();
        if map.epoch() < former.epoch() {
            return;
        }
        let ended = former.moves().filter(|(slot, _)| map.target(*slot).is_none());
        held.forget(&ended.map(|(slot, _)| slot).collect());
        self.lock_custody().follow(&former, &map);
        self.observations.keep(&map);
        self.map.store(map);
        self.reroute(&held);
    }

    /// Lets requests for these slots wait: the last moment of a move or of a hand-over, when neither side may answer.
    ///
    /// Whoever holds lets go in the end, whatever that came to. Requests wait no longer than
    /// [`HOLD_MAX`]; then clients are told that the slot is in transit.
    pub(crate) fn hold(&self, slots: &SlotSet) -> Hold {
        let mut held = self.lock_held();
        let hold = held.begin(slots.clone());
        self.reroute(&held);
        hold
    }

    /// Ends what [`hold`](Self::hold) began. What somebody else holds as well stays held.
    pub(crate) fn let_go(&self, hold: Hold) {
        let mut held = self.lock_held();
        held.end(hold);
        self.reroute(&held);
    }

    /// Gives or takes slots, and routes clients by that at once. What is held meanwhile, if anything, is let go.
    pub(crate) fn change_hands<T>(
        &self,
        hold: Option<Hold>,
        change: impl FnOnce(&mut Custody, &Arc<ClusterMap>) -> T,
    ) -> T {
        let mut held = self.lock_held();
        hold.into_iter().for_each(|hold| held.end(hold));
        let changed = change(&mut self.lock_custody(), &self.map.load());
        self.reroute(&held);
        changed
    }

    /// Looks at what was given and taken, or changes what clients are not routed by.
    pub(crate) fn custody<T>(&self, look: impl FnOnce(&mut Custody, &ClusterMap) -> T) -> T {
        // Else the map could be an older one than the custody has followed.
        let _held = self.lock_held();
        look(&mut self.lock_custody(), &self.map.load())
    }

    /// What feeds share of it.
    pub(crate) fn share_custody(&self) -> Arc<Mutex<Custody>> {
        self.custody.clone()
    }

    fn lock_held(&self) -> MutexGuard<'_, Holds> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_custody(&self) -> MutexGuard<'_, Custody> {
        self.custody.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reroute(&self, held: &Holds) {
        let routing = Routing::holding(&self.map.load(), self.me, &held.all(), Some(&self.lock_custody()));
        self.routing.store(Arc::new(routing));
        self.rerouted.notify_waiters();
    }

    /// Waits until something about the slots that requests may wait for has changed, [`HOLD_MAX`] at most. At once if there are
    /// none.
    pub(crate) async fn until_rerouted(&self) {
        // Made first: it notices what happens from here on.
        let rerouted = self.rerouted.notified();
        if self.routing.load().waits() {
            let _ = timeout(HOLD_MAX, rerouted).await;
        }
    }

    /// Whether this node may take writes at `now`, in monotonic time.
    #[inline]
    pub(crate) fn has_lease(&self, now: Duration) -> bool {
        (now.as_nanos() as u64) < self.lease_until.load(Relaxed)
    }

    /// For how long this node may still take writes at `now`, in monotonic time.
    pub(crate) fn lease_left(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.lease_until.load(Relaxed)).saturating_sub(now)
    }

    /// Until when this node may take writes, in monotonic time.
    pub(crate) fn set_lease(&self, until: Duration) {
        // Ordered before whatever `Server::until_turns_passed` looks at: who gives a lease up may wait for that.
        self.lease_until.store(until.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Whether as many replicas follow as `min-replicas-to-write` asks for.
    #[inline]
    pub(crate) fn has_enough_replicas(&self) -> bool {
        self.enough_replicas.load(Relaxed)
    }

    /// Notes whether as many replicas follow as `min-replicas-to-write` asks for.
    pub(crate) fn set_enough_replicas(&self, enough: bool) {
        self.enough_replicas.store(enough, Relaxed);
    }

    /// Whether this node's clock disagrees with most of the region, so that it must take no writes.
    #[inline]
    pub(crate) fn is_outvoted(&self) -> bool {
        self.outvoted.load(Relaxed)
    }

    /// The clocks of the others minus this one's, in seconds, as far as they are known.
    pub(crate) fn clock_offsets(&self) -> Vec<(NodeId, f64)> {
        self.clock_offsets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the comparison of clocks came to.
    pub(crate) fn set_clocks(&self, is_outvoted: bool, offsets: Vec<(NodeId, f64)>) {
        *self.clock_offsets.lock().unwrap_or_else(PoisonError::into_inner) = offsets;
        self.outvoted.store(is_outvoted, Relaxed);
    }

    /// What this node sees of another, or of itself.
    pub(crate) fn observed(&self, node: NodeId) -> Observed {
        self.observations.of(node)
    }

    /// Notes what this node sees of another, or of itself.
    pub(crate) fn observe(&self, node: NodeId, change: impl FnOnce(&mut Observed)) {
        self.observations.note(node, change);
    }

    /// Counts messages that went to other nodes and came from them.
    pub(crate) fn count_messages(&self, sent: u64, received: u64) {
        let [all_sent, all_received] = &self.messages;
        all_sent.fetch_add(sent, Relaxed);
        all_received.fetch_add(received, Relaxed);
    }

    /// How many messages went to other nodes.
    pub(crate) fn messages_sent(&self) -> u64 {
        self.messages[0].load(Relaxed)
    }

    /// How many messages came from other nodes.
    pub(crate) fn messages_received(&self) -> u64 {
        self.messages[1].load(Relaxed)
    }

    /// Notes that another region knows this life of this one.
    pub(crate) fn note_superseded(&self, by: Incarnation) {
        self.superseded_by.send_replace(Some(by));
    }

    /// Notices each life that is [noted](Self::note_superseded).
    pub(crate) fn watch_superseded(&self) -> watch::Receiver<Option<Incarnation>> {
        self.superseded_by.subscribe()
    }

    /// Says what runs. Only the first call counts.
    pub(crate) fn attach(&self, replication: Arc<Shared>, gateways: Arc<Gateways>, failover: Arc<Notify>) {
        let _ = self.running.set(Running { replication, gateways, failover });
    }

    /// What replication shares, once it runs.
    pub(crate) fn replication(&self) -> Option<Arc<Shared>> {
        self.running.get().map(|running| running.replication.clone())
    }

    /// The gateways of the region, once they can attach.
    pub(crate) fn gateways(&self) -> Option<Arc<Gateways>> {
        self.running.get().map(|running| running.gateways.clone())
    }

    /// Makes this replica the primary of its shard.
    ///
    /// # Errors
    /// [`FailoverRefused`]; nothing has begun.
    pub(crate) fn request_failover(&self, kind: FailoverKind) -> Result<(), FailoverRefused> {
        let running = self.running.get().ok_or(FailoverRefused::Starting)?;
        if kind != FailoverKind::HandOver {
            return Err(FailoverRefused::NotByForce);
        }
        tracing::info!("told to take the place of the primary");
        running.failover.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod cluster_tests;
