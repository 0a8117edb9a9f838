//! What this node sees of the others and the map does not say: links, suspicions, how far replication is.
//!
//! Gossip and replication write it down here as they notice it; commands show it. Nothing is decided by it.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use clock::Time;
use node_core::cluster::{ClusterMap, NodeId};

/// What one node sees of another, or of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The link to it stands.
    pub(crate) connected: bool,
    /// Since when the link stands, if that is known.
    pub(crate) connected_since: Option<Time>,
    /// It does not answer this node.
    pub(crate) suspected: bool,
    /// How many nodes have said that they suspect it.
    pub(crate) reports: u32,
    /// When it was asked what it has not answered yet.
    pub(crate) asked: Option<Time>,
    /// When it answered last.
    pub(crate) answered: Option<Time>,
    /// How far it is in what it has stamped or received, in Redis's terms of a replication offset.
    pub(crate) offset: u64,
    /// It is still receiving its data.
    pub(crate) loading: bool,
}

/// Of a node that nothing was noticed of.
impl Default for Observed {
    fn default() -> Self {
        Self {
            connected: true,
            connected_since: None,
            suspected: false,
            reports: 0,
            asked: None,
            answered: None,
            offset: 0,
            loading: false,
        }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Observations(RwLock<BTreeMap<NodeId, Observed>>);

impl Observations {
    pub(super) fn of(&self, node: NodeId) -> Observed {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node).copied().unwrap_or_default()
    }

    pub(super) fn note(&self, node: NodeId, change: impl FnOnce(&mut Observed)) {
        change(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(node).or_default());
    }

    /// Forgets who is not in the cluster any more.
    pub(super) fn keep(&self, map: &ClusterMap) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|node, _| map.node(*node).is_some());
    }
}
