//! The other regions, by the file of the gateway and what the map says over it.

use std::sync::Arc;

use geo_link::{Nodes, Peer, Splitter, tunnel::Tunnels};
use node_core::cluster::ClusterMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Leads to the regions that the map says there are, over those of the file, and takes in their streams, until `stopping`.
pub(super) async fn follow<N: Nodes>(
    configured: Vec<Peer>,
    mut maps: watch::Receiver<Arc<ClusterMap>>,
    tunnels: Arc<Tunnels>,
    splitter: Arc<Splitter<N>>,
    stopping: CancellationToken,
) {
    loop {
        let peers = maps.borrow_and_update().regions().over(&configured);
        tunnels.set_peers(&peers);
        splitter.set_peers(&peers);
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = maps.changed() => if changed.is_err() { return },
        }
    }
}
