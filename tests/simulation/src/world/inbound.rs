//! What the ends of all streams at one primary share: who is let in, the refill, and what it has seen. As geo-link's `region`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clock::{Now, Origin, RegionId};
use geo_link_core::{Admission, LinkId, Refill, RefillOptions, Want, Wish, lag, limits::DEAF_AFTER};
use node_core::{
    cluster::{Life, Peer, Run},
    store::{Seen, Store},
};

use super::EndId;

/// See the head of this file.
pub(super) struct Inbound {
    /// Whose it is: it ends with that life.
    pub(super) run: Run,
    pub(super) life: Life,
    pub(super) admission: Admission,
    pub(super) refill: Refill,
    /// The streams that arrive, by who stamps what they bring.
    pub(super) streams: BTreeMap<Origin, (LinkId, EndId)>,
    /// Since when nothing arrives from a region.
    silent_since: BTreeMap<RegionId, Duration>,
    /// The other regions.
    pub(super) peers: Vec<Peer>,
    /// How far the clocks of other regions are certainly ahead.
    pub(super) ahead: BTreeMap<RegionId, Duration>,
    /// How often a row is sent.
    pub(super) heartbeat: Duration,
    row: Option<(Duration, Seen)>,
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
        Self {
            run,
            life,
            admission: Admission::new(),
            refill: Refill::of_store(store, now, peers.len(), RefillOptions::default()),
            streams: BTreeMap::new(),
            silent_since: peers.iter().map(|peer| (peer.id, now.monotonic)).collect(),
            peers,
            ahead: BTreeMap::new(),
            heartbeat,
            row: None,
        }
    }

    /// From here on these are the other regions. Returns who was before.
    pub(super) fn set_peers(&mut self, peers: Vec<Peer>, now: Now) -> Vec<Peer> {
        self.refill.set_peers(peers.len());
        let since = |peer: &Peer| (peer.id, self.silent_since.get(&peer.id).copied().unwrap_or(now.monotonic));
        self.silent_since = peers.iter().map(since).collect();
        std::mem::replace(&mut self.peers, peers)
    }

    /// What the store has seen in all its slots, as of half a heartbeat ago at most.
    pub(super) fn row(&mut self, store: &Store, now: Now) -> Seen {
        match &self.row {
            Some((at, row)) if now.monotonic < *at + self.heartbeat / 2 => row.clone(),
            _ => {
                let row = store.seen_minima(now);
                self.row = Some((now.monotonic, row.clone()));
                row
            }
        }
    }

    /// What to tell a stream of which this is wanted.
    pub(super) fn want(wish: Wish, store: &Store, now: Now) -> Want {
        match wish {
            Wish::Clone => Want::Clone(store.seen_table(now)),
            Wish::Resume => Want::Resume(store.seen_table(now)),
            Wish::Later => Want::Later,
        }
    }

    /// The regions from which nothing has arrived for long.
    pub(super) fn deaf(&self, now: Now) -> BTreeSet<RegionId> {
        let is_heard = |region: RegionId| self.streams.keys().any(|origin| origin.region() == region);
        let is_deaf =
            |(region, since): &(&RegionId, &Duration)| !is_heard(**region) && now.monotonic >= **since + DEAF_AFTER;
        self.silent_since.iter().filter(is_deaf).map(|(region, _)| *region).collect()
    }

    /// A stream has ended.
    pub(super) fn lost(&mut self, id: LinkId, end: EndId, now: Now) {
        self.refill.lost(id);
        if self.streams.get(&id.origin) == Some(&(id, end)) {
            self.streams.remove(&id.origin);
            self.silent_since.insert(id.region(), now.monotonic);
        }
    }

    /// How old what is missing here of a region's writes may be, as a process tells that was started then.
    pub(super) fn lag(&self, store: &Store, from: RegionId, started: Now, now: Now) -> Duration {
        let ahead = self.ahead.get(&from).copied().unwrap_or_default();
        lag(store.seen_of(from, &store.seen_minima(now), started.wall), ahead, now.wall)
    }
}
