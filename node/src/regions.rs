//! The other regions, as this node has them: those of its file, and over them what operators have said since.
//!
//! A client that adds or removes one is answered once that is under way, as with CLUSTER FAILOVER: in a cluster it must be agreed
//! on, in a region of one node it is written to the state directory first. Then links begin or end, and `REGION STATUS` shows it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use clock::RegionId;
use node_core::cluster::{Peer, RegionChange, Regions};
use tokio::sync::mpsc;

use crate::limits::REGION_CHANGES_WAITING;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct OtherRegions {
    configured: Vec<Peer>,
    peers: ArcSwap<Vec<Peer>>,
    wanted: mpsc::Sender<Wish>,
    /// For who carries them out, until it has taken it.
    wishes: Mutex<Option<mpsc::Receiver<Wish>>>,
}

/// What an operator wants of this region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Another region comes or goes.
    Change(RegionChange),
    /// What this node has stamped in the future is stamped anew.
    Restamp,
}

/// So many changes are under way that another has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("other changes are under way, try again")]
pub(crate) struct Busy;

impl OtherRegions {
    /// Those of the file, with what was said until the node started.
    pub(crate) fn new(configured: Vec<Peer>, said: &Regions) -> Self {
        let (wanted, wishes) = mpsc::channel(REGION_CHANGES_WAITING);
        let peers = ArcSwap::from_pointee(said.over(&configured));
        Self { configured, peers, wanted, wishes: Mutex::new(Some(wishes)) }
    }

    /// Those that there are now, in the order of their numbers.
    pub(crate) fn all(&self) -> Arc<Vec<Peer>> {
        self.peers.load_full()
    }

    /// What one is called, if it is known.
    pub(crate) fn name(&self, region: RegionId) -> Option<String> {
        self.all().iter().find(|peer| peer.id == region).map(|peer| peer.name.clone())
    }

    /// Takes in what was said. Returns those that there are from here on, if others than before.
    pub(crate) fn follow(&self, said: &Regions) -> Option<Arc<Vec<Peer>>> {
        let peers = Arc::new(said.over(&self.configured));
        if *peers == *self.all() {
            return None;
        }
        let names: Vec<_> = peers.iter().map(|peer| &peer.name).collect();
        tracing::info!(?names, "the other regions are these from now on");
        self.peers.store(peers.clone());
        Some(peers)
    }

    /// Has something done.
    ///
    /// # Errors
    /// [`Busy`]; nothing is under way.
    pub(crate) fn want(&self, wish: Wish) -> Result<(), Busy> {
        self.wanted.try_send(wish).map_err(|_| Busy)
    }

    /// What is wanted, for who carries it out; the second who asks gets nothing.
    pub(crate) fn take_wishes(&self) -> Option<mpsc::Receiver<Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
