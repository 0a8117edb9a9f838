//! Other regions come and go: the steward's part in it.
//!
//! What a client of this node wants is proposed here. What was agreed on every node takes from the map, when it routes by it.

use clock::Incarnation;
use node_core::cluster::{MapCommand, RegionChange};
use tokio_util::sync::CancellationToken;

use super::steward::Steward;
use crate::{limits::CHANGE_MAX, regions::Wish};

impl Steward {
    /// Has the map changed as clients want other regions to be, and beyond the lives that other regions know of a former
    /// cluster of this one, until `shutdown`.
    pub(crate) async fn change_regions(&self, shutdown: &CancellationToken) {
        let Some(mut wishes) = self.parts.server.regions.take_wishes() else { return };
        let mut superseded = self.parts.cluster.watch_superseded();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                wish = wishes.recv() => match wish {
                    Some(Wish::Change(change)) => self.change_region(change).await,
                    Some(Wish::Restamp) => self.restamp().await,
                    None => return,
                },
                changed = superseded.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let last = *superseded.borrow_and_update();
                    self.outlive(last).await;
                }
            }
        }
    }

    async fn change_region(&self, change: RegionChange) {
        match self.agree_on(&MapCommand::SetRegion(change.clone()), CHANGE_MAX).await {
            Ok(()) => tracing::info!(?change, "the other regions were changed"),
            Err(error) => tracing::warn!(%error, ?change, "the other regions stay as they are"),
        }
    }

    /// Goes on in a life that begins by restamping. Its birth is the present: what was stamped above that is dropped by replicas and
    /// stamped anew by this node, but for what anybody may have stamped by a clock that is right.
    async fn restamp(&self) {
        let map = self.map();
        let Some((shard, known)) = map.shard_of(self.me()).filter(|(_, shard)| shard.primary == self.me()) else {
            return;
        };
        let at = self.parts.server.clock.now().wall;
        let command = MapCommand::Restamp { shard, incarnation: known.incarnation, at };
        match self.agree_on(&command, CHANGE_MAX).await {
            Ok(()) => tracing::warn!("this shard goes on in a life that begins by restamping"),
            Err(error) => tracing::warn!(%error, "this shard is not restamped"),
        }
    }

    /// Goes on in a life after `last`, if this is a primary and in none. The map refuses it if `last` is the life of another
    /// shard, or this node is the primary no more.
    async fn outlive(&self, last: Option<Incarnation>) {
        let map = self.map();
        let (Some(last), Some((shard, known))) = (last, map.shard_of(self.me())) else { return };
        if known.primary != self.me() || known.incarnation.is_after(last) {
            return;
        }
        let command = MapCommand::Outlive { shard, incarnation: known.incarnation, last };
        match self.agree_on(&command, CHANGE_MAX).await {
            Ok(()) => {
                tracing::warn!(?last, "others knew this region in another life: this shard goes on in a younger one")
            }
            Err(error) => tracing::debug!(%error, ?last, "this shard stays in its life"),
        }
    }

    /// Takes from the map which other regions there are.
    pub(super) fn follow_regions(&self) {
        let server = &self.parts.server;
        if let Some(peers) = server.regions.follow(self.map().regions()) {
            server.links.set_peers(&peers);
        }
    }
}
