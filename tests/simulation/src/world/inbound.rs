//! What the ends of all streams at one primary share: who is let in, the refill, and what it has seen. As geo-link's `region`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clock::{Now, Origin, RegionId};
use geo_link_core::{Admission, Hearing, LinkId, Refill, RefillOptions, Want, Wish, lag};
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
    /// Whether the other regions are heard.
    hearing: BTreeMap<RegionId, Hearing>,
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
            hearing: peers.iter().map(|peer| (peer.id, Hearing::new(now))).collect(),
            peers,
            ahead: BTreeMap::new(),
            heartbeat,
            row: None,
        }
    }

    /// From here on these are the other regions. Returns who was before.
    pub(super) fn set_peers(&mut self, peers: Vec<Peer>, now: Now) -> Vec<Peer> {
        self.refill.set_peers(peers.len());
        let hearing = |peer: &Peer| (peer.id, self.hearing.get(&peer.id).copied().unwrap_or(Hearing::new(now)));
        self.hearing = peers.iter().map(hearing).collect();
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

    /// A stream of a region was last heard at `at`, in monotonic time.
    pub(super) fn hear(&mut self, region: RegionId, at: Duration) {
        if let Some(hearing) = self.hearing.get_mut(&region) {
            hearing.hear(at);
        }
    }

    /// The regions from which nothing arrives.
    pub(super) fn deaf(&self, now: Now) -> BTreeSet<RegionId> {
        self.hearing.iter().filter(|(_, hearing)| hearing.is_deaf(now)).map(|(region, _)| *region).collect()
    }

    /// A stream has ended.
    pub(super) fn lost(&mut self, id: LinkId, end: EndId) {
        self.refill.lost(id);
        if self.streams.get(&id.origin) == Some(&(id, end)) {
            self.streams.remove(&id.origin);
        }
    }

    /// How old what is missing here of a region's writes may be, as a process tells that was started then.
    pub(super) fn lag(&self, store: &Store, from: RegionId, started: Now, now: Now) -> Duration {
        let ahead = self.ahead.get(&from).copied().unwrap_or_default();
        lag(store.seen_of(from, &store.seen_minima(now), started.wall), ahead, now.wall)
    }
}
