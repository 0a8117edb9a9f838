//! The primaries of the region, as the receiving half of a gateway reaches them: by the bus, and by the map.

use std::{fmt, sync::Arc};

use geo_link::{Nodes, Owner, Owners};
use node_core::cluster::{ClusterMap, Entrance, Opening};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::bus::{Bus, BusStream, DialError};

/// See the head of this file.
pub(super) struct Reach {
    name: String,
    bus: Bus,
    owners: watch::Receiver<Arc<Owners>>,
}

impl Reach {
    /// By this bus, for the gateway of this name. `owners` is what [`follow`] keeps.
    pub(super) fn new(name: &str, bus: Bus, owners: watch::Receiver<Arc<Owners>>) -> Self {
        Self { name: name.to_owned(), bus, owners }
    }
}

impl Nodes for Reach {
    type Stream = BusStream;
    type Error = DialError;

    fn owners(&self) -> watch::Receiver<Arc<Owners>> {
        self.owners.clone()
    }

    async fn connect(&self, owner: Owner, from: String) -> Result<BusStream, DialError> {
        let entrance = Entrance { gateway: self.name.clone(), region: from, slots: (*owner.slots).clone() };
        let first = rmp_serde::to_vec(&Opening::Stream(entrance)).unwrap_or_default();
        self.bus.peer(owner.address).connect(&first).await
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Keeps who owns what as the map says, until `stopping`.
pub(super) async fn follow(
    mut maps: watch::Receiver<Arc<ClusterMap>>,
    owners: watch::Sender<Arc<Owners>>,
    stopping: CancellationToken,
) {
    loop {
        let now = owners_by(&maps.borrow_and_update().clone());
        owners.send_if_modified(|current| {
            let is_news = **current != now;
            if is_news {
                *current = Arc::new(now);
            }
            is_news
        });
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = maps.changed() => if changed.is_err() { return },
        }
    }
}

/// Who owns what by a map. The slots of a shard whose primary is not to be found have no owner.
fn owners_by(map: &ClusterMap) -> Owners {
    let owner = |(id, shard): (_, &node_core::cluster::Shard)| {
        let slots = Arc::new(map.slots(id));
        let primary = map.node(shard.primary).filter(|_| !slots.is_empty())?;
        Some(Owner { address: primary.addresses.bus().into(), slots })
    };
    Owners::new(map.shards().filter_map(owner).collect())
}
