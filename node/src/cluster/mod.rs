//! This node's part in its region's cluster: the shell around [`node_core::cluster`].
//!
//! ```text
//! bus          every connection between nodes: TLS, channels, frames
//! raft         the map's replicated log: openraft over redb
//! gossip       who answers, and who does not
//! steward      the node's own loop: reports to the leader, takes leases, follows the map; governs if it leads
//! replication  feeds to replicas and from the primary
//! ```
//! What commands need of all this is in [`Cluster`], which is read without a lock.

pub(crate) mod bus;
pub(crate) mod control;
pub(crate) mod replication;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use node_core::cluster::{ClusterMap, NodeId, Run};

/// What the threads of a node know of the cluster that it is in.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// This node.
    pub(crate) me: NodeId,
    /// This process.
    pub(crate) run: Run,
    /// The map, as this node has it.
    map: ArcSwap<ClusterMap>,
    /// Until when this node may take writes, in nanoseconds of its monotonic time.
    lease_until: AtomicU64,
}

impl Cluster {
    /// Not in a cluster yet.
    pub(crate) fn new(me: NodeId, run: Run) -> Self {
        Self { me, run, map: ArcSwap::from_pointee(ClusterMap::new()), lease_until: AtomicU64::new(0) }
    }

    /// The map, as this node has it.
    pub(crate) fn map(&self) -> Arc<ClusterMap> {
        self.map.load_full()
    }

    /// Takes in another map.
    pub(crate) fn set_map(&self, map: Arc<ClusterMap>) {
        self.map.store(map);
    }

    /// Whether this node may take writes at `now`, in monotonic time.
    #[inline]
    pub(crate) fn has_lease(&self, now: Duration) -> bool {
        (now.as_nanos() as u64) < self.lease_until.load(Relaxed)
    }

    /// Until when this node may take writes, in monotonic time.
    pub(crate) fn set_lease(&self, until: Duration) {
        self.lease_until.store(until.as_nanos() as u64, Relaxed);
    }
}
