//! What the ends of all streams at one primary share, and whose it is. As geo-link's `region`, around the same [`Links`].

use std::time::Duration;

use clock::Now;
use geo_link_core::{Links, LinksEvent, RefillOptions};
use node_core::{
    cluster::{Life, Peer, Run},
    store::Store,
};

use super::EndId;

/// See the head of this file.
pub(super) struct Inbound {
    /// Whose it is: it ends with that life.
    pub(super) run: Run,
    pub(super) life: Life,
    pub(super) links: Links<EndId>,
    /// The other regions.
    pub(super) peers: Vec<Peer>,
}

impl Inbound {
    /// The store has begun a life.
    pub(super) fn new(
        run: Run,
        life: Life,
        store: &Store,
        peers: Vec<Peer>,
        (heartbeat, now): (Duration, Now),
    ) -> Self {
        let ids = peers.iter().map(|peer| peer.id);
        let links = Links::new(store, ids, RefillOptions::default(), heartbeat, now);
        Self { run, life, links, peers }
    }

    /// From here on these are the other regions. Returns who was before.
    pub(super) fn set_peers(&mut self, peers: Vec<Peer>, now: Now) -> Vec<Peer> {
        self.links.set_peers(peers.iter().map(|peer| peer.id), now);
        std::mem::replace(&mut self.peers, peers)
    }

    /// Whether what is wanted of a stream that waits may have changed.
    pub(super) fn have_wishes_changed(&mut self) -> bool {
        let mut events = std::iter::from_fn(|| self.links.poll_event());
        // Nobody waits for a store to be complete here.
        events.any(|event| event == LinksEvent::WishesChanged)
    }
}
