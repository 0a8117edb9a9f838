//! The ends of all streams at one node of a cluster, for who has the node's connections.
//!
//! A link between clusters is many streams: each primary keeps one to each other region, and takes its part of those that
//! arrive. Gateways stand between, which is why nothing here dials, listens or knows of certificates: a stream is handed in,
//! with the name of the region at its other end, by who has made sure of that.

use std::{fmt, sync::Arc};

use clock::{OsClock, RegionId};
use node_core::{slot::SlotSet, store::Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    Host, audit, incoming,
    options::{LinkOptions, Peer},
    outgoing::{self, Connect},
    region::Region,
    turned_away::TurnedAway,
};

/// See the head of this file.
pub struct Streams {
    region: Arc<Region>,
    turned_away: TurnedAway,
}

impl Streams {
    /// The ends at `store`, in the region of this name, which has these peers.
    ///
    /// Install the metrics recorder before, or nothing is measured.
    pub fn new(
        region: &str,
        peers: &[Peer],
        links: LinkOptions,
        store: Arc<Store>,
        clock: Arc<OsClock>,
        host: impl Host,
    ) -> Self {
        let region = Arc::new(Region::new(region, peers, links, store, clock, Box::new(host)));
        region.end_life();
        Self { region, turned_away: TurnedAway::default() }
    }

    /// The store has begun a life as a primary's: what other regions say of themselves is heard anew. Call it while no stream
    /// is open.
    pub fn begin_life(&self) {
        self.region.begin_life();
    }

    /// The store's life as a primary's has ended. Call it when no stream is open any more.
    pub fn end_life(&self) {
        self.region.end_life();
    }

    /// What is known of the links of this node's slots, and who is at their other ends.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Carries what the store writes to each other region, in its present life, until `ending`. `way` is how one is reached.
    pub async fn send<C>(&self, way: impl Fn(RegionId) -> C, ending: &CancellationToken)
    where
        C: Connect + Send + Sync + 'static,
    {
        let sending = outgoing::run_all(&self.region, |peer| way(peer.id), ending);
        tokio::join!(sending, audit::run(&self.region, ending));
    }

    /// Takes in what a peer's stream brings for these slots, as far as this node owns them, until it or `ending` ends it. `from`
    /// is the region at its other end, `through` who passes it on.
    pub async fn receive<S>(&self, from: &str, slots: SlotSet, stream: S, through: &str, ending: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let names = vec![from.to_owned()];
        incoming::serve(&self.region, names, Some(slots), stream, through, ending, &self.turned_away).await;
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("region", &self.region).finish_non_exhaustive()
    }
}
